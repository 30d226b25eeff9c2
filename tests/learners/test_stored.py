"""A ring of trials keeps the newest, and draws from what it keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.learners.stored import draw, empty_trials, store
from trmrl.types import Decision, Discrete, EnvSpec, Outcome, Timestep, Trajectory, replace

T, B, N = 4, 2, 5
SPEC = EnvSpec("rows", "own", 3, Discrete(4), horizon=2, num_episodes=2)


def trials(first, num_lanes=B):
    """Trials numbered on from `first`, whose number is every number in them."""
    number = jnp.broadcast_to(first + jnp.arange(num_lanes), (T, num_lanes)).astype(jnp.float32)
    wide = lambda size: jnp.broadcast_to(number[..., None], (*number.shape, size))
    yes = number >= 0
    return Trajectory(
        Timestep(wide(3), wide(4), number, yes, yes),
        Decision(number.astype(jnp.int32), number, number),
        Outcome(number, yes, yes, wide(3), dense_reward=number, success=yes),
        yes,
    )


def held(stored):
    """Which trials a ring holds, each the same in all its rows and leaves."""
    filled = min(int(stored.count), N)
    leaves = [np.asarray(x) for x in jax.tree.leaves(stored.rows) if x.dtype != bool]
    assert len(leaves) == 8
    for leaf in leaves:
        same = leaf.reshape(T, N, -1)
        np.testing.assert_array_equal(same, same[:1, :, :1].repeat(T, 0).repeat(same.shape[2], 2))
        np.testing.assert_array_equal(same[0, :, 0], leaves[0].reshape(T, N, -1)[0, :, 0])
    return sorted(leaves[0].reshape(T, N, -1)[0, :filled, 0].astype(int).tolist())


def test_the_newest_are_kept():
    stored = empty_trials(N, SPEC)
    for update in range(7):
        stored = jax.jit(store)(stored, trials(update * B))
        newest = range((update + 1) * B)[-N:]
        assert held(stored) == list(newest)


def test_of_more_lanes_than_it_holds_the_last_are_kept():
    stored = store(store(empty_trials(N, SPEC), trials(0)), trials(10, 8))
    assert held(stored) == [13, 14, 15, 16, 17]


def test_what_only_some_worlds_have_is_left_out():
    outcome = store(empty_trials(N, SPEC), trials(0)).rows.outcome
    assert (outcome.dense_reward, outcome.success, outcome.diverged) == (None, None, None)


def test_tasks_stay_with_their_trials():
    """Around the ring, and when they are drawn; without the option there are none."""
    stored = empty_trials(N, replace(SPEC, task_size=2), with_tasks=True)
    for update in range(4):
        number = (update * B + np.arange(B)).astype(np.float32)
        stored = store(stored, trials(update * B), jnp.asarray(np.stack([number, -number], 1)))
    rows, task = draw(stored, 50, key=jax.random.key(0))
    number = np.asarray(rows.timestep.obs)[0, :, 0]
    assert len(set(number)) == N
    np.testing.assert_array_equal(task, np.stack([number, -number], axis=1))
    assert draw(store(empty_trials(N, SPEC), trials(0)), 2, key=jax.random.key(0))[1] is None


@pytest.mark.parametrize("num_stored", [2, 4, 6, 12])
def test_trials_are_drawn_whole_and_evenly_from_those_held(num_stored):
    stored = empty_trials(N, SPEC)
    for first in range(0, num_stored, B):
        stored = store(stored, trials(first))
    drawn, _ = draw(stored, 4_000, key=jax.random.key(num_stored))
    reward = np.asarray(drawn.outcome.reward)
    assert reward.shape == (T, 4_000)
    np.testing.assert_array_equal(reward, reward[:1].repeat(T, 0))
    numbers, counts = np.unique(reward[0], return_counts=True)
    assert numbers.tolist() == held(stored)
    np.testing.assert_allclose(counts / 4_000, 1 / len(numbers), atol=0.04)
