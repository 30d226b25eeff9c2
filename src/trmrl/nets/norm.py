"""Layer normalization (Ba et al., 2016)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

EPSILON = 1e-5  # added to the variance


class LayerNorm(eqx.Module):
    """`y = w (x - mean) / sqrt(variance + 1e-5) + b`, moments over the last axis."""

    weight: Float[jax.Array, " F"]
    bias: Float[jax.Array, " F"]

    def __init__(self, width: int):
        """Unit weights and zero biases, for features of `width`."""
        self.weight, self.bias = jnp.ones(width), jnp.zeros(width)

    def __call__(self, x: Float[jax.Array, "*axes F"]) -> Float[jax.Array, "*axes F"]:
        """Map `[..., F]` to `[..., F]`."""
        centered = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.mean(centered**2, axis=-1, keepdims=True)
        whitened = centered * jax.lax.rsqrt(variance + EPSILON)
        weight, bias = (jnp.broadcast_to(p, x.shape) for p in (self.weight, self.bias))
        return whitened * weight + bias
