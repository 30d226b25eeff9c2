"""Hidden tasks that change in mid-episode: what follows is of the new task, all else as it was."""

import jax
import numpy as np
import pytest

from trmrl.envs import ENVS, make
from trmrl.envs.base import keys_for
from trmrl.types import Discrete, TrmrlError, replace

SLOW = {"humanoid-dir", "hopper-rand-params", "ant-dir-radian", "ant-goal"}  # as their like
WORLDS = [name for name in ENVS if name not in SLOW]
LANES = 3


def play(envs, tasks, num_steps, change=()):
    """Outcomes of some steps; `change` maps steps to the tasks that begin there."""
    change, noise, outcomes = dict(change), np.random.default_rng(0), []
    state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))
    for t in range(num_steps):
        if t in change:
            state = envs.change_task(state, change[t])
        space = envs.spec.action_space
        if isinstance(space, Discrete):
            action = noise.integers(0, space.size, LANES).astype(np.int32)
        else:
            action = noise.uniform(-1, 1, (LANES, space.size)).astype(np.float32)
        state, outcome = envs.step(state, action)
        outcomes.append(jax.tree.map(lambda x: np.array(x), outcome))
    return outcomes


def draw(envs, seed):
    return envs.sample_tasks("test", LANES, key=jax.random.key(seed))


def assert_same(ours, theirs, atol=0.0):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.parametrize("name", [*WORLDS, "half-cheetah-vel+task"])
def test_the_same_task_changes_nothing_to_the_bit(name):
    envs = make(name)
    tasks = draw(envs, 0)
    assert_same(play(envs, tasks, 4, {2: tasks}), play(envs, tasks, 4))


@pytest.mark.parametrize("name", [*WORLDS, "point-robot+task"])
def test_a_change_before_the_first_step_is_another_task(name):
    envs = make(name)
    first, second = draw(envs, 0), draw(envs, 3)
    if name == "dark-key-to-door":  # whose start is of the task, and counts at a reset
        second = replace(second, start=first.start)
    changed = play(envs, first, 3, {0: second})
    assert_same(changed, play(envs, second, 3), atol=1e-5)  # solvers start elsewhere


def test_what_a_change_changes_is_the_reward_to_come():
    """Of the point robot, by hand: the distance to the new goal, from where it is."""
    envs = make("point-robot")
    first, second = draw(envs, 0), draw(envs, 3)
    plain, changed = play(envs, first, 3), play(envs, first, 3, {2: second})
    assert_same(plain[:2], changed[:2])
    np.testing.assert_array_equal(plain[2].next_obs, changed[2].next_obs)
    away = np.asarray(changed[2].next_obs) - np.asarray(second.goal)
    np.testing.assert_allclose(changed[2].reward, -np.sqrt((away**2).sum(axis=1)), rtol=1e-6)


def test_a_motor_dies_under_way():
    """With all motors dead the state goes on as without any action."""
    envs = make("half-cheetah-crippled")
    tasks = draw(envs, 0)
    dead = jax.tree.map(np.zeros_like, tasks)
    changed = play(envs, tasks, 3, {1: dead})
    alive = play(envs, tasks, 3)
    assert_same(changed[0], alive[0])
    assert np.abs(changed[1].next_obs - alive[1].next_obs).max() > 0.01
    state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))
    noise = np.random.default_rng(0)
    for t in range(2):
        action = noise.uniform(-1, 1, (LANES, 6)).astype(np.float32)
        state, outcome = envs.step(state, action * (t == 0))
    np.testing.assert_allclose(outcome.next_obs, changed[1].next_obs, atol=1e-4)


def test_what_is_owed_stays_owed():
    envs = make("half-cheetah-vel-delayed")
    tasks = draw(envs, 0)
    slower = {"velocity": tasks["velocity"] - 1.0}
    inner = play(envs.inner, tasks, 20, {10: slower})
    delayed = play(envs, tasks, 20, {10: slower})
    earned = np.sum([outcome.reward for outcome in inner], axis=0)
    np.testing.assert_allclose(delayed[-1].reward, earned, rtol=1e-5)


def test_worlds_that_cannot_say_so(drift, currents):
    envs = drift()
    state, _ = envs.reset(currents(), key=keys_for(currents(), jax.random.key(0)))
    with pytest.raises(TrmrlError, match="drift cannot change its task"):
        envs.change_task(state, currents())


def test_a_change_of_the_model_leaves_the_state_as_it_is():
    envs = make("half-cheetah-payload")
    tasks = draw(envs, 0)
    state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))
    for _ in range(3):
        state, _ = envs.step(state, np.ones((LANES, 6), np.float32))
    saved, place = state.lanes.save(), state.lanes.computed["xpos"].copy()
    state = envs.change_task(state, draw(envs, 3))
    np.testing.assert_array_equal(state.lanes.save(), saved)
    np.testing.assert_array_equal(state.lanes.computed["xpos"], place)
