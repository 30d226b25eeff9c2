"""How a finite set of tasks is divided: shuffled once for all, four fifths train, the rest test."""

import numpy as np

_SHUFFLE_SEED = 1337
_TRAIN_SHARE = 0.8


def split_rows(rows: np.ndarray, split: str) -> np.ndarray:
    """Return the rows (all different) of the split "train" or "test"; no row is in both."""
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(rows))
    num_train = round(_TRAIN_SHARE * len(rows))
    chosen = {"train": order[:num_train], "test": order[num_train:]}[split]
    return rows[np.sort(chosen)]
