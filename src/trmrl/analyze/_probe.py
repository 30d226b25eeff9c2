"""Decoders of a belief from a memory: fitted on half of the tasks, judged on the others."""

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import logsumexp

PENALTY = 1e-3  # per row, of standardized features

Rows = Float[np.ndarray, "N D"]
Judged = Float[np.ndarray, "M D"]
Target = Float[np.ndarray, "N P"]
Predicted = Float[np.ndarray, "M P"]


def standardize(
    fitted: Rows, judged: Judged
) -> tuple[Float[np.ndarray, "N E"], Float[np.ndarray, "M E"]]:
    """Return both with the mean and deviation of the first, a constant 1 behind them."""
    mean, deviation = fitted.mean(axis=0), fitted.std(axis=0)
    varies = deviation > 1e-9 * (1.0 + np.abs(mean))
    scale = lambda x: (x - mean)[:, varies] / deviation[varies]
    with_one = lambda x: np.append(scale(x), np.ones((len(x), 1)), axis=1)
    return with_one(fitted), with_one(judged)


def ridge(fitted: Rows, target: Target, judged: Judged) -> Predicted:
    """Return ridge predictions `X' (X'X + c I)^-1 X'y` for the judged rows."""
    x, query = standardize(fitted, judged)
    penalty = PENALTY * len(x) * np.eye(x.shape[1])
    penalty[-1, -1] = 0.0  # of the constant
    weight = np.linalg.lstsq(x.T @ x + penalty, x.T @ target, rcond=None)[0]
    return query @ weight


def multinomial(fitted: Rows, target: Target, judged: Judged) -> Predicted:
    """Return the log probabilities of a linear softmax fitted to target distributions `[N, C]`.

    It minimizes the mean cross-entropy, with a ridge penalty, by L-BFGS.
    """
    x, query = standardize(fitted, judged)
    num_features, num_classes = x.shape[1], target.shape[1]
    log_softmax = lambda z: z - logsumexp(z, axis=1, keepdims=True)

    def loss(flat):
        weight = flat.reshape((num_features, num_classes))
        log_p = log_softmax(x @ weight)
        gradient = x.T @ (np.exp(log_p) - target) / len(x) + PENALTY * weight
        value = -(target * log_p).sum() / len(x) + 0.5 * PENALTY * (weight**2).sum()
        return value, gradient.ravel()

    start = np.zeros(num_features * num_classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return log_softmax(query @ found.x.reshape((num_features, num_classes)))
