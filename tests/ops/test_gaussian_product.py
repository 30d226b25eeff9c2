"""Products of Gaussians against densities multiplied on a grid, and sums in any order."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from trmrl.ops.gaussian_product import factor, kl_to_prior, product

X = np.linspace(-12.0, 12.0, 200_001)


def sums(means, variances):
    """The two running sums of factors `[N, L]`, by the definition of a factor."""
    width = np.log(np.expm1(variances))  # softplus of it is the variance
    raw = jnp.asarray(np.concatenate([means, width], axis=-1), jnp.float32)
    return (x.sum(axis=0) for x in factor(raw))


@pytest.fixture
def factors():
    noise = np.random.default_rng(0)
    return noise.normal(size=(6, 2)), noise.uniform(0.2, 3.0, size=(6, 2))


def test_it_is_the_product_of_the_densities(factors):
    mean, variance = product(*sums(*factors))
    for dimension in range(2):
        density = np.ones_like(X)
        for m, v in zip(factors[0][:, dimension], factors[1][:, dimension], strict=True):
            density = density * stats.norm.pdf(X, m, np.sqrt(v))
        density = density / density.sum()
        expected = (density * X).sum()
        assert float(mean[dimension]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        spread = (density * (X - expected) ** 2).sum()
        assert float(variance[dimension]) == pytest.approx(spread, rel=1e-4)


def test_order_does_not_matter(factors):
    order = np.random.default_rng(1).permutation(6)
    straight, shuffled = (
        product(*sums(*factors)),
        product(*sums(factors[0][order], factors[1][order])),
    )
    np.testing.assert_allclose(straight, shuffled, rtol=1e-5)


def test_of_nothing_it_is_the_prior():
    mean, variance = product(jnp.zeros(3), jnp.zeros(3))
    np.testing.assert_array_equal(mean, 0.0)
    np.testing.assert_array_equal(variance, 1.0)


def test_one_factor_is_itself_and_the_prior_is_not_a_factor():
    mean, variance = product(*sums(np.array([[2.0]]), np.array([[4.0]])))
    assert float(mean[0]) == pytest.approx(2.0)  # with the prior as a factor it would be 0.4
    assert float(variance[0]) == pytest.approx(4.0)


def test_no_factor_is_surer_than_published():
    precision, weighted = factor(jnp.array([3.0, -100.0]))
    assert float(precision[0]) == pytest.approx(1e7)
    assert float(weighted[0]) == pytest.approx(3e7)


def test_divergence_is_the_integral():
    mean, variance = np.array([0.7, -2.0]), np.array([0.3, 2.5])
    expected = 0.0
    for m, v in zip(mean, variance, strict=True):
        here = stats.norm.pdf(X, m, np.sqrt(v))
        gap = stats.norm.logpdf(X, m, np.sqrt(v)) - stats.norm.logpdf(X)
        expected += (here * gap).sum() * (X[1] - X[0])
    found = kl_to_prior(jnp.asarray(mean, jnp.float32), jnp.asarray(variance, jnp.float32))
    assert float(found) == pytest.approx(expected, rel=1e-4)
