"""A lane that has ended is left alone, whatever becomes of it."""

import dataclasses

import jax
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.base import keys_for
from trmrl.envs.mujoco._batch import Lanes
from trmrl.envs.mujoco._delayed import DelayedEnvs


def begin(envs, num_lanes=3):
    tasks = envs.sample_tasks("train", num_lanes, key=jax.random.key(1))
    return envs.reset(tasks, key=keys_for(tasks, jax.random.key(2)))[0]


def still(num_lanes=3):
    return np.zeros((num_lanes, 8), np.float32)


@pytest.mark.parametrize("breakage", ["qvel", "nan state", "nan action"])
def test_a_lane_that_has_ended_may_diverge(breakage):
    envs = make("ant-dir")
    env_state, twin = begin(envs), begin(envs)
    for state in (env_state, twin):
        state.lanes.qpos[1, 2] = 5.0  # high in the air
    action = still()
    for t in range(4):
        _, expected = envs.step(twin, still())
        _, outcome = envs.step(env_state, action)
        assert outcome.terminated.tolist() == [False, True, False]
        assert np.isfinite(outcome.reward).all() and (outcome.reward[1] == 0.0) == (t > 0)
        assert np.array_equal(outcome.next_obs[[0, 2]], expected.next_obs[[0, 2]])
        assert np.array_equal(outcome.reward, expected.reward)
        assert env_state.lanes.elapsed().tolist() == [t + 1, 1, t + 1]
        if breakage == "qvel":
            env_state.lanes.qvel[1] = 1e12
        elif breakage == "nan state":
            env_state.lanes.qvel[1] = np.nan
        else:
            action[1] = np.nan


def test_all_lanes_may_have_ended():
    envs = make("ant-dir")
    env_state = begin(envs)
    env_state.lanes.qpos[:, 2] = 5.0
    _, last = envs.step(env_state, still())
    _, outcome = envs.step(env_state, still())
    assert last.terminated.all() and outcome.terminated.all()
    assert np.array_equal(outcome.next_obs, last.next_obs)
    assert not outcome.reward.any() and not outcome.truncated.any()


def test_an_end_in_the_last_step_is_no_truncation():
    envs = make("ant-dir")
    envs = dataclasses.replace(envs, spec=dataclasses.replace(envs.spec, horizon=1))
    env_state = begin(envs)
    env_state.lanes.qpos[1, 2] = 5.0
    _, outcome = envs.step(env_state, still())
    assert outcome.terminated.tolist() == [False, True, False]
    assert outcome.truncated.tolist() == [True, False, True]


def test_the_robot_of_a_reused_simulation_is_made_anew():
    """Factors multiply the model's own numbers, not what the last user left."""
    noise = np.zeros((2, 9)), np.zeros((2, 9))

    def mass_and_fall(factor):
        factors = {"body_mass": np.full((2, 1), factor)}
        lanes = Lanes("test", "half_cheetah.xml", 2, 5, 1, (), lambda model: factors)
        lanes.reset(*noise)
        lanes.step(np.zeros((2, 6)))
        return lanes._batch.expanded("body_mass").sum(axis=1).copy(), lanes.qpos.copy()

    factors = (2.0, 1.0, 2.0)
    found = [mass_and_fall(factor) for factor in factors]
    for (mass, _), factor in zip(found, factors, strict=True):
        np.testing.assert_allclose(mass, 14.0 * factor)
    assert np.array_equal(found[0][1], found[2][1]) and not np.array_equal(found[0][1], found[1][1])
    plain = Lanes("test", "half_cheetah.xml", 2, 5, 1)
    plain.reset(*noise)
    plain.step(np.zeros((2, 6)))
    assert np.array_equal(plain.qpos, found[1][1])


def test_delayed_rewards_are_paid_every_twenty_steps():
    envs, prompt = make("half-cheetah-vel-delayed"), make("half-cheetah-vel")
    actions = np.random.default_rng(0).uniform(-1, 1, (200, 3, 6)).astype(np.float32)
    tasks = envs.sample_tasks("ood", 3, key=jax.random.key(0))
    assert tasks["velocity"].min() >= 3.0
    late, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))
    now, same_obs = prompt.reset(tasks, key=keys_for(tasks, jax.random.key(1)))
    assert np.array_equal(obs, same_obs)
    paid, earned = [], []
    for t, action in enumerate(actions):
        late, one = envs.step(late, action)
        now, two = prompt.step(now, action)
        assert np.array_equal(one.next_obs, two.next_obs)
        assert one.truncated.all() == two.truncated.all() == (t == 199)
        paid.append(one.reward)
        earned.append(two.reward)
    paid, earned = np.stack(paid), np.stack(earned)
    assert paid.dtype == np.float32
    np.testing.assert_allclose(paid[19::20], earned.reshape(10, 20, 3).sum(axis=1), rtol=1e-5)
    assert np.count_nonzero(paid) == 30
    assert np.array_equal(envs.view(late), prompt.view(now))
    again, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))  # owes nothing from before
    for action in actions[:20]:
        again, outcome = envs.step(again, action)
    assert np.array_equal(outcome.reward, paid[19])


def test_an_early_end_pays_what_is_owed():
    ants = make("ant-dir")
    envs = DelayedEnvs(ants.spec, ants, period=20)
    env_state = begin(envs)
    assert not envs.step(env_state, still())[1].reward.any()
    env_state.inner.lanes.qpos[1, 2] = 5.0
    rewards = [envs.step(env_state, still())[1].reward for _ in range(19)]
    assert rewards[0][1] == pytest.approx(2.0, abs=0.3)  # two steps at 1, standing still
    assert rewards[0][0] == rewards[0][2] == 0.0
    assert not np.any(rewards[1:-1])
    assert rewards[-1][1] == 0.0
    assert rewards[-1][0] == pytest.approx(20.0, abs=4.0)  # and what it drifts
