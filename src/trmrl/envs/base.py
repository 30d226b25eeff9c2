"""What all worlds have in common, `AbstractEnvs`, and the two ways to step them, `JAX` and `HOST`.

Worlds never reset themselves: `trial.py` does.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from trmrl.types import (
    Array,
    EnvSpec,
    EnvState,
    LaneKeys,
    Outcome,
    PRNGKey,
    Task,
    TrmrlError,
)

if TYPE_CHECKING:  # pyright does not see through Equinox's alias (its issue 4965)
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar


@dataclass(frozen=True)
class Driver:
    """How worlds are stepped: in a compiled loop (`JAX`), or in a Python loop (`HOST`)."""

    scan: Callable  # takes and returns what `jax.lax.scan` does
    jit: Callable  # compiles a function that steps worlds, or returns it as it is


@jax.jit
def lane_keys(key: PRNGKey, lanes: Int[Array, " B"]) -> LaneKeys:
    """Return a key for each lane, from one key and the lane's own number."""
    return jax.vmap(lambda lane: jax.random.fold_in(key, lane))(lanes)


def keys_for(tasks: Task, key: PRNGKey) -> LaneKeys:
    """Return a key for each lane of some tasks, the lanes numbered from 0."""
    return lane_keys(key, np.arange(len(jax.tree.leaves(tasks)[0]), dtype=np.int32))


def split_keys(keys: LaneKeys, num: int) -> tuple[LaneKeys, ...]:
    """Return `num` keys for each lane, each from the lane's own."""
    split = jax.vmap(lambda key: jax.random.split(key, num))(keys)
    return tuple(split[:, i] for i in range(num))


def task_rows(tasks: Task) -> list[dict[str, Any]]:
    """Return each task's numbers on their own, by name, as JSON values."""
    named = jax.tree_util.tree_flatten_with_path(tasks)[0]
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".")
    columns = {name(path): np.asarray(leaf).tolist() for path, leaf in named}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class AbstractEnvs(eqx.Module):
    """`B` worlds of one name stepping together; `B` is the leading axis of the tasks given.

    Worlds written in JAX have the driver `JAX`, all others `HOST`.
    """

    driver: AbstractClassVar[Driver]
    spec: eqx.AbstractVar[EnvSpec]

    @abc.abstractmethod
    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Task:
        """Draw tasks of a split ("train", "test" or "ood"): a pytree with leading axis `num_tasks`.

        Where a split has finitely many they are drawn evenly (`finite.draw_rows`). Raises
        `TrmrlError` on a split these worlds do not have.
        """

    @abc.abstractmethod
    def reset(self, tasks: Task, *, key: LaneKeys) -> tuple[EnvState, Float[Array, "B D"]]:
        """Begin an episode of each task; returns the state and the first observation."""

    @abc.abstractmethod
    def step(self, env_state: EnvState, action: Array) -> tuple[EnvState, Outcome]:
        """Answer one action per lane. The state given is consumed."""

    def change_task(self, env_state: EnvState, tasks: Task) -> EnvState:
        """Return the state with other hidden tasks, in mid-episode; nothing else is changed.

        The state given is consumed. Raises `TrmrlError` in worlds that know their task only from
        `reset`, which is what worlds do that do not write this.
        """
        del env_state, tasks
        raise TrmrlError(f"{self.spec.name} cannot change its task before an episode is over")

    @abc.abstractmethod
    def view(self, env_state: EnvState) -> PyTree:
        """Return the little a drawing needs, leading axis `B`."""


def host_scan(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, length: int | None = None
) -> tuple[Any, Any]:
    """`jax.lax.scan` for bodies that leave JAX: a Python loop, its rows stacked as NumPy arrays.

    Takes and returns what `jax.lax.scan` does. Each row is copied when its step is over, so a body
    may hand out buffers that it writes again.
    """
    num_rows = len(jax.tree.leaves(xs)[0]) if length is None else length
    stacked, treedef = [], None
    for t in range(num_rows):
        carry, row = body(carry, jax.tree.map(lambda x, t=t: x[t], xs))
        leaves, treedef = jax.tree.flatten(row)
        if t == 0:
            stacked = [np.empty((num_rows, *np.shape(x)), np.asarray(x).dtype) for x in leaves]
        for rows, leaf in zip(stacked, leaves, strict=True):
            rows[t] = leaf
    return carry, None if treedef is None else treedef.unflatten(stacked)


JAX = Driver(jax.lax.scan, jax.jit)
HOST = Driver(host_scan, lambda function: function)
