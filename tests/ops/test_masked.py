"""Averages over valid rows, worked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.ops.masked import explained_variance, later_rows, mean, standardize

VALID = jnp.array([True, False, True, True])


def test_mean_leaves_invalid_rows_out():
    assert float(mean(jnp.array([1.0, 100.0, 2.0, 6.0]), VALID)) == 3.0
    assert float(mean(jnp.array([1.0, jnp.nan, 2.0, 6.0]), VALID)) == 3.0


def test_mean_of_any_axes_is_one_number():
    found = mean(jnp.array([[1.0, 2.0], [3.0, 9.0]]), jnp.array([[True, False], [True, True]]))
    assert found.shape == ()
    assert float(found) == pytest.approx(13 / 3)


def test_mean_of_nothing_is_zero():
    assert float(mean(jnp.array([5.0, 7.0]), jnp.zeros(2, bool))) == 0.0


def test_standardize_by_hand():
    """1, 2 and 6 have mean 3 and variance 14 / 3; an invalid row is moved and scaled alike."""
    found = standardize(jnp.array([1.0, 10.0, 2.0, 6.0]), VALID)
    expected = np.array([-2.0, 7.0, -1.0, 3.0]) / np.sqrt(14 / 3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_standardize_keeps_constants_finite():
    np.testing.assert_array_equal(standardize(jnp.full(4, 3.0), VALID), np.zeros(4))


@pytest.mark.parametrize("lag", [1, 2, 5])
def test_later_rows_by_a_loop(lag):
    """Of lanes with idle rows at the start, in the middle and at the end; of one that never ran."""
    valid = np.array(
        [[1, 1, 0, 0, 1], [1, 0, 1, 0, 1], [0, 1, 1, 0, 1], [1, 1, 0, 0, 1], [1, 0, 0, 0, 1]], bool
    )
    later, exists = (np.asarray(x) for x in later_rows(jnp.asarray(valid), lag))
    for lane in range(valid.shape[1]):
        happened = np.flatnonzero(valid[:, lane])
        pairs = dict(zip(happened[:-lag], happened[lag:], strict=True))
        assert set(np.flatnonzero(exists[:, lane])) == set(pairs)
        assert all(later[row, lane] == other for row, other in pairs.items())
    assert later.min() >= 0
    assert later.max() < len(valid)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1.0, 9.0, 2.0, 6.0], 1.0),  # exact on the valid rows
        ([4.0, 9.0, 5.0, 9.0], 1.0),  # but for a constant
        ([0.0, 9.0, 0.0, 0.0], 0.0),  # no better than a constant
        ([-1.0, 9.0, -2.0, -6.0], -3.0),  # errors 2, 4, 12: four times the variance
        ([1.0, 9.0, 2.0, 3.0], 4 / 7),  # errors 0, 0, 3: variance 2 of 14 / 3
    ],
)
def test_explained_variance_by_hand(value, expected):
    target = jnp.array([1.0, -50.0, 2.0, 6.0])
    found = float(explained_variance(target, jnp.array(value), VALID))
    assert found == pytest.approx(expected, abs=1e-6)
