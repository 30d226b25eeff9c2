"""Generalized advantage estimation (Schulman et al., 2016) for one stream of rows."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float


def gae(
    reward: Float[jax.Array, " T"],
    value: Float[jax.Array, " T"],
    discount: Float[jax.Array, " T"],
    valid: Bool[jax.Array, " T"],
    gae_lambda: float,
) -> Float[jax.Array, " T"]:
    """Return `A_t = sum_l (prod_{j<l} discount_{t+j} lambda) delta_{t+l}`.

    `delta_t = reward_t + discount_t * value_{t+1} - value_t`; `discount_t` is what crosses from row
    t to the next valid row, zero where the stream ends. Invalid rows are passed over, as if they
    were not there; their advantage is zero. Nothing lies beyond the last row.
    """

    def back(carry, row):
        next_value, next_advantage = carry
        reward, value, discount, valid = row
        delta = reward + discount * next_value - value
        advantage = delta + discount * gae_lambda * next_advantage
        kept = jnp.where(valid, value, next_value), jnp.where(valid, advantage, next_advantage)
        return kept, jnp.where(valid, advantage, 0.0)

    zero = jnp.zeros((), reward.dtype)
    rows = reward, value, discount, valid
    return jax.lax.scan(back, (zero, zero), rows, reverse=True)[1]


def discounted_return(
    reward: Float[jax.Array, " T"], discount: Float[jax.Array, " T"], valid: Bool[jax.Array, " T"]
) -> Float[jax.Array, " T"]:
    """Return `G_t = reward_t + discount_t * G_{t+1}` over the valid rows of one stream."""
    return gae(reward, jnp.zeros_like(reward), discount, valid, gae_lambda=1.0)
