"""Exact posteriors and best actions, against hand-worked and integrated numbers."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from trmrl.analyze import exact
from trmrl.analyze.exact import arms, goals, mdps
from trmrl.envs import make
from trmrl.types import Decision, Outcome, Timestep, Trajectory


def rows(action, reward, obs=None, next_obs=None, num_actions=2):
    """A trial of episodes of one step, `[T, 1, B]`."""
    action, reward = np.asarray(action, np.int32)[:, None], np.asarray(reward, np.float32)[:, None]
    seen = lambda x: np.zeros((*action.shape, 1)) if x is None else np.asarray(x)[:, None]
    obs, next_obs = (seen(x).astype(np.float32) for x in (obs, next_obs))
    prev, never = np.zeros((*action.shape, num_actions), np.float32), np.zeros(action.shape, bool)
    return Trajectory(
        Timestep(obs, prev, reward, ~never, never),
        Decision(action, reward, reward),
        Outcome(reward, ~never, never, next_obs),
        ~never,
    )


def kl(posterior, exact, given):
    return np.asarray(posterior.kl(*(jnp.asarray(x, jnp.float32) for x in (exact, given))))


def divergence(p, q, low, high):
    return quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), low, high)[0]


def test_arms_are_counted_before_each_pull():
    posterior = arms(rows([[0], [0], [1]], [[1.0], [0.0], [1.0]]), np.arange(3))
    expected = np.log([[[1, 1, 1, 1]], [[2, 1, 1, 1]], [[2, 1, 2, 1]]])  # of 1 + counts
    np.testing.assert_allclose(posterior.numbers, expected)
    given = np.log([[3.0, 1.5, 1.0, 2.0]])
    found = kl(posterior, posterior.numbers[2], given)
    parts = [(stats.beta(2, 2), stats.beta(3, 1)), (stats.beta(1, 1), stats.beta(1.5, 2.0))]
    assert found[0] == pytest.approx(sum(divergence(p, q, 0, 1) for p, q in parts), rel=1e-4)
    np.testing.assert_allclose(kl(posterior, given, given), 0.0, atol=1e-6)


def test_goals_are_those_not_entered_until_one_pays():
    """From (0, 0) to (0, 1), which is none, to (0, 2), and to (1, 2), which pays."""
    path = [[[0, 1]], [[0, 2]], [[1, 2]], [[1, 1]]]
    posterior = goals(rows([[0]] * 4, [[-0.1], [-0.1], [1.0], [-0.1]], next_obs=path), np.arange(4))
    number = {tuple(cell): i for i, cell in enumerate(exact.NAVI_GOALS)}
    left = posterior.numbers[:, 0]
    np.testing.assert_allclose(left[0], 1 / 21)
    np.testing.assert_allclose(left[1], 1 / 21)
    assert left[2, number[0, 2]] == 0.0 and left[2].max() == pytest.approx(1 / 20)
    assert left[3, number[1, 2]] == 1.0 and left[3].sum() == 1.0
    log_q = np.log(np.full((1, 21), 1 / 21))
    assert kl(posterior, left[2:3], log_q)[0] == pytest.approx(np.log(21 / 20), rel=1e-4)
    assert kl(posterior, left[3:], log_q)[0] == pytest.approx(np.log(21))


def test_a_table_s_divergence_is_that_of_normals_and_dirichlets():
    """One visit of (0, 1) paid 3 and moved to 2, from the prior; against SciPy's own densities."""
    obs, after = np.eye(10)[[[0], [2]]], np.eye(10)[[[2], [0]]]
    seen = mdps(rows([[1], [0]], [[3.0], [0.0]], obs, after, 5), np.arange(2))
    pair = 1
    assert seen.numbers[1, 0, pair] == pytest.approx(2.0)  # (1 + 3) / 2
    found = kl(seen, seen.numbers[1], seen.prior[None])[0]
    normal = divergence(stats.norm(2.0, 0.5**0.5), stats.norm(1.0, 1.0), -8, 10)
    alpha = np.ones(10)
    alpha[2] = 2.0
    draws = np.random.default_rng(0).dirichlet(alpha, 200_000)
    ratio = stats.dirichlet(alpha).logpdf(draws.T) - stats.dirichlet(np.ones(10)).logpdf(draws.T)
    assert found == pytest.approx(normal + ratio.mean(), abs=0.01)
    np.testing.assert_allclose(kl(seen, seen.numbers[0], seen.prior[None]), 0.0, atol=1e-5)


def test_the_best_arm_has_the_values_of_the_dynamic_program():
    spec = make("bandit-n2-k2").spec
    choice = exact.best_arm(spec, rows([[0, 1], [0, 0]], [[1.0, 0.0], [0.0, 0.0]]))
    total = 0.5 + 0.5 * 2 / 3 + 0.5 * 1 / 2
    assert choice.best_total == pytest.approx(total)
    np.testing.assert_allclose(choice.values[0], total)
    np.testing.assert_allclose(choice.values[1], [[2 / 3, 1 / 2], [1 / 2, 1 / 3]])


def test_a_known_goal_is_walked_to_and_stayed_on():
    """With two steps left, one move from the goal: 2 for entering it, else at best 0.9."""
    arrive = exact._known_goal_values(3)
    goal = int(np.flatnonzero((exact.NAVI_GOALS == (0, 2)).all(axis=1))[0])
    cell = lambda x, y: 5 * x + y
    assert arrive[2][goal, cell(0, 2)] == pytest.approx(2.0)
    assert arrive[2][goal, cell(0, 1)] == pytest.approx(0.9)
    assert arrive[2][goal, cell(4, 4)] == pytest.approx(-0.2)


def test_best_moves_of_a_small_horizon(monkeypatch):
    """The program's own worths are read by cell and belief, and divided by the goals left."""

    def program(size, horizon, num_episodes, visit):
        for t in (1, 0):
            worth = np.zeros((25, 1 << 21), np.float32)
            worth[1] = 21.0 * (t + 1)  # of cell (0, 1)
            visit(t, worth)
        return 7.0

    monkeypatch.setattr(exact, "bayes_optimal_grid", program)
    spec = dataclasses.replace(make("grid-navi").spec, horizon=2, num_episodes=1)
    given = rows([[0], [0]], [[-0.1], [-0.1]], [[[0, 0]], [[0, 1]]], [[[0, 1]], [[0, 2]]])
    choice = exact.best_move(spec, given)
    assert choice.best_total == 7.0
    np.testing.assert_allclose(choice.values[0, 0], [1.0, 0, 0, 0, 0])  # up enters (0, 1)
    np.testing.assert_allclose(choice.values[1, 0], [0, 0, 0, 2.0, 2.0])  # left and stay do
