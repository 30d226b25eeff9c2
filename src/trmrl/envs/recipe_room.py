"""A room of things that make others by hidden rules, in the manner of XLand-MiniGrid.

(Nikulin et al., 2023: a task is a set of production rules and a goal.)
"""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from trmrl.envs.finite import draw_rows, split_rows
from trmrl.envs.grid import MOVES, cells
from trmrl.envs.jax_env import JaxEnvs, from_jax
from trmrl.types import Array, Discrete, PRNGKey

SIZE = 5
NUM_KINDS = 5  # of things that lie there at first, one of each
PRODUCT = NUM_KINDS  # what the first rule makes
NOTHING = NUM_KINDS + 1  # in the hand


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bench:
    """Where the agent and the things are (x, y), which of them lie there, and the kind in hand."""

    cell: Int[Array, "*lanes 2"]
    place: Int[Array, "*lanes T 2"]  # of every kind, the product last
    lies: Bool[Array, "*lanes T"]
    hand: Int[Array, "*lanes"]


def rule_sets() -> Int[np.ndarray, "R 3"]:
    """Return every task: two kinds that make the product, and the kind that it must meet."""
    pairs = itertools.combinations(range(NUM_KINDS), 2)
    return np.array([[*pair, c] for pair in pairs for c in range(NUM_KINDS) if c not in pair])


def _draw(split: str, num_tasks: int, key: PRNGKey) -> dict[str, Int[jax.Array, "B ..."]]:
    rules = jnp.asarray(split_rows(rule_sets(), split), jnp.int32)
    drawn = rules[draw_rows(len(rules), num_tasks, key=key)]
    return {"makes": drawn[:, :2], "meets": drawn[:, 2]}


def _observe(state: Bench) -> Float[Array, " D"]:
    """Return the agent's cell, the way to each thing, whether it lies there, and the hand."""
    way = jnp.where(state.lies[:, None], state.place - state.cell, 0)
    hand = jax.nn.one_hot(state.hand, NOTHING + 1)
    numbers = jnp.concatenate([state.cell[None], way]).reshape(-1).astype(jnp.float32) / SIZE
    return jnp.concatenate([numbers, state.lies.astype(jnp.float32), hand])


def _reset(key: PRNGKey, task: dict[str, Array]) -> tuple[Float[Array, " D"], Bench]:
    del task
    drawn = jax.random.permutation(key, jnp.asarray(cells(SIZE)))[: NUM_KINDS + 1]
    place = jnp.concatenate([drawn[1:], jnp.zeros((1, 2), jnp.int32)])
    state = Bench(drawn[0], place, jnp.arange(NUM_KINDS + 1) < NUM_KINDS, jnp.int32(NOTHING))
    return _observe(state), state


def _step(key: PRNGKey, state: Bench, action: Int[Array, ""], task: dict[str, Array]) -> tuple:
    """Move; then take what lies there, or let it meet what is in the hand."""
    del key
    cell = jnp.clip(state.cell + jnp.asarray(MOVES)[action], 0, SIZE - 1)
    moved = (cell != state.cell).any()
    here = state.lies & (state.place == cell).all(axis=1) & moved
    found, thing = here.any(), here.argmax()
    pair = jnp.stack([state.hand, thing])
    makes = found & (jnp.sort(pair) == task["makes"]).all()
    solved = found & (jnp.sort(pair) == jnp.stack([task["meets"], jnp.int32(PRODUCT)])).all()
    # Whatever is in the hand is laid down where the other is taken.
    kinds = jnp.arange(NUM_KINDS + 1)
    laid = found & ~makes & (kinds == state.hand)
    lies = (state.lies & ~here) | laid
    place = jnp.where(laid[:, None], cell, state.place)
    hand = jnp.where(makes, PRODUCT, jnp.where(found, thing, state.hand))
    state = Bench(cell, place, lies, hand.astype(jnp.int32))
    return _observe(state), state, solved.astype(jnp.float32), solved, solved


def recipe_room() -> JaxEnvs:
    """Five things lie in a 5 by 5 room; two of them make a sixth, which must meet another.

    Stepping onto a thing takes it. With a thing in the hand, the two meet: if they are the pair of
    the first rule, they become the product, in the hand; if they are the product and the kind of
    the second, the episode is solved, which pays 1 and ends it; else they change places. Both rules
    are hidden and last for the trial; places are drawn anew in every episode of 30 steps at most.
    The 30 sets of rules are divided between train and test.
    """
    return from_jax(
        _reset,
        _step,
        _draw,
        name="recipe-room",
        family="rules",
        action_space=Discrete(len(MOVES)),
        horizon=30,
        num_episodes=5,
        ends_early=True,
        floor=0.02,  # random play
        ceiling=1.0,  # every episode solved
        summary="find out which two of five things to join, and what to bring the product to",
    )
