"""A step as far as a divergence allows (Schulman et al., 2015), on flat vectors.

Conjugate gradients, the natural step and its line search. The divergence, and the product of its
Hessian with a vector, are the caller's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

Vector = Float[jax.Array, " N"]
Scalar = Float[jax.Array, ""]

_CURVATURE_FLOOR = 1e-8
_RESIDUAL_FLOOR = 1e-10  # squared, as published


def conjugate_gradient(product: Callable[[Vector], Vector], b: Vector, num_steps: int) -> Vector:
    """Return `x` with `A x = b` nearly, after at most `num_steps` products by a positive `A`.

    Ends early where the residual is nearly zero, or where rounding leaves a direction without
    curvature.
    """

    def unsolved(carry):
        steps, _, _, _, squared = carry
        return (steps < num_steps) & (squared > _RESIDUAL_FLOOR)

    def step(carry):
        steps, x, residual, direction, squared = carry
        image = product(direction)
        curvature = direction @ image
        length = jnp.where(curvature > 0, squared / curvature, 0.0)
        residual = residual - length * image
        left = jnp.where(curvature > 0, residual @ residual, 0.0)
        direction_next = residual + (left / squared) * direction
        return steps + 1, x + length * direction, residual, direction_next, left

    start = jnp.int32(0), jnp.zeros_like(b), b, b, b @ b
    return jax.lax.while_loop(unsolved, step, start)[1]


def natural_step(
    gradient: Vector, product: Callable[[Vector], Vector], kl_limit: float, num_steps: int
) -> Vector:
    """Return `sqrt(2 kl_limit / x^T H x) x` with `H x = gradient`, `H` the divergence's Hessian.

    To second order, weights less this step diverge by `kl_limit` (appendix C there).
    """
    x = conjugate_gradient(product, gradient, num_steps)
    return jnp.sqrt(2.0 * kl_limit / (jnp.maximum(x @ product(x), 0.0) + _CURVATURE_FLOOR)) * x


def line_search(
    measure: Callable[[Scalar], tuple[Scalar, Scalar]],
    loss: Scalar,
    kl_limit: float,
    backtrack_ratio: float,
    max_tries: int,
) -> Scalar:
    """Return the greatest of `1, ratio, ratio^2, ...` that is admissible, or 0 if none is.

    `measure(fraction)` returns the loss and the divergence there. Admissible: the loss is below
    `loss`, and the divergence at most `kl_limit`; numbers that are not finite never are.
    """

    def search(carry):
        tries, _, fraction, _ = carry
        loss_there, kl_there = measure(fraction)
        accepted = (loss_there < loss) & (kl_there <= kl_limit)
        return tries + 1, fraction, fraction * backtrack_ratio, accepted

    one = jnp.ones_like(loss)
    start = jnp.int32(0), one, one, jnp.zeros((), bool)
    _, fraction, _, accepted = jax.lax.while_loop(
        lambda carry: ~carry[3] & (carry[0] < max_tries), search, start
    )
    return jnp.where(accepted, fraction, jnp.zeros_like(loss))
