"""The loop, one screen, the same for every agent: live a trial, learn from it, log, save.

Lives here: what happens in which order, and what survives an interruption. Does not live here: any
agent, any world, or how progress is shown (the caller passes `show`).
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trmrl import config as configs
from trmrl.agents._base import AbstractAgent
from trmrl.config import Config
from trmrl.envs import make
from trmrl.envs._base import AbstractEnvs
from trmrl.evaluate import Evaluation, evaluate
from trmrl.run import Run
from trmrl.trial import run_trial, sample_tasks
from trmrl.types import (
    EnvSpec,
    Metrics,
    PRNGKey,
    Task,
    TrainState,
    Trajectory,
    TrmrlError,
    replace,
)

TASK_SEED = 1337  # of the tasks of agents that train on a fixed set; the same for every seed
Show = Callable[[dict[str, Any]], None]


def train(
    config: Config,
    path: str | Path,
    show: Show = lambda record: None,
    begin: Callable[[int], None] = lambda env_steps: None,
) -> Run:
    """Train, or go on training, in the run folder `path`; returns the finished run.

    `begin` is called with the env steps already lived, before the first update, which compiles;
    not where nothing is left to do. `show` is called with every metrics record. An interrupt
    (Ctrl-C) saves and is raised again. Raises `TrmrlError` if the folder holds a run with another
    config or another process trains in it, or on a number that is not finite; the last good
    checkpoint is kept either way.
    """
    envs = make(config.env, config.num_episodes)
    configs.check(config, envs.spec)
    run = _claim(config, path)
    with run.lock():
        _learn(config, envs, run, show, begin)
    return run


def _learn(
    config: Config, envs: AbstractEnvs, run: Run, show: Show, begin: Callable[[int], None]
) -> None:
    """Go on from the newest checkpoint until another trial might not fit the budget."""
    train_state, seconds = _resume(config, envs, run)
    iterate = build_iteration(config.agent, envs, config.num_lanes)
    per_trial = config.num_lanes * envs.spec.num_episodes * envs.spec.horizon
    began, began_at = time.perf_counter(), int(train_state.env_steps)
    if began_at + per_trial <= config.env_steps:
        begin(began_at)
    try:
        while (before := int(train_state.env_steps)) + per_trial <= config.env_steps:
            new_state, metrics = iterate(train_state)
            record = _record(new_state, metrics)
            _check_finite(config, record)
            now, elapsed = record["env_steps"], time.perf_counter() - began
            record["env_steps_per_s"] = (now - began_at) / elapsed
            record["seconds"] = seconds + elapsed
            if now + per_trial > config.env_steps or _passed(config.eval_every, before, now):
                asked = time.perf_counter()
                record["test_return"] = score(config, envs, new_state).return_per_episode["mean"]
                began += time.perf_counter() - asked  # the clock of training stands still
            run.log(record)
            train_state = new_state  # from here on it is what an interrupt saves
            show(record)
            if _passed(config.save_every, before, now):
                run.save(train_state)
    finally:
        run.save(train_state)
        run.close()


def _passed(every: int, before: int, now: int) -> bool:
    """Return whether a multiple of `every` lies in `(before, now]` (0: never)."""
    return every > 0 and now // every > before // every


def build_iteration(
    agent: AbstractAgent, envs: AbstractEnvs, num_lanes: int
) -> Callable[[TrainState], tuple[TrainState, Metrics]]:
    """Return one iteration: draw tasks, live a trial on each, learn from it.

    For JAX worlds it is a single compiled call; for host worlds, acting and learning are.
    """

    @jax.jit
    def learn(train_state: TrainState, trial: Trajectory) -> tuple[TrainState, Metrics]:
        new_state, metrics = agent.update(train_state, trial)
        return new_state, metrics | describe(trial)

    def iterate(train_state: TrainState) -> tuple[TrainState, Metrics]:
        key, task_key, trial_key = jax.random.split(train_state.key, 3)
        tasks = _draw(agent, envs, num_lanes, train_state.updates, key=task_key)
        trial = run_trial(agent, train_state.model, envs, tasks, explore=True, key=trial_key)
        return learn(replace(train_state, key=key), trial)

    return envs.jit(iterate)


def _draw(
    agent: AbstractAgent, envs: AbstractEnvs, num_lanes: int, updates: jax.Array, *, key: PRNGKey
) -> Task:
    """Return the tasks of the next trial: fresh ones, or the next of the agent's own, in a ring."""
    num_fresh = num_lanes // agent.lanes_per_task
    if not agent.num_tasks:
        return sample_tasks(agent, envs, "train", num_fresh, key=key)
    ring = sample_tasks(agent, envs, "train", agent.num_tasks, key=jax.random.key(TASK_SEED))
    lanes = (updates * num_lanes + jnp.arange(num_lanes)) % (agent.num_tasks * agent.lanes_per_task)
    return jax.tree.map(lambda x: x[lanes], ring)


def describe(trial: Trajectory) -> Metrics:
    """Return what a trial tells on its own: mean return of each episode `[K]`, and idle rows."""
    valid = jnp.asarray(trial.valid)
    reward = jnp.where(valid, trial.outcome.reward, 0.0)
    obs_finite = jnp.isfinite(trial.outcome.next_obs).all(axis=-1) | ~valid
    return {
        "return": reward.sum(axis=1).mean(axis=1),
        "idle_share": 1.0 - valid.mean(dtype=jnp.float32),
        "bad_obs": jnp.sum(~obs_finite).astype(jnp.float32),
    }


def score(
    config: Config, envs: AbstractEnvs, train_state: TrainState, **options: Any
) -> Evaluation:
    """Return an evaluation of a training state by the standard protocol."""
    return evaluate(
        config.agent,
        train_state.model,
        envs,
        agent_name=config.agent_name,
        env_steps=int(train_state.env_steps),
        **({"num_tasks": config.eval_tasks} | options),  # pyright: ignore[reportArgumentType]
    )


def conclude(run: Run) -> list[Evaluation]:
    """Evaluate a run by the standard protocol: every held-out split, mode and sampled actions.

    Each is stored in the run folder, under the name that `conclusions` gives it.
    """
    config, envs, train_state = restore(run)
    evaluations = []
    for name, options in conclusions(envs.spec).items():
        evaluations.append(score(config, envs, train_state, **options))
        run.write_evaluation(name, evaluations[-1].to_json())
    return evaluations


def conclusions(spec: EnvSpec) -> dict[str, dict[str, Any]]:
    """Return the evaluations that conclude a run: their names, and what `evaluate` is asked."""
    return {
        split + suffix: {"split": split, "explore": explore}
        for split in spec.splits
        if split != "train"
        for suffix, explore in (("", False), ("-sampled", True))
    }


def is_concluded(config: Config, run: Run) -> bool:
    """Return whether the folder holds this very experiment, trained and evaluated to its end."""
    if not run.exists() or configs.differences(config, configs.from_json(run.config())):
        return False
    return all(
        run.has_evaluation(name) for name in conclusions(make(config.env, config.num_episodes).spec)
    )


def restore(run: Run) -> tuple[Config, AbstractEnvs, TrainState]:
    """Return what a run folder holds: its config, its worlds and its newest checkpoint."""
    config = configs.from_json(run.config())
    envs = make(config.env, config.num_episodes)
    return config, envs, run.restore(_fresh(config, envs))


def _fresh(config: Config, envs: AbstractEnvs) -> TrainState:
    return config.agent.init(envs.spec, key=jax.random.key(config.seed))


def _claim(config: Config, path: str | Path) -> Run:
    """Return the run at `path`, made if there is none; refuses another experiment's."""
    run = Run(path)
    if not run.exists():
        run.create(configs.to_json(config))
    differ = configs.differences(config, configs.from_json(run.config()))
    if differ:
        raise TrmrlError(f"{path} holds another experiment: {'; '.join(differ)}")
    return run


def _resume(config: Config, envs: AbstractEnvs, run: Run) -> tuple[TrainState, float]:
    """Return the state to go on from, and the seconds of training it has cost."""
    train_state = _fresh(config, envs)
    if run.has_checkpoint():
        train_state = run.restore(train_state)
    run.rewind(int(train_state.updates))
    return train_state, (run.latest() or {}).get("seconds", 0.0)


def _record(train_state: TrainState, metrics: Metrics) -> dict[str, Any]:
    """Return metrics as plain numbers: the one place where the host waits for the device."""
    counters = {"updates": train_state.updates, "env_steps": train_state.env_steps}
    values = jax.device_get(counters | metrics)
    return {name: np.asarray(value).tolist() for name, value in values.items()}


def _check_finite(config: Config, record: dict[str, Any]) -> None:
    """Raise `TrmrlError` where a number stopped being one."""
    at = f"at update {record['updates']}; the last good checkpoint is kept"
    cursed = ["observations"] * bool(record["bad_obs"])
    cursed += ["rewards"] * (not np.isfinite(record["return"]).all())
    if cursed:
        raise TrmrlError(f"{config.env} gave {' and '.join(cursed)} that are not finite {at}")
    bad = next((n for n, v in record.items() if n != "return" and not math.isfinite(v)), None)
    if bad:
        raise TrmrlError(f"{bad} of {config.agent_name} is not finite {at}")
