"""Advantages by their definition, in plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.ops.gae import discounted_return, gae, steps_to_next


def by_definition(reward, value, discount, valid, gae_lambda):
    """`A_t = sum_l (prod discount lambda) delta_{t+l}` over the valid rows, as a double sum."""
    rows = np.flatnonzero(valid)
    advantage = np.zeros(len(reward))
    for i in range(len(rows)):
        weight = 1.0
        for j in range(i, len(rows)):
            t = rows[j]
            beyond = value[rows[j + 1]] if j + 1 < len(rows) else 0.0
            advantage[rows[i]] += weight * (reward[t] + discount[t] * beyond - value[t])
            weight *= discount[t] * gae_lambda
    return advantage


def stream(seed, num_rows=9):
    noise = np.random.default_rng(seed)
    reward, value = noise.normal(size=(2, num_rows))
    discount = np.where(noise.random(num_rows) < 0.3, 0.0, 0.8 + 0.2 * noise.random(num_rows))
    return reward, value, discount, noise.random(num_rows) < 0.7


def test_by_hand():
    """Three rows: deltas -0.1, 1.2, 1.5; gamma lambda 0.45."""
    one = lambda *x: jnp.array(x, jnp.float32)
    found = gae(one(1, 2, 3), one(2, 1, 1.5), one(0.9, 0.7, 0.9), jnp.ones(3, bool), 0.5)
    last = 3 - 1.5
    middle = (2 + 0.7 * 1.5 - 1) + 0.35 * last
    first = (1 + 0.9 * 1 - 2) + 0.45 * middle
    np.testing.assert_allclose(found, [first, middle, last], rtol=1e-6)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_by_definition(seed, gae_lambda):
    reward, value, discount, valid = stream(seed)
    r, v, d = (jnp.asarray(x, jnp.float32) for x in (reward, value, discount))
    found = gae(r, v, d, jnp.asarray(valid), gae_lambda)
    expected = by_definition(reward, value, discount, valid, gae_lambda)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.all(np.asarray(found)[~valid] == 0)


def test_discounted_return_by_definition():
    reward, _, discount, valid = stream(7)
    r, d = (jnp.asarray(x, jnp.float32) for x in (reward, discount))
    found = discounted_return(r, d, jnp.asarray(valid))
    rows = np.flatnonzero(valid)
    for i, t in enumerate(rows):
        expected = sum(np.prod(discount[rows[i:j]]) * reward[rows[j]] for j in range(i, len(rows)))
        np.testing.assert_allclose(found[t], expected, atol=1e-5)


def test_steps_to_the_next_valid_row_by_hand():
    """Two streams, which end early after a row and two: idle rows count, and so does the end."""
    valid = jnp.array([[1, 0, 0, 1, 1, 0], [1, 1, 0, 1, 0, 0]], bool).T
    found = np.asarray(steps_to_next(valid))
    np.testing.assert_array_equal(found[:, 0][valid[:, 0]], [3, 1, 2])
    np.testing.assert_array_equal(found[:, 1][valid[:, 1]], [1, 2, 3])
    np.testing.assert_array_equal(steps_to_next(valid[:, 0]), found[:, 0])
