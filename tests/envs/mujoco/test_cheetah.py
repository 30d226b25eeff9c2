# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)
from importlib import resources

import jax
import mujoco
import numpy as np
import pytest

from trmrl.envs.base import keys_for
from trmrl.envs.mujoco.cheetah import half_cheetah_dir, half_cheetah_vel
from trmrl.types import TrmrlError

VELOCITIES = np.array([0.3, 1.7, 2.9], np.float32)
DIRECTIONS = np.array([1.0, -1.0, 1.0], np.float32)
WORLDS = [
    (half_cheetah_vel, {"velocity": VELOCITIES}),
    (half_cheetah_dir, {"direction": DIRECTIONS}),
]


def script(num_steps, num_lanes, scale=1.5):
    """Actions beyond [-1, 1] too, so that clipping and the cost of the raw action show."""
    noise = np.random.default_rng(7)
    return noise.uniform(-scale, scale, (num_steps, num_lanes, 6)).astype(np.float32)


def play(envs, tasks, actions, seed=3):
    """One episode: first observation, views, and outcomes, all as handed out (no copies)."""
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(seed)))
    views, outcomes = [envs.view(env_state)], []
    for action in actions:
        env_state, outcome = envs.step(env_state, action)
        outcomes.append(outcome)
        views.append(envs.view(env_state))
    return env_state, obs, views, outcomes


def same(one, two):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(np.array_equal(left, right) for left, right in pairs)


def observed(world):
    parts = world.qpos[1:], world.qvel, world.body("torso").xpos
    return np.concatenate(parts).astype(np.float32)


def plain_xml():
    return resources.files("trmrl.envs.mujoco").joinpath("half_cheetah.xml").read_text()


@pytest.mark.parametrize(("make", "tasks"), WORLDS)
def test_episode_equals_a_plain_loop(make, tasks):
    envs = make(num_threads=2)
    actions = script(200, 3)
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(3)))
    start = env_state.lanes.qpos.copy(), env_state.lanes.qvel.copy()
    outcomes = [envs.step(env_state, action)[1] for action in actions]

    model = mujoco.MjModel.from_xml_string(plain_xml())  # islands left on
    for lane in range(3):
        world = mujoco.MjData(model)
        world.qpos[:], world.qvel[:] = start[0][lane], start[1][lane]
        mujoco.mj_forward(model, world)
        assert np.array_equal(obs[lane], observed(world))
        for t, outcome in enumerate(outcomes):
            x = world.qpos[0]
            world.ctrl[:] = np.clip(actions[t, lane], -1.0, 1.0)
            for _ in range(5):
                mujoco.mj_step(model, world)
            velocity = (world.qpos[0] - x) / 0.05
            cost = 0.05 * sum(float(a) ** 2 for a in actions[t, lane])
            if "velocity" in tasks:
                reward = -abs(velocity - float(VELOCITIES[lane])) - cost
            else:
                reward = float(DIRECTIONS[lane]) * velocity - cost
            assert np.array_equal(outcome.next_obs[lane], observed(world)), (lane, t)
            assert outcome.reward[lane] == pytest.approx(reward, rel=2e-7, abs=1e-6)
            assert not outcome.terminated[lane]
            assert outcome.truncated[lane] == (t == 199)
        assert abs(world.qpos[0] - start[0][lane][0]) > 0.01  # it did move


def test_outcomes_are_plain_arrays_that_stay():
    tasks = {"velocity": VELOCITIES}
    _, obs, _, outcomes = play(half_cheetah_vel(2), tasks, script(1, 3))
    first = jax.tree.map(np.copy, outcomes[0])
    envs = half_cheetah_vel(2)
    env_state, again = envs.reset(tasks, key=keys_for(tasks, jax.random.key(3)))
    env_state, outcome = envs.step(env_state, script(1, 3)[0])
    for action in script(20, 3):
        envs.step(env_state, action)
    assert np.array_equal(again, obs)
    for kept, expected in zip(jax.tree.leaves(outcome), jax.tree.leaves(first), strict=True):
        assert np.array_equal(kept, expected)
        assert isinstance(kept, np.ndarray) and kept.flags.owndata
    assert outcome.reward.dtype == outcome.next_obs.dtype == obs.dtype == np.float32
    assert outcome.terminated.dtype == outcome.truncated.dtype == bool
    assert outcome.next_obs.shape == (3, envs.spec.obs_size)


def test_actions_may_be_jax_arrays():
    tasks, actions = {"velocity": VELOCITIES}, script(3, 3)
    _, _, views, _ = play(half_cheetah_vel(1), tasks, actions)
    _, _, same, _ = play(half_cheetah_vel(1), tasks, [jax.numpy.asarray(a) for a in actions])
    assert np.array_equal(views, same)


def test_view_is_a_copy_of_qpos():
    env_state, _, views, _ = play(half_cheetah_vel(1), {"velocity": VELOCITIES}, script(2, 3))
    assert np.array_equal(views[-1], env_state.lanes.qpos) and views[-1].shape == (3, 9)
    assert not np.array_equal(views[0], views[1])


def test_worlds_made_twice_are_equal():
    assert half_cheetah_vel(2) == half_cheetah_vel(2)  # so that caches keyed by it are hit
    assert hash(half_cheetah_dir()) == hash(half_cheetah_dir())


def test_threads_change_nothing():
    tasks = {"direction": np.resize(DIRECTIONS, 8)}
    actions = script(60, 8)
    one = play(half_cheetah_dir(1), tasks, actions)
    two = play(half_cheetah_dir(2), tasks, actions)
    assert np.array_equal(one[2], two[2])
    assert same(one[3], two[3])


def test_two_episodes_at_once_do_not_share_simulations():
    tasks, actions = {"velocity": VELOCITIES}, script(10, 3)
    envs = half_cheetah_vel(1)
    alone = play(envs, tasks, actions, seed=5)[2]
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(5)))
    together = [envs.view(env_state)]
    other, _ = half_cheetah_dir(1).reset(
        {"direction": DIRECTIONS}, key=keys_for({"direction": DIRECTIONS}, jax.random.key(6))
    )
    for action in actions:
        env_state, _ = envs.step(env_state, action)
        half_cheetah_dir(1).step(other, -action)
        together.append(envs.view(env_state))
    assert np.array_equal(alone, together)


def test_simulations_are_reused():
    envs, tasks = half_cheetah_vel(1), {"velocity": np.ones(5, np.float32)}
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    batch = env_state.lanes._batch
    del env_state
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))
    assert env_state.lanes._batch is batch


def test_save_and_restore_are_exact():
    envs, actions = half_cheetah_vel(2), script(80, 3)
    env_state, _, _, _ = play(envs, {"velocity": VELOCITIES}, actions[:40])
    saved = env_state.lanes.save()
    rest = [envs.step(env_state, action)[1] for action in actions[40:]]
    env_state.lanes.restore(saved)
    assert np.array_equal(env_state.lanes.elapsed(), [40, 40, 40])
    again = [envs.step(env_state, action)[1] for action in actions[40:]]
    assert same(rest, again)


@pytest.mark.parametrize(("split", "low", "high"), [("train", 0, 3), ("test", 0, 3), ("ood", 3, 4)])
def test_velocities_fill_their_split(split, low, high):
    envs = half_cheetah_vel()
    velocity = envs.sample_tasks(split, 4000, key=jax.random.key(0))["velocity"]
    assert velocity.shape == (4000,) and velocity.dtype == np.float32
    assert low <= velocity.min() < low + 0.01 and high - 0.01 < velocity.max() <= high
    assert velocity.mean() == pytest.approx((low + high) / 2, abs=0.05)
    other = envs.sample_tasks(split, 4000, key=jax.random.key(1))["velocity"]
    assert not np.isin(velocity, other).all()
    assert np.array_equal(
        velocity, envs.sample_tasks(split, 4000, key=jax.random.key(0))["velocity"]
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_directions_are_a_fair_coin(split):
    tasks = half_cheetah_dir().sample_tasks(split, 4000, key=jax.random.key(0))
    direction = tasks["direction"]
    assert direction.dtype == np.float32 and set(direction.tolist()) == {-1.0, 1.0}
    assert abs(direction.mean()) < 0.06


def test_unknown_split_names_those_there_are():
    key = jax.random.key(0)
    with pytest.raises(TrmrlError, match="half-cheetah-dir has no split 'ood': .* train, test"):
        half_cheetah_dir().sample_tasks("ood", 2, key=key)
    with pytest.raises(TrmrlError, match="'ODD': .* train, test, ood"):
        half_cheetah_vel().sample_tasks("ODD", 2, key=key)


def test_no_threads_is_refused():
    with pytest.raises(TrmrlError, match="num_threads is 0, expected 1 or more"):
        half_cheetah_vel(0).reset(
            {"velocity": VELOCITIES}, key=keys_for({"velocity": VELOCITIES}, jax.random.key(0))
        )


def test_reset_noise():
    envs, num_lanes = half_cheetah_vel(2), 500
    tasks = {"velocity": np.ones(num_lanes, np.float32)}
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    qpos, qvel = env_state.lanes.qpos.copy(), env_state.lanes.qvel.copy()
    assert np.abs(qpos).max() <= 0.1 and np.abs(qpos).max() > 0.0999
    assert qpos.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.03)
    assert qvel.std() == pytest.approx(0.1, rel=0.03) and np.abs(qvel).max() > 0.3
    assert np.abs(qpos.mean(0)).max() < 0.015 and np.abs(qvel.mean(0)).max() < 0.025
    assert np.abs(np.corrcoef(np.hstack([qpos, qvel]).T) - np.eye(18)).max() < 0.2
    torso = np.stack([qpos[:, 0], np.zeros(num_lanes), 0.7 + qpos[:, 1]], axis=1)
    assert np.allclose(obs, np.hstack([qpos[:, 1:], qvel, torso]), atol=1e-6)
    assert np.array_equal(envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))[1], obs)
    assert not np.array_equal(envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))[1], obs)
