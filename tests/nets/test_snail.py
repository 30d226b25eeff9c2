"""SNAIL against its definition in plain NumPy loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets import ring
from trmrl.nets.snail import Convolutions, SNAILConfig, dilations

D, T = 4, 7


def array(x):
    return np.asarray(x, np.float64)


def affine(linear, x):
    return x @ array(linear.weight) + (0 if linear.bias is None else array(linear.bias))


def dense(block, rows):
    """Every row, with the output of a gated pair of filters of width two appended."""
    size = block.now.weight.shape[1] // 2
    out = []
    for t, x in enumerate(rows):
        total = x @ array(block.now.weight) + array(block.now.bias)
        if t >= block.dilation:
            total = total + rows[t - block.dilation] @ array(block.past.weight)
        gated = np.tanh(total[:size]) / (1 + np.exp(-total[size:]))
        out.append(np.concatenate([x, gated]))
    return out


def attend(layer, rows):
    out = []
    for t, x in enumerate(rows):
        query = affine(layer.query, x)
        scores = [query @ affine(layer.key, y) / np.sqrt(len(query)) for y in rows[: t + 1]]
        weights = np.exp(scores) / np.sum(np.exp(scores))
        read = sum(w * affine(layer.value, y) for w, y in zip(weights, rows, strict=False))
        out.append(np.concatenate([x, read]))
    return out


def reference(core, tokens):
    rows = [affine(core.embedding, token) for token in array(tokens)]
    for stack, attention in zip(core.convolutions, core.attentions, strict=True):
        for block in stack.blocks:
            rows = dense(block, rows)
        rows = attend(attention, rows)
    whitened = [(x - x.mean()) / np.sqrt(x.var() + 1e-5) for x in rows]
    return np.array([x * array(core.norm.weight) + array(core.norm.bias) for x in whitened])


@pytest.mark.parametrize("first", [1, 2])
def test_unroll_and_step_by_definition(shake, first):
    config = SNAILConfig(
        width=5, filters=3, key_size=4, value_size=2, num_layers=2, first_dilation=first
    )
    core = shake(config.build(D, T, key=jax.random.key(0)))
    assert core.feature_size == 5 + 2 * (3 * 3 + 2)
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(T, 1, D)), jnp.float32)
    expected = reference(core, tokens[:, 0])
    never, always = jnp.zeros((T, 1), bool), jnp.ones((T, 1), bool)

    @jax.jit
    def both(tokens):
        unrolled = core.unroll(None, tokens, never, always)[1]
        stepped = jax.lax.scan(lambda m, x: core.step(m, *x), core.start(1), (tokens, never))[1]
        return unrolled, stepped

    for found in both(tokens):
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_dilations_reach_a_trial_back():
    assert dilations(400, 1) == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    assert dilations(400, 2) == (2, 4, 8, 16, 32, 64, 128, 256, 512)
    assert dilations(8, 1) == (1, 2, 4)
    assert dilations(9, 1) == (1, 2, 4, 8)
    assert dilations(1, 1) == (1,)
    for length in (2, 3, 10, 100, 400):
        assert sum(dilations(length, 1)) >= length - 1


@pytest.mark.parametrize(("first", "reached"), [(1, [0, 1, 2, 3]), (2, [0, 2])])
def test_published_dilations_never_reach_odd_distances(shake, first, reached):
    stack = shake(Convolutions(2, 3, dilations(4, first), key=jax.random.key(0)))
    no = jnp.zeros((4, 1), bool)
    chunk = ring.chunk_of(no, ~no, jnp.zeros(1, jnp.int32))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 2)), jnp.float32)
    slope = jax.jit(jax.jacobian(lambda x: stack.unroll(None, x, chunk)[0, -1]))(x)
    by_distance = np.abs(np.asarray(slope)).max(axis=(0, 1, 3))[::-1]
    assert np.flatnonzero(by_distance).tolist() == reached


def test_spec_sizes():
    """A trial of 400 steps: nine dilations, so 288 features more for each stack of 32 filters."""
    core = jax.eval_shape(lambda key: SNAILConfig().build(28, 400, key=key), jax.random.key(0))
    assert [stack.size for stack in core.convolutions] == [64 + 288, 64 + 288 + 32 + 288]
    assert core.feature_size == 64 + 288 + 32 + 288 + 32
