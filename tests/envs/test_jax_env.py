"""Pure functions of one lane as worlds: lanes of their own, our clock, nobody's resets."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs.base import keys_for
from trmrl.envs.jax_env import from_gymnax, from_jax
from trmrl.types import Continuous, Discrete, TrmrlError

KEY = jax.random.key(4)


def sample_tasks(split, num_tasks, key):
    return {"goal": jax.random.randint(key, (num_tasks,), 1, 9)}


def reset(key, task):
    """A counter from 0, as careless about types as foreign code is."""
    return {"at": jnp.zeros((1, 2)), "noise": jax.random.uniform(key)}, {"at": 0, "time": 0}


def step(key, state, action, task):
    at = state["at"] + action
    obs = {"at": jnp.full((1, 2), at), "noise": jax.random.uniform(key)}
    state = {"at": at, "time": state["time"] + 1.0}
    return obs, state, at * 1, at >= task["goal"], at == task["goal"]


def counter(**fields):
    fields = {"action_space": Discrete(3), "horizon": 3, "ends_early": True} | fields
    return from_jax(reset, step, sample_tasks, name="counter", **fields)


def test_lanes_step_on_their_own_by_hand():
    envs = counter()
    assert (envs.spec.obs_size, envs.spec.has_success, envs.spec.num_episodes) == (3, True, 2)
    tasks = {"goal": jnp.asarray([2, 3, 8])}
    env_state, first = envs.reset(tasks, key=keys_for(tasks, KEY))
    actions = jnp.asarray([[1, 2, 0], [1, 2, 2], [0, 0, 1]])
    _, rows = jax.jit(lambda s: jax.lax.scan(envs.step, s, actions))(env_state)
    assert first.shape == (3, 3) and first.dtype == rows.next_obs.dtype == rows.reward.dtype
    np.testing.assert_array_equal(rows.next_obs[..., 0], [[1, 2, 0], [2, 4, 2], [2, 4, 3]])
    np.testing.assert_array_equal(rows.reward, rows.next_obs[..., 0])
    no = False
    np.testing.assert_array_equal(rows.terminated, [[no] * 3, [True, True, no], [True, True, no]])
    np.testing.assert_array_equal(rows.truncated, [[no] * 3, [no] * 3, [no, no, True]])
    np.testing.assert_array_equal(rows.success, [[no] * 3, [True, no, no], [True, no, no]])
    noise = np.concatenate([first[None, :, 2], rows.next_obs[..., 2]])
    assert len(np.unique(noise)) == noise.size  # of each lane, at each step


def test_a_lane_is_the_same_whoever_is_beside_it():
    envs = counter()
    tasks = envs.sample_tasks("train", 4, key=KEY)
    keys = keys_for(tasks, KEY)

    def play(lanes):
        env_state, first = envs.reset(jax.tree.map(lambda x: x[lanes], tasks), key=keys[lanes])
        _, outcome = envs.step(env_state, jnp.ones(len(first), jnp.int32))
        return np.concatenate([first, outcome.next_obs], axis=1)

    whole = play(slice(0, 4))
    np.testing.assert_array_equal(play(slice(2, 4)), whole[2:])
    assert len(np.unique(whole[:, 2])) == 4
    with pytest.raises(TrmrlError, match="counter has no split 'ood'"):
        envs.sample_tasks("ood", 2, key=KEY)


class Gymnax:
    """What `from_gymnax` needs of an environment, `step` excepted: that would reset itself."""

    def __init__(self, space):
        self.space = space

    def action_space(self, params):
        return self.space

    def reset_env(self, key, params):
        return jnp.stack([params.pull, 0.0]), jnp.float32(0)

    def step_env(self, key, state, action, params):
        state = state + jnp.sum(action)
        return jnp.stack([params.pull, state]), state, state, state > 9, {"discount": 1.0}

    def is_truncated(self, state, params):
        raise AssertionError("our clock cuts episodes off")


class Params(SimpleNamespace):
    def replace(self, **changes):
        return Params(**vars(self) | changes)


PARAMS = Params(pull=1.0, other=2.0, max_steps_in_episode=7)


def pulls(split, num_tasks, key):
    return {"pull": jax.random.uniform(key, (num_tasks,))}


def test_a_gymnax_environment_has_its_params_from_the_task_and_stretched_actions():
    box = SimpleNamespace(low=-2.0, high=jnp.asarray([4.0]), shape=(1,))
    envs = from_gymnax(Gymnax(box), PARAMS, pulls, name="gymnax")
    assert (envs.spec.horizon, envs.spec.action_space) == (7, Continuous(1))
    tasks = envs.sample_tasks("train", 2, key=KEY)
    env_state, first = envs.reset(tasks, key=keys_for(tasks, KEY))
    np.testing.assert_array_equal(first[:, 0], tasks["pull"])
    _, outcome = envs.step(env_state, jnp.asarray([[0.5], [-3.0]]))
    np.testing.assert_allclose(outcome.next_obs[:, 1], [2.5, -2.0])
    assert outcome.success is None and not outcome.truncated.any()


def test_choices_stay_choices_and_the_rest_is_refused():
    env = Gymnax(SimpleNamespace(n=4))
    envs = from_gymnax(env, PARAMS, pulls, name="gymnax", horizon=3, family="own")
    assert (envs.spec.action_space, envs.spec.horizon) == (Discrete(4), 3)
    assert envs.spec.family == "own"
    with pytest.raises(TrmrlError, match="gymnax: actions are .*, expected Discrete or Box"):
        from_gymnax(Gymnax(SimpleNamespace(spaces={})), PARAMS, pulls, name="gymnax")
    env.is_truncated = None
    with pytest.raises(TrmrlError, match="expected gymnax 1.0 or newer"):
        from_gymnax(env, PARAMS, pulls, name="gymnax")


def test_a_real_gymnax_environment_steps_as_it_does_alone():
    gymnax = pytest.importorskip("gymnax", reason="the optional package gymnax is not installed")
    env, params = gymnax.make("CartPole-v1")
    draw = lambda split, num_tasks, key: {"force_mag": jax.random.uniform(key, (num_tasks,))}
    envs = from_gymnax(env, params, draw, name="cartpole", ends_early=True)
    tasks = {"force_mag": jnp.asarray([-9.0, 4.0])}
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, KEY))
    state = jax.tree.map(lambda x: x[1], env_state.inner)
    ended = False
    for _ in range(60):
        env_state, outcome = envs.step(env_state, jnp.asarray([1, 1]))
        with jax.numpy_dtype_promotion("standard"):
            alone = env.step_env(KEY, state, 1, params.replace(force_mag=4.0))
        obs, state, reward, ended, _ = alone
        np.testing.assert_allclose(outcome.next_obs[1], obs, rtol=1e-5)
        assert outcome.reward[1] == reward and outcome.terminated[1] == ended
        if ended:
            break
    assert ended and not outcome.truncated.any()
