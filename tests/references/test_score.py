"""What a reference returns, as numbers and as JSON."""

import numpy as np
import pytest

from trmrl.references._base import Score


def test_the_interval_is_a_bootstrap_over_tasks():
    """Of two tasks a resample repeats either with a chance of 1/4."""
    score = Score("greedy", np.asarray([4.0, 1.0]), "epsilon 0", 2.0)
    assert (score.mean, score.interval) == (2.5, (1.0, 4.0))
    assert score.to_json() == {
        "strategy": "greedy", "tuned": "epsilon 0", "published": 2.0, "success": None,
        "mean": 2.5, "ci95_low": 1.0, "ci95_high": 4.0, "num_distinct": 2,
    }  # fmt: skip


def test_equal_tasks_are_drawn_together():
    score = Score("greedy", np.asarray([4.0, 1.0, 5.0, 3.0]), distinct=np.asarray([0, 1, 0, 0]))
    assert (score.mean, score.interval) == (3.25, (1.0, 4.0))
    assert score.to_json()["num_distinct"] == 2


def test_the_interval_of_many_tasks_is_as_wide_as_the_theory_says():
    total = np.random.default_rng(0).normal(5.0, 2.0, 4_000)
    low, high = Score("random", total).interval or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.96 * total.std() / np.sqrt(4_000), rel=0.1)


def test_an_exact_total_has_no_interval():
    score = Score("optimal", np.asarray([7.5]))
    assert score.interval is None
    record = score.to_json()
    assert record["num_distinct"] == 0
    assert (record["ci95_low"], record["mean"], record["ci95_high"]) == (7.5, 7.5, 7.5)
