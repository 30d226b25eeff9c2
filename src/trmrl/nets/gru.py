"""A gated recurrent unit (Cho et al., 2014) as a core. Lives here: the cell and its unrolling."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from trmrl.nets._core import AbstractCore, AbstractCoreConfig
from trmrl.nets.initializers import xavier
from trmrl.nets.linear import Linear
from trmrl.types import PRNGKey

Hidden = Float[jax.Array, "B F"]


class GRU(AbstractCore):
    """`h' = (1 - z) n + z h` with gates `r, z = sigmoid(.)` and `n = tanh(W x + r (U h + b))`."""

    embedding: Linear
    inputs: Linear
    hidden: Linear
    feature_size: int = eqx.field(static=True)

    def start(self, num_lanes: int) -> Hidden:
        """Return zero hidden states."""
        return jnp.zeros((num_lanes, self.feature_size))

    def _gates(self, token: Float[jax.Array, "*axes D"]) -> Float[jax.Array, "*axes G"]:
        return self.inputs(jax.nn.relu(self.embedding(token)))

    def _cell(
        self, h: Hidden, gates: Float[jax.Array, "B G"], start: Bool[jax.Array, " B"]
    ) -> Hidden:
        h = jnp.where(start[:, None], 0.0, h)
        x_reset, x_keep, x_new = jnp.split(gates, 3, axis=-1)
        h_reset, h_keep, h_new = jnp.split(self.hidden(h), 3, axis=-1)
        new = jnp.tanh(x_new + jax.nn.sigmoid(x_reset + h_reset) * h_new)
        keep = jax.nn.sigmoid(x_keep + h_keep)
        return new + keep * (h - new)

    def step(
        self, memory: Hidden, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[Hidden, Hidden]:
        """Return the new hidden state, twice: it is the memory and the feature."""
        h = self._cell(memory, self._gates(token), start)
        return h, h

    def unroll(
        self,
        memory: Hidden | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[Hidden, Float[jax.Array, "T B F"]]:
        """Scan the cell; the input's share of the gates is computed for all rows at once."""

        def row(h, row):
            gates, start, valid = row
            new = self._cell(h, gates, start)
            return jnp.where(valid[:, None], new, h), new

        memory = self.start(token.shape[1]) if memory is None else memory
        return jax.lax.scan(row, memory, (self._gates(token), start, valid))


class GRUConfig(AbstractCoreConfig):
    """A GRU of `width` units on tokens embedded in as many."""

    width: int = 128

    def build(self, token_size: int, trial_length: int, *, key: PRNGKey) -> AbstractCore:
        """Return a core with Xavier input weights and orthogonal recurrent ones."""
        del trial_length
        width = self.width
        keys = jax.random.split(key, 5)
        orthogonal = jax.nn.initializers.orthogonal()
        recurrent = jnp.concatenate([orthogonal(k, (width, width)) for k in keys[2:]], axis=1)
        return GRU(
            embedding=Linear(xavier(token_size, width, key=keys[0]), jnp.zeros(width)),
            inputs=Linear(xavier(width, 3 * width, key=keys[1]), jnp.zeros(3 * width)),
            hidden=Linear(recurrent, jnp.zeros(3 * width)),
            feature_size=width,
        )
