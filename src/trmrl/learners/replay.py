"""Stored experience: a ring of transitions for every task, on the learner's device."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Shaped

from trmrl.types import EnvSpec, PRNGKey, Trajectory, replace


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Transitions:
    """Steps taken, in no order."""

    obs: Float[jax.Array, "*axes D"]
    action: Shaped[jax.Array, "*axes A"]
    reward: Float[jax.Array, "*axes"]  # unnormalized
    dense_reward: Float[jax.Array, "*axes"]  # the same where the world has no denser one
    terminated: Bool[jax.Array, "*axes"]  # the world ended the episode; a clock's end is left out
    next_obs: Float[jax.Array, "*axes D"]  # the true successor


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Replay:
    """A ring of `C` transitions for each of `P` tasks."""

    rows: Transitions  # [P, C, ...]
    count: Int[jax.Array, " P"]  # of rows ever stored since the ring was last cleared


def empty_replay(num_tasks: int, capacity: int, spec: EnvSpec) -> Replay:
    """Return rings with nothing in them, for continuous worlds like `spec`."""
    zeros = lambda *shape: jnp.zeros((num_tasks, capacity, *shape), jnp.float32)
    obs, action = zeros(spec.obs_size), zeros(spec.action_space.size)
    over = jnp.zeros((num_tasks, capacity), bool)
    rows = Transitions(obs, action, zeros(), zeros(), over, obs)
    return Replay(rows, jnp.zeros(num_tasks, jnp.int32))


def transitions(rows: Trajectory) -> Transitions:
    """Return the transitions in a trajectory's rows."""
    outcome = rows.outcome
    return Transitions(
        rows.timestep.obs,
        rows.decision.action,
        outcome.reward,
        outcome.reward if outcome.dense_reward is None else outcome.dense_reward,
        outcome.terminated,
        outcome.next_obs,
    )


def clear(replay: Replay, task: Int[jax.Array, " B"]) -> Replay:
    """Return the rings with those of some tasks empty."""
    return replace(replay, count=replay.count.at[task].set(0))


def store(
    replay: Replay, task: Int[jax.Array, " B"], rows: Transitions, valid: Bool[jax.Array, "T B"]
) -> Replay:
    """Return the rings with the valid ones of `rows` `[T, B]` added; `task` has no number twice.

    The oldest rows are overwritten; `T` must be at most the capacity.
    """
    capacity = replay.rows.reward.shape[1]
    task_count = replay.count[task]
    ordinal = jnp.cumsum(valid.astype(jnp.int32), axis=0) - 1
    slot = (jnp.broadcast_to(task_count, valid.shape) + ordinal) % capacity
    slot = jnp.where(valid, slot, capacity)  # beyond the ring, where nothing is written
    lane = jnp.broadcast_to(task, valid.shape)
    put = lambda ring, x: ring.at[lane, slot].set(x.astype(ring.dtype), mode="drop")
    count = replay.count.at[task].add(valid.sum(axis=0, dtype=jnp.int32))
    return Replay(jax.tree.map(put, replay.rows, rows), count)


def draw(
    replay: Replay,
    task: Int[jax.Array, " M"],
    num: int,
    *,
    among: Int[jax.Array, " M"] | None = None,
    key: PRNGKey,
) -> Any:
    """Return `num` rows of each task, `[M, num, ...]`, uniform and with replacement.

    They come from the first `among` rows of rings that have not come around, or from all that rings
    hold. Rings must not be empty.
    """
    capacity = replay.rows.reward.shape[1]
    shape = task.shape[0], num
    filled = jnp.minimum(replay.count[task] if among is None else among, capacity)[:, None]
    slot = jax.random.randint(key, shape, 0, jnp.broadcast_to(filled, shape))
    lane = jnp.broadcast_to(task[:, None], shape)
    return jax.tree.map(lambda ring: ring[lane, slot], replay.rows)
