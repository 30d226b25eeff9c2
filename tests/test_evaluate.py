"""Scores: sums worked by hand, intervals by an independent bootstrap, and one meaning per field."""

import json
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from trmrl.agents._base import AbstractAgent
from trmrl.envs._base import AbstractEnvs
from trmrl.evaluate import evaluate
from trmrl.types import Continuous, Decision, EnvSpec, Outcome, TrmrlError

H, K = 3, 2


class Paid(AbstractEnvs):
    """Step t of an episode pays `wage * (t + 1) + action`; a lane quits after `days` steps.

    What an idle lane goes on to be paid is `idle`.
    """

    scan: ClassVar[Callable] = staticmethod(jax.lax.scan)
    jit: ClassVar[Callable] = staticmethod(jax.jit)
    spec: EnvSpec = EnvSpec("paid", 1, Continuous(1), H, K, splits=("train", "test"))
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


class Bonus(AbstractAgent):
    """Its action is 10 in the first episode and 20 in the second; exploring adds noise."""

    lanes_per_task: int = 1
    num_tasks: int = 0

    def init(self, spec, *, key):
        raise NotImplementedError

    def start(self, model, num_lanes):
        return jnp.zeros(num_lanes)

    def act(self, model, memory, timestep, *, explore, key):
        memory = memory + jnp.asarray(timestep.episode_start).astype(jnp.float32)
        noise = jax.random.normal(key, memory.shape) if explore else jnp.zeros_like(memory)
        action = model * memory + noise
        return memory, Decision(action[:, None], memory, memory)

    def adapt(self, model, memory, episode, *, key):
        return memory

    def update(self, train_state, trial):
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


def test_the_return_of_several_lanes_on_a_task_is_their_mean():
    """Exploring lanes differ; the mean of many is what their common task pays."""
    tripled = scored(agent=Bonus(lanes_per_task=3), explore=True)
    alone = scored(explore=True)
    assert tripled.tasks == alone.tasks
    assert np.asarray(tripled.returns).shape == np.asarray(alone.returns).shape == (6, K)
    crowd = scored(agent=Bonus(lanes_per_task=2_000), explore=True, num_tasks=3)
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
    evaluation = scored(agent=Bonus(lanes_per_task=lanes_per_task), num_episodes=3)
    assert evaluation.experience == [0.0, 2.0 * lanes_per_task, 4.0 * lanes_per_task]


def test_more_episodes_than_the_family_has():
    evaluation = scored(num_episodes=4)
    assert evaluation.num_episodes == 4
    np.testing.assert_allclose(evaluation.returns, by_hand(evaluation.tasks, 4), rtol=1e-6)


def test_means_and_intervals_are_those_of_an_independent_bootstrap(evaluation):
    returns = np.asarray(evaluation.returns)
    told = evaluation.return_per_episode
    np.testing.assert_allclose(told["mean"], returns.mean(axis=0))
    for k in range(K):
        low, high = told["ci95_low"][k], told["ci95_high"][k]
        assert low < told["mean"][k] < high
        by_scipy = stats.bootstrap(
            (returns[:, k],), np.mean, method="percentile", n_resamples=20_000, rng=1
        ).confidence_interval
        spread = by_scipy.high - by_scipy.low
        assert abs(low - by_scipy.low) < 0.06 * spread  # 2,000 resamples against 20,000
        assert abs(high - by_scipy.high) < 0.06 * spread


def test_one_task_has_no_interval():
    evaluation = scored(num_tasks=1)
    told = evaluation.return_per_episode
    assert told["ci95_low"] == told["mean"] == told["ci95_high"] == evaluation.returns[0]


@pytest.mark.parametrize("explore", [False, True])
def test_the_same_seed_gives_the_same_tasks_and_scores(explore):
    once, again, other = (scored(seed=seed, explore=explore) for seed in (3, 3, 4))
    assert once.to_json() == again.to_json()
    assert once.tasks != other.tasks


def test_exploring_samples_actions(evaluation):
    sampled = scored(explore=True)
    assert sampled.tasks == evaluation.tasks
    assert sampled.returns != evaluation.returns


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
    told = {k: record[k] for k in ("env", "agent", "split", "num_tasks", "env_steps", "seed")}
    assert told == {
        "env": "paid", "agent": "bonus", "split": "test", "num_tasks": 6, "env_steps": 77, "seed": 0
    }  # fmt: skip


def test_an_unknown_split_is_refused_with_the_known():
    with pytest.raises(TrmrlError, match="paid has no split 'ood': choose one of train, test"):
        scored(split="ood")
