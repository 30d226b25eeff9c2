"""Probes by hand and by brute force: what is linear, what is memorized, and what is not there."""

import numpy as np
import pytest

from trmrl.ops import probe
from trmrl.ops.probe import accuracy, predictions, r_squared

NOISE = np.random.default_rng(5)


def test_ridge_is_that_of_the_least_leave_one_out_error():
    """Every penalty by brute force: one row left out at a time, the normal equations solved."""
    feature, query = NOISE.normal(size=(12, 3)), NOISE.normal(size=(4, 3))
    number = feature[:, :1] - feature[:, 1:2] + 0.3 * NOISE.normal(size=(12, 1))
    feature = feature - feature.mean(axis=0)

    def fitted(x, y, penalty):  # y about the mean of all rows, as the hat matrix has it
        return np.linalg.solve(x.T @ x + penalty * np.eye(3), x.T @ y)

    errors, target = [], number - number.mean()
    for penalty in 3 * probe.PENALTIES:
        rows = [np.delete(np.arange(12), i) for i in range(12)]
        left = [
            target[i] - feature[i] @ fitted(feature[r], target[r], penalty)
            for i, r in enumerate(rows)
        ]
        errors.append(np.mean(np.square(left)))
    best = 3 * probe.PENALTIES[int(np.argmin(errors))]
    assert 3 * probe.PENALTIES[0] < best < 3 * probe.PENALTIES[-1], best
    by_hand = number.mean() + query @ fitted(feature, target, best)
    both = np.concatenate([number, NOISE.normal(size=number.shape)], axis=1)  # each its own penalty
    np.testing.assert_allclose(probe._ridge(feature, both, query)[:, :1], by_hand, rtol=1e-8)


def test_the_share_of_variance_is_that_of_the_signal():
    """y = x + e, Var x = 1 and Var e = 1/4: R² is 0.8. Of noise it is none, of a constant none."""
    x = NOISE.normal(size=(800, 1))
    number = np.concatenate(
        [x + 0.5 * NOISE.normal(size=x.shape), NOISE.normal(size=x.shape), np.ones_like(x)], axis=1
    )
    share, low, high = r_squared(predictions(x, number), number)
    np.testing.assert_allclose(share, [0.8, 0.0, 0.0], atol=0.04)
    assert low[0] < share[0] < high[0] < 0.85 and low[0] > 0.75
    assert share[2] == low[2] == high[2] == 0.0


def test_what_has_no_features_that_vary_is_not_known():
    number = NOISE.normal(size=(50, 1))
    share, _, high = r_squared(predictions(np.ones((50, 2)), number), number)
    assert share[0] < 0.0 and high[0] < 0.1


def test_what_is_memorized_is_found_too():
    """Twenty places, each with a number that has nothing to do with where it is."""
    place, secret = NOISE.uniform(size=(20, 2)), NOISE.normal(size=(20, 1))
    which = np.arange(400) % 20
    feature = place[which] + 1e-4 * NOISE.normal(size=(400, 2))
    found = predictions(feature, secret[which])
    _, low, _ = r_squared(found, secret[which])
    assert low[0] > 0.99
    _, _, high = r_squared(found[[0, 0]], secret[which])  # by the linear one alone
    assert high[0] < 0.5


@pytest.mark.parametrize(("width", "expected"), [(0.0, 1.0), (1e3, 0.5)])
def test_accuracy_is_that_of_kinds(width, expected):
    kind = np.repeat([3, 7, 9], [200, 100, 100])
    center = np.asarray([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])[np.searchsorted([3, 7, 9], kind)]
    indicator = (kind[:, None] == [3, 7, 9]).astype(float)
    feature = center + width * NOISE.normal(size=center.shape)
    found, low, high, chance = accuracy(predictions(feature, indicator), indicator)
    assert chance == 0.5 and low <= found <= high
    assert abs(found - expected) < 0.07
