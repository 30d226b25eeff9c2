"""The adaptation protocol: the only place where scores are born.

Lives here: return per episode of a trial on held-out tasks, with its confidence. Does not live
here: training, or tables and pictures of the scores.
"""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from trmrl.agents._base import AbstractAgent
from trmrl.envs._base import AbstractEnvs
from trmrl.ops.bootstrap import bootstrap_interval
from trmrl.trial import run_trial, sample_tasks
from trmrl.types import TrmrlError


@dataclass(frozen=True)
class Evaluation:
    """How an agent adapted: `returns` is `[num_tasks][num_episodes]`, undiscounted reward sums.

    `env_steps` counts what training had cost by then, and `experience` `[num_episodes]` the env
    steps that a task had cost, on average and over all its lanes, before each of its episodes;
    `tasks` are the tasks' numbers.
    """

    env: str
    agent: str
    split: str
    explore: bool
    seed: int
    num_tasks: int
    num_episodes: int
    env_steps: int
    experience: list[float]
    return_per_episode: dict[str, list[float]]  # mean, ci95_low, ci95_high: [num_episodes] each
    returns: list[list[float]]
    tasks: list[Any]

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return asdict(self)


def evaluate(
    agent: AbstractAgent,
    model: PyTree,
    envs: AbstractEnvs,
    *,
    split: str = "test",
    num_tasks: int = 100,
    num_episodes: int | None = None,
    explore: bool = False,
    seed: int = 0,
    agent_name: str = "",
    env_steps: int = 0,
) -> Evaluation:
    """Live one trial on each of `num_tasks` tasks, fixed by `seed`, and report every episode.

    Actions are the policy's mode unless `explore`. Intervals are 95 % percentile bootstraps of the
    mean over tasks. Raises `TrmrlError` on an unknown split.
    """
    task_key, trial_key = jax.random.split(jax.random.key(seed))
    tasks = sample_tasks(agent, envs, split, num_tasks, key=task_key)
    lived = _compiled(agent, envs, num_episodes, explore)(model, tasks, trial_key)
    returns, steps = (np.asarray(x, np.float64).T for x in lived)
    if not np.isfinite(returns).all():
        raise TrmrlError(f"{envs.spec.name} gave rewards that are not finite")
    low, high = bootstrap_interval(returns)
    return Evaluation(
        env=envs.spec.name,
        agent=agent_name,
        split=split,
        explore=explore,
        seed=seed,
        num_tasks=num_tasks,
        num_episodes=returns.shape[1],
        env_steps=env_steps,
        experience=[0.0, *np.cumsum(steps.mean(axis=0))[:-1].tolist()],
        return_per_episode={
            "mean": returns.mean(axis=0).tolist(),
            "ci95_low": low.tolist(),
            "ci95_high": high.tolist(),
        },
        returns=returns.tolist(),
        tasks=_rows(tasks, agent.lanes_per_task),
    )


@functools.lru_cache(maxsize=16)
def _compiled(
    agent: AbstractAgent, envs: AbstractEnvs, num_episodes: int | None, explore: bool
) -> Callable:
    """Return returns and env steps `[K, num_tasks]` of a trial, by model, tasks and key.

    Where an agent has several lanes on a task, its return is their mean, and its steps their sum.
    """

    def live(model, tasks, key):
        trial = run_trial(
            agent, model, envs, tasks, num_episodes=num_episodes, explore=explore, key=key
        )
        total = jnp.where(trial.valid, trial.outcome.reward, 0.0).sum(axis=1)
        by_task = lambda x: x.reshape((len(x), -1, agent.lanes_per_task))
        steps = by_task(trial.valid.sum(axis=1))
        return by_task(total).mean(axis=2), steps.sum(axis=2)

    return envs.jit(live)


def _rows(tasks: PyTree, lanes_per_task: int) -> list[Any]:
    """Return each task's numbers on their own, as JSON values."""
    named = jax.tree_util.tree_flatten_with_path(tasks)[0]
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".")
    columns = {name(path): np.asarray(leaf)[::lanes_per_task].tolist() for path, leaf in named}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
