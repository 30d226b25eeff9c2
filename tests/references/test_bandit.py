import numpy as np
import pytest

from trmrl.references import bandit
from trmrl.references.bandit import Tally

DRAW = np.random.default_rng(0)


def tally(success, failure):
    return Tally(np.array([success], np.float32), np.array([failure], np.float32))


def test_ucb1_by_hand():
    # Means 3/4 and 1/2; bonuses c sqrt(2 ln 6 / 4) = 0.946 c and c sqrt(2 ln 6 / 2) = 1.339 c.
    pulled = tally([3, 1], [1, 1])
    assert bandit.ucb1(0.6)(pulled, 2, DRAW) == 0  # 1.318 over 1.303
    assert bandit.ucb1(0.7)(pulled, 2, DRAW) == 1  # 1.412 under 1.437


def test_greedy_leaves_a_failure_and_stays_with_a_success():
    greedy = bandit.epsilon_greedy(0.0)
    assert greedy(tally([1, 1, 1], [2, 1, 1]), 1, DRAW) == 1
    assert greedy(tally([1, 2, 1], [2, 1, 1]), 2, DRAW) == 1


def test_posterior_draws_are_beta():
    pulled = Tally(np.full((20_000, 1), 3, np.float32), np.full((20_000, 1), 5, np.float32))
    mean = bandit._posterior_draw(pulled, np.random.default_rng(1))
    assert mean.mean() == pytest.approx(3 / 8, abs=0.004)
    assert mean.var() == pytest.approx(15 / (64 * 9), rel=0.05)


def test_thompson_matches_probability():
    # P(Beta(2, 1) > Beta(1, 1)) = E[draw of Beta(2, 1)] = 2/3.
    num = 20_000
    pulled = Tally(np.tile(np.float32([2, 1]), (num, 1)), np.ones((num, 2), np.float32))
    arms = bandit.thompson(pulled, 1, np.random.default_rng(2))
    assert (arms == 0).mean() == pytest.approx(2 / 3, abs=0.015)
    # Of 20 draws the most probable has the pulled arm's mean near its mode, 1: nearly always best.
    few = Tally(pulled.success[:2000], pulled.failure[:2000])
    arms = bandit.optimistic_thompson(few, 1, np.random.default_rng(2))
    assert (arms == 0).mean() > 0.9


def test_a_greedy_strategy_on_sure_arms():
    """Arm 0 never pays, arm 1 always: one failure, then nine successes."""
    mean = np.tile(np.float32([0.0, 1.0]), (600, 1))  # more than one block
    total = bandit.play(mean, 10, bandit.epsilon_greedy(0.0), seed=0)
    np.testing.assert_array_equal(total, np.full(600, 9.0))


def test_two_arms_and_two_pulls_are_worth_what_enumeration_says():
    """Stay after a success (2/3), else switch (1/2): 1/2 + 1/2 (2/3 + 1/2) = 13/12."""
    mean = np.random.default_rng(3).random((40_000, 2), np.float32)
    for strategy in (bandit.epsilon_greedy(0.0), bandit.gittins(2, 0.9)):
        total = bandit.play(mean, 2, strategy, seed=0)
        assert total.mean() == pytest.approx(13 / 12, abs=0.012)
    assert bandit.play(mean, 2, bandit.random, seed=0).mean() == pytest.approx(1.0, abs=0.012)
