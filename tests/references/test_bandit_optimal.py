"""Bayes-optimal bandits, against values worked by hand."""

import numpy as np
import pytest

from trmrl.references.bandit_optimal import optimal_values
from trmrl.types import TrmrlError


def test_two_pulls_of_two_arms_by_hand():
    """Win, and the same arm pays 2/3 again; lose, and the other is still worth 1/2."""
    total, values = optimal_values(2, 2)
    assert total == pytest.approx(0.5 + 0.5 * 2 / 3 + 0.5 * 1 / 2)
    none = np.zeros((1, 2), np.int64)
    np.testing.assert_allclose(values(none, none), [[total, total]])
    won, lost = np.array([[1, 0], [0, 0]]), np.array([[0, 0], [0, 1]])
    np.testing.assert_allclose(values(won, lost), [[2 / 3, 1 / 2], [1 / 2, 1 / 3]])


def test_three_pulls_may_leave_an_arm_that_paid():
    """After one success and one failure of arm 0: 1/2 now and no news, or arm 1 and its news."""
    _, values = optimal_values(4, 2)
    (found,) = values(np.array([[1, 0]]), np.array([[1, 0]]))
    keep = 0.5 + 0.5 * max(3 / 5, 1 / 2) + 0.5 * max(2 / 5, 1 / 2)
    switch = 0.5 + 0.5 * max(1 / 2, 2 / 3) + 0.5 * max(1 / 2, 1 / 3)
    np.testing.assert_allclose(found, [keep, switch])
    assert switch > keep


def test_too_many_beliefs_are_refused():
    with pytest.raises(TrmrlError, match="100 pulls of 10 arms have .* too many"):
        optimal_values(100, 10)
