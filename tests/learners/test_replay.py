"""Stored experience: what happened is kept, in its task's ring, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.learners.replay import Transitions, clear, draw, empty_replay, store, transitions
from trmrl.types import Continuous, Decision, EnvSpec, Outcome, Timestep, Trajectory

P, C, D, A = 4, 5, 3, 2
SPEC = EnvSpec("any", "test", D, Continuous(A), horizon=4, num_episodes=2)


def rows(number):
    """Transitions `[T, B]` whose every field is made of the numbers `number`."""
    number = np.asarray(number, np.float32)
    wide = lambda size: jnp.asarray(np.repeat(number[..., None], size, axis=-1))
    reward, over = jnp.asarray(number), jnp.asarray(number % 2 == 1)
    return Transitions(wide(D), wide(A) + 0.5, reward, 2 * reward, over, -wide(D))


def kept(replay, task):
    """The numbers in a task's ring, in no order."""
    filled = min(int(replay.count[task]), C)
    return sorted(np.asarray(replay.rows.reward[task, :filled]).tolist())


@pytest.fixture
def replay():
    """Three steps of tasks 2 and 0; in task 0 the second never happened."""
    number = np.array([[1, 10], [2, 20], [3, 30]])
    valid = np.array([[True, True], [True, False], [True, True]])
    return store(empty_replay(P, C, SPEC), jnp.array([2, 0]), rows(number), jnp.asarray(valid))


def test_what_happened_is_kept_under_its_task(replay):
    np.testing.assert_array_equal(replay.count, [2, 0, 3, 0])
    assert kept(replay, 2) == [1.0, 2.0, 3.0]
    assert kept(replay, 0) == [10.0, 30.0]
    assert kept(replay, 1) == []


def test_the_oldest_rows_go_first(replay):
    more = jnp.ones((4, 1), bool)
    replay = store(replay, jnp.array([2]), rows([[4], [5], [6], [7]]), more)
    assert int(replay.count[2]) == 7
    assert kept(replay, 2) == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert kept(replay, 0) == [10.0, 30.0]


def test_rows_are_drawn_from_the_first_ones_where_asked(replay):
    drawn = draw(replay, jnp.array([2, 0]), 50, among=jnp.array([2, 1]), key=jax.random.key(0))
    assert set(np.asarray(drawn.reward[0])) == {1.0, 2.0}
    assert set(np.asarray(drawn.reward[1])) == {10.0}


@pytest.mark.parametrize("dense", [None, -3.0])
def test_a_denser_reward_is_kept_beside_the_one_that_counts(dense):
    lane = jnp.ones((1,))
    step = Timestep(jnp.zeros((1, D)), jnp.zeros((1, A)), lane, lane > 0, lane > 0)
    dense_reward = None if dense is None else dense * lane
    outcome = Outcome(lane, lane < 0, lane < 0, jnp.zeros((1, D)), dense_reward)
    found = transitions(
        Trajectory(step, Decision(jnp.zeros((1, A)), lane, lane), outcome, lane > 0)
    )
    assert found.reward.tolist() == [1.0]
    assert found.dense_reward.tolist() == [1.0 if dense is None else dense]


def test_a_transition_is_of_one_step_and_a_clock_s_end_is_none():
    """Three steps: one that goes on, one that the world ended and one that the clock did."""
    yes, numbers = jnp.array([True, True, True]), jnp.arange(3.0)
    wide = lambda first, size: first + jnp.arange(3.0 * size).reshape(3, size)
    obs, prev_action, action, next_obs = wide(0, D), wide(20, A), wide(40, A), wide(60, D)
    step = Timestep(obs, prev_action, numbers + 7.0, yes, yes)
    outcome = Outcome(
        numbers, jnp.array([False, True, False]), jnp.array([False, False, True]), next_obs
    )
    found = transitions(Trajectory(step, Decision(action, numbers, numbers), outcome, yes))
    np.testing.assert_array_equal(found.terminated, [False, True, False])
    np.testing.assert_array_equal(found.obs, obs)
    np.testing.assert_array_equal(found.action, action)
    np.testing.assert_array_equal(found.reward, numbers)
    np.testing.assert_array_equal(found.next_obs, next_obs)


def test_fields_of_a_row_stay_together(replay):
    drawn = draw(replay, jnp.array([2, 0, 2]), 50, key=jax.random.key(0))
    np.testing.assert_array_equal(drawn.obs, drawn.reward[..., None].repeat(D, axis=-1))
    np.testing.assert_array_equal(drawn.action, drawn.reward[..., None].repeat(A, axis=-1) + 0.5)
    np.testing.assert_array_equal(drawn.dense_reward, 2 * drawn.reward)
    np.testing.assert_array_equal(drawn.next_obs, -drawn.obs)
    np.testing.assert_array_equal(drawn.terminated, drawn.reward % 2 == 1)


def test_draws_are_uniform_over_the_rows_of_the_task(replay):
    drawn = draw(replay, jnp.array([0, 2]), 3_000, key=jax.random.key(1))
    for lane, expected in ((0, [10.0, 30.0]), (1, [1.0, 2.0, 3.0])):
        number, count = np.unique(np.asarray(drawn.reward[lane]), return_counts=True)
        assert number.tolist() == expected
        share = 1 / len(expected)
        assert np.abs(count / 3_000 - share).max() < 5 * np.sqrt(share * (1 - share) / 3_000)


def test_a_full_ring_is_drawn_from_all_around(replay):
    replay = store(replay, jnp.array([2]), rows([[4], [5], [6], [7]]), jnp.ones((4, 1), bool))
    drawn = draw(replay, jnp.array([2]), 500, key=jax.random.key(2))
    assert set(np.asarray(drawn.reward).ravel().tolist()) == {3.0, 4.0, 5.0, 6.0, 7.0}


def test_cleared_rings_begin_anew(replay):
    replay = clear(replay, jnp.array([2]))
    np.testing.assert_array_equal(replay.count, [2, 0, 0, 0])
    replay = store(replay, jnp.array([2]), rows([[8]]), jnp.ones((1, 1), bool))
    assert kept(replay, 2) == [8.0]
    assert kept(replay, 0) == [10.0, 30.0]
