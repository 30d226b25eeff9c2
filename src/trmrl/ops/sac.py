"""Soft actor-critic in its two-critic form (Haarnoja et al., 2018b), row by row.

The caller averages, and chooses whose gradients flow.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

Row = Float[jax.Array, "*axes"]


def value_target(
    reward: Row, terminated: Bool[jax.Array, "*axes"], next_value: Row, gamma: float
) -> Row:
    """Return `r + gamma V(s')`, without the second term where the episode terminated.

    Truncated episodes keep it: their last state still has a value.
    """
    return reward + gamma * (1.0 - terminated.astype(reward.dtype)) * next_value


def soft_value(q1: Row, q2: Row, log_prob: Row, temperature: Float[jax.Array, ""]) -> Row:
    """Return `min(Q1, Q2) - temperature * log pi`, the value of one action drawn from `pi`."""
    return jnp.minimum(q1, q2) - temperature * log_prob
