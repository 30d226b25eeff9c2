import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import ENVS, make
from trmrl.envs.base import keys_for
from trmrl.envs.oracle import show_task
from trmrl.trial import run_trial
from trmrl.types import TrmrlError, task_numbers


def test_observations_end_with_the_task():
    envs, plain = make("bandit-n10-k5+task"), make("bandit-n10-k5")
    assert envs.spec.name == "bandit-n10-k5+task"
    assert envs.spec.obs_size == 1 + 5
    assert (envs.spec.horizon, envs.spec.num_episodes) == (1, 10)
    assert envs.spec.ceiling == plain.spec.ceiling
    tasks = envs.sample_tasks("train", 6, key=jax.random.key(0))
    state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))
    expected = np.concatenate([np.zeros((6, 1)), tasks.mean], axis=1)
    np.testing.assert_array_equal(obs, expected.astype(np.float32))
    action = jnp.arange(6, dtype=jnp.int32) % 5
    state, outcome = envs.step(state, action)
    np.testing.assert_array_equal(outcome.next_obs, obs)
    bare, _ = plain.reset(tasks, key=keys_for(tasks, jax.random.key(1)))
    _, expected = plain.step(bare, action)
    np.testing.assert_array_equal(outcome.reward, expected.reward)
    np.testing.assert_array_equal(envs.view(state), tasks.mean)
    again = plain.sample_tasks("train", 6, key=jax.random.key(0))
    np.testing.assert_array_equal(tasks.mean, again.mean)


@pytest.mark.parametrize("name", [*ENVS, "bandit-n3-k7"])
def test_a_spec_says_how_many_numbers_a_task_has_or_nothing(name):
    envs = make(name)
    tasks = envs.sample_tasks("train", 3, key=jax.random.key(0))
    numbers = task_numbers(tasks)
    assert envs.spec.task_size in (0, numbers.shape[1])
    assert numbers.dtype == np.float32
    assert len(numbers) == 3


@pytest.mark.parametrize("host", [False, True])
def test_an_oracle_runs_on_the_host_if_its_worlds_do(small_agent, drift, currents, host):
    envs = show_task(drift(host=host))
    assert envs.spec.obs_size == 2 + 4
    agent = small_agent("gru")
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    tasks = currents()
    rows = run_trial(agent, model, envs, tasks, explore=True, key=jax.random.key(1)).rows
    assert isinstance(rows.timestep.obs, np.ndarray) == host
    feature = np.stack([tasks.start, tasks.drift, tasks.wall, tasks.noise], axis=1)
    for obs in (rows.timestep.obs, rows.outcome.next_obs):
        assert obs.dtype == np.float32
        np.testing.assert_array_equal(obs[..., 2:], np.broadcast_to(feature, (2, 6, 4, 4)))


def test_splits_are_those_of_the_inner_worlds():
    with pytest.raises(TrmrlError, match="no split"):
        make("bandit-n10-k5+task").sample_tasks("ood", 2, key=jax.random.key(0))
