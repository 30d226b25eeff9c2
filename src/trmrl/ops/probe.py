"""How well one array predicts another: closed forms, cross-validated, with intervals.

Ridge regression and nearest neighbors: what is linear, and what is memorized.
"""

import numpy as np
from jaxtyping import Float

from trmrl.ops.bootstrap import bootstrap_interval

NUM_FOLDS = 5
NUM_NEIGHBORS = 3
PENALTIES = 10.0 ** np.arange(-6, 5)  # per feature, of standardized ones

Matrix = Float[np.ndarray, "N P"]


def predictions(feature: Float[np.ndarray, "N D"], number: Matrix) -> Float[np.ndarray, "2 N P"]:
    """Return each row's numbers as either predictor has them, fitted to the other folds."""
    fold = np.random.default_rng(0).permutation(len(number)) % NUM_FOLDS
    found = np.empty((2, *number.shape))
    for part in range(NUM_FOLDS):
        held_out, fitted = fold == part, fold != part
        mean, deviation = feature[fitted].mean(axis=0), feature[fitted].std(axis=0)
        varies = deviation > 1e-9 * (1.0 + np.abs(mean))
        scaled = (feature - mean)[:, varies] / deviation[varies]
        rows = scaled[fitted], number[fitted], scaled[held_out]
        found[0, held_out], found[1, held_out] = _ridge(*rows), _nearest(*rows)
    return found


def r_squared(
    found: Float[np.ndarray, "2 N P"], number: Matrix
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Return the share of each number's variance that predictions explain, and its 95 % interval.

    Of the better predictor. With squared errors e of the prediction and d of the mean, the share is
    `1 - mean(e) / mean(d)`; the interval is a bootstrap over rows of its linear part,
    `((1 - share) d - e) / mean(d)`. Below 0 is worse than the mean; of a number that does not vary
    it is 0.
    """
    deviation = (number - number.mean(axis=0)) ** 2
    variance = deviation.mean(axis=0)
    varies = variance > 1e-12 * (1.0 + number.mean(axis=0) ** 2)
    variance = np.where(varies, variance, np.inf)
    errors = (found - number) ** 2
    error = np.where(errors.mean(axis=1).argmin(axis=0) == 0, *errors)
    share = np.where(varies, 1.0 - error.mean(axis=0) / variance, 0.0)
    low, high = bootstrap_interval(((1.0 - share) * deviation - error) / variance)
    return share, share + low, share + high


def accuracy(
    found: Float[np.ndarray, "2 N C"], indicator: Float[np.ndarray, "N C"]
) -> tuple[float, float, float, float]:
    """Return how often predicted indicators are highest for the true kind, of the better predictor.

    Also its 95 % bootstrap interval, and the share of the commonest kind.
    """
    hits = (found.argmax(axis=2) == indicator.argmax(axis=1)).astype(np.float64)
    best = hits[hits.mean(axis=1).argmax()]
    low, high = bootstrap_interval(best[:, None])
    return float(best.mean()), float(low[0]), float(high[0]), float(indicator.mean(axis=0).max())


def _ridge(
    feature: Float[np.ndarray, "N D"], number: Matrix, query: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "M P"]:
    """Return ridge predictions; each number's penalty is that of its least leave-one-out error.

    In the dual, with kernel `K = X X'` and hat matrix `H = K (K + c I)^-1`, the leave-one-out
    residual is `(y - H y) / (1 - diag H)` (Hastie et al., The Elements of Statistical Learning,
    2009, section 7.10).
    """
    mean = number.mean(axis=0)
    target = number - mean
    if not feature.shape[1]:
        return np.broadcast_to(mean, (len(query), len(mean)))
    values, vectors = np.linalg.eigh(feature @ feature.T)
    values = np.maximum(values, 0.0)[:, None]
    rotated, penalties = vectors.T @ target, PENALTIES * feature.shape[1]
    errors = np.empty((len(penalties), len(mean)))
    for error, penalty in zip(errors, penalties, strict=True):
        kept = values / (values + penalty)
        residual = (target - vectors @ (kept * rotated)) / (1.0 - vectors**2 @ kept)
        error[:] = (residual**2).mean(axis=0)
    weight = vectors @ (rotated / (values + penalties[errors.argmin(axis=0)]))
    return mean + query @ (feature.T @ weight)


def _nearest(
    feature: Float[np.ndarray, "N D"], number: Matrix, query: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "M P"]:
    """Return the mean number of the nearest rows."""
    length = (feature**2).sum(axis=1)
    distance = length - 2.0 * query @ feature.T
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :NUM_NEIGHBORS]
    return number[nearest].mean(axis=1)
