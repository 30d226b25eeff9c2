import itertools

import numpy as np
import pytest

from trmrl.references import tabular
from trmrl.references.tabular import Belief, plan, plan_optimistically


def small_mdp(seed=0):
    draw = np.random.default_rng(seed)
    reward = draw.normal(size=(1, 2, 2)).astype(np.float32)
    return reward, draw.dirichlet(np.ones(2), (1, 2, 2)).astype(np.float32)


def best_of_all_policies(reward, row, horizon):
    """The best value from state 0, by trying every policy that may depend on the step."""
    best = -np.inf
    for choice in itertools.product(range(2), repeat=2 * horizon):
        share, value = np.array([1.0, 0.0]), 0.0
        for step in range(horizon):
            action = choice[2 * step : 2 * step + 2]
            value += sum(share[s] * reward[0, s, action[s]] for s in (0, 1))
            share = sum(share[s] * row[0, s, action[s]] for s in (0, 1))
        best = max(best, value)
    return best


@pytest.mark.parametrize("seed", range(3))
def test_planning_is_the_best_of_all_policies(seed):
    reward, row = small_mdp(seed)
    values = plan(reward, row, horizon=4)
    assert values.shape == (4, 1, 2, 2)
    expected = best_of_all_policies(reward, row, 4)
    assert values[0, 0, 0].max() == pytest.approx(expected, rel=1e-5)


def test_a_bonus_counts_the_steps_that_remain():
    reward, row = np.zeros((1, 2, 2), np.float32), np.full((1, 2, 2, 2), 0.5, np.float32)
    values = plan(reward, row, horizon=3, bonus=np.ones((1, 2, 2), np.float32))
    np.testing.assert_allclose(values[:, 0, 0, 0], [3, 1, 0])  # 2 + 1 + 0, 1 + 0, 0


def test_optimistic_planning_by_hand():
    """State 1 pays 1, state 0 nothing; rows are even, with a ball of 0.6, or of 2."""
    reward = np.array([[[0.0], [1.0]]], np.float32)
    row = np.full((1, 2, 1, 2), 0.5, np.float32)
    ball = np.full((1, 2, 1), 0.6, np.float32)
    values = plan_optimistically(reward, row, ball, horizon=2)
    np.testing.assert_allclose(values[1, 0, :, 0], [0, 1])
    np.testing.assert_allclose(values[0, 0, :, 0], [0.8, 1.8], rtol=1e-6)
    whole = plan_optimistically(reward, row, np.full_like(ball, 2.0), horizon=2)
    np.testing.assert_allclose(whole[0, 0, :, 0], [1, 2], rtol=1e-6)
    none = plan_optimistically(reward, row, np.zeros_like(ball), horizon=2)
    np.testing.assert_allclose(none, plan(reward, row, horizon=2), rtol=1e-6)


def test_posteriors_by_hand():
    belief = Belief(*(np.zeros((1, 2, 1), np.float32) for _ in "ab"), np.zeros((1, 2, 1, 2)))
    belief.visits[0, 0, 0], belief.reward_sum[0, 0, 0] = 3, 6
    belief.transitions[0, 0, 0] = [1, 2]
    np.testing.assert_allclose(belief.mean_reward()[0, :, 0], [6 / 4, 0])
    np.testing.assert_allclose(belief.mean_reward(prior=1.0)[0, :, 0], [7 / 4, 1])
    np.testing.assert_allclose(belief.mean_transition()[0, :, 0], [[2 / 5, 3 / 5], [1 / 2, 1 / 2]])


def test_greedy_finds_the_one_action_that_pays():
    """One state that all actions keep; action 0 pays -3, the rest -3 but the last +3."""
    reward = np.full((300, 10, 5), -3.0, np.float32)
    reward[..., 4] = 3.0
    row = np.zeros((300, 10, 5, 10), np.float32)
    row[..., 0] = 1.0
    returns = tabular.play(reward, row, 12, tabular.greedy, seed=0)
    assert returns[:, -1].mean() == pytest.approx(30.0, abs=1.0)
    assert tabular.play(reward, row, 2, tabular.random, seed=0).mean() == pytest.approx(-18, abs=1)


def test_the_known_optimum_of_random_mdps():
    """21.83 per episode, as computed elsewhere on 20,000 MDPs."""
    draw = np.random.default_rng(0)
    reward = draw.normal(1.0, 1.0, (2000, 10, 5)).astype(np.float32)
    share = draw.exponential(size=(2000, 10, 5, 10)).astype(np.float32)
    values = plan(reward, share / share.sum(axis=-1, keepdims=True))
    assert values[0, :, 0].max(axis=1).mean() == pytest.approx(21.83, abs=0.25)
