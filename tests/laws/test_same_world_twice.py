"""A world driven by `lax.scan` and its NumPy twin driven by `host_scan` give one trajectory."""

from typing import ClassVar

import jax
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.base import HOST, AbstractEnvs, Driver
from trmrl.trial import run_trial
from trmrl.types import EnvSpec, Outcome, replace


@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize(("core", "scope"), [("window", "episode"), ("gru", "trial")])
def test_twins_give_one_trajectory(small_agent, shake, drift, currents, core, scope, explore):
    agent = small_agent(core, memory_scope=scope)
    envs, twin = drift(num_episodes=3), drift(host=True, num_episodes=3)
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    model = replace(model, network=shake(model.network))
    tasks, key = currents(noise=0.2), jax.random.key(5)
    one = run_trial(agent, model, envs, tasks, explore=explore, key=key).rows
    two = run_trial(agent, model, twin, tasks, explore=explore, key=key).rows
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert isinstance(left, jax.Array)
        assert isinstance(right, np.ndarray)
        assert left.dtype == right.dtype
        assert left.shape[:3] == (3, 6, 4)
        if right.dtype == np.float32:
            np.testing.assert_allclose(left, right, atol=2e-5)
        else:
            np.testing.assert_array_equal(left, right)
    assert not np.asarray(one.valid).all()  # lanes that ended early are compared, too
    x = np.asarray(one.timestep.obs[:, 0, 0, 0])
    assert len(np.unique(x)) == 3  # every episode's reset drew anew
    actions = np.asarray(one.decision.action)
    assert np.ptp(actions[:, :, 0], axis=1).min() > 1e-3


def test_another_key_is_another_trajectory(small_agent, drift, currents):
    agent, envs = small_agent("gru"), drift(host=True)
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    trials = [
        run_trial(agent, model, envs, currents(), explore=explore, key=jax.random.key(seed)).rows
        for explore in (True, False)
        for seed in (1, 2)
    ]
    explored, greedy = trials[:2], trials[2:]
    assert np.abs(explored[0].decision.action - explored[1].decision.action).max() > 0.1
    np.testing.assert_array_equal(greedy[0].decision.action, greedy[1].decision.action)


def test_sampling_noise_differs_between_steps_episodes_and_lanes(small_agent, drift, currents):
    """Standardized actions are all different draws: no key is used twice."""
    agent, envs = small_agent("gru"), drift(host=True)
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    tasks = jax.tree.map(lambda x: np.zeros_like(x), currents())
    trial = run_trial(agent, model, envs, tasks, explore=True, key=jax.random.key(1))
    log_prob = np.asarray(trial.rows.decision.log_prob)
    assert len(np.unique(log_prob)) == log_prob.size


class NaviTwin(AbstractEnvs):
    """GridNavi written again from its page: lane by lane, in plain Python."""

    driver: ClassVar[Driver] = HOST
    spec: EnvSpec

    def sample_tasks(self, split, num_tasks, *, key):
        return jax.tree.map(np.asarray, make("grid-navi").sample_tasks(split, num_tasks, key=key))

    def reset(self, tasks, *, key):
        cells = [(0, 0) for _ in tasks.goal]
        return (tasks, cells, 0), np.zeros((len(cells), 2), np.float32)

    def step(self, env_state, action):
        tasks, cells, clock = env_state
        moved, reward = [], []
        for (x, y), goal, act in zip(cells, tasks.goal, np.asarray(action), strict=True):
            y = min(y + 1, 4) if act == 0 else max(y - 1, 0) if act == 2 else y
            x = min(x + 1, 4) if act == 1 else max(x - 1, 0) if act == 3 else x
            moved.append((x, y))
            reward.append(1.0 if (x, y) == tuple(goal[0]) else -0.1)
        ended = np.full(len(moved), clock + 1 >= 15)
        obs = np.asarray(moved, np.float32)
        outcome = Outcome(np.asarray(reward, np.float32), np.zeros_like(ended), ended, obs)
        return (tasks, moved, clock + 1), outcome

    def view(self, env_state):
        return np.asarray(env_state[1])


def test_grid_navi_and_its_twin_give_one_trajectory(small_agent, shake):
    envs = make("grid-navi")
    twin = NaviTwin(envs.spec)
    agent = small_agent("gru", memory_scope="trial", normalize_obs=False)
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    tasks, key = twin.sample_tasks("train", 4, key=jax.random.key(2)), jax.random.key(5)
    roll_out = jax.jit(lambda model: run_trial(agent, model, envs, tasks, explore=True, key=key))
    one = roll_out(model).rows
    two = run_trial(agent, model, twin, tasks, explore=True, key=key).rows
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, atol=2e-5)
    assert len(np.unique(np.asarray(one.timestep.obs).reshape(-1, 2), axis=0)) > 10
