"""Long short-term memory (Hochreiter and Schmidhuber, 1997; forget gates by Gers et al., 2000)."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.nets.core import AbstractCore, AbstractCoreConfig, AbstractRecurrentCore
from trmrl.nets.initializers import xavier
from trmrl.nets.linear import Linear
from trmrl.settings import field
from trmrl.types import PRNGKey


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LSTMMemory:
    """What the cell puts out and what it keeps."""

    hidden: Float[jax.Array, "*B F"]
    cell: Float[jax.Array, "*B F"]


class LSTM(AbstractRecurrentCore):
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

    def project(self, token: Float[jax.Array, "*axes D"]) -> Float[jax.Array, "*axes G"]:
        """Return `W x + b` for all four gates side by side."""
        return self.inputs(jax.nn.relu(self.embedding(token)))

    def cell(
        self, memory: LSTMMemory, gates: Float[jax.Array, "B G"]
    ) -> tuple[LSTMMemory, Float[jax.Array, "B F"]]:
        """Return the next state, and its hidden half as the feature."""
        gates = gates + self.hidden(memory.hidden)
        take, keep, new, show = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(keep) * memory.cell + jax.nn.sigmoid(take) * jnp.tanh(new)
        hidden = jax.nn.sigmoid(show) * jnp.tanh(cell)
        return LSTMMemory(hidden, cell), hidden


class LSTMConfig(AbstractCoreConfig):
    """Long short-term memory."""

    width: int = field(128, low=1)  # units, and features of an embedded token

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
