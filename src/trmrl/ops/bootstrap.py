"""How sure a mean of scores is: percentile bootstraps, and the interquartile mean.

All intervals of this library are made here. Which scores belong together is decided in `report/`.
"""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

NUM_RESAMPLES = 2000
BLOCK = 1 << 20  # counts held at once: 8 MiB
QUARTER = 0.25


def bootstrap_interval(
    samples: Float[np.ndarray, "N K"], groups: Int[np.ndarray, " N"] | None = None
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Return the 95 % percentile bootstrap interval of the mean over the first axis.

    A resample draws whole rows, so its means are `counts @ samples / N`, where `counts` `[N]` says
    how often it drew each row: SciPy's `bootstrap(..., rng=0)` up to rounding, which would copy
    the rows themselves. Rows of one number in `groups`, repeated measurements of one thing, are
    drawn together (a cluster bootstrap; Field and Welsh, 2007). The same samples always give the
    same interval; one row or group has none, and its mean stands for both ends.
    """
    size_of = np.ones(len(samples))
    if groups is not None:
        _, group_of, size_of = np.unique(groups, return_inverse=True, return_counts=True)
        sums = np.zeros((len(size_of), samples.shape[1]))
        np.add.at(sums, group_of, samples)
        samples = sums
    num_samples = len(samples)
    if num_samples < 2:
        return samples[0] / size_of[0], samples[0] / size_of[0]
    noise = np.random.default_rng(0)
    mean = np.empty((NUM_RESAMPLES, samples.shape[1]))
    block = max(1, BLOCK // num_samples)
    for start in range(0, NUM_RESAMPLES, block):
        size = min(block, NUM_RESAMPLES - start)
        counts = np.empty((size, num_samples))
        for row, drawn in zip(counts, noise.integers(0, num_samples, counts.shape), strict=True):
            row[:] = np.bincount(drawn, minlength=num_samples)
        mean[start : start + size] = counts @ samples / (counts @ size_of)[:, None]
    low, high = np.quantile(mean, [0.025, 0.975], axis=0)
    return low, high


def mean_interval(
    samples: Sequence[float] | np.ndarray, groups: Int[np.ndarray, " N"] | None = None
) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of the mean of samples `[N]`; None for a single one.

    `groups` as in `bootstrap_interval`.

    Of two or three samples it is the least and the greatest: a resample repeats one of them
    throughout with a chance of 1/4 or 1/27, above the 1/40 that the interval leaves out at either
    end.
    """
    if len(samples) < 2:
        return None
    low, high = bootstrap_interval(np.asarray(samples, np.float64)[:, None], groups)
    return float(low[0]), float(high[0])


def interquartile_mean(scores: Float[np.ndarray, "S N"]) -> float:
    """Return the mean of the middle half of all scores (Agarwal et al., 2021).

    A quarter of the scores, rounded down, is left out at either end.
    """
    flat = np.sort(scores, axis=None)
    cut = int(QUARTER * len(flat))
    return float(flat[cut : len(flat) - cut].mean())


def interquartile_interval(scores: Float[np.ndarray, "S N"]) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of the interquartile mean of S seeds, N tasks.

    Stratified by task: every resample holds S scores of each task. Seeds are drawn whole, because
    a seed is one training whose scores on all tasks rise and fall together; drawn task by task,
    as if each task had trainings of its own, they would give far too narrow an interval.
    None where there is one seed, which says nothing of the others.
    """
    num_seeds = len(scores)
    if num_seeds < 2:
        return None
    drawn = np.random.default_rng(0).integers(0, num_seeds, (NUM_RESAMPLES, num_seeds))
    # Few seeds can be drawn in few ways: each is counted once.
    ways, way_of = np.unique(np.sort(drawn, axis=1), axis=0, return_inverse=True)
    found = np.asarray([interquartile_mean(scores[seeds]) for seeds in ways])[way_of.ravel()]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def probability_of_improvement(
    ours: Float[np.ndarray, "S N"], theirs: Float[np.ndarray, "R N"]
) -> float:
    """Return the chance that one of our seeds scores higher than one of theirs on the same task.

    The mean over tasks of the share of pairs of seeds in which it does, ties counting half (Agarwal
    et al., 2021).
    """
    more = (ours[:, None] > theirs[None]).mean()
    return float(more + 0.5 * (ours[:, None] == theirs[None]).mean())


def improvement_interval(
    ours: Float[np.ndarray, "S N"], theirs: Float[np.ndarray, "R N"]
) -> tuple[float, float] | None:
    """Return its 95 % percentile bootstrap interval, drawing the seeds of both whole.

    None where either has one seed.
    """
    if min(len(ours), len(theirs)) < 2:
        return None
    # Of every pair of seeds the share of tasks on which ours is better, ties counting half.
    pairs = (ours[:, None] > theirs[None]).mean(axis=-1)
    pairs = pairs + 0.5 * (ours[:, None] == theirs[None]).mean(axis=-1)
    ours_drawn, theirs_drawn = _two_draws(len(ours), len(theirs))
    shares = np.einsum("ks,sr,kr->k", ours_drawn, pairs, theirs_drawn) / pairs.size
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


@functools.cache
def _two_draws(
    num_ours: int, num_theirs: int
) -> tuple[Float[np.ndarray, "K S"], Float[np.ndarray, "K R"]]:
    """Return how often each resample draws each of our seeds, and each of theirs."""
    noise = np.random.default_rng(0)
    ours, theirs = (np.empty((NUM_RESAMPLES, n)) for n in (num_ours, num_theirs))
    for k in range(NUM_RESAMPLES):
        for counts in (ours[k], theirs[k]):
            drawn = noise.integers(0, len(counts), len(counts))
            counts[:] = np.bincount(drawn, minlength=len(counts))
    return ours, theirs
