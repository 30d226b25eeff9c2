import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.base import keys_for
from trmrl.envs.point import Place, half_circle_goals, square_goals


def test_dense_rewards_by_hand():
    envs = make("point-robot")
    tasks = Place(jnp.array([[0.3, -0.4], [0.0, 0.0]]))
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    assert np.abs(obs).max() <= 1.0
    env_state = type(env_state)(tasks, jnp.zeros((2, 2)), env_state.clock)
    env_state, outcome = envs.step(env_state, jnp.array([[0.0, 0.0], [3.0, -0.5]]))
    np.testing.assert_allclose(outcome.next_obs, [[0, 0], [0.1, -0.05]], atol=1e-7)
    np.testing.assert_allclose(outcome.reward, [-0.5, -np.hypot(0.1, 0.05)], rtol=1e-6)
    for _ in range(19):
        assert not np.any(outcome.truncated)
        env_state, outcome = envs.step(env_state, jnp.array([[0.0, 0.0], [3.0, -0.5]]))
    assert np.all(outcome.truncated)
    np.testing.assert_allclose(outcome.next_obs, [[0, 0], [2.0, -1.0]], atol=1e-5)


@pytest.mark.parametrize("name", ["point-robot-sparse", "semicircle"])
def test_sparse_rewards_by_hand(name):
    envs = make(name)
    tasks = Place(jnp.array([[0.0, 0.25], [0.15, 0.1], [1.0, 0.0]]))
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    np.testing.assert_array_equal(obs, np.zeros((3, 2)))
    _, outcome = envs.step(env_state, jnp.tile(jnp.array([0.0, 1.0]), (3, 1)))
    np.testing.assert_allclose(outcome.reward, [0.85, 0.85, 0.0], atol=1e-6)
    if name == "point-robot-sparse":
        away = [-0.15, -0.15, -np.hypot(1.0, 0.1)]
        np.testing.assert_allclose(outcome.dense_reward, away, rtol=1e-6)
    else:
        assert outcome.dense_reward is None


def test_navigation_ends_on_arrival_along_both_axes():
    envs = make("navigation-2d")
    tasks = Place(jnp.array([[0.105, 0.0], [0.105, 0.02], [0.3, 0.0]]))
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    _, outcome = envs.step(env_state, jnp.tile(jnp.array([1.0, 0.0]), (3, 1)))
    np.testing.assert_array_equal(outcome.terminated, [True, False, False])
    np.testing.assert_allclose(
        outcome.reward, [-0.005, -np.hypot(0.005, 0.02), -0.2], rtol=1e-4, atol=1e-7
    )


def test_starts_of_the_dense_robot_are_new_every_episode():
    envs = make("point-robot")
    tasks = Place(jnp.zeros((4000, 2)))
    one = np.asarray(envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))[1])
    two = np.asarray(envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))[1])
    np.testing.assert_allclose(np.quantile(one, [0.25, 0.5, 0.75]), [-0.5, 0.0, 0.5], atol=0.04)
    assert (one != two).mean() > 0.99


def test_goals_are_where_their_page_puts_them():
    square, circle = square_goals(), half_circle_goals()
    assert square.shape == circle.shape == (100, 2)
    assert np.abs(square).max() <= 1.0
    np.testing.assert_allclose(np.hypot(*circle.T), 1.0, rtol=1e-6)
    np.testing.assert_allclose(circle[[0, -1]], [[1, 0], [-1, 0]], atol=1e-6)
    assert circle[:, 1].min() > -1e-6
    goals = np.asarray(make("semicircle").sample_tasks("test", 4000, key=jax.random.key(0)).goal)
    np.testing.assert_allclose(np.hypot(*goals.T), 1.0, rtol=1e-5)
    assert goals[:, 1].mean() == pytest.approx(2 / np.pi, abs=0.02)
    goals = np.asarray(make("navigation-2d").sample_tasks("test", 4000, key=jax.random.key(0)).goal)
    np.testing.assert_allclose(np.quantile(goals, [0, 0.5, 1]), [-0.5, 0.0, 0.5], atol=0.02)
