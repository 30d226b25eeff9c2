"""The door every family of worlds comes through, and the scan of worlds that live on the host.

Lives here: `AbstractEnvs` and `host_scan`. Does not live here: any particular world, and any notion
of an agent. Worlds never reset themselves: `trial.py` does.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PyTree

from trmrl.types import Array, EnvSpec, EnvState, Outcome, PRNGKey, Task


class AbstractEnvs(eqx.Module):
    """`B` worlds of one family stepping together; `B` is the leading axis of the tasks given.

    `scan` drives them: `jax.lax.scan` for worlds written in JAX, `host_scan` for the rest. `jit`
    compiles a function that steps them: `jax.jit`, or nothing at all on the host.
    """

    scan: eqx.AbstractVar[Callable]
    jit: eqx.AbstractVar[Callable]
    spec: eqx.AbstractVar[EnvSpec]

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Task:
        """Draw tasks of a split ("train", "test" or "ood"): a pytree with leading axis `num_tasks`.

        Raises `TrmrlError` on a split this family does not have.
        """
        raise NotImplementedError

    def reset(self, tasks: Task, *, key: PRNGKey) -> tuple[EnvState, Float[Array, "B D"]]:
        """Begin an episode of each task; returns the state and the first observation."""
        raise NotImplementedError

    def step(self, env_state: EnvState, action: Array) -> tuple[EnvState, Outcome]:
        """Answer one action per lane. The state given is consumed."""
        raise NotImplementedError

    def view(self, env_state: EnvState) -> PyTree:
        """Return the little a drawing needs, leading axis `B`."""
        raise NotImplementedError


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
