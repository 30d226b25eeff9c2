"""Every agent learns to explore: on a two-armed bandit it ends well above any blind policy."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.base import TaskPlan
from trmrl.envs import make
from trmrl.envs.base import JAX, AbstractEnvs, Driver
from trmrl.evaluate import evaluate
from trmrl.learners.descent import OptimizerConfig
from trmrl.recipes import AGENTS, recipe
from trmrl.train import build_iteration
from trmrl.types import Continuous, EnvSpec, Outcome, TrainState, replace

ENV, PULLS, NUM_TASKS = "bandit-n10-k2", 10, 1_000
UPDATES, LANES = 40, 256


def best_possible():
    """What the Bayes-optimal strategy gains, by dynamic programming over both arms' tallies."""
    value = {}

    def best(a, b, c, d):  # pays and blanks of the first arm, pays and blanks of the second
        if a + b + c + d == PULLS:
            return 0.0
        if (a, b, c, d) not in value:
            p, q = (a + 1) / (a + b + 2), (c + 1) / (c + d + 2)
            value[a, b, c, d] = max(
                p * (1 + best(a + 1, b, c, d)) + (1 - p) * best(a, b + 1, c, d),
                q * (1 + best(a, b, c + 1, d)) + (1 - q) * best(a, b, c, d + 1),
            )
        return value[a, b, c, d]

    return best(0, 0, 0, 0)


def thompson(num_tasks=20_000):
    """What Thompson's strategy gains, simulated: pull the arm of the greater posterior draw."""
    noise = np.random.default_rng(0)
    mean = noise.uniform(size=(num_tasks, 2))
    tally = np.ones((num_tasks, 2, 2))
    gain, task = 0.0, np.arange(num_tasks)
    for _ in range(PULLS):
        arm = noise.beta(tally[..., 0], tally[..., 1]).argmax(axis=1)
        paid = noise.uniform(size=num_tasks) < mean[task, arm]
        tally[task, arm, np.where(paid, 0, 1)] += 1
        gain += paid.mean()
    return gain


def test_the_yardsticks_are_ordered_as_theory_has_them():
    blind, clairvoyant = PULLS / 2, PULLS * 2 / 3
    assert blind < thompson() < best_possible() < clairvoyant


# One transformer and one recurrent core in every run; their kin take as long, each.
CONTINUOUS = ["pearl"]  # agents that cannot choose among arms
# Agents whose lanes share tasks have many lanes' pulls and are no match for this yardstick:
# what they learn is tested with the agent.
ALONE = [
    name
    for name in AGENTS
    if name not in CONTINUOUS and recipe(ENV, name).agent.plan.lanes_per_task == 1
]
MARKS = {name: () if name in ("trmrl", "rl2") else pytest.mark.full for name in ALONE}


def begin(agent, envs):
    """The state of training before the first update."""
    zero = np.zeros((), np.int64)
    return TrainState(agent.init(envs.spec, key=jax.random.key(0)), jax.random.key(1), zero, zero)


@pytest.mark.parametrize("agent_name", [pytest.param(n, marks=MARKS[n]) for n in ALONE])
def test_it_learns(agent_name):
    """Clearly above blind, which is 5.00: two thirds of the way to the Bayes optimum, 6.02.

    The mean over 1,000 tasks and worlds has a standard error of 0.07, so 5.68 is ten above blind.
    """
    config, envs = recipe(ENV, agent_name, env_steps=UPDATES * LANES * PULLS), make(ENV)
    agent: Any = config.agent
    algorithm = agent.algorithm
    algorithm = replace(
        algorithm,
        num_passes=4,
        minibatch_size=LANES * PULLS // 4,
        optimizer=replace(algorithm.optimizer, learning_rate=3e-3),  # few updates, so bold steps
    )
    agent = replace(agent, algorithm=algorithm)
    iterate = build_iteration(agent, envs, LANES)
    train_state = begin(agent, envs)
    for _ in range(UPDATES):
        train_state, _ = iterate(train_state)
    score = evaluate(agent, train_state.learner.model, envs, num_tasks=NUM_TASKS)
    gain = sum(score.return_per_episode["mean"])
    blind, best = PULLS / 2, best_possible()
    assert blind + 2 / 3 * (best - blind) < gain < best + 0.25


class Levers(AbstractEnvs):
    """A lever that pays `side * action`, side -1 or 1 hidden: blind play earns nothing."""

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec = eqx.field(
        static=True, default=EnvSpec("levers", "point", 1, Continuous(1), 5, num_episodes=4)
    )

    def sample_tasks(self, split, num_tasks, *, key):
        return jax.random.rademacher(key, (num_tasks,), jnp.float32)

    def reset(self, tasks, *, key):
        return (tasks, jnp.int32(0)), jnp.zeros((len(tasks), 1))

    def step(self, env_state, action):
        side, clock = env_state[0], env_state[1] + 1
        over = jnp.broadcast_to(clock >= self.spec.horizon, side.shape)
        pay = side * jnp.clip(action[:, 0], -1.0, 1.0)
        obs = jnp.zeros((len(side), 1))
        return (side, clock), Outcome(pay, over & ~over, over, obs)

    def view(self, env_state):
        return env_state[0]


@pytest.mark.parametrize("agent_name", CONTINUOUS)
def test_it_learns_which_way_to_pull(agent_name):
    """Two episodes look for the side, which is worth nothing; the two that know it earn 5 at most.

    Over 100 tasks, the mean of a blind episode has a standard error of 0.5 at most.
    """
    few = {"num_steps": 40, "meta_batch": 8, "batch_size": 16, "context_size": 10, "latent": 2}
    sizes = {"encoder_hidden": (16,), "hidden": (16,), "plan": TaskPlan(20), "gamma": 0.5}
    agent = replace(
        recipe("point-robot", agent_name).agent,
        optimizer=OptimizerConfig(1e-2, max_grad_norm=0.0), reward_scale=10.0, capacity=400,
        context_episodes=2, context_prefix=False, **few, **sizes,
    )  # fmt: skip
    envs = Levers()
    iterate = build_iteration(agent, envs, 20)
    train_state = begin(agent, envs)
    for _ in range(8):
        train_state, _ = iterate(train_state)
    score = evaluate(agent, train_state.learner.model, envs, num_tasks=100)
    returns = score.return_per_episode["mean"]
    assert np.abs(returns[:2]).max() < 1.0
    assert min(returns[2:]) > 4.0


@pytest.mark.full
@pytest.mark.parametrize("agent_name", CONTINUOUS)
def test_it_learns_where_to_go(agent_name):
    """A new place in a square: earlier episodes show the way, by far.

    Random play earns -23.9, and who knows the place -5.5. The mean over 200 tasks has a standard
    error of about 0.6.
    """
    config = recipe("point-robot", agent_name)
    envs, agent = make(config.env, config.num_episodes), config.agent
    iterate = build_iteration(agent, envs, config.num_lanes)
    train_state = begin(agent, envs)
    for _ in range(10):  # of 100, a minute or two
        train_state, _ = iterate(train_state)
    score = evaluate(agent, train_state.learner.model, envs, num_tasks=200)
    returns = score.return_per_episode["mean"]
    assert returns[-1] > -12.0
    assert returns[-1] > returns[0] + 5.0
