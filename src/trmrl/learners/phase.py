"""One descent of an update: terms of a loss on one reading of the rows, and what they change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.objectives import AbstractObjective, Chunks
from trmrl.nets.network import Network
from trmrl.types import Metrics, replace


@dataclass(frozen=True)
class Phase:
    """Terms of a loss, the part of the network that they change, and its optimizer."""

    name: str
    terms: tuple[AbstractObjective, ...]
    where: Callable[[Network], Any]
    optimizer: OptimizerConfig

    def part(self, network: Network) -> Any:
        """Return a mask of the arrays this phase changes."""
        nothing = jax.tree.map(lambda _: False, network)
        include = lambda part: jax.tree.map(lambda _: True, part)
        return eqx.tree_at(self.where, nothing, replace_fn=include)

    def loss(
        self, network: Network, chunks: Chunks, elapsed: Float[jax.Array, ""]
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return the weighted sum of the terms on a minibatch `[M, C]`, from one reading of it."""
        memory0 = chunks.memory0
        rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), replace(chunks, memory0=None))
        reading = network.read(memory0, rows.token, rows.start, rows.valid)
        total, metrics = jnp.zeros(()), {}
        for term in self.terms:
            loss, term_metrics = term.loss(network, reading, rows)
            total = total + term.weight(elapsed) * loss
            metrics |= term_metrics
        return total, metrics


def reaching(name: str, terms: tuple[AbstractObjective, ...], optimizer: OptimizerConfig) -> Phase:
    """Return the phase that changes what its terms reach, and nothing else."""
    reached = {part for term in terms for part in term.reaches}
    heads = [type(term).__name__ for term in terms if "head" in term.reaches]

    def where(network):
        parts = [getattr(network, part) for part in sorted(reached - {"head"})]
        return parts + [network.heads[name] for name in heads]

    return Phase(name, terms, where, optimizer)
