"""A decoder of a belief from a memory: fitted on half of the tasks, judged on the others."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from trmrl.types import Array

PENALTY = 1e-3  # on the squared weights of standardized features
MOST_STEPS = 200  # of L-BFGS

KL = Callable[[Float[Array, "N P"], Float[Array, "N P"]], Float[Array, " N"]]


def decode(
    fitted: Float[np.ndarray, "N D"],
    target: Float[np.ndarray, "N P"],
    judged: Float[np.ndarray, "M D"],
    kl: KL,
    prior: Float[np.ndarray, " P"],
) -> Float[np.ndarray, "M P"]:
    """Return a linear map's numbers of distributions for the judged rows.

    It minimizes the mean of `kl(target, numbers)` over the fitted rows, with a ridge penalty, by
    L-BFGS, and begins with the numbers of the prior for every row.
    """
    mean, deviation = fitted.mean(axis=0), fitted.std(axis=0)
    varies = deviation > 1e-6 * (1.0 + np.abs(mean))
    scale = lambda x: ((x - mean)[:, varies] / deviation[varies]).astype(np.float32)
    x, wanted = jnp.asarray(scale(fitted)), jnp.asarray(target, jnp.float32)
    shape = x.shape[1] + 1, target.shape[1]

    @jax.jit
    def loss(flat):
        weight, constant = jnp.split(flat.reshape(shape), [shape[0] - 1])
        numbers = x @ weight
        numbers = numbers + jnp.broadcast_to(constant, numbers.shape)
        return kl(wanted, numbers).mean() + 0.5 * PENALTY * jnp.sum(weight * weight)

    gradient = jax.jit(jax.value_and_grad(loss))

    def evaluate(flat):
        value, slope = gradient(jnp.asarray(flat, jnp.float32))
        return float(value), np.asarray(slope, np.float64)

    start = np.append(np.zeros((shape[0] - 1, shape[1])), prior[None], axis=0).ravel()
    options = {"maxiter": MOST_STEPS}
    found = minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options).x.reshape(shape)
    return scale(judged) @ found[:-1] + found[-1]
