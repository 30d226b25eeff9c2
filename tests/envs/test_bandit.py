import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.bandit import Arms
from trmrl.envs.base import keys_for
from trmrl.types import Discrete, TrmrlError


def test_spec_reads_the_name():
    spec = make("bandit-n7-k4").spec
    assert (spec.name, spec.horizon, spec.num_episodes) == ("bandit-n7-k4", 1, 7)
    assert spec.action_space == Discrete(4)
    assert spec.floor == 0.5
    # The best of k uniform means is k / (k + 1) on average.
    best = np.random.default_rng(0).random((100_000, 4)).max(axis=1).mean()
    assert spec.ceiling == pytest.approx(best, abs=0.005)


@pytest.mark.parametrize(
    "name", ["bandit-", "bandit-n0-k5", "bandit-n5-k1", "bandit-k5-n10", "bandit-n10-k5x"]
)
def test_names_that_are_no_bandit(name):
    with pytest.raises(TrmrlError) as refusal:
        make(name)
    assert repr(name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_arms_pay_their_mean():
    envs = make("bandit-n10-k3")
    num = 30_000
    tasks = Arms(jnp.broadcast_to(jnp.array([[0.0, 0.3, 1.0]]), (num, 3)))
    state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    assert obs.shape == (num, 1)
    action = jnp.arange(num, dtype=jnp.int32) % 3
    _, outcome = envs.step(state, action)
    reward = np.asarray(outcome.reward).reshape(-1, 3)
    assert set(np.unique(reward)) == {0.0, 1.0}
    np.testing.assert_allclose(reward.mean(0), [0.0, 0.3, 1.0], atol=0.015)
    assert np.all(outcome.terminated)
    assert not np.any(outcome.truncated)
    np.testing.assert_array_equal(outcome.next_obs, np.zeros((num, 1)))
    np.testing.assert_array_equal(envs.view(state), tasks.mean)


def test_lanes_and_pulls_are_drawn_apart():
    envs = make("bandit-n10-k3")
    tasks = Arms(jnp.full((64, 3), 0.5))
    state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    action = jnp.zeros(64, jnp.int32)
    state, one = envs.step(state, action)
    _, two = envs.step(state, action)
    assert 0.2 < float(jnp.mean(one.reward)) < 0.8
    assert 0.2 < float(jnp.mean(one.reward != two.reward)) < 0.8


def test_tasks_are_uniform_and_drawn_from_the_key():
    envs = make("bandit-n10-k5")
    mean = np.asarray(envs.sample_tasks("train", 4000, key=jax.random.key(0)).mean)
    assert mean.shape == (4000, 5)
    assert mean.min() >= 0
    assert mean.max() < 1
    np.testing.assert_allclose(np.quantile(mean, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.02)
    again = envs.sample_tasks("test", 4000, key=jax.random.key(1)).mean
    assert not np.any(np.isin(mean[:50], again[:50]))


def test_a_split_it_does_not_have():
    with pytest.raises(TrmrlError, match=r"bandit-n10-k5 has no split 'ood'.*train, test"):
        make("bandit-n10-k5").sample_tasks("ood", 2, key=jax.random.key(0))
