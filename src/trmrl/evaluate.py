"""The adaptation protocol: return and success per episode of a trial on held-out tasks.

The only place where an agent is scored.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from trmrl.agents.base import AbstractAgent
from trmrl.envs.base import AbstractEnvs, task_rows
from trmrl.ops.bootstrap import bootstrap_interval
from trmrl.trial import run_trial
from trmrl.types import Array, Evaluation, PerEpisode, Trajectory, TrmrlError, number_distinct


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
    """Roll out one trial on each of `num_tasks` tasks, fixed by `seed`, and score every episode.

    Actions are the policy's mode unless `explore`. Intervals are 95 % percentile bootstraps of the
    mean that draw distinct tasks, each with all of its trials. Raises `TrmrlError` on an unknown
    split, and on rewards that are not finite.
    """
    task_key, trial_key = jax.random.split(jax.random.key(seed))
    tasks = envs.sample_tasks(split, num_tasks, key=task_key)
    spread = agent.plan.spread(tasks)
    measured = _compiled(agent, envs, num_episodes, explore)(model, spread, trial_key)
    by_task = lambda x: np.asarray(x, np.float64).reshape(-1, num_tasks).T
    measured = {name: by_task(x) for name, x in measured.items()}
    returns, steps = measured["returns"], measured["steps"]
    if not np.isfinite(returns).all():
        raise TrmrlError(f"{envs.spec.name} gave rewards that are not finite")
    rows = task_rows(tasks)
    distinct = number_distinct(rows)
    success: dict[str, Any] = {}
    for name in {"success", "success_at_end"} & set(measured):
        per_task = measured[name]
        success |= {name: per_task.tolist(), f"{name}_per_episode": _summary(per_task, distinct)}
    return Evaluation(
        env=envs.spec.name,
        agent=agent_name,
        split=split,
        explore=explore,
        seed=seed,
        num_tasks=num_tasks,
        num_episodes=steps.shape[1],
        env_steps=env_steps,
        experience=[0.0, *np.cumsum(steps.mean(axis=0))[:-1].tolist()],
        return_per_episode=_summary(returns, distinct),
        returns=returns.tolist(),
        reward_per_step=_by_step(measured["reward"], measured["running"], distinct),
        tasks=rows,
        **success,
    )


def _summary(
    scores: Float[np.ndarray, "num_tasks K"], distinct: Int[np.ndarray, " num_tasks"]
) -> PerEpisode:
    """Return the mean over tasks of each episode, and its interval."""
    low, high = bootstrap_interval(scores, distinct)
    mean = scores.mean(axis=0)
    return {"mean": mean.tolist(), "ci95_low": low.tolist(), "ci95_high": high.tolist()}


def _by_step(
    reward: Float[np.ndarray, "num_tasks T"],
    running: Float[np.ndarray, "num_tasks T"],
    distinct: Int[np.ndarray, " num_tasks"],
) -> dict[str, list[float]]:
    """Return what an evaluation keeps of the steps of its trials, in six digits."""
    numbers = _summary(reward, distinct)
    numbers |= {f"p{q}": np.percentile(reward, q, axis=0).tolist() for q in (10, 50, 90)}
    numbers["running"] = running.mean(axis=0).tolist()
    return {name: [float(f"{x:.6g}") for x in row] for name, row in numbers.items()}


@functools.lru_cache(maxsize=16)
def _compiled(
    agent: AbstractAgent, envs: AbstractEnvs, num_episodes: int | None, explore: bool
) -> Callable:
    """Return what to measure in a trial, `[K, num_tasks]` each, by model, tasks and key.

    Where an agent has several lanes on a task, its scores are their mean, and its `steps` (env
    steps) their sum. `success` and `success_at_end` are there if the worlds mark success. Of every
    step there are `reward` and `running`, `[K, H, num_tasks]`.
    """

    def measure(model, tasks, key):
        trial = run_trial(
            agent, model, envs, tasks, num_episodes=num_episodes, explore=explore, key=key
        )
        rows, by_task = trial.rows, agent.plan.by_task
        steps = rows.valid.sum(axis=1)
        reward = jnp.where(rows.valid, rows.outcome.reward, 0.0)
        running = rows.valid.astype(jnp.float32)
        scores = {"returns": reward.sum(axis=1), "reward": reward, "running": running}
        scores |= _success(rows, steps)
        return {name: by_task(x).mean(axis=-1) for name, x in scores.items()} | {
            "steps": by_task(steps).sum(axis=2)
        }

    return envs.driver.jit(measure)


def _success(rows: Trajectory, steps: Int[Array, "K B"]) -> dict[str, Float[Array, "K B"]]:
    """Return each episode's success, at any of its steps and at its last; nothing if unmarked.

    What an idle lane's world marks after the end does not count.
    """
    if rows.outcome.success is None:
        return {}
    success = jnp.asarray(rows.outcome.success)
    last = jnp.take_along_axis(success, steps[:, None] - 1, axis=1)[:, 0]  # valid rows come first
    return {
        "success": (success & rows.valid).any(axis=1).astype(jnp.float32),
        "success_at_end": last.astype(jnp.float32),
    }
