"""Scores: sums worked by hand, intervals by an independent bootstrap, and one meaning per field."""

import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.envs.base import HOST, JAX, AbstractEnvs, Driver
from trmrl.evaluate import evaluate
from trmrl.trial import run_trial
from trmrl.types import (
    STEP_NUMBERS,
    Continuous,
    Decision,
    EnvSpec,
    Evaluation,
    Outcome,
    TrmrlError,
    replace,
)

H, K = 3, 2


class Paid(AbstractEnvs):
    """Step t of an episode pays `wage * (t + 1) + action`; a lane quits after `days` steps.

    What an idle lane goes on to be paid is `idle`.
    """

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec = EnvSpec("paid", "test", 1, Continuous(1), H, K, splits=("train", "test"))
    idle: float = 1e6

    def sample_tasks(self, split, num_tasks, *, key):
        self.spec.check_split(split)
        wage = jax.random.uniform(key, (num_tasks,))
        return {"wage": wage, "days": jnp.arange(num_tasks) % H + 1}

    def reset(self, tasks, *, key):
        return (tasks, jnp.zeros(tasks["days"].shape, jnp.int32)), tasks["wage"][:, None]

    def step(self, env_state, action):
        tasks, t = env_state
        paid = tasks["wage"] * (t + 1).astype(jnp.float32) + action[:, 0]
        reward = jnp.where(t < tasks["days"], paid, jnp.asarray(self.idle, jnp.float32))
        ended = t + 1 >= tasks["days"]
        clock = t + 1 >= H
        outcome = Outcome(reward, ended & ~clock, clock, tasks["wage"][:, None])
        return (tasks, t + 1), outcome

    def view(self, env_state):
        return env_state[1]


class Marked(Paid):
    """Success at the second step, of every third lane, and all the time of an idle one.

    The action must exceed `enough` for it.
    """

    spec: EnvSpec = EnvSpec("marked", "test", 1, Continuous(1), H, K, has_success=True)
    enough: float = 0.0

    def step(self, env_state, action):
        (tasks, t), outcome = Paid.step(self, env_state, action)
        is_marked = (t == 2) & (jnp.arange(len(t)) % 3 == 0) & (action[:, 0] > self.enough)
        return (tasks, t), replace(outcome, success=is_marked | (t > tasks["days"]))


class MarkedHost(Marked):
    driver: ClassVar[Driver] = HOST


class Bonus(AbstractAgent):
    """Its action is 10 in the first episode and 20 in the second; exploring adds noise."""

    plan: TaskPlan = TaskPlan()

    def init(self, spec, *, key):
        raise NotImplementedError

    def start(self, model, num_lanes):
        return jnp.zeros(num_lanes)

    def act(self, model, memory, timestep, *, explore, key):
        memory = memory + jnp.asarray(timestep.episode_start).astype(jnp.float32)
        noise = jax.vmap(jax.random.normal)(key) if explore else jnp.zeros_like(memory)
        action = model * memory + noise
        return memory, Decision(action[:, None], memory, memory)

    def adapt(self, model, memory, episode):
        return memory

    def update(self, learner, trial, *, env_steps, key):
        raise NotImplementedError


def scored(**options):
    options = {"num_tasks": 6, "agent_name": "bonus", "env_steps": 77} | options
    envs, agent = options.pop("envs", Paid()), options.pop("agent", Bonus())
    return evaluate(agent, jnp.asarray(10.0), envs, **options)


@pytest.fixture(scope="module")
def evaluation():
    return scored()


def by_hand(tasks, num_episodes=K):
    """`wage * (1 + ... + days) + days * bonus`, for every task and episode."""
    return [
        [
            sum(task["wage"] * (t + 1) + 10 * (k + 1) for t in range(task["days"]))
            for k in range(num_episodes)
        ]
        for task in tasks
    ]


def test_returns_are_the_sums_of_the_rows_that_happened(evaluation):
    assert {task["days"] for task in evaluation.tasks} == {1, 2, 3}
    np.testing.assert_allclose(evaluation.returns, by_hand(evaluation.tasks), rtol=1e-6)


def test_rewards_of_every_step_are_kept(evaluation):
    """Two lanes of each kind are paid for 1, 2 and 3 steps; of the rest nothing is read."""
    kept = evaluation.reward_per_step
    paid = np.asarray(
        [
            [
                (task["wage"] * (t + 1) + 10 * (k + 1)) * (t < task["days"])
                for k in range(K)
                for t in range(H)
            ]
            for task in evaluation.tasks
        ]
    )
    assert set(kept) == set(STEP_NUMBERS)
    np.testing.assert_allclose(kept["mean"], paid.mean(axis=0), rtol=1e-4)
    for q in (10, 50, 90):
        np.testing.assert_allclose(kept[f"p{q}"], np.percentile(paid, q, axis=0), rtol=1e-4)
    np.testing.assert_allclose(kept["running"], [1, 2 / 3, 1 / 3] * K, rtol=1e-4)
    sums = np.reshape(kept["mean"], (K, H)).sum(axis=1)
    np.testing.assert_allclose(sums, evaluation.return_per_episode["mean"], rtol=1e-4)
    low, high = np.asarray(kept["ci95_low"]), np.asarray(kept["ci95_high"])
    assert (low <= kept["mean"]).all() and (kept["mean"] <= high).all() and (low < high).any()


def test_the_return_of_several_lanes_on_a_task_is_their_mean():
    """Exploring lanes differ; the mean of many is what their common task pays."""
    tripled = scored(agent=Bonus(TaskPlan(lanes_per_task=3)), explore=True)
    alone = scored(explore=True)
    assert tripled.tasks == alone.tasks
    assert np.asarray(tripled.returns).shape == np.asarray(alone.returns).shape == (6, K)
    crowd = scored(agent=Bonus(TaskPlan(lanes_per_task=2_000)), explore=True, num_tasks=3)
    noise = np.sqrt(H / 2_000)
    np.testing.assert_allclose(crowd.returns, by_hand(crowd.tasks), atol=5 * noise)


def test_what_an_idle_lane_is_paid_is_never_read():
    evaluation = scored(envs=Paid(idle=float("nan")))
    np.testing.assert_allclose(evaluation.returns, by_hand(evaluation.tasks), rtol=1e-6)


def test_a_reward_that_is_not_finite_is_refused():
    class Broke(Paid):
        def step(self, env_state, action):
            env_state, outcome = super().step(env_state, action)
            return env_state, Outcome(
                outcome.reward / 0.0, outcome.terminated, outcome.truncated, outcome.next_obs
            )

    with pytest.raises(TrmrlError, match="paid gave rewards that are not finite"):
        scored(envs=Broke())


@pytest.mark.parametrize("lanes_per_task", [1, 3])
def test_experience_counts_what_a_task_had_cost_before_each_episode(lanes_per_task):
    """Six tasks whose episodes last 1, 2, 3, 1, 2 and 3 steps: two on average, in every lane."""
    evaluation = scored(agent=Bonus(TaskPlan(lanes_per_task=lanes_per_task)), num_episodes=3)
    assert evaluation.experience == [0.0, 2.0 * lanes_per_task, 4.0 * lanes_per_task]


@pytest.mark.parametrize("worlds", [Marked, MarkedHost])
def test_success_is_at_any_step_of_the_episode_or_at_its_last(worlds):
    """Episodes of 1, 2 and 3 steps; the second succeeds, in one of three lanes, if it is paid 20.

    It is the last step of the second task alone, and the first task idles by then.
    """
    evaluation = scored(
        envs=worlds(enough=15.0), agent=Bonus(TaskPlan(lanes_per_task=3)), num_tasks=3
    )
    third = pytest.approx(1 / 3)
    assert evaluation.success == [[0.0, 0.0], [0.0, third], [0.0, third]]
    assert evaluation.success_at_end == [[0.0, 0.0], [0.0, third], [0.0, 0.0]]
    anytime, at_end = evaluation.success_per_episode, evaluation.success_at_end_per_episode
    assert anytime["mean"] == [0.0, pytest.approx(2 / 9)]
    assert at_end["mean"] == [0.0, pytest.approx(1 / 9)]
    assert (anytime["ci95_low"], anytime["ci95_high"]) == ([0.0, 0.0], [0.0, third])
    assert (at_end["ci95_low"], at_end["ci95_high"]) == ([0.0, 0.0], [0.0, third])


def test_success_is_left_out_where_the_world_does_not_mark_it(evaluation):
    assert evaluation.success is None and evaluation.success_at_end is None
    assert not [name for name in evaluation.to_json() if "success" in name]
    record = scored(envs=Marked()).to_json()
    assert len([name for name in record if "success" in name]) == 4
    assert {name: record[name] for name in ("returns", "experience")} == {
        "returns": evaluation.returns, "experience": evaluation.experience
    }  # fmt: skip


@pytest.mark.parametrize("envs", [Paid(), Marked()])
def test_what_is_written_can_be_read(envs):
    evaluation = scored(envs=envs)
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation


def test_more_episodes_than_the_family_has():
    evaluation = scored(num_episodes=4)
    assert evaluation.num_episodes == 4
    np.testing.assert_allclose(evaluation.returns, by_hand(evaluation.tasks, 4), rtol=1e-6)


def test_means_and_intervals_are_those_of_an_independent_bootstrap(evaluation):
    returns = np.asarray(evaluation.returns)
    score = evaluation.return_per_episode
    np.testing.assert_allclose(score["mean"], returns.mean(axis=0))
    for k in range(K):
        low, high = score["ci95_low"][k], score["ci95_high"][k]
        assert low < score["mean"][k] < high
        by_scipy = stats.bootstrap(
            (returns[:, k],), np.mean, method="percentile", n_resamples=20_000, rng=1
        ).confidence_interval
        spread = by_scipy.high - by_scipy.low
        assert abs(low - by_scipy.low) < 0.06 * spread  # 2,000 resamples against 20,000
        assert abs(high - by_scipy.high) < 0.06 * spread


class Twins(Paid):
    """Two wages, drawn by turns."""

    def sample_tasks(self, split, num_tasks, *, key):
        wage = jnp.where(jnp.arange(num_tasks) % 2 == 0, 1.0, 4.0)
        return {"wage": wage, "days": jnp.full(num_tasks, H)}


def test_intervals_draw_distinct_tasks():
    """A hundred trials on two tasks, 1 and 4 an hour: the interval is from one to the other."""
    evaluation = scored(envs=Twins(), num_tasks=100, explore=True)
    assert evaluation.tasks_label == "100 (2 distinct)"
    by_task = np.asarray(evaluation.returns).reshape(50, 2, K).mean(axis=0)
    score = evaluation.return_per_episode
    np.testing.assert_allclose([score["ci95_low"], score["ci95_high"]], by_task)
    assert scored(num_tasks=100).tasks_label == "100"


def test_one_task_has_no_interval():
    evaluation = scored(num_tasks=1)
    score = evaluation.return_per_episode
    assert score["ci95_low"] == score["mean"] == score["ci95_high"] == evaluation.returns[0]


@pytest.mark.parametrize("explore", [False, True])
def test_the_same_seed_gives_the_same_tasks_and_scores(explore):
    once, again, other = (scored(seed=seed, explore=explore) for seed in (3, 3, 4))
    assert once.to_json() == again.to_json()
    later = scored(seed=3, explore=explore, env_steps=10_000)  # of training
    assert (later.tasks, later.returns) == (once.tasks, once.returns)
    assert once.tasks != other.tasks


def test_exploring_samples_actions(evaluation):
    sampled = scored(explore=True)
    assert sampled.tasks == evaluation.tasks
    assert sampled.returns != evaluation.returns


def test_a_seed_fixes_tasks_and_noise_by_a_key_each():
    task_key, trial_key = jax.random.split(jax.random.key(3))
    tasks = Paid().sample_tasks("test", 6, key=task_key)
    rows = run_trial(Bonus(), jnp.asarray(10.0), Paid(), tasks, explore=True, key=trial_key).rows
    expected = np.where(rows.valid, rows.outcome.reward, 0.0).sum(axis=1).T
    np.testing.assert_allclose(scored(seed=3, explore=True).returns, expected, rtol=1e-5)


def test_json_says_all_that_the_protocol_promises(evaluation):
    record = json.loads(json.dumps(evaluation.to_json()))
    assert {
        "env", "agent", "split", "num_tasks", "num_episodes", "env_steps", "experience",
        "return_per_episode", "returns", "tasks",
    } <= set(record)  # fmt: skip
    assert set(record["return_per_episode"]) == {"mean", "ci95_low", "ci95_high"}
    assert all(len(values) == K for values in record["return_per_episode"].values())
    assert np.shape(record["returns"]) == (6, K)
    assert len(record["tasks"]) == 6
    assert set(record["tasks"][0]) == {"wage", "days"}
    names = "env", "agent", "split", "num_tasks", "env_steps", "seed"
    assert {name: record[name] for name in names} == {
        "env": "paid", "agent": "bonus", "split": "test", "num_tasks": 6, "env_steps": 77, "seed": 0
    }  # fmt: skip


def test_an_unknown_split_is_refused_with_the_known():
    with pytest.raises(TrmrlError, match="paid has no split 'ood': choose one of train, test"):
        scored(split="ood")
