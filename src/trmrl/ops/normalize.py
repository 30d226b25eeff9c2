"""Running moments, and normalizing by them: pure functions on one small record."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

EPSILON = 1e-8  # of a variance: below it, nothing has varied
LIMIT = 10.0  # deviations, beyond which rows are clipped


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Moments:
    """Mean, variance and count of all rows added so far; `[D]`, `[D]` and scalar."""

    mean: Float[jax.Array, "*D"]
    variance: Float[jax.Array, "*D"]
    count: Float[jax.Array, ""]


def unit_moments(shape: tuple[int, ...]) -> Moments:
    """Return the moments before any row is added: mean 0, variance 1, count 0."""
    return Moments(jnp.zeros(shape), jnp.ones(shape), jnp.zeros(()))


def add(moments: Moments, x: Float[jax.Array, "M *D"], valid: Bool[jax.Array, " M"]) -> Moments:
    """Return the moments with the valid rows of `x` added (Chan, Golub and LeVeque, 1979)."""
    kept = jnp.broadcast_to(valid.reshape((-1,) + (1,) * (x.ndim - 1)), x.shape)
    count = valid.sum(dtype=x.dtype)
    total = moments.count + count
    average = lambda y: jnp.sum(jnp.where(kept, y, 0.0), axis=0) / jnp.maximum(count, 1.0)
    mean = average(x)
    variance = average((x - jnp.broadcast_to(mean[None], x.shape)) ** 2)
    share, shift = count / jnp.maximum(total, 1.0), mean - moments.mean
    return Moments(
        moments.mean + shift * share,
        (1 - share) * moments.variance + share * variance + shift**2 * share * (1 - share),
        total,
    )


def normalize(moments: Moments, x: Float[jax.Array, "*axes D"]) -> jax.Array:
    """Return `(x - mean) / std`, clipped to `±LIMIT`."""
    mean = jnp.broadcast_to(moments.mean, x.shape)
    std = jnp.sqrt(jnp.broadcast_to(moments.variance, x.shape) + EPSILON)
    return jnp.clip((x - mean) / std, -LIMIT, LIMIT)


def bound(moments: Moments, x: Float[jax.Array, "*axes D"]) -> Float[jax.Array, "*axes D"]:
    """Return rows brought to within `LIMIT` deviations, which is what `normalize` shows of them.

    For moments of what is shown: one object of a simulation that flies off for kilometers would
    else make all other rows of millions alike. Numbers that have not varied are left as they are.
    """
    varied = (moments.variance > EPSILON) & (moments.count > 0)
    reach = LIMIT * jnp.sqrt(moments.variance + EPSILON)
    low = jnp.where(varied, moments.mean - reach, -jnp.inf)
    high = jnp.where(varied, moments.mean + reach, jnp.inf)
    return jnp.clip(x, jnp.broadcast_to(low, x.shape), jnp.broadcast_to(high, x.shape))


def scale(moments: Moments, x: Float[jax.Array, "*axes"]) -> jax.Array:
    """Return `x / std` by scalar moments; the mean is not subtracted, so signs are kept.

    Where nothing has varied yet, `x` is left as it is: the first reward of a sparse world would
    otherwise count ten thousandfold.
    """
    varied = moments.variance > EPSILON
    return x / jnp.sqrt(jnp.where(varied, moments.variance + EPSILON, 1.0))
