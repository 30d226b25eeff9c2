"""Trials kept after they were learned from, and the objectives that go on descending on them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.objectives import Objectives
from trmrl.settings import AbstractSettings, field
from trmrl.types import Decision, EnvSpec, Outcome, PRNGKey, Timestep, Trajectory, replace


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StoredTrials:
    """A ring of `N` trials, the newest of all lanes; what only some worlds have is left out."""

    rows: Trajectory  # [T, N]
    count: Int[jax.Array, ""]  # of trials stored; a full ring's is in [N, 2 N)
    task: Float[jax.Array, "N P"] | None = None  # their tasks' numbers, where those are decoded


class Replayed(AbstractSettings):
    """Objectives that descend on stored trials, when those of the trial at hand have.

    A gradient step is taken on whole trials, drawn evenly from the newest `capacity`.
    """

    objectives: Objectives = Objectives()
    capacity: int = field(1_000, low=1)  # trials
    num_updates: int = field(4, low=1)  # gradient steps after each trial of all lanes
    num_trials: int = field(16, low=1)  # in a gradient step
    optimizer: OptimizerConfig = OptimizerConfig(max_grad_norm=1.0)


def empty_trials(capacity: int, spec: EnvSpec, *, with_tasks: bool = False) -> StoredTrials:
    """Return a ring with nothing in it, for trials of worlds like `spec`."""
    shape = spec.trial_length, capacity
    zeros = lambda *size: jnp.zeros((*shape, *size), jnp.float32)
    obs, never = zeros(spec.obs_size), jnp.zeros(shape, bool)
    encoded = zeros(spec.action_space.size)
    rows = Trajectory(
        Timestep(obs, encoded, zeros(), never, never),
        Decision(jnp.asarray(spec.action_space.zeros(shape)), zeros(), zeros()),
        Outcome(zeros(), never, never, obs),
        never,
    )
    task = jnp.zeros((capacity, spec.task_size)) if with_tasks else None
    return StoredTrials(rows, jnp.zeros((), jnp.int32), task)


def store(
    stored: StoredTrials, rows: Trajectory, task: Float[jax.Array, "B P"] | None = None
) -> StoredTrials:
    """Return the ring with the trials `[T, B]` added; of more than it holds, the last lanes.

    `task` holds their tasks' numbers, if the ring does.
    """
    everywhere = replace(rows.outcome, dense_reward=None, success=None, diverged=None)
    kept = replace(rows, outcome=everywhere)
    capacity = stored.rows.valid.shape[1]
    kept = jax.tree.map(lambda x: x[:, -capacity:], kept)
    num_added = kept.valid.shape[1]
    slot = (stored.count + jnp.arange(num_added)) % capacity
    put = lambda ring, x: ring.at[:, slot].set(x.astype(ring.dtype))
    count = stored.count + num_added
    # A whole ring is taken off, so that 32 bits hold any number of trials.
    count = jnp.where(count >= 2 * capacity, count - capacity, count)
    if stored.task is not None and task is not None:
        task = stored.task.at[slot].set(task[-capacity:])
    return StoredTrials(jax.tree.map(put, stored.rows, kept), count, task)


def draw(
    stored: StoredTrials, num_trials: int, *, key: PRNGKey
) -> tuple[Trajectory, Float[jax.Array, "M P"] | None]:
    """Return the rows `[T, num_trials]` of trials drawn with replacement, and their tasks' numbers.

    The ring is not empty.
    """
    capacity = stored.rows.valid.shape[1]
    filled = jnp.minimum(stored.count, capacity)
    chosen = jax.random.randint(key, (num_trials,), 0, filled)
    rows = jax.tree.map(lambda x: jnp.take(x, chosen, axis=1), stored.rows)
    return rows, None if stored.task is None else jnp.take(stored.task, chosen, axis=0)
