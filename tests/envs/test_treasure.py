"""A treasure on a circle, by hand: what places pay, and what the summit shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.base import keys_for
from trmrl.envs.point import Place, PointState


@pytest.fixture(scope="module")
def envs():
    return make("treasure-hunt")


def at(places, goal=(1.0, 0.0)):
    """Lanes at some places, none of which moves."""
    tasks = Place(jnp.broadcast_to(jnp.asarray(goal), (len(places), 2)))
    return PointState(tasks, jnp.asarray(places, jnp.float32), jnp.int32(0))


@pytest.mark.parametrize(
    ("place", "reward", "success"),
    [
        ((1.0, 0.0), 10.0, True),
        ((0.95, 0.05), 10.0, True),
        ((0.85, 0.0), -5.0, False),
        ((0.0, -1.0), -5.0, False),
        ((0.0, 0.0), -5.5, False),
        ((0.0, 0.3), -5.2, False),
        ((0.0, 0.6), -5.0, False),
        ((0.0, 1.4), -7.0, False),
        ((1.5, 1.5), -5.0 * np.hypot(1.5, 1.5), False),
    ],
)
def test_places_pay_by_hand(envs, place, reward, success):
    _, outcome = envs.step(at([place]), jnp.zeros((1, 2)))
    assert float(outcome.reward[0]) == pytest.approx(reward, rel=1e-5)
    assert bool(outcome.success[0]) == success
    assert not outcome.terminated[0]


def test_the_treasure_shows_at_the_summit_alone(envs):
    _, outcome = envs.step(
        at([(0.0, 0.0), (0.05, 0.05), (0.0, 0.11), (1.0, 0.0)]), jnp.zeros((4, 2))
    )
    np.testing.assert_allclose(
        outcome.next_obs,
        [[0, 0, 1, 0], [0.05, 0.05, 1, 0], [0, 0.11, 0, 0], [1, 0, 0, 0]],
        atol=1e-6,
    )


def test_points_move_a_tenth_and_stay_in_the_square(envs):
    tasks = Place(jnp.array([[1.0, 0.0]]))
    state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    np.testing.assert_array_equal(obs, [[0, -1, 0, 0]])
    for step in range(100):
        state, outcome = envs.step(state, jnp.array([[3.0, -0.5]]))
        x, y = min(0.1 * (step + 1), 1.5), max(-1.0 - 0.05 * (step + 1), -1.5)
        np.testing.assert_allclose(outcome.next_obs, [[x, y, 0, 0]], atol=1e-5)
        assert bool(outcome.truncated[0]) == (step == 99)


def test_treasures_are_anywhere_on_the_circle(envs):
    goal = np.asarray(envs.sample_tasks("train", 4_000, key=jax.random.key(0)).goal)
    np.testing.assert_allclose(np.hypot(*goal.T), 1.0, rtol=1e-5)
    angle = np.mod(np.arctan2(goal[:, 1], goal[:, 0]), 2 * np.pi) / (2 * np.pi)
    np.testing.assert_allclose(np.quantile(angle, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)
