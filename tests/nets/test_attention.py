"""Attention and its hand-written gradient, against plain loops and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets.attention import attend

HEADS = 3
NOISE = np.random.default_rng(0)
QUERY, KEY, VALUE = NOISE.normal(size=(2, 3, 6)), *NOISE.normal(size=(2, 2, 5, 6))
MASK = NOISE.random((2, 3, 5)) < 0.6
MASK[:, :, 0] = True  # every query attends to something


def reference(query, key, value, mask):
    """`softmax(q k' / sqrt(d_head)) v` over what the mask allows, one head and query at a time."""
    mixed, size = np.zeros(query.shape), query.shape[-1] // HEADS
    for b, q, head in np.ndindex(*query.shape[:2], HEADS):
        part, visible = slice(head * size, (head + 1) * size), np.flatnonzero(mask[b, q])
        weights = np.exp([query[b, q, part] @ key[b, s, part] / np.sqrt(size) for s in visible])
        for weight, s in zip(weights / weights.sum(), visible, strict=True):
            mixed[b, q, part] += weight * value[b, s, part]
    return mixed


def floats(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


@pytest.mark.parametrize("query_rows", [3, 1])
def test_attend_by_definition(query_rows):
    query, mask = QUERY[:, :query_rows], MASK[:, :query_rows]
    q, k, v = floats(query, KEY, VALUE)
    found, _ = attend(q, k, v, jnp.asarray(mask), HEADS)
    np.testing.assert_allclose(found, reference(query, KEY, VALUE, mask), atol=1e-5)


def test_one_query_on_a_long_cache_by_definition():
    noise = np.random.default_rng(2)
    query, key, value = (noise.normal(size=(2, rows, 6)) for rows in (1, 40, 40))
    mask = noise.random((2, 1, 40)) < 0.5
    found, _ = attend(*floats(query, key, value), jnp.asarray(mask), HEADS)
    np.testing.assert_allclose(found, reference(query, key, value, mask), atol=1e-5)


def test_one_mask_serves_all_lanes():
    q, k, v = floats(QUERY, KEY, VALUE)
    one, both = jnp.asarray(MASK[:1]), jnp.asarray(np.repeat(MASK[:1], 2, axis=0))
    np.testing.assert_array_equal(attend(q, k, v, one, HEADS)[0], attend(q, k, v, both, HEADS)[0])


def test_what_is_masked_has_no_effect():
    q, k, v = floats(QUERY, KEY, VALUE)
    mask = jnp.asarray(np.repeat(MASK[:, :1], 3, axis=1))
    hidden = ~mask[:, 0, :, None]
    wild_k, wild_v = (jnp.where(hidden, 50.0 * x, x) for x in (k, v))
    found, _ = attend(q, wild_k, wild_v, mask, HEADS)
    np.testing.assert_array_equal(found, attend(q, k, v, mask, HEADS)[0])


@pytest.mark.parametrize("lanes_of_mask", [1, 2])
def test_gradient_by_finite_differences(lanes_of_mask):
    mask = np.repeat(MASK[:1], 2, axis=0) if lanes_of_mask == 1 else MASK
    weight = np.random.default_rng(1).normal(size=QUERY.shape)
    given = [QUERY, KEY, VALUE]

    @jax.jit
    def loss(q, k, v):
        out, _ = attend(q, k, v, jnp.asarray(mask[:lanes_of_mask]), HEADS)
        return jnp.sum(out * jnp.asarray(weight, jnp.float32))

    gradients = jax.grad(loss, argnums=(0, 1, 2))(*floats(*given))
    for i, gradient in enumerate(gradients):
        expected = np.zeros(given[i].shape)
        for at in np.ndindex(*expected.shape):
            nudge = np.zeros(expected.shape)
            nudge[at] = 1e-5
            ends = []
            for side in (nudge, -nudge):
                moved = [x + side if j == i else x for j, x in enumerate(given)]
                ends.append(np.sum(weight * reference(moved[0], moved[1], moved[2], mask)))
            expected[at] = (ends[0] - ends[1]) / 2e-5
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(gradient, expected, atol=1e-4)
