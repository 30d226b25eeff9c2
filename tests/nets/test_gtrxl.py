"""GTrXL against its definition in plain NumPy loops."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets.gtrxl import Gate, GTrXLConfig, GTrXLMemory

D, T, WIDTH, HEADS, REACH = 4, 7, 8, 2, 4  # a row attends to itself and three before it


def array(x):
    return np.asarray(x, np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm(layer, x):
    whitened = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return whitened * array(layer.weight) + array(layer.bias)


def affine(linear, x):
    return x @ array(linear.weight) + (0 if linear.bias is None else array(linear.bias))


def wave(distance):
    angle = [distance / 10000 ** (2 * (i // 2) / WIDTH) for i in range(WIDTH)]
    return np.array([np.cos(a) if i % 2 else np.sin(a) for i, a in enumerate(angle)])


def gate(layer, x, y):
    """One matrix at a time, named as the paper's equations name them."""
    w_r, w_z, w_g = np.split(array(layer.change.weight), 3, axis=1)
    u_r, u_z = np.split(array(layer.skip.weight), 2, axis=1)
    r = sigmoid(y @ w_r + x @ u_r)
    z = sigmoid(y @ w_z + x @ u_z - array(layer.bias))
    h = np.tanh(y @ w_g + (r * x) @ array(layer.reset.weight))
    return (1 - z) * x + z * h


def attention(layer, rows, t):
    """What row `t` reads of rows `t - REACH + 1` to `t`, already normalized."""
    read = np.zeros(WIDTH)
    for head in range(HEADS):
        pick = lambda name, head=head: array(getattr(layer, name))[head]
        q, visible = rows[t] @ pick("query"), range(max(0, t - REACH + 1), t + 1)
        scores = []
        for j in visible:
            by_content = (q + pick("by_content")) @ (rows[j] @ pick("key"))
            by_distance = (q + pick("by_distance")) @ (wave(t - j) @ pick("relative"))
            scores.append((by_content + by_distance) / np.sqrt(WIDTH / HEADS))
        weights = np.exp(scores) / np.sum(np.exp(scores))
        mixed = sum(w * (rows[j] @ pick("value")) for w, j in zip(weights, visible, strict=True))
        read += mixed @ pick("out")
    return read


def reference(core, tokens):
    rows = [affine(core.embedding, token) for token in array(tokens)]
    for block in core.blocks:
        normed = [norm(block.attention_norm, h) for h in rows]
        refined = []
        for t, h in enumerate(rows):
            read = attention(block.attention, normed, t)
            h = gate(block.attention_gate, h, np.maximum(read, 0))
            inner = np.maximum(affine(block.expand, norm(block.norm, h)), 0)
            refined.append(gate(block.gate, h, np.maximum(affine(block.contract, inner), 0)))
        rows = refined
    return np.array(rows)


@pytest.fixture(scope="module")
def core(shaken_core) -> Any:
    return shaken_core("gtrxl", D, T)


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(0).normal(size=(T, 1, D)), jnp.float32)


@pytest.fixture(scope="module")
def unroll(core):
    return jax.jit(lambda core, *x: core.unroll(*x))


NEVER, ALWAYS = jnp.zeros((T, 1), bool), jnp.ones((T, 1), bool)


def test_unroll_by_definition(core, tokens, unroll):
    assert core.capacity == REACH
    _, found = unroll(core, None, tokens, NEVER, ALWAYS)
    np.testing.assert_allclose(found[:, 0], reference(core, tokens[:, 0]), rtol=1e-4, atol=1e-5)


def test_gate_by_hand():
    """Width one: W 1, 2, 3, U 4, 5, 6, bias 2, at x = 0.5, y = 0.1."""
    gate = Gate(1, 2.0, key=jax.random.key(0))
    matrices = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[4.0, 5.0]]), jnp.array([[6.0]])
    gate = eqx.tree_at(lambda g: (g.change.weight, g.skip.weight, g.reset.weight), gate, matrices)
    r, z = sigmoid(0.1 * 1 + 0.5 * 4), sigmoid(0.1 * 2 + 0.5 * 5 - 2)
    expected = (1 - z) * 0.5 + z * np.tanh(0.1 * 3 + r * 0.5 * 6)
    np.testing.assert_allclose(gate(jnp.array([0.5]), jnp.array([0.1])), [expected], rtol=1e-5)


def test_with_shut_gates_features_are_the_embedding(core, tokens, unroll):
    biases = lambda c: [g.bias for b in c.blocks for g in (b.attention_gate, b.gate)]
    shut = eqx.tree_at(biases, core, [jnp.full(WIDTH, 40.0)] * 4)
    _, found = unroll(shut, None, tokens, NEVER, ALWAYS)
    np.testing.assert_allclose(found, core.embedding(tokens), rtol=1e-5, atol=1e-6)


def test_first_gates_are_nearly_shut_and_first_biases_zero():
    core: Any = GTrXLConfig(width=8, num_heads=2, num_layers=1).build(D, T, key=jax.random.key(0))
    (block,) = core.blocks
    for bias in (block.attention_gate.bias, block.gate.bias):
        np.testing.assert_array_equal(bias, np.full(8, 2.0, np.float32))
    assert not np.any(np.asarray(block.attention.by_content))
    assert not np.any(np.asarray(block.attention.by_distance))
    assert core.capacity == T  # memory 0: the trial


def test_no_gradient_passes_through_memory(core, tokens):
    memory, _ = core.unroll(None, tokens, NEVER, ALWAYS)

    @jax.jit
    def slope(hidden, tokens):
        def total(hidden, tokens):
            before = GTrXLMemory(hidden, memory.length)
            return jnp.sum(core.unroll(before, tokens, NEVER, ALWAYS)[1] ** 2)

        return jax.grad(total, argnums=(0, 1))(hidden, tokens)

    through_memory, through_tokens = slope(memory.hidden, tokens)
    assert not any(np.any(np.asarray(x)) for x in through_memory)
    assert np.all(np.abs(np.asarray(through_tokens)).max(-1) > 0)


def test_a_step_writes_one_slot_of_each_ring(core, tokens):
    memory, _ = core.unroll(None, tokens, NEVER, ALWAYS)
    after, _ = core.step(memory, tokens[0], NEVER[0])
    for old, new in zip(memory.hidden, after.hidden, strict=True):
        changed = np.flatnonzero(np.any(np.asarray(old != new)[0], axis=-1))
        assert changed.tolist() == [T % REACH]
