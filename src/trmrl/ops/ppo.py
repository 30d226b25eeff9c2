"""The clipped surrogate of PPO (Schulman et al., 2017), row by row; the caller averages."""

import jax
import jax.numpy as jnp
from jaxtyping import Float


def clipped_surrogate(
    ratio: Float[jax.Array, ""], advantage: Float[jax.Array, ""], clip: float
) -> Float[jax.Array, ""]:
    """Return `min(r A, clamp(r, 1 - clip, 1 + clip) A)`, to be maximized."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def kl_estimate(log_ratio: Float[jax.Array, ""]) -> Float[jax.Array, ""]:
    """Return `exp(x) - 1 - x`: unbiased for `KL(old || new)` under the old policy, never negative."""
    return jnp.expm1(log_ratio) - log_ratio
