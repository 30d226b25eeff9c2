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
from trmrl.trial import run_trial
from trmrl.types import Metrics, TrainState, Trajectory, TrmrlError, replace

Show = Callable[[dict[str, Any]], None]


def train(config: Config, path: str | Path, show: Show = lambda record: None) -> Run:
    """Train, or go on training, in the run folder `path`; returns the finished run.

    `show` is called with every metrics record. An interrupt (Ctrl-C) saves and is raised again.
    Raises `TrmrlError` if the folder holds a run with another config, or on a number that is not
    finite; the last good checkpoint is kept either way.
    """
    envs, agent = make(config.env), config.agent
    configs.check(config, envs.spec)
    run, train_state = _open(config, envs, path)
    iterate = build_iteration(agent, envs, config.num_lanes)
    per_trial = config.num_lanes * envs.spec.num_episodes * envs.spec.horizon
    began, began_at = time.perf_counter(), int(train_state.env_steps)
    try:
        while (before := int(train_state.env_steps)) + per_trial <= config.env_steps:
            new_state, metrics = iterate(train_state)
            record = _record(new_state, metrics)
            _check_finite(config, record)
            now = record["env_steps"]
            record["env_steps_per_s"] = (now - began_at) / (time.perf_counter() - began)
            over = now + per_trial > config.env_steps
            if over or _passed(config.eval_every, before, now):
                record["test_return"] = score(config, envs, new_state).return_per_episode["mean"]
            run.log(record)
            train_state = new_state  # from here on it is what an interrupt saves
            show(record)
            if _passed(config.save_every, before, now):
                run.save(train_state)
    finally:
        run.save(train_state)
        run.close()
    return run


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
        tasks = envs.sample_tasks("train", num_lanes, key=task_key)
        trial = run_trial(agent, train_state.model, envs, tasks, explore=True, key=trial_key)
        return learn(replace(train_state, key=key), trial)

    return envs.jit(iterate)


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


def restore(run: Run) -> tuple[Config, AbstractEnvs, TrainState]:
    """Return what a run folder holds: its config, its worlds and its newest checkpoint."""
    config = configs.from_json(run.config())
    envs = make(config.env)
    return config, envs, run.restore(_fresh(config, envs))


def _fresh(config: Config, envs: AbstractEnvs) -> TrainState:
    return config.agent.init(envs.spec, key=jax.random.key(config.seed))


def _open(config: Config, envs: AbstractEnvs, path: str | Path) -> tuple[Run, TrainState]:
    """Return the run at `path`, made if there is none, and the state to go on from."""
    run = Run(path)
    if not run.exists():
        run.create(configs.to_json(config))
    theirs = configs.from_json(run.config())
    differ = configs.differences(config, theirs)
    if differ:
        raise TrmrlError(f"{path} holds another experiment: {'; '.join(differ)}")
    train_state = _fresh(config, envs)
    if run.has_checkpoint():
        train_state = run.restore(train_state)
    run.rewind(int(train_state.updates))
    return run, train_state


def _record(train_state: TrainState, metrics: Metrics) -> dict[str, Any]:
    """Return metrics as plain numbers: the one place where the host waits for the device."""
    counters = {"updates": train_state.updates, "env_steps": train_state.env_steps}
    values = jax.device_get(counters | metrics)
    return {name: np.asarray(value).tolist() for name, value in values.items()}


def _check_finite(config: Config, record: dict[str, Any]) -> None:
    """Raise `TrmrlError` where a number stopped being one."""
    at = f"at update {record['updates']}; the last good checkpoint is kept"
    if record["bad_obs"]:
        raise TrmrlError(f"{config.env} gave observations that are not finite {at}")
    if not np.isfinite(record["return"]).all():
        raise TrmrlError(f"{config.env} gave rewards that are not finite {at}")
    bad = next((n for n, v in record.items() if n != "return" and not math.isfinite(v)), None)
    if bad:
        raise TrmrlError(f"{bad} of {config.agent_name} is not finite {at}")
