"""Affine maps over the last axis. Lives here: `Linear` and `MLP`. Weights are `[in, out]`."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.nets.initializers import xavier
from trmrl.types import PRNGKey


class Linear(eqx.Module):
    """`y = x W + b` for any leading axes; `bias` may be None."""

    weight: Float[jax.Array, "in out"]
    bias: Float[jax.Array, " out"] | None

    def __call__(self, x: Float[jax.Array, "*axes in"]) -> Float[jax.Array, "*axes out"]:
        """Map `[..., in]` to `[..., out]`."""
        y = x @ self.weight
        if self.bias is None:
            return y
        return y + jnp.broadcast_to(self.bias, y.shape)


class MLP(eqx.Module):
    """Tanh layers and a linear last one, Xavier weights and zero biases."""

    layers: tuple[Linear, ...]

    def __init__(self, sizes: tuple[int, ...], last_gain: float = 1.0, *, key: PRNGKey):
        """Build from `sizes = (in, hidden, ..., out)`; the last layer's weights get `last_gain`."""
        keys = jax.random.split(key, len(sizes) - 1)
        gains = [1.0] * (len(sizes) - 2) + [last_gain]
        self.layers = tuple(
            Linear(xavier(i, o, gain, key=k), jnp.zeros(o))
            for i, o, gain, k in zip(sizes[:-1], sizes[1:], gains, keys, strict=True)
        )

    def __call__(self, x: Float[jax.Array, "*axes in"]) -> Float[jax.Array, "*axes out"]:
        """Map `[..., in]` to `[..., out]`."""
        for layer in self.layers[:-1]:
            x = jnp.tanh(layer(x))
        return self.layers[-1](x)
