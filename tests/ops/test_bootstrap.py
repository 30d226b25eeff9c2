"""Intervals against an independent bootstrap and by hand; the interquartile mean by hand."""

import itertools

import numpy as np
import pytest

from trmrl.ops.bootstrap import bootstrap_interval, interquartile_interval, interquartile_mean


def test_the_interval_shrinks_as_one_over_the_root_of_the_sample():
    samples = np.random.default_rng(0).normal(3.0, 2.0, (400, 2))
    low, high = bootstrap_interval(samples)
    theory = 2 * 1.96 * samples.std(axis=0) / np.sqrt(400)
    np.testing.assert_allclose(high - low, theory, rtol=0.1)


def test_equal_samples_have_an_interval_without_width():
    low, high = bootstrap_interval(np.full((5, 2), 3.0))
    np.testing.assert_array_equal(low, [3.0, 3.0])
    np.testing.assert_array_equal(high, [3.0, 3.0])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[0.0, 1.0, 2.0, 100.0]], 1.5),  # one of four goes at either end
        ([[9.0, 1.0], [2.0, -50.0], [3.0, 4.0], [5.0, 6.0]], 3.5),  # 2, 3, 4, 5 stay of eight
        ([[1.0, 5.0, 90.0]], 32.0),  # a quarter of three, rounded down, is none
    ],
)
def test_the_interquartile_mean_is_that_of_the_middle_half(scores, expected):
    assert interquartile_mean(np.asarray(scores)) == pytest.approx(expected)


def middle(scores):
    """The mean of the middle half, told with a sorted list."""
    flat = sorted(itertools.chain(*scores))
    cut = len(flat) // 4
    return sum(flat[cut : len(flat) - cut]) / (len(flat) - 2 * cut)


def test_the_interval_is_that_of_every_possible_draw_of_whole_seeds():
    """Four seeds may be drawn in 256 ways: all of them, counted, against the random resamples."""
    noise = np.random.default_rng(1)
    scores = noise.normal(0.0, 1.0, (4, 1)) + 0.3 * noise.normal(size=(4, 7))
    draws = itertools.product(range(4), repeat=4)
    every = sorted(middle(scores[list(draw)].tolist()) for draw in draws)
    low, high = interquartile_interval(scores) or (0.0, 0.0)
    tolerance = 0.06 * (every[-1] - every[0])
    assert abs(low - np.quantile(every, 0.025)) < tolerance
    assert abs(high - np.quantile(every, 0.975)) < tolerance


def test_of_two_seeds_the_interval_is_from_one_to_the_other():
    scores = np.asarray([[1.0, 2.0, 3.0, 4.0], [11.0, 12.0, 13.0, 14.0]])
    assert interquartile_interval(scores) == pytest.approx((2.5, 12.5))


def test_one_seed_tells_no_interval():
    assert interquartile_interval(np.ones((1, 9))) is None
