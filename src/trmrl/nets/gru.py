"""A gated recurrent unit (Cho et al., 2014) as a core."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.nets.core import AbstractCore, AbstractCoreConfig, AbstractRecurrentCore
from trmrl.nets.initializers import xavier
from trmrl.nets.linear import Linear
from trmrl.settings import field
from trmrl.types import PRNGKey

Hidden = Float[jax.Array, "B F"]


class GRU(AbstractRecurrentCore):
    """`h' = (1 - z) n + z h` with gates `r, z = sigmoid(.)` and `n = tanh(W x + r (U h + b))`.

    The tokens are embedded by a linear map and a rectifier; `h'` is both memory and feature.
    """

    embedding: Linear
    inputs: Linear
    hidden: Linear
    feature_size: int = eqx.field(static=True)

    def start(self, num_lanes: int) -> Hidden:
        """Return zero hidden states."""
        return jnp.zeros((num_lanes, self.feature_size))

    def project(self, token: Float[jax.Array, "*axes D"]) -> Float[jax.Array, "*axes G"]:
        """Return `W x + b` for all three gates side by side."""
        return self.inputs(jax.nn.relu(self.embedding(token)))

    def cell(self, memory: Hidden, gates: Float[jax.Array, "B G"]) -> tuple[Hidden, Hidden]:
        """Return the next hidden state, twice: it is the memory and the feature."""
        x_reset, x_keep, x_new = jnp.split(gates, 3, axis=-1)
        h_reset, h_keep, h_new = jnp.split(self.hidden(memory), 3, axis=-1)
        new = jnp.tanh(x_new + jax.nn.sigmoid(x_reset + h_reset) * h_new)
        keep = jax.nn.sigmoid(x_keep + h_keep)
        after = new + keep * (memory - new)
        return after, after


class GRUConfig(AbstractCoreConfig):
    """A gated recurrent unit."""

    width: int = field(128, low=1)  # units, and features of an embedded token

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
