"""What a lane draws depends on the key, the step and its own number: any split gives the same rows.

Halves of a batch, lanes one by one, and groups on other devices or machines therefore roll out the
rows that the whole batch does, bit for bit.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.envs import ENVS, make
from trmrl.recipes import recipe
from trmrl.trial import run_trial
from trmrl.types import Continuous, Decision, EnvSpec, replace

LANES = 6
ONE_BY_ONE = "bandit-n10-k5", "tabular-n10", "half-cheetah-vel"  # lanes alone, too
KEY = jax.random.key(11)


class Noise(AbstractAgent):
    """It acts at random, each lane from its own key, and adds up what it was paid."""

    spec: EnvSpec
    plan: TaskPlan = TaskPlan()

    def init(self, spec, *, key):
        raise NotImplementedError

    def start(self, model, num_lanes):
        return jnp.zeros(num_lanes)

    def act(self, model, memory, timestep, *, explore, key):
        memory = memory + jnp.asarray(timestep.prev_reward)
        space = self.spec.action_space
        if isinstance(space, Continuous):
            action = jax.vmap(lambda k: jax.random.normal(k, (space.size,)))(key)
        else:
            action = jax.vmap(lambda k: jax.random.randint(k, (), 0, space.size))(key)
        return memory, Decision(action, memory, memory)

    def adapt(self, model, memory, episode):
        return memory

    def update(self, learner, trial, *, env_steps, key):
        raise NotImplementedError


def shorten(envs, horizon=12):
    """The worlds, and those they wrap, with episodes of a few steps."""
    changes = {"spec": replace(envs.spec, horizon=min(envs.spec.horizon, horizon), num_episodes=2)}
    if "inner" in [field.name for field in dataclasses.fields(envs)]:
        changes["inner"] = shorten(envs.inner, horizon)
    return replace(envs, **changes)


def rolled_out(agent, model, envs, tasks, lanes):
    """The rows of a trial of some neighboring lanes, as NumPy arrays."""
    part = jax.tree.map(lambda x: x[lanes.start : lanes.stop], tasks)
    trial = run_trial(agent, model, envs, part, explore=True, first_lane=lanes.start, key=KEY)
    return jax.tree.map(np.asarray, trial.rows)


def check_splits(agent, model, envs, sizes, equal):
    tasks = envs.sample_tasks("train", LANES, key=jax.random.key(3))
    whole = rolled_out(agent, model, envs, tasks, range(LANES))
    for size in sizes:
        parts = [range(first, first + size) for first in range(0, LANES, size)]
        rows = [rolled_out(agent, model, envs, tasks, lanes) for lanes in parts]
        joined = jax.tree.map(lambda *x: np.concatenate(x, axis=2), *rows)
        for found, expected in zip(jax.tree.leaves(joined), jax.tree.leaves(whole), strict=True):
            equal(found, expected)
    return whole


@pytest.mark.parametrize("name", [*ENVS, "half-cheetah-vel+task"])
def test_any_split_of_a_batch_gives_the_same_rows(name):
    envs = shorten(make(name))
    sizes = (1, 3) if name in ONE_BY_ONE else (3,)
    whole = check_splits(Noise(envs.spec), None, envs, sizes, np.testing.assert_array_equal)
    actions = whole.decision.action.reshape((-1, LANES, *whole.decision.action.shape[3:]))
    for one in range(LANES - 1):  # and the lanes are not one another's copies
        assert not np.array_equal(actions[:, one], actions[:, one + 1])


@pytest.mark.parametrize(
    ("env", "agent_name"),
    [
        ("bandit-n10-k5", "rl2"),
        ("bandit-n10-k5", "trmrl"),
        ("point-robot", "pearl"),
        ("half-cheetah-vel", "trmrl"),
        ("half-cheetah-vel", "gtrxl"),
        ("half-cheetah-vel", "snail"),
    ],
)
def test_so_do_agents_as_far_as_their_arithmetic_allows(env, agent_name):
    """A matrix product may round otherwise in a batch of another size; nothing else differs."""
    envs = shorten(make(env), horizon=4)
    agent = recipe(env, agent_name).agent
    model = agent.init(envs.spec, key=jax.random.key(0)).model

    def near(found, expected):
        np.testing.assert_allclose(
            found.astype(np.float64), expected.astype(np.float64), rtol=1e-3, atol=1e-4
        )

    check_splits(agent, model, envs, (3,), near)


def test_lanes_of_a_task_are_split_between_tasks():
    """MAML's lanes share their task's weights: parts hold whole tasks."""
    envs = shorten(make("navigation-2d"), horizon=4)
    agent = replace(recipe("navigation-2d", "maml").agent, plan=TaskPlan(lanes_per_task=3))
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    near = lambda found, expected: np.testing.assert_allclose(
        found.astype(np.float64), expected.astype(np.float64), rtol=1e-3, atol=1e-3
    )
    check_splits(agent, model, envs, (3,), near)


def test_another_first_lane_is_other_noise():
    """The law above can fail: the same tasks as other lanes give other rows."""
    envs = shorten(make("bandit-n10-k5"))
    tasks = envs.sample_tasks("train", LANES, key=jax.random.key(3))
    trials = [
        run_trial(Noise(envs.spec), None, envs, tasks, explore=True, first_lane=first, key=KEY)
        for first in (0, LANES)
    ]
    one, other = (np.asarray(trial.rows.decision.action) for trial in trials)
    assert not np.array_equal(one, other)
