import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.base import keys_for
from trmrl.envs.tabular import MDP
from trmrl.types import Discrete, TrmrlError


def test_spec_reads_the_name():
    spec = make("tabular-n7").spec
    assert (spec.name, spec.horizon, spec.num_episodes, spec.obs_size) == ("tabular-n7", 10, 7, 10)
    assert spec.action_space == Discrete(5)


@pytest.mark.parametrize("name", ["tabular-", "tabular-n0", "tabular-10", "tabular-n10x"])
def test_names_that_are_no_mdp(name):
    with pytest.raises(TrmrlError, match="expected tabular-nN") as refusal:
        make(name)
    assert repr(name) in str(refusal.value)


def test_tasks_are_normal_rewards_and_flat_dirichlet_rows():
    tasks = make("tabular-n10").sample_tasks("train", 4000, key=jax.random.key(0))
    reward, row = np.asarray(tasks.reward), np.asarray(tasks.transition)
    assert reward.shape == (4000, 10, 5)
    assert row.shape == (4000, 10, 5, 10)
    assert reward.mean() == pytest.approx(1.0, abs=0.01)
    assert reward.std() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(row.sum(axis=-1), 1.0, atol=1e-5)
    # One share of a flat Dirichlet of ten is Beta(1, 9): P(share > x) = (1 - x)^9.
    for x in (0.05, 0.2, 0.5):
        assert (row > x).mean() == pytest.approx((1 - x) ** 9, abs=2e-3)


def test_a_walk_by_hand():
    """In a ring where action 1 steps on and 0 stays, (s, a) pays s + 10 a and a unit normal."""
    num = 2000
    state, action = np.arange(10), np.arange(5)
    reward = np.broadcast_to(state[:, None] + 10.0 * action, (num, 10, 5)).astype(np.float32)
    row = np.zeros((10, 5, 10), np.float32)
    row[state, 0, state] = row[state, 1, (state + 1) % 10] = 1.0
    row[:, 2:, 0] = 1.0
    tasks = MDP(jnp.asarray(reward), jnp.broadcast_to(jnp.asarray(row), (num, 10, 5, 10)))
    envs = make("tabular-n10")
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    np.testing.assert_array_equal(obs, np.eye(10)[np.zeros(num, int)])
    step = jax.jit(envs.step)
    expected = 0
    for t, act in enumerate([1, 1, 0, 1, 0, 2, 1, 1, 1, 1]):
        env_state, outcome = step(env_state, jnp.full(num, act, jnp.int32))
        paid = np.asarray(outcome.reward)
        assert paid.mean() == pytest.approx(expected + 10 * act, abs=0.1)
        assert paid.std() == pytest.approx(1.0, abs=0.08)
        expected = {0: expected, 1: expected + 1, 2: 0}[act]
        np.testing.assert_array_equal(np.asarray(outcome.next_obs).argmax(axis=1), expected)
        np.testing.assert_array_equal(envs.view(env_state), expected)
        assert not np.any(outcome.terminated)
        assert np.all(outcome.truncated) == (t == 9)


def test_transitions_follow_their_row():
    num = 20_000
    tasks = make("tabular-n10").sample_tasks("test", 1, key=jax.random.key(3))
    many = jax.tree.map(lambda x: jnp.broadcast_to(x[0], (num, *x.shape[1:])), tasks)
    envs = make("tabular-n10")
    env_state, _ = envs.reset(many, key=keys_for(many, jax.random.key(0)))
    _, outcome = envs.step(env_state, jnp.full(num, 2, jnp.int32))
    share = np.asarray(outcome.next_obs).mean(axis=0)
    np.testing.assert_allclose(share, tasks.transition[0, 0, 2], atol=0.015)
