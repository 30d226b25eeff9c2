"""Trials as what objectives read: gathered whole, and cut into chunks of rows."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.learners.objectives import AbstractObjective, Chunks
from trmrl.nets.core import AbstractCore
from trmrl.nets.network import Model
from trmrl.types import PRNGKey, Trajectory, replace


def decodes_tasks(objectives: tuple[AbstractObjective, ...]) -> bool:
    """Return whether an objective compares with the task's own numbers."""
    return any(objective.reads_task() for objective in objectives)


def gather(
    model: Model,
    rows: Trajectory,
    objectives: tuple[AbstractObjective, ...],
    task: Float[jax.Array, "B P"] | None = None,
    *,
    key: PRNGKey,
) -> Chunks:
    """Return what objectives read of rows `[T, B]`, as one chunk; nothing is credited.

    `task` holds the tasks' numbers, where objectives decode them.
    """
    if task is not None:
        task = jnp.broadcast_to(task[None], (*rows.valid.shape, task.shape[-1]))
    nothing = jnp.zeros(rows.valid.shape)
    tokens, start = model.tokens(rows.timestep)
    targets = {
        type(objective).__name__: objective.targets(
            model, rows, key=jax.random.fold_in(key, number)
        )
        for number, objective in enumerate(objectives)
    }
    return Chunks(
        memory0=None,
        token=tokens,
        start=start,
        valid=rows.valid,
        action=rows.decision.action,
        log_prob=rows.decision.log_prob,
        advantage=nothing,
        value_target=nothing,
        credited=jnp.zeros(rows.valid.shape, bool),
        targets=targets,
        task=task,
    )


def cut(core: AbstractCore, whole: Chunks, length: int) -> Chunks:
    """Cut rows `[T, B]` into chunks `[M, length]`, with the memory that each begins with."""
    num_rows, num_lanes = whole.valid.shape
    by_time = jax.tree.map(lambda x: x.reshape((-1, length, *x.shape[1:])), whole)
    memory0 = None
    if num_rows > length:
        _, memory0 = jax.lax.scan(
            lambda m, c: (core.unroll(m, c.token, c.start, c.valid)[0], m),
            core.start(num_lanes),
            by_time,
        )
        memory0 = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), memory0)
    merge = lambda x: jnp.swapaxes(x, 1, 2).reshape((-1, length, *x.shape[3:]))
    return replace(jax.tree.map(merge, by_time), memory0=memory0)
