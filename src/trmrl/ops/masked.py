"""Averages over the rows that happened; rows that did not may hold any finite number."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int


def mean(x: Float[jax.Array, "*axes"], valid: Bool[jax.Array, "*axes"]) -> Float[jax.Array, ""]:
    """Return the mean over valid rows, zero where there are none."""
    return jnp.sum(jnp.where(valid, x, 0.0)) / jnp.maximum(valid.sum(dtype=x.dtype), 1.0)


def standardize(
    x: Float[jax.Array, "*axes"], valid: Bool[jax.Array, "*axes"]
) -> Float[jax.Array, "*axes"]:
    """Return `(x - mean) / (std + 1e-8)` with the moments of the valid rows, in every row."""
    centered = x - mean(x, valid)
    return centered / (jnp.sqrt(mean(centered**2, valid)) + 1e-8)


def later_rows(
    valid: Bool[jax.Array, "T M"], lag: int
) -> tuple[Int[jax.Array, "T M"], Bool[jax.Array, "T M"]]:
    """Return of each row that happened the one that happened `lag` such rows later.

    And where there is one; elsewhere, and for rows that did not happen, the index is of any row.
    """
    order = jnp.argsort(~valid, axis=0, stable=True).astype(jnp.int32)  # those that happened first
    place = jnp.cumsum(valid, axis=0, dtype=jnp.int32) - 1 + lag
    exists = valid & (place < valid.sum(axis=0, dtype=jnp.int32)[None])
    return jnp.take_along_axis(order, jnp.clip(place, 0, len(valid) - 1), axis=0), exists


def explained_variance(
    target: jax.Array, value: jax.Array, valid: jax.Array
) -> Float[jax.Array, ""]:
    """Return `1 - var(target - value) / (var(target) + 1e-8)` over the valid rows.

    It is 1 where values predict their targets exactly, and 0 where they do no better than a
    constant.
    """
    variance = lambda x: mean((x - mean(x, valid)) ** 2, valid)
    return 1.0 - variance(target - value) / (variance(target) + 1e-8)
