"""The clipped surrogate of PPO (Schulman et al., 2017), row by row; the caller averages."""

import jax
import jax.numpy as jnp
from jaxtyping import Float


def clipped_surrogate(
    ratio: Float[jax.Array, "*axes"], advantage: Float[jax.Array, "*axes"], clip: float
) -> Float[jax.Array, "*axes"]:
    """Return `min(r A, clamp(r, 1 - clip, 1 + clip) A)`, to be maximized."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def kl_estimate(log_ratio: Float[jax.Array, "*axes"]) -> Float[jax.Array, "*axes"]:
    """Return `exp(x) - 1 - x`: never negative, and `KL(old || new)` on average over the old."""
    return jnp.expm1(log_ratio) - log_ratio
