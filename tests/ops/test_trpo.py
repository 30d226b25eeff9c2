"""Conjugate gradients against a solver, and steps and searches worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.ops.trpo import conjugate_gradient, line_search, natural_step


def positive(size, seed=0):
    noise = np.random.default_rng(seed).normal(size=(size, 2 * size))
    return (noise @ noise.T / size).astype(np.float32)


@pytest.mark.parametrize("size", [1, 6, 20])
def test_conjugate_gradients_solve_in_as_many_steps_as_unknowns(size):
    matrix = positive(size)
    b = np.random.default_rng(1).normal(size=size).astype(np.float32)
    product = lambda v: jnp.asarray(matrix) @ v
    found = conjugate_gradient(product, jnp.asarray(b), size)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, b), rtol=2e-3, atol=2e-4)


def test_one_step_is_steepest_descent():
    """`x = (b.b / b.A b) b`: with A = diag(1, 3) and b = (1, 1), 2 / 4 of b."""
    product = lambda v: jnp.asarray([1.0, 3.0]) * v
    np.testing.assert_allclose(conjugate_gradient(product, jnp.ones(2), 1), [0.5, 0.5])
    np.testing.assert_allclose(conjugate_gradient(product, jnp.ones(2), 2), [1, 1 / 3], rtol=1e-6)


def test_it_ends_early_where_nothing_is_left():
    """A diagonal of ones is solved by the first step; a hundred more would divide by zero."""
    b = jnp.asarray([1.0, 2.0, -3.0])
    np.testing.assert_array_equal(conjugate_gradient(lambda v: v, b, 100), b)
    np.testing.assert_array_equal(conjugate_gradient(lambda v: v, 0 * b, 100), 0)
    np.testing.assert_array_equal(conjugate_gradient(lambda v: 0 * v, b, 100), 0)


def test_a_natural_step_diverges_by_the_limit_to_second_order():
    matrix = positive(5)
    gradient = jnp.asarray(np.random.default_rng(2).normal(size=5), jnp.float32)
    step = natural_step(gradient, lambda v: jnp.asarray(matrix) @ v, 0.01, 5)
    step = np.asarray(step, np.float64)
    assert 0.5 * step @ matrix @ step == pytest.approx(0.01, rel=1e-3)
    direction = np.linalg.solve(matrix, gradient)
    np.testing.assert_allclose(step / step[0], direction / direction[0], rtol=1e-2)


def search(loss_at, kl_at, loss=1.0, kl_limit=0.01, max_tries=15):
    measure = lambda f: (loss_at(f), kl_at(f))
    find = jax.jit(lambda: line_search(measure, jnp.float32(loss), kl_limit, 0.5, max_tries))
    return float(find())


def test_a_search_takes_the_largest_admissible_fraction():
    """Loss `1 - f + 2 f^2` falls below 1 for f < 1/2; divergence `f^2` is 1/64 at 1/8."""
    falls = lambda f: 1.0 - f + 2.0 * f**2
    squared = lambda f: f**2
    assert search(falls, squared, kl_limit=9.0) == 0.25  # at 1/2 the loss is 1: not below
    assert search(falls, squared, kl_limit=1 / 64) == 0.125  # the limit itself is allowed
    assert search(falls, squared, kl_limit=1 / 65) == 0.0625
    assert search(lambda f: 1.0 - f, squared, kl_limit=9.0) == 1.0


def test_a_search_that_fails_is_zero():
    small = lambda f: 0.0 * f
    assert search(lambda f: 1.0 - f, lambda f: 1.0 + f) == 0.0
    assert search(lambda f: 1.0 + f, small) == 0.0
    assert search(lambda f: 1.0 - f, lambda f: f, max_tries=3, kl_limit=0.2) == 0.0
    assert search(lambda f: 1.0 - f, lambda f: f, max_tries=4, kl_limit=0.2) == 0.125
    nan = lambda f: jnp.nan * f
    assert search(nan, small) == search(lambda f: 1.0 - f, nan) == 0.0
