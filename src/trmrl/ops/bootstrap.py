"""How sure a mean of scores is: percentile bootstraps, and the interquartile mean.

Lives here: statistics of arrays of scores, by SciPy. Does not live here: which scores belong
together (`report/`), or how they are made (`evaluate.py`).
"""

import numpy as np
from jaxtyping import Float
from scipy import stats

NUM_RESAMPLES = 2000
QUARTER = 0.25


def bootstrap_interval(
    samples: Float[np.ndarray, "N K"],
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Return the 95 % percentile bootstrap interval of the mean over the first axis."""
    if len(samples) < 2:
        return samples[0], samples[0]
    interval = stats.bootstrap(
        (samples,), np.mean, method="percentile", n_resamples=NUM_RESAMPLES, batch=100, rng=0
    ).confidence_interval
    return interval.low, interval.high


def interquartile_mean(scores: Float[np.ndarray, "S N"]) -> float:
    """Return the mean of the middle half of all scores (Agarwal et al., 2021).

    A quarter of the scores, rounded down, is left out at either end.
    """
    return float(stats.trim_mean(scores.ravel(), QUARTER))


def interquartile_interval(scores: Float[np.ndarray, "S N"]) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of the interquartile mean of S seeds, N tasks.

    Stratified by task: every resample holds S scores of each task. Seeds are drawn whole, because
    a seed is one training whose scores on all tasks rise and fall together; drawn task by task,
    as if each task had trainings of its own, they would give far too narrow an interval.
    None where there is one seed, which tells nothing of the others.
    """
    if len(scores) < 2:
        return None
    interval = stats.bootstrap(
        (np.arange(len(scores)),),
        lambda seeds: interquartile_mean(scores[seeds]),
        method="percentile",
        vectorized=False,
        n_resamples=NUM_RESAMPLES,
        rng=0,
    ).confidence_interval
    return float(interval.low), float(interval.high)
