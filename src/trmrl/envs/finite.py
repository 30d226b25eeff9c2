"""Finite sets of tasks: how they are divided into splits, and how tasks are drawn from them."""

import jax
import numpy as np
from jaxtyping import Int

from trmrl.types import PRNGKey

_SHUFFLE_SEED = 1337
_TRAIN_SHARE = 0.8


def split_rows(rows: np.ndarray, split: str) -> np.ndarray:
    """Return the rows (all different) of the split "train" or "test"; no row is in both.

    Rows are shuffled once for all: four fifths train, the rest test.
    """
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(rows))
    num_train = round(_TRAIN_SHARE * len(rows))
    chosen = {"train": order[:num_train], "test": order[num_train:]}[split]
    return rows[np.sort(chosen)]


def draw_rows(num_rows: int, num_draws: int, *, key: PRNGKey) -> Int[jax.Array, " num_draws"]:
    """Return numbers of rows drawn evenly: none comes a second time before all others have come.

    Each draw by itself is uniform over the rows.
    """
    num_rounds = -(-num_draws // num_rows)
    keys = jax.random.split(key, num_rounds)
    rounds = jax.vmap(lambda key: jax.random.permutation(key, num_rows))(keys)
    return rounds.reshape(-1)[:num_draws]
