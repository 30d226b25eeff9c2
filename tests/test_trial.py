"""A trial is K slots of H steps on one task: slots stay aligned whatever ends early in them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents._base import AbstractAgent
from trmrl.trial import run_trial, sample_tasks
from trmrl.types import Decision

K, H, B = 3, 6, 4
KEY = jax.random.key(5)


class Counting(AbstractAgent):
    """Its memory counts the steps taken, and 100 per episode digested; its action tells both.

    `extras` are the steps that `adapt` found valid in all episodes so far.
    """

    lanes_per_task: int = 1
    num_tasks: int = 0

    def init(self, spec, *, key):
        raise NotImplementedError

    def start(self, model, num_lanes):
        return {"count": jnp.zeros(num_lanes), "digested": jnp.zeros(num_lanes, jnp.int32)}

    def act(self, model, memory, timestep, *, explore, key):
        count = memory["count"] + 1
        noise = jax.random.normal(key, count.shape) if explore else jnp.zeros_like(count)
        action = model * jnp.stack([count, noise], axis=-1)
        decision = Decision(action, -count, count, extras=memory["digested"])
        return {"count": count, "digested": memory["digested"]}, decision

    def adapt(self, model, memory, episode, *, key):
        seen = jnp.asarray(episode.valid).sum(axis=0, dtype=jnp.int32)
        return {"count": memory["count"] + 100, "digested": memory["digested"] + seen}

    def update(self, train_state, trial):
        raise NotImplementedError


def live(envs, tasks, **options):
    options = {"explore": False, "key": KEY} | options
    trial = run_trial(Counting(), jnp.asarray(0.01), envs, tasks, **options)
    return jax.tree.map(np.asarray, trial)


@pytest.fixture(scope="module", params=["jax", "host"])
def lived(request, drift, currents):
    """A trial `[K, H, B]` in which lanes 1 and 2 end early, of a JAX world and of a host world."""
    envs, tasks = drift(request.param == "host", num_episodes=K), currents(noise=0.1)
    trial = live(envs, tasks)
    steps = trial.valid.sum(axis=1)  # [K, B]
    assert (steps[:, [0, 3]] == H).all()
    assert (steps[:, [1, 2]] < H).all()
    return SimpleNamespace(envs=envs, tasks=tasks, trial=trial, steps=steps)


def test_every_leaf_is_slot_aligned(lived):
    assert {leaf.shape[:3] for leaf in jax.tree.leaves(lived.trial)} == {(K, H, B)}


def test_flags_mark_first_rows_and_nothing_else(lived):
    seen = lived.trial.timestep
    first = np.zeros((K, H, B), bool)
    first[:, 0] = True
    np.testing.assert_array_equal(seen.episode_start, first)
    first[1:] = False
    np.testing.assert_array_equal(seen.trial_start, first)


def test_a_row_is_valid_until_its_episode_ended(lived):
    ended = lived.trial.outcome.terminated | lived.trial.outcome.truncated
    for k in range(K):
        for lane in range(B):
            before = np.concatenate([[False], ended[k, :-1, lane]])
            expected = ~np.logical_or.accumulate(before)
            np.testing.assert_array_equal(lived.trial.valid[k, :, lane], expected)
    assert lived.trial.outcome.truncated[:, -1, [0, 3]].all()
    assert not lived.trial.outcome.truncated[:, :-1, [0, 3]].any()


def test_an_episode_begins_where_the_world_resets_it(lived):
    for k in range(K):
        reset_key = jax.random.split(jax.random.fold_in(KEY, k), 3)[0]
        _, obs = lived.envs.reset(lived.tasks, key=reset_key)
        np.testing.assert_allclose(lived.trial.timestep.obs[k, 0], obs, atol=1e-6)


def test_within_an_episode_each_row_sees_what_the_last_one_led_to(lived):
    seen, outcome = lived.trial.timestep, lived.trial.outcome
    np.testing.assert_array_equal(seen.obs[:, 1:], outcome.next_obs[:, :-1])
    np.testing.assert_array_equal(seen.prev_reward[:, 1:], outcome.reward[:, :-1])
    np.testing.assert_array_equal(seen.prev_action[:, 1:], lived.trial.decision.action[:, :-1])


def test_the_world_answers_the_action_that_was_recorded(lived):
    """Every row, the world stepped by hand; idle rows too, for nobody stops the world."""
    tasks, trial = lived.tasks, lived.trial
    for k, lane in np.ndindex(K, B):
        x = trial.timestep.obs[k, 0, lane, 0]
        for t in range(H):
            np.testing.assert_allclose(trial.timestep.obs[k, t, lane], [x, 0.1 * t], atol=1e-5)
            action = trial.decision.action[k, t, lane]
            x = x + tasks.drift[lane] + 0.04 * action[0] - 0.02 * action[1]
            told, at = trial.outcome, (k, t, lane)
            np.testing.assert_allclose(told.next_obs[at], [x, 0.1 * (t + 1)], atol=1e-5)
            np.testing.assert_allclose(told.reward[at], 1 - abs(x), atol=1e-5)
            assert told.terminated[at] == (abs(x) > tasks.wall[lane])


def test_the_next_episode_follows_the_last_valid_row(lived):
    """What led there is kept across episodes: not what an idle lane went on to do."""
    seen, trial = lived.trial.timestep, lived.trial
    assert not seen.prev_action[0, 0].any()
    assert not seen.prev_reward[0, 0].any()
    for k in range(1, K):
        for lane in range(B):
            last = lived.steps[k - 1, lane] - 1
            action = trial.decision.action[k - 1, last, lane]
            np.testing.assert_array_equal(seen.prev_action[k, 0, lane], action)
            assert seen.prev_reward[k, 0, lane] == trial.outcome.reward[k - 1, last, lane]
            if lane in (1, 2):
                assert seen.prev_reward[k, 0, lane] != trial.outcome.reward[k - 1, -1, lane]


def test_an_idle_lane_learns_nothing_and_adapts_once_per_episode(lived):
    """`value` counts the steps the memory took, plus 100 for every episode digested."""
    count = lived.trial.decision.value
    for lane in range(B):
        begun = 0
        for k in range(K):
            steps = lived.steps[k, lane]
            np.testing.assert_array_equal(count[k, :steps, lane], begun + 1 + np.arange(steps))
            np.testing.assert_array_equal(count[k, steps:, lane], begun + steps + 1)
            begun += steps + 100
    digested = lived.trial.decision.extras
    np.testing.assert_array_equal(digested[0], 0)
    np.testing.assert_array_equal(digested[1:, 0], np.cumsum(lived.steps, axis=0)[:-1])


class Steadfast(Counting):
    """It keeps one number a task, which acting reads and episodes change."""

    def start(self, model, num_lanes):
        return {"told": jnp.zeros(num_lanes // self.lanes_per_task)}

    def act(self, model, memory, timestep, *, explore, key):
        told = memory["told"].repeat(self.lanes_per_task)
        return memory, Decision(jnp.stack([told, told], axis=-1), told, told)

    def adapt(self, model, memory, episode, *, key):
        reward = jnp.where(episode.valid, episode.outcome.reward, 0.0).sum(axis=0)
        return {"told": reward.reshape((-1, self.lanes_per_task)).sum(axis=1)}


@pytest.mark.parametrize("host", [False, True])
def test_lanes_of_a_task_share_a_mind_that_acting_leaves_alone(drift, host):
    envs, agent = drift(host, num_episodes=K), Steadfast(lanes_per_task=2)
    tasks = sample_tasks(agent, envs, "train", 3, key=KEY)
    assert {leaf.shape for leaf in jax.tree.leaves(tasks)} == {(6,)}
    for leaf in jax.tree.leaves(tasks):
        np.testing.assert_array_equal(leaf[0::2], leaf[1::2])
        assert len(set(np.asarray(leaf).tolist())) == 3
    trial = run_trial(agent, None, envs, tasks, explore=False, key=KEY)
    trial = jax.tree.map(np.asarray, trial)
    paid = np.where(trial.valid, trial.outcome.reward, 0.0).sum(axis=1)  # [K, B]
    both = (paid[:, 0::2] + paid[:, 1::2]).repeat(2, axis=1)
    told = np.concatenate([np.zeros((1, 6)), both[:-1]])
    np.testing.assert_allclose(trial.decision.value, told[:, None].repeat(H, axis=1), rtol=1e-6)


@pytest.mark.parametrize("host", [False, True])
def test_num_episodes_overrides_the_family_and_changes_no_earlier_episode(drift, currents, host):
    envs, tasks = drift(host, num_episodes=2), currents(noise=0.1)
    short, long = live(envs, tasks, num_episodes=1), live(envs, tasks, num_episodes=4)
    assert (short.valid.shape[0], live(envs, tasks).valid.shape[0]) == (1, 2)
    assert long.valid.shape[0] == 4
    for one, other in zip(jax.tree.leaves(short), jax.tree.leaves(long), strict=True):
        np.testing.assert_array_equal(one, other[:1])


def test_the_same_key_lives_the_same_trial_and_another_key_another(drift, currents):
    envs, tasks = drift(), currents(noise=0.1)
    once, again = (live(envs, tasks, explore=True) for _ in range(2))
    for one, other in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    other = live(envs, tasks, explore=True, key=jax.random.key(6))
    assert not np.array_equal(once.decision.action, other.decision.action)
    assert not np.array_equal(once.timestep.obs[:, 0], other.timestep.obs[:, 0])
    first, second = once.decision.action[0, :2, :, 1]  # the noise of two steps differs
    assert not np.array_equal(first, second)
