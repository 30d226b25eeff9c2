"""Probes that must find what is there, and what actions cost."""

import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.analyze import belief
from trmrl.analyze._probe import decode
from trmrl.analyze.belief import PRIOR, STEP, compare, readable
from trmrl.analyze.exact import Posterior
from trmrl.types import TrmrlError

NOISE = np.random.default_rng(0)


def squares(exact, given):
    return jnp.sum((exact - given) ** 2, axis=1)


def test_a_linear_map_is_found():
    x = NOISE.normal(size=(300, 3)) * [1.0, 5.0, 0.1] + 2.0
    y = x @ NOISE.normal(size=(3, 2)) + 1.0
    found = decode(x[:200], y[:200], x[200:], squares, np.zeros(2))
    np.testing.assert_allclose(found, y[200:], atol=0.02 * y.std())
    constant = decode(np.ones((5, 2)), y[:5], np.ones((1, 2)), squares, np.zeros(2))
    np.testing.assert_allclose(constant, y[:5].mean(axis=0)[None], rtol=1e-3)


def test_what_is_in_a_memory_is_read_and_what_is_not_is_not():
    """The divergence is a squared difference here: a memory of the number, noise, the step."""
    numbers = NOISE.normal(size=(3, 80, 1)) + np.array([0.0, 5.0, -5.0])[:, None, None]
    exact = Posterior(numbers, np.zeros(1), squares)
    kept = {"memory": 3.0 * numbers - 1.0, "noise": NOISE.normal(size=(3, 80, 4))}
    found = readable(exact, kept)
    judged = numbers[:, 40:, 0]
    np.testing.assert_allclose(found[PRIOR], judged**2, rtol=1e-5)
    mean = numbers[:, :40].mean(axis=1)
    np.testing.assert_allclose(found[STEP], (judged - mean) ** 2, atol=0.2)
    assert found["memory"].shape == (3, 40) and found["memory"].max() < 1e-3
    assert found["noise"].mean() > 10.0


def test_actions_are_compared_with_the_best_ones():
    values = np.array([[[1.0, 1.0, 0.5], [0.0, 2.0, 1.0]]])
    agrees, lost, chance = compare(values, np.array([[1, 2]]))
    np.testing.assert_array_equal(agrees, [[True, False]])
    np.testing.assert_allclose(lost, [[0.0, 1.0]])
    np.testing.assert_allclose(chance, [[2 / 3, 1 / 3]])


@pytest.mark.parametrize("core", ["trial-whole", "gru"])
def test_an_untrained_agent_is_measured_in_a_bandit(subject_of, core):
    from trmrl.envs import make

    found = belief.belief(subject_of(core, make("bandit-n4-k2"), num_tasks=40))
    numbers = found.numbers
    assert 0.0 < numbers["agreement"]["mean"] < 1.0 and numbers["agreement_by_step"][0] == 1.0
    earned, best, lost = numbers["earned"]["mean"], numbers["best_total"], numbers["lost"]["mean"]
    assert earned == pytest.approx(best - lost, abs=0.6) and lost > 0.0
    total = numbers["kl"]["mean"]
    assert set(total) >= {PRIOR, STEP, "the last token", "embedding", "layer 1"}
    assert [figure.name for figure in found.figures] == ["agreement", "belief"]


def test_worlds_without_a_posterior_are_one_line(subject_of, worlds):
    with pytest.raises(TrmrlError, match="no exact posterior is known for drift, only for bandit"):
        belief.belief(subject_of("gru", worlds()))
