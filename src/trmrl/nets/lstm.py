"""Long short-term memory (Hochreiter and Schmidhuber, 1997; forget gates by Gers et al., 2000).

Lives here: the cell and its unrolling, as a core.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from trmrl.nets._core import AbstractCore, AbstractCoreConfig
from trmrl.nets.initializers import xavier
from trmrl.nets.linear import Linear
from trmrl.types import PRNGKey


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LSTMMemory:
    """What the cell shows and what it keeps."""

    hidden: Float[jax.Array, "*B F"]
    cell: Float[jax.Array, "*B F"]


class LSTM(AbstractCore):
    """`c' = f c + i g`, `h' = o tanh(c')`; gates `i, f, o = sigmoid(.)`, `g = tanh(W x + U h + b)`.

    The tokens are embedded by a linear map and a rectifier; the feature is `h'`.
    """

    embedding: Linear
    inputs: Linear
    hidden: Linear
    feature_size: int = eqx.field(static=True)

    def start(self, num_lanes: int) -> LSTMMemory:
        """Return zero states."""
        zero = jnp.zeros((num_lanes, self.feature_size))
        return LSTMMemory(zero, zero)

    def _gates(self, token: Float[jax.Array, "*axes D"]) -> Float[jax.Array, "*axes G"]:
        return self.inputs(jax.nn.relu(self.embedding(token)))

    def _cell(
        self, memory: LSTMMemory, gates: Float[jax.Array, "B G"], start: Bool[jax.Array, " B"]
    ) -> LSTMMemory:
        old = jax.tree.map(lambda x: jnp.where(start[:, None], 0.0, x), memory)
        take, keep, new, show = jnp.split(gates + self.hidden(old.hidden), 4, axis=-1)
        cell = jax.nn.sigmoid(keep) * old.cell + jax.nn.sigmoid(take) * jnp.tanh(new)
        return LSTMMemory(jax.nn.sigmoid(show) * jnp.tanh(cell), cell)

    def step(
        self, memory: LSTMMemory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[LSTMMemory, Float[jax.Array, "B F"]]:
        """Return the new state, and its hidden half as the feature."""
        memory = self._cell(memory, self._gates(token), start)
        return memory, memory.hidden

    def unroll(
        self,
        memory: LSTMMemory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[LSTMMemory, Float[jax.Array, "T B F"]]:
        """Scan the cell; the input's share of the gates is computed for all rows at once."""

        def row(memory, row):
            gates, start, valid = row
            new = self._cell(memory, gates, start)
            keep = lambda new, old: jnp.where(valid[:, None], new, old)
            return jax.tree.map(keep, new, memory), new.hidden

        memory = self.start(token.shape[1]) if memory is None else memory
        return jax.lax.scan(row, memory, (self._gates(token), start, valid))


class LSTMConfig(AbstractCoreConfig):
    """An LSTM of `width` units on tokens embedded in as many."""

    width: int = 128

    def build(self, token_size: int, trial_length: int, *, key: PRNGKey) -> AbstractCore:
        """Return a core with Xavier input weights, orthogonal recurrent ones, forget biases 1."""
        del trial_length
        width = self.width
        keys = jax.random.split(key, 6)
        orthogonal = jax.nn.initializers.orthogonal()
        recurrent = jnp.concatenate([orthogonal(k, (width, width)) for k in keys[2:]], axis=1)
        return LSTM(
            embedding=Linear(xavier(token_size, width, key=keys[0]), jnp.zeros(width)),
            inputs=Linear(
                xavier(width, 4 * width, key=keys[1]),
                jnp.zeros(4 * width).at[width : 2 * width].set(1.0),
            ),
            hidden=Linear(recurrent, None),
            feature_size=width,
        )
