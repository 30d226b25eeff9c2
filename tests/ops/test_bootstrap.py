"""Intervals against an independent bootstrap and by hand; the interquartile mean by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from trmrl.ops.bootstrap import (
    bootstrap_interval,
    improvement_interval,
    interquartile_interval,
    interquartile_mean,
    mean_interval,
    probability_of_improvement,
)


def test_the_interval_shrinks_as_one_over_the_root_of_the_sample():
    samples = np.random.default_rng(0).normal(3.0, 2.0, (400, 2))
    low, high = bootstrap_interval(samples)
    theory = 2 * 1.96 * samples.std(axis=0) / np.sqrt(400)
    np.testing.assert_allclose(high - low, theory, rtol=0.1)


def test_it_is_the_percentile_bootstrap_of_another_library():
    """Skewed samples, so that an interval that is merely symmetric would show."""
    samples = np.random.default_rng(3).exponential(size=(40, 3))
    low, high = bootstrap_interval(samples)
    other = stats.bootstrap(
        (samples,), np.mean, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    width = other.high - other.low
    np.testing.assert_array_less(abs(low - other.low), 0.06 * width)  # 2,000 against 20,000
    np.testing.assert_array_less(abs(high - other.high), 0.06 * width)


def test_of_a_few_samples_it_is_that_of_every_possible_draw():
    """Of 1 and 5 alone a quarter of the means is 1 and a quarter 5.

    Of 0, 0, 0 and 8 they are 0, 2, 4, 6 and 8 with chances of 81, 108, 54, 12 and 1 in 256: 5 % are
    above 4, and 0.4 % above 6.
    """
    low, high = bootstrap_interval(np.asarray([[1.0, 10.0], [5.0, 50.0]]))
    assert (low.tolist(), high.tolist()) == ([1.0, 10.0], [5.0, 50.0])
    low, high = bootstrap_interval(np.asarray([[0.0], [8.0], [0.0], [0.0]]))
    assert low.item() == 0.0 and high.item() == 6.0


def test_many_samples_are_drawn_in_blocks_as_wide_as_the_theory_says():
    samples = np.random.default_rng(0).normal(3.0, 2.0, (10_000, 5))
    low, high = bootstrap_interval(samples)
    theory = 2 * 1.96 * samples.std(axis=0) / 100
    np.testing.assert_allclose(high - low, theory, rtol=0.1)
    np.testing.assert_allclose((low + high) / 2, samples.mean(axis=0), atol=0.05 * theory.max())


def test_columns_share_their_resamples_and_the_same_samples_their_interval():
    samples = np.random.default_rng(0).normal(size=(12, 1))
    low, high = bootstrap_interval(np.concatenate([samples, 10 * samples], axis=1))
    np.testing.assert_allclose([10 * low[0], 10 * high[0]], [low[1], high[1]])
    assert mean_interval(samples[:, 0]) == pytest.approx((low[0], high[0]))


def test_rows_of_one_group_are_drawn_together():
    """Thing 7 measured three times (mean 2), thing 3 once (10): both, or one of them twice."""
    samples, groups = np.asarray([[1.0], [2.0], [10.0], [3.0]]), np.asarray([7, 7, 3, 7])
    low, high = bootstrap_interval(samples, groups)
    assert (low.item(), high.item()) == (2.0, 10.0)
    alone = bootstrap_interval(samples, np.asarray([5, 5, 5, 5]))
    assert [end.item() for end in alone] == [4.0, 4.0]


def test_groups_of_one_row_each_change_nothing():
    samples = np.random.default_rng(2).normal(size=(9, 2))
    for end, other in zip(
        bootstrap_interval(samples), bootstrap_interval(samples, np.arange(9)), strict=True
    ):
        np.testing.assert_array_equal(end, other)


def test_measuring_the_same_things_again_makes_an_interval_no_narrower():
    """Twenty goals, each five times: as wide as the goals' own means say, not as 100 goals."""
    goals = np.random.default_rng(4).normal(size=20)
    scores, groups = np.tile(goals, 5), np.tile(np.arange(20), 5)
    grouped, once = mean_interval(scores, groups), mean_interval(goals)
    naive = mean_interval(scores)
    assert grouped is not None and once is not None and naive is not None
    np.testing.assert_allclose(grouped, once)
    assert (naive[1] - naive[0]) < 0.6 * (grouped[1] - grouped[0])


def test_of_two_or_three_the_interval_of_the_mean_is_from_least_to_greatest():
    assert mean_interval([4.0, 1.0]) == (1.0, 4.0)
    assert mean_interval([4.0, 1.0, 2.0]) == (1.0, 4.0)
    low, high = mean_interval([4.0, 1.0, 2.0, 3.0]) or (0.0, 0.0)
    assert 1.0 < low < 2.5 < high < 4.0
    assert mean_interval([4.0]) is None


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
    """The mean of the middle half, by a sorted list."""
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


@pytest.mark.parametrize("num_seeds", [3, 9])
def test_the_interval_is_scipy_s(num_seeds):
    scores = np.random.default_rng(num_seeds).normal(size=(num_seeds, 5)) * 10.0
    expected = stats.bootstrap(
        (np.arange(num_seeds),),
        lambda seeds: stats.trim_mean(scores[seeds].ravel(), 0.25),
        method="percentile",
        vectorized=False,
        n_resamples=2000,
        rng=0,
    ).confidence_interval
    assert interquartile_interval(scores) == pytest.approx((expected.low, expected.high))


def test_of_two_seeds_the_interval_is_from_one_to_the_other():
    scores = np.asarray([[1.0, 2.0, 3.0, 4.0], [11.0, 12.0, 13.0, 14.0]])
    assert interquartile_interval(scores) == pytest.approx((2.5, 12.5))


def test_one_seed_has_no_interval():
    assert interquartile_interval(np.ones((1, 9))) is None


def test_the_probability_of_improvement_counts_pairs_of_seeds_task_by_task():
    """Task 1: 3 and 1 against 2 and 1 win two pairs, tie one; task 2: 5 and 5 win all of four."""
    ours, theirs = np.asarray([[3.0, 5.0], [1.0, 5.0]]), np.asarray([[2.0, 4.0], [1.0, 0.0]])
    expected = ((2 + 0.5) / 4 + 1.0) / 2
    assert probability_of_improvement(ours, theirs) == pytest.approx(expected)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - expected)


def test_its_interval_draws_whole_seeds_of_both():
    """One good seed of two: a quarter of the draws has it twice, a quarter not at all."""
    ours, theirs = np.asarray([[9.0] * 4, [-9.0] * 4]), np.zeros((2, 4))
    assert improvement_interval(ours, theirs) == (0.0, 1.0)
    assert improvement_interval(ours[:1], theirs) is None
    assert improvement_interval(np.ones((3, 4)), theirs) == (1.0, 1.0)


def test_its_interval_is_that_of_resampled_scores():
    noise = np.random.default_rng(5)
    ours, theirs = noise.normal(0.4, 1.0, (3, 6)).round(1), noise.normal(size=(4, 6)).round(1)
    draws = np.random.default_rng(0)
    found = [
        probability_of_improvement(
            ours[draws.integers(0, 3, 3)],
            theirs[draws.integers(0, 4, 4)],
        )
        for _ in range(2000)
    ]
    expected = np.quantile(found, [0.025, 0.975])
    assert improvement_interval(ours, theirs) == pytest.approx(tuple(expected))
