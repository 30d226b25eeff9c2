"""Gymnasium environments as worlds: every space, seeds, ends, and what is refused."""

import jax
import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the optional package gymnasium is not installed")

import gymnasium
from gymnasium import spaces

from trmrl.envs.base import keys_for
from trmrl.envs.gymnasium import from_gymnasium, read_actions
from trmrl.types import Continuous, Discrete, TrmrlError


def draw(split, num_tasks, noise):
    return {"g": noise.uniform(5.0, 15.0, num_tasks)}


def set_gravity(env, task):
    env.unwrapped.g = float(task["g"])


def make_pendulum():
    return gymnasium.make("Pendulum-v1")


def pendulum(**fields):
    fields = {"name": "pendulum", "ends_early": False} | fields
    return from_gymnasium(make_pendulum, draw, set_gravity, **fields)


def test_a_real_environment_steps_as_it_does_alone():
    """By Gymnasium itself, with the seed, the gravity and the torque set by hand."""
    envs = pendulum()
    assert (envs.spec.horizon, envs.spec.obs_size, envs.spec.action_space) == (
        200,
        3,
        Continuous(1),
    )
    tasks = envs.sample_tasks("train", 2, key=jax.random.key(3))
    keys = keys_for(tasks, jax.random.key(1))
    seeds = np.asarray(jax.random.key_data(keys))
    env_state, obs = envs.reset(tasks, key=keys)
    for lane in range(2):
        env, word = make_pendulum(), np.random.SeedSequence(seeds[lane])
        env.unwrapped.g = float(tasks["g"][lane])
        first, _ = env.reset(seed=int(word.generate_state(1)[0] >> 1))
        np.testing.assert_array_equal(obs[lane], first)
    for step in range(200):
        action = np.full((2, 1), 0.25 if step < 100 else 3.0, np.float32)
        env_state, outcome = envs.step(env_state, action)
        torque = np.asarray([0.5 if step < 100 else 2.0], np.float32)  # of -2 to 2, clipped there
        successor, reward, _, truncated, _ = env.step(torque)
        np.testing.assert_array_equal(outcome.next_obs[1], successor)
        np.testing.assert_allclose(outcome.reward[1], reward, rtol=1e-6)
        assert outcome.truncated.tolist() == [truncated] * 2
    assert truncated and not outcome.terminated.any() and outcome.success is None
    assert not np.array_equal(outcome.next_obs[0], outcome.next_obs[1])


class Everything(gymnasium.Env):
    """Observations of every kind; it terminates when the third action of its choices is taken."""

    observation_space = spaces.Dict(
        {
            "b": spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (1, 2))]),
            "a": spaces.MultiBinary(2),
        }
    )
    action_space = spaces.MultiDiscrete([2, 3], start=[0, 5])

    def _observe(self):
        box = np.asarray([[0.25, -0.5]], np.float32)
        return {"a": np.asarray([1, 0], np.int8), "b": (np.int64(self.task), box)}

    def reset(self, *, seed=None, options=None):
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.taken = action
        found = bool(action[1] == 7)
        return self._observe(), 1.0, found, False, {"is_success": found, "taken": action}


def set_number(env, task):
    env.unwrapped.task = int(task)


def everything(env=Everything, **fields):
    fields = {"name": "everything", "horizon": 5, "success": "is_success"} | fields
    tasks = lambda split, num_tasks, noise: noise.integers(0, 3, num_tasks)
    return from_gymnasium(env, tasks, set_number, **fields)


def test_observations_are_flattened_and_named_and_choices_are_one():
    envs = everything()
    assert envs.spec.action_space == Discrete(6) and envs.spec.has_success
    assert envs.obs_names == ("a[0]", "a[1]", "b.0[0]", "b.0[1]", "b.0[2]", "b.1[0]", "b.1[1]")
    tasks = np.asarray([0, 2], np.int32)
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    assert obs.dtype == np.float32
    by_hand = [[1, 0, 1, 0, 0, 0.25, -0.5], [1, 0, 0, 0, 1, 0.25, -0.5]]
    np.testing.assert_array_equal(obs, by_hand)
    env_state, outcome = envs.step(env_state, np.asarray([3, 5]))  # (1, 0 + 5) and (1, 2 + 5)
    assert outcome.terminated.tolist() == [False, True] == outcome.success.tolist()
    assert not outcome.truncated.any()


def test_a_success_that_is_not_there_is_one_line():
    envs = everything(success="solved")
    tasks = np.asarray([0], np.int32)
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    with pytest.raises(TrmrlError, match="everything: its info has no entry 'solved'"):
        envs.step(env_state, np.asarray([0]))


@pytest.mark.parametrize(
    ("space", "ours", "action", "theirs"),
    [
        (spaces.Discrete(4, start=-1), Discrete(4), 3, 2),
        (spaces.MultiBinary(3), Discrete(8), 6, [1, 1, 0]),
        (spaces.MultiDiscrete([[2, 3], [1, 2]]), Discrete(12), 11, [[1, 2], [0, 1]]),
        (spaces.Box(-2.0, 4.0, (1, 2)), Continuous(2), [0.5, -1.5], [[2.5, -2.0]]),
        (spaces.Box(0.0, np.inf, (1,)), Continuous(1), [-0.5], [0.0]),
        (spaces.Box(-np.inf, np.inf, (1,)), Continuous(1), [7.0], [7.0]),
    ],
)
def test_actions_are_translated(space, ours, action, theirs):
    found, decode = read_actions("name", space)
    assert found == ours
    translated = decode(np.asarray(action))
    np.testing.assert_array_equal(translated, theirs)
    assert space.contains(translated)


@pytest.mark.parametrize(
    ("space", "line"),
    [
        (spaces.MultiDiscrete([17, 16]), "272 combinations of actions, expected 256 or fewer"),
        (spaces.MultiBinary(100), "combinations of actions, expected 256 or fewer"),
        (spaces.Box(0, 9, (2,), np.int32), "actions are Box"),
        (spaces.Dict({}), "actions are Dict"),
    ],
)
def test_other_actions_are_refused(space, line):
    with pytest.raises(TrmrlError, match=line):
        read_actions("name", space)


class Endless(Everything):
    observation_space = spaces.Sequence(spaces.Discrete(2))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: everything(horizon=0), "horizon is 0, expected 1 or more"),
        (lambda: pendulum(horizon=201), "horizon is 201, expected 1 to 200"),
        (lambda: everything(Endless), "observations are Sequence"),
        (lambda: everything(lambda: 3), "make_env gave a int, expected a gymnasium.Env"),
        (
            lambda: everything(lambda: gymnasium.wrappers.Autoreset(Everything())),
            "leave out the wrapper Autoreset",
        ),
        (
            lambda: everything(lambda: gymnasium.make_vec("CartPole-v1", num_envs=2)),
            "expected a gymnasium.Env",
        ),
    ],
)
def test_what_cannot_be_a_world_is_refused(make, line):
    with pytest.raises(TrmrlError, match=line):
        make()


def test_a_shorter_horizon_is_cut_by_our_clock():
    envs = pendulum(horizon=2)
    tasks = envs.sample_tasks("train", 1, key=jax.random.key(0))
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    ends = []
    for _ in range(2):
        env_state, outcome = envs.step(env_state, np.zeros((1, 1), np.float32))
        ends.append(outcome.truncated.item())
    assert ends == [False, True]


def test_a_lane_is_the_same_whoever_is_beside_it():
    """Half of a batch steps as it does in the whole, in environments that others have used."""
    envs = pendulum(horizon=6)
    tasks = envs.sample_tasks("train", 4, key=jax.random.key(3))
    keys = keys_for(tasks, jax.random.key(7))

    def play(lanes):
        env_state, obs = envs.reset({"g": tasks["g"][lanes]}, key=keys[lanes])
        rows = [obs]
        for _ in range(6):
            env_state, outcome = envs.step(env_state, np.full((len(obs), 1), 0.3, np.float32))
            rows += [outcome.next_obs, outcome.reward[:, None]]
        return np.concatenate(rows, axis=1)

    whole = play(slice(0, 4))
    for half in (slice(0, 2), slice(2, 4), slice(2, 4)):
        np.testing.assert_array_equal(play(half), whole[half])
    assert len(np.unique(whole[:, 2])) == 4
