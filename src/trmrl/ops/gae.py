"""Generalized advantage estimation (Schulman et al., 2016) for streams of rows."""

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


def steps_to_next(valid: Bool[jax.Array, "T *lanes"]) -> Float[jax.Array, "T *lanes"]:
    """Return how many rows each row is before the next valid one of its stream, or the end.

    More than one where an episode ended early: the rest of its slot passes before the next one
    begins, so that ending early does not bring the next episode's rewards nearer.
    """
    num_rows = len(valid)
    number = jnp.arange(num_rows).reshape((-1,) + (1,) * (valid.ndim - 1))
    upcoming = jax.lax.cummin(jnp.where(valid, number, num_rows), axis=0, reverse=True)
    following = jnp.roll(upcoming, -1, axis=0).at[-1].set(num_rows)
    return (following - number).astype(jnp.float32)
