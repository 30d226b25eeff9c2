import jax.numpy as jnp
import numpy as np

from trmrl.nets.embed import token, token_size
from trmrl.ops.normalize import Moments
from trmrl.types import Continuous, Discrete, EnvSpec, Timestep

TIMESTEP = Timestep(
    obs=jnp.array([[3.0, -1.0], [5.0, 0.0]]),
    prev_action=jnp.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]),
    prev_reward=jnp.array([7.0, -8.0]),
    episode_start=jnp.array([False, True]),
    trial_start=jnp.array([False, False]),
)
NEVER = jnp.zeros(2, bool)


def test_published_token_sizes():
    """28 for half-cheetah (20 + 6 + 2), 37 for ant (27 + 8 + 2), 45 for Meta-World (39 + 4 + 2)."""
    for obs_size, num_actions, expected in ((20, 6, 28), (27, 8, 37), (39, 4, 45)):
        assert (
            token_size(EnvSpec("world", "test", obs_size, Continuous(num_actions), 1, 1))
            == expected
        )
    assert token_size(EnvSpec("arms", "bandit", 1, Discrete(5), 1, 10)) == 8


def test_a_token_is_obs_action_reward_and_boundary():
    found = token(TIMESTEP, None, NEVER)
    expected = [[3.0, -1.0, 0.1, 0.2, 0.3, 7.0, 0.0], [5.0, 0.0, 0.4, 0.5, 0.6, -8.0, 1.0]]
    np.testing.assert_allclose(found, np.array(expected, np.float32))


def test_where_memory_is_empty_the_past_is_hidden():
    found = token(TIMESTEP, None, jnp.array([False, True]))
    expected = [[3.0, -1.0, 0.1, 0.2, 0.3, 7.0, 0.0], [5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    np.testing.assert_allclose(found, np.array(expected, np.float32))


def test_only_observations_are_normalized():
    moments = Moments(jnp.array([1.0, 0.0]), jnp.array([4.0, 1.0]), jnp.asarray(2.0))
    found = token(TIMESTEP, moments, NEVER)
    expected = [[1.0, -1.0, 0.1, 0.2, 0.3, 7.0, 0.0], [2.0, 0.0, 0.4, 0.5, 0.6, -8.0, 1.0]]
    np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=1e-6)


def test_time_axes_pass_through():
    long = Timestep(*(jnp.stack([x] * 4) for x in (
        TIMESTEP.obs, TIMESTEP.prev_action, TIMESTEP.prev_reward,
        TIMESTEP.episode_start, TIMESTEP.trial_start,
    )))  # fmt: skip
    found = token(long, None, jnp.zeros((4, 2), bool))
    np.testing.assert_array_equal(found, np.stack([np.asarray(token(TIMESTEP, None, NEVER))] * 4))
