"""Products of independent Gaussian factors, one per transition, kept as running sums.

Source: Rakelly et al. (2019), equation 2. As in that paper's code the prior is not a factor; it is
the result where there are none.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

MIN_VARIANCE = 1e-7  # of a factor, as published

Pair = tuple[Float[jax.Array, "*axes L"], Float[jax.Array, "*axes L"]]


def factor(raw: Float[jax.Array, "*axes two_L"]) -> Pair:
    """Return what a factor adds to the sums: precision `1 / v` and `m / v`, each `[..., L]`.

    `raw` is a mean and an unconstrained width side by side; `v = max(softplus(width), 1e-7)`.
    """
    mean, width = jnp.split(raw, 2, axis=-1)
    precision = 1.0 / jnp.maximum(jax.nn.softplus(width), MIN_VARIANCE)
    return precision, mean * precision


def product(precision: Float[jax.Array, "*axes L"], weighted: Float[jax.Array, "*axes L"]) -> Pair:
    """Return mean and variance of the product, `(sum m / v) / (sum 1 / v)` and `1 / (sum 1 / v)`.

    Without any factor it is the prior: mean 0, variance 1.
    """
    empty = precision == 0.0
    variance = 1.0 / jnp.where(empty, 1.0, precision)
    return jnp.where(empty, 0.0, weighted * variance), variance


def kl_to_prior(
    mean: Float[jax.Array, "*axes L"], variance: Float[jax.Array, "*axes L"]
) -> Float[jax.Array, "*axes"]:
    """Return `KL(N(mean, variance) || N(0, 1))`, summed over the dimensions, nats."""
    return 0.5 * jnp.sum(variance + mean**2 - 1.0 - jnp.log(variance), axis=-1)
