"""A trial is K slots of H steps on one task: slots stay aligned whatever ends early in them."""

from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.envs import make
from trmrl.envs.base import JAX, AbstractEnvs, Driver, keys_for
from trmrl.trial import run_trial
from trmrl.types import Decision, EnvSpec, replace

K, H, B = 3, 6, 4
KEY = jax.random.key(5)


class Counting(AbstractAgent):
    """Its memory counts the steps taken, and 100 per episode adapted to; its value is the count.

    `log_prob` is the number of steps that `adapt` found valid in all episodes so far.
    """

    plan: TaskPlan = TaskPlan()

    def init(self, spec, *, key):
        raise NotImplementedError

    def start(self, model, num_lanes):
        return {"count": jnp.zeros(num_lanes), "adapted": jnp.zeros(num_lanes)}

    def act(self, model, memory, timestep, *, explore, key):
        count = memory["count"] + 1
        noise = jax.vmap(jax.random.normal)(key) if explore else jnp.zeros_like(count)
        action = model * jnp.stack([count, noise], axis=-1)
        decision = Decision(action, memory["adapted"], count)
        return {"count": count, "adapted": memory["adapted"]}, decision

    def adapt(self, model, memory, episode):
        steps = jnp.asarray(episode.valid).sum(axis=0, dtype=jnp.float32)
        return {"count": memory["count"] + 100, "adapted": memory["adapted"] + steps}

    def update(self, learner, trial, *, env_steps, key):
        raise NotImplementedError


def roll_out(envs, tasks, **options):
    options = {"explore": False, "key": KEY} | options
    trial = run_trial(Counting(), jnp.asarray(0.01), envs, tasks, **options)
    return jax.tree.map(np.asarray, trial)


@pytest.fixture(scope="module", params=["jax", "host"])
def rolled_out(request, drift, currents):
    """Rows `[K, H, B]` in which lanes 1 and 2 end early, of a JAX world and of a host world."""
    envs, tasks = drift(request.param == "host", num_episodes=K), currents(noise=0.1)
    rows = roll_out(envs, tasks).rows
    steps = rows.valid.sum(axis=1)  # [K, B]
    assert (steps[:, [0, 3]] == H).all()
    assert (steps[:, [1, 2]] < H).all()
    return SimpleNamespace(envs=envs, tasks=tasks, rows=rows, steps=steps)


def test_every_leaf_is_slot_aligned(rolled_out):
    assert {leaf.shape[:3] for leaf in jax.tree.leaves(rolled_out.rows)} == {(K, H, B)}


def test_flags_mark_first_rows_and_nothing_else(rolled_out):
    timestep = rolled_out.rows.timestep
    first = np.zeros((K, H, B), bool)
    first[:, 0] = True
    np.testing.assert_array_equal(timestep.episode_start, first)
    first[1:] = False
    np.testing.assert_array_equal(timestep.trial_start, first)


def test_a_row_is_valid_until_its_episode_ended(rolled_out):
    ended = rolled_out.rows.outcome.terminated | rolled_out.rows.outcome.truncated
    for k in range(K):
        for lane in range(B):
            before = np.concatenate([[False], ended[k, :-1, lane]])
            expected = ~np.logical_or.accumulate(before)
            np.testing.assert_array_equal(rolled_out.rows.valid[k, :, lane], expected)
    assert rolled_out.rows.outcome.truncated[:, -1, [0, 3]].all()
    assert not rolled_out.rows.outcome.truncated[:, :-1, [0, 3]].any()


class Hurried(AbstractEnvs):
    """The points of `inner`, a `Drift`, whose clock ends their episodes before the slot is over."""

    inner: AbstractEnvs
    spec: EnvSpec
    driver: ClassVar[Driver] = JAX

    def sample_tasks(self, split, num_tasks, *, key):
        return self.inner.sample_tasks(split, num_tasks, key=key)

    def reset(self, tasks, *, key):
        return self.inner.reset(tasks, key=key)

    def step(self, env_state, action):
        env_state, outcome = self.inner.step(env_state, action)
        return env_state, replace(outcome, truncated=env_state.clock >= 4)

    def view(self, env_state):
        return self.inner.view(env_state)


def test_a_clock_may_end_an_episode_before_its_slot(drift, currents):
    envs = drift(num_episodes=K)
    rows = roll_out(Hurried(envs, envs.spec), currents(noise=0.1)).rows
    steps = rows.valid.sum(axis=1)
    assert (steps[:, [0, 3]] == 4).all() and (steps[:, 1] < 4).all()


def test_an_episode_begins_where_the_world_resets_it(rolled_out):
    for k in range(K):
        reset_key = jax.random.split(jax.random.fold_in(KEY, k))[0]
        _, obs = rolled_out.envs.reset(rolled_out.tasks, key=keys_for(rolled_out.tasks, reset_key))
        np.testing.assert_allclose(rolled_out.rows.timestep.obs[k, 0], obs, atol=1e-6)


def test_within_an_episode_each_row_shows_the_outcome_of_the_last(rolled_out):
    timestep, outcome = rolled_out.rows.timestep, rolled_out.rows.outcome
    np.testing.assert_array_equal(timestep.obs[:, 1:], outcome.next_obs[:, :-1])
    np.testing.assert_array_equal(timestep.prev_reward[:, 1:], outcome.reward[:, :-1])
    np.testing.assert_array_equal(
        timestep.prev_action[:, 1:], rolled_out.rows.decision.action[:, :-1]
    )


def test_the_world_answers_the_action_that_was_recorded(rolled_out):
    """Every row, the world stepped by hand; idle rows too, for nobody stops the world."""
    tasks, rows = rolled_out.tasks, rolled_out.rows
    for k, lane in np.ndindex(K, B):
        x = rows.timestep.obs[k, 0, lane, 0]
        for t in range(H):
            np.testing.assert_allclose(rows.timestep.obs[k, t, lane], [x, 0.1 * t], atol=1e-5)
            action = rows.decision.action[k, t, lane]
            x = x + tasks.drift[lane] + 0.04 * action[0] - 0.02 * action[1]
            outcome, at = rows.outcome, (k, t, lane)
            np.testing.assert_allclose(outcome.next_obs[at], [x, 0.1 * (t + 1)], atol=1e-5)
            np.testing.assert_allclose(outcome.reward[at], 1 - abs(x), atol=1e-5)
            assert outcome.terminated[at] == (abs(x) > tasks.wall[lane])


def test_the_next_episode_follows_the_last_valid_row(rolled_out):
    """The last action and reward are kept across episodes, not those of an idle lane."""
    timestep, rows = rolled_out.rows.timestep, rolled_out.rows
    assert not timestep.prev_action[0, 0].any()
    assert not timestep.prev_reward[0, 0].any()
    for k in range(1, K):
        for lane in range(B):
            last = rolled_out.steps[k - 1, lane] - 1
            action = rows.decision.action[k - 1, last, lane]
            np.testing.assert_array_equal(timestep.prev_action[k, 0, lane], action)
            assert timestep.prev_reward[k, 0, lane] == rows.outcome.reward[k - 1, last, lane]
            if lane in (1, 2):
                assert timestep.prev_reward[k, 0, lane] != rows.outcome.reward[k - 1, -1, lane]


def test_an_idle_lane_learns_nothing_and_adapts_once_per_episode(rolled_out):
    """`value` counts the steps the memory took, plus 100 for every episode adapted to."""
    count = rolled_out.rows.decision.value
    for lane in range(B):
        before = 0
        for k in range(K):
            steps = rolled_out.steps[k, lane]
            np.testing.assert_array_equal(count[k, :steps, lane], before + 1 + np.arange(steps))
            np.testing.assert_array_equal(count[k, steps:, lane], before + steps + 1)
            before += steps + 100
    adapted = rolled_out.rows.decision.log_prob
    np.testing.assert_array_equal(adapted[0], 0)
    np.testing.assert_array_equal(adapted[1:, 0], np.cumsum(rolled_out.steps, axis=0)[:-1])


class Steadfast(Counting):
    """It keeps one number a task, which acting reads and episodes change."""

    def start(self, model, num_lanes):
        return {"reward": jnp.zeros(self.plan.groups(num_lanes))}

    def act(self, model, memory, timestep, *, explore, key):
        reward = memory["reward"].repeat(self.plan.lanes_per_task)
        return memory, Decision(jnp.stack([reward, reward], axis=-1), reward, reward)

    def adapt(self, model, memory, episode):
        reward = jnp.where(episode.valid, episode.outcome.reward, 0.0).sum(axis=0)
        return {"reward": self.plan.by_task(reward).sum(axis=-1)}


@pytest.mark.parametrize("host", [False, True])
def test_lanes_of_a_task_share_a_memory_that_acting_leaves_alone(drift, host):
    envs, agent = drift(host, num_episodes=K), Steadfast(TaskPlan(lanes_per_task=2))
    tasks = agent.plan.spread(envs.sample_tasks("train", 3, key=KEY))
    assert {leaf.shape for leaf in jax.tree.leaves(tasks)} == {(6,)}
    for leaf in jax.tree.leaves(tasks):
        np.testing.assert_array_equal(leaf[0::2], leaf[1::2])
        assert len(set(np.asarray(leaf).tolist())) == 3
    trial = run_trial(agent, None, envs, tasks, explore=False, key=KEY)
    rows = jax.tree.map(np.asarray, trial.rows)
    reward = np.where(rows.valid, rows.outcome.reward, 0.0).sum(axis=1)  # [K, B]
    both = (reward[:, 0::2] + reward[:, 1::2]).repeat(2, axis=1)
    expected = np.concatenate([np.zeros((1, 6)), both[:-1]])
    np.testing.assert_allclose(rows.decision.value, expected[:, None].repeat(H, axis=1), rtol=1e-6)


@pytest.mark.parametrize("host", [False, True])
def test_num_episodes_overrides_the_family_and_changes_no_earlier_episode(drift, currents, host):
    envs, tasks = drift(host, num_episodes=2), currents(noise=0.1)
    short, long = (roll_out(envs, tasks, num_episodes=k).rows for k in (1, 4))
    assert (short.valid.shape[0], roll_out(envs, tasks).rows.valid.shape[0]) == (1, 2)
    assert long.valid.shape[0] == 4
    for one, other in zip(jax.tree.leaves(short), jax.tree.leaves(long), strict=True):
        np.testing.assert_array_equal(one, other[:1])


def test_the_same_key_gives_the_same_trial_and_another_key_another(drift, currents):
    envs, tasks = drift(), currents(noise=0.1)
    once, again = (roll_out(envs, tasks, explore=True).rows for _ in range(2))
    for one, other in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    other = roll_out(envs, tasks, explore=True, key=jax.random.key(6)).rows
    assert not np.array_equal(once.decision.action, other.decision.action)
    assert not np.array_equal(once.timestep.obs[:, 0], other.timestep.obs[:, 0])
    first, second = once.decision.action[0, :2, :, 1]  # the noise of two steps differs
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("host", [False, True])
def test_views_are_those_before_each_step(drift, currents, host):
    """The worlds' own `view`, in idle rows too; what else a trial holds does not change by it."""
    envs, tasks = drift(host, num_episodes=K), currents(noise=0.1)
    plain, drawn = (roll_out(envs, tasks, record_view=record) for record in (False, True))
    assert plain.view is None
    assert drawn.view.shape == (K, H, B)
    np.testing.assert_array_equal(drawn.view, drawn.rows.timestep.obs[..., 0])
    np.testing.assert_array_equal(drawn.view[:, 1:], drawn.rows.outcome.next_obs[:, :-1, :, 0])
    assert len(np.unique(drawn.view)) > H * B
    for one, other in zip(jax.tree.leaves(plain.rows), jax.tree.leaves(drawn.rows), strict=True):
        np.testing.assert_array_equal(one, other)


class Rightward(Counting):
    """It goes right on a grid, whatever happens."""

    def act(self, model, memory, timestep, *, explore, key):
        zeros = jnp.zeros(len(memory["count"]))
        return memory, Decision(jnp.ones(len(zeros), jnp.int32), zeros, zeros)


def test_views_keep_their_own_axes():
    """A grid's view is the cell, `[K, H, B, 2]`: of 15 steps to the right, four lead further."""
    envs = make("grid-navi")
    tasks = envs.sample_tasks("train", 3, key=KEY)
    trial = run_trial(
        Rightward(), None, envs, tasks, num_episodes=2, explore=False, record_view=True, key=KEY
    )
    column = np.minimum(np.arange(envs.spec.horizon), 4)
    expected = np.stack([column, np.zeros_like(column)], axis=-1)
    shape = (2, envs.spec.horizon, 3, 2)
    np.testing.assert_array_equal(trial.view, np.broadcast_to(expected[None, :, None], shape))


@pytest.mark.parametrize("host", [False, True])
def test_a_trial_carries_its_tasks_and_their_numbers(drift, currents, host):
    envs, tasks = drift(host), currents(noise=0.1)
    fresh = run_trial(Counting(), jnp.asarray(0.01), envs, tasks, explore=False, key=KEY)
    assert fresh.task is tasks
    assert fresh.task_id is None
    numbers = np.array([7, 5, 5, 0], np.int32)
    trial = roll_out(envs, tasks, task_id=numbers)
    np.testing.assert_array_equal(trial.task_id, numbers)
    for one, other in zip(jax.tree.leaves(trial.task), jax.tree.leaves(tasks), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(jax.tree.leaves(trial.rows), jax.tree.leaves(fresh.rows), strict=True):
        np.testing.assert_array_equal(one, other)
