"""The loop, one screen, the same for every agent: roll out a trial, learn from it, log, save.

It owns what happens in which order, the random key and the counters, and what survives an
interruption. How progress is shown is the caller's part (`show`).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from trmrl import config as configs
from trmrl.agents.base import AbstractAgent
from trmrl.config import Config
from trmrl.envs import make
from trmrl.envs.base import AbstractEnvs
from trmrl.evaluate import evaluate
from trmrl.metrics import describe
from trmrl.run import MODEL, Run
from trmrl.trial import run_trial
from trmrl.types import (
    EnvSpec,
    Evaluation,
    Learner,
    Metrics,
    PRNGKey,
    Task,
    TrainState,
    TrmrlError,
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

    `begin` is called with the env steps already taken, before the first update, which compiles;
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
    per_trial = config.num_lanes * envs.spec.trial_length
    clock_start, first_step = time.perf_counter(), int(train_state.env_steps)
    if first_step + per_trial <= config.env_steps:
        begin(first_step)
    try:
        while (before := int(train_state.env_steps)) + per_trial <= config.env_steps:
            new_state, metrics = iterate(train_state)
            record = _record(new_state, metrics)
            _check_finite(config, record)
            now, elapsed = record["env_steps"], time.perf_counter() - clock_start
            record["env_steps_per_s"] = (now - first_step) / elapsed
            record["seconds"] = seconds + elapsed
            if now + per_trial > config.env_steps or _passed(config.eval_every, before, now):
                paused = time.perf_counter()
                tested = score(config, envs, new_state)
                record["test_return"] = tested.return_per_episode["mean"]
                record["test_experience"] = tested.experience
                if tested.success_per_episode is not None:
                    record["test_success"] = tested.success_per_episode["mean"]
                clock_start += time.perf_counter() - paused  # the clock of training stands still
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
    """Return one iteration: draw tasks, roll out a trial on each, learn from it.

    For JAX worlds it is a single compiled call; for host worlds, acting and learning are. The
    counters stay on the host, where 64 bits cost nothing, and are advanced there.
    """
    collector = agent.collector()

    @jax.jit
    def learn(learner, trial, env_steps, key):
        learner, metrics = agent.update(learner, trial, env_steps=env_steps, key=key)
        return learner, metrics | describe(trial)

    def collect_and_learn(
        learner: Learner, key: PRNGKey, env_steps: Float[Any, ""], updates: Int[Any, ""]
    ) -> tuple[Learner, PRNGKey, Metrics]:
        key, task_key, trial_key = jax.random.split(key, 3)
        task, task_id = draw_tasks(agent, envs, num_lanes, updates, key=task_key)
        trial = run_trial(
            collector, learner.model, envs, task, task_id=task_id, explore=True, key=trial_key
        )
        key, update_key = jax.random.split(key)
        learner, metrics = learn(learner, trial, env_steps, update_key)
        return learner, key, metrics

    compiled = envs.driver.jit(collect_and_learn)

    def iterate(state: TrainState) -> tuple[TrainState, Metrics]:
        env_steps, updates = np.float32(state.env_steps), np.int32(state.updates)
        learner, key, metrics = compiled(
            state.learner, state.key, jnp.asarray(env_steps), jnp.asarray(updates)
        )
        total = state.env_steps + np.int64(jax.device_get(metrics["trial_steps"]))
        return TrainState(learner, key, np.asarray(total), np.asarray(state.updates + 1)), metrics

    return iterate


def draw_tasks(
    agent: AbstractAgent,
    envs: AbstractEnvs,
    num_lanes: int,
    updates: Int[jax.Array, ""],
    *,
    key: PRNGKey,
) -> tuple[Task, Int[jax.Array, " B"] | None]:
    """Return the training tasks of the next trial by lane, and their numbers in the agent's set.

    Tasks are fresh (and have no numbers), or the next of the agent's fixed set, in a ring.
    """
    plan = agent.plan
    if not plan.num_tasks:
        fresh = envs.sample_tasks(plan.split, plan.groups(num_lanes), key=key)
        return plan.spread(fresh), None
    fixed = envs.sample_tasks(plan.split, plan.num_tasks, key=jax.random.key(TASK_SEED))
    task_id = plan.task_ids(num_lanes, updates)
    return jax.tree.map(lambda x: x[task_id], fixed), task_id


def score(
    config: Config, envs: AbstractEnvs, train_state: TrainState, **options: Any
) -> Evaluation:
    """Return an evaluation of a training state by the standard protocol."""
    return evaluate(
        config.agent,
        train_state.learner.model,
        envs,
        agent_name=config.agent_name,
        env_steps=int(train_state.env_steps),
        **({"num_tasks": config.eval_tasks} | options),  # pyright: ignore[reportArgumentType]
    )


def evaluate_run(run: Run, *, trust: bool = False, **options: Any) -> Evaluation:
    """Evaluate a run's newest checkpoint on request, and store that under `evaluation_name`.

    `options` as of `evaluate`, `trust` as in `restore`.
    """
    evaluation = score(*restore(run, trust=trust), **options)
    record = evaluation.to_json()
    run.write_evaluation(evaluation_name(record), record)
    return evaluation


def evaluation_name(record: dict[str, Any]) -> str:
    """Return the name of an evaluation on request; unlike ones have unlike names."""
    name = "{split}-{num_tasks}x{num_episodes}-seed{seed}".format_map(record)
    return name + ("-sampled" if record["explore"] else "")


def conclude(run: Run, *, trust: bool = False) -> list[Evaluation]:
    """Evaluate a run by the standard protocol: every held-out split, mode and sampled actions.

    Each is stored in the run folder, under the name that `conclusions` gives it. `trust` as in
    `restore`.
    """
    config, envs, train_state = restore(run, trust=trust)
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


def restore(run: Run, *, trust: bool = False) -> tuple[Config, AbstractEnvs, TrainState]:
    """Return what a run folder holds: its config, its worlds and its newest checkpoint.

    Raises `TrmrlError` where its worlds are code to import, unless this user made the run or
    `trust` says that the code is known.
    """
    config = configs.from_json(run.trusted_config(trust))
    envs = make(config.env, config.num_episodes)
    return config, envs, run.restore(_skeleton(config.agent, envs.spec))


def restore_model(run: Run, *, trust: bool = False) -> tuple[Config, AbstractEnvs, PyTree]:
    """Return a run's config, its worlds and its trained model; an exported agent's likewise.

    Raises as `restore` does.
    """
    if not run.has_checkpoint(MODEL):
        config, envs, train_state = restore(run, trust=trust)
        return config, envs, train_state.learner.model
    config = configs.from_json(run.trusted_config(trust))
    envs = make(config.env, config.num_episodes)
    return config, envs, run.restore(_skeleton(config.agent, envs.spec).learner.model, MODEL)


def _skeleton(agent: AbstractAgent, spec: EnvSpec) -> TrainState:
    """Return a state like a fresh one whose learner is all zeros: weights would take seconds."""
    treedef: list[Any] = []

    def leaves(key: PRNGKey) -> list[Any]:
        flat, structure = jax.tree.flatten(agent.init(spec, key=key))
        treedef.append(structure)
        return flat

    key, zero = jax.random.key(0), np.zeros((), np.int64)
    shapes = jax.eval_shape(leaves, key)
    zeros = jax.jit(lambda: [jnp.zeros(leaf.shape, leaf.dtype) for leaf in shapes])()
    return TrainState(jax.tree.unflatten(treedef[0], zeros), key, zero, zero)


def fresh_state(agent: AbstractAgent, spec: EnvSpec, seed: int) -> TrainState:
    """Return the state before the first update, for worlds like `spec`."""
    init_key, key = jax.random.split(jax.random.key(seed))
    zero = np.zeros((), np.int64)
    return TrainState(agent.init(spec, key=init_key), key, zero, zero)


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
    train_state = fresh_state(config.agent, envs.spec, config.seed)
    if run.has_checkpoint():
        train_state = run.restore(train_state)
    run.rewind(int(train_state.updates))
    return train_state, (run.latest() or {}).get("seconds", 0.0)


def _record(train_state: TrainState, metrics: Metrics) -> dict[str, Any]:
    """Return metrics as plain numbers and lists of them."""
    counters = {"updates": train_state.updates, "env_steps": train_state.env_steps}
    values = counters | jax.device_get(metrics)
    return {name: np.asarray(value).tolist() for name, value in values.items()}


def _check_finite(config: Config, record: dict[str, Any]) -> None:
    """Raise `TrmrlError` where a number stopped being one."""
    at = f"at update {record['updates']}; the last good checkpoint is kept"
    nonfinite = ["observations"] * bool(record["bad_obs"])
    nonfinite += ["rewards"] * (not np.isfinite(record["return"]).all())
    if nonfinite:
        raise TrmrlError(f"{config.env} gave {' and '.join(nonfinite)} that are not finite {at}")
    bad = next((name for name, value in record.items() if not np.isfinite(value).all()), None)
    if bad:
        raise TrmrlError(f"{bad} of {config.agent_name} is not finite {at}")
