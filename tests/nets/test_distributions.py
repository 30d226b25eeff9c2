from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from trmrl.nets.distributions import Categorical, Gaussian, Squashed

NOISE = np.random.default_rng(0)
MEAN, LOG_STD = NOISE.normal(size=(2, 4, 3)).astype(np.float32)
OTHER_MEAN, OTHER_LOG_STD = NOISE.normal(size=(2, 4, 3)).astype(np.float32)
ACTION = NOISE.normal(size=(4, 3)).astype(np.float32)
LOGITS, OTHER_LOGITS = NOISE.normal(size=(2, 4, 5)).astype(np.float32)


def gaussian(mean=MEAN, log_std=LOG_STD):
    return Gaussian(jnp.asarray(mean), jnp.asarray(log_std))


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_gaussian_density_and_entropy():
    normal: Any = stats.norm(MEAN, np.exp(LOG_STD))
    found = gaussian().log_prob(jnp.asarray(ACTION))
    np.testing.assert_allclose(found, normal.logpdf(ACTION).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(gaussian().entropy(), normal.entropy().sum(-1), rtol=1e-5)


def test_gaussian_kl_by_quadrature():
    found = gaussian().kl(gaussian(OTHER_MEAN, OTHER_LOG_STD))
    for row in range(2):
        expected = 0.0
        for i in range(3):
            p: Any = stats.norm(MEAN[row, i], np.exp(LOG_STD[row, i]))
            q: Any = stats.norm(OTHER_MEAN[row, i], np.exp(OTHER_LOG_STD[row, i]))
            integrand = lambda x, p=p, q=q: p.pdf(x) * (p.logpdf(x) - q.logpdf(x))
            low, high = p.mean() - 12 * p.std(), p.mean() + 12 * p.std()
            expected += integrate.quad(integrand, low, high, points=[p.mean()])[0]
        assert float(found[row]) == pytest.approx(expected, rel=1e-4)
    assert np.abs(gaussian().kl(gaussian())).max() == 0


def test_gaussian_samples():
    many = Gaussian(jnp.tile(jnp.array([[1.0, -2.0]]), (20_000, 1)), jnp.full((20_000, 2), -0.7))
    x = np.asarray(many.sample(key=jax.random.key(0)))
    np.testing.assert_allclose(x.mean(0), [1.0, -2.0], atol=0.02)
    np.testing.assert_allclose(x.std(0), np.exp(-0.7), rtol=0.02)
    assert abs(np.corrcoef(x.T)[0, 1]) < 0.03
    assert stats.kstest((x[:, 0] - 1.0) / np.exp(-0.7), "norm").pvalue > 0.01
    np.testing.assert_array_equal(many.mode(), many.mean)


def test_categorical_mass_and_entropy():
    p = softmax(LOGITS)
    choice = np.array([0, 4, 2, 3], np.int32)
    policy = Categorical(jnp.asarray(LOGITS))
    expected = np.log(p[np.arange(4), choice])
    np.testing.assert_allclose(policy.log_prob(jnp.asarray(choice)), expected, rtol=1e-5)
    np.testing.assert_allclose(policy.entropy(), stats.entropy(p, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(policy.mode(), LOGITS.argmax(-1))
    assert policy.mode().dtype == jnp.int32


def test_categorical_kl():
    found = Categorical(jnp.asarray(LOGITS)).kl(Categorical(jnp.asarray(OTHER_LOGITS)))
    expected = stats.entropy(softmax(LOGITS), softmax(OTHER_LOGITS), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_categorical_samples():
    num = 20_000
    many = Categorical(jnp.tile(jnp.asarray(LOGITS[:1]), (num, 1)))
    x = many.sample(key=jax.random.key(1))
    assert x.dtype == jnp.int32
    counts = np.bincount(np.asarray(x), minlength=5)
    assert stats.chisquare(counts, num * softmax(LOGITS)[0].astype(np.float64) /
                           softmax(LOGITS)[0].astype(np.float64).sum()).pvalue > 0.01  # fmt: skip


def test_axes_are_free():
    policy = Gaussian(jnp.zeros((2, 3, 4)), jnp.zeros((2, 3, 4)))
    assert policy.log_prob(jnp.zeros((2, 3, 4))).shape == (2, 3)
    assert Categorical(jnp.zeros((2, 3, 4))).log_prob(jnp.zeros((2, 3), jnp.int32)).shape == (2, 3)


def test_squashed_density_is_the_change_of_variables():
    """`p(tanh u) = N(u) / (1 - tanh(u)^2)`, in float64 by another library."""
    mean, log_std = np.array([[0.3, -0.8]] * 50), np.array([[-0.2, 0.4]] * 50)
    policy = Squashed(Gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(log_std, jnp.float32)))
    action, log_prob = (np.asarray(x, np.float64) for x in policy.sample(key=jax.random.key(0)))
    u = np.arctanh(np.clip(action, -0.999, 0.999))
    expected = stats.norm.logpdf(u, mean, np.exp(log_std)) - np.log(1 - np.tanh(u) ** 2)
    inside = (np.abs(action) < 0.99).all(axis=1)
    assert inside.sum() > 20
    np.testing.assert_allclose(log_prob[inside], expected.sum(axis=1)[inside], rtol=1e-3, atol=1e-3)


def test_squashed_density_is_finite_where_the_tangent_rounds_to_one():
    policy = Squashed(Gaussian(jnp.full((1, 2), 40.0), jnp.zeros((1, 2))))
    action, log_prob = policy.mode()
    np.testing.assert_array_equal(action, 1.0)
    # log(1 - tanh(u)^2) = log 4 - 2 u there, up to exp(-2 u).
    expected = 2 * (stats.norm.logpdf(0.0) - (np.log(4.0) - 80.0))
    assert float(log_prob[0]) == pytest.approx(expected, rel=1e-5)
