"""The transformer against a reference in plain NumPy loops."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.bench import count_products
from trmrl.nets.core import where_lanes
from trmrl.nets.embed import token_size
from trmrl.nets.heads import HeadConfig, policy_head
from trmrl.nets.transformer import TransformerConfig
from trmrl.types import Continuous, EnvSpec

D, T = 4, 7


def wave(position, width):
    """`sin(p / 10000^(i/d))` at even features i, the cosine of the same angle after it."""
    code = np.zeros(width)
    for i in range(width):
        angle = position / 10000 ** ((i - i % 2) / width)
        code[i] = np.cos(angle) if i % 2 else np.sin(angle)
    return code


def attention(query, keys, values, num_heads):
    """One query over lists of keys and values it may look at."""
    size = len(query) // num_heads
    mixed = np.zeros(len(query))
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = [query[part] @ key[part] / np.sqrt(size) for key in keys]
        weights = np.exp(scores) / np.sum(np.exp(scores))
        for weight, value in zip(weights, values, strict=True):
            mixed[part] += weight * value[part]
    return mixed


def turned(x, position, num_heads):
    """Each head's two halves as the parts of complex numbers, which turn by the position."""
    heads = np.reshape(x, (num_heads, 2, -1))
    rate = 10000.0 ** (-np.arange(heads.shape[2]) / heads.shape[2])
    after = (heads[:, 0] + 1j * heads[:, 1]) * np.exp(1j * position * rate)
    return np.stack([after.real, after.imag], axis=1).reshape(-1)


def affine(linear, x):
    y = x @ np.asarray(linear.weight, np.float64)
    return y if linear.bias is None else y + np.asarray(linear.bias, np.float64)


def normalized(norm, x):
    whitened = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return whitened * np.asarray(norm.weight) + np.asarray(norm.bias)


def reference(encoder, tokens, reach=10**9):
    """Every row's last-layer memory; a row attends to the `reach` newest rows up to itself."""
    is_rotary, width = encoder.position_code == "rotary", encoder.embedding.weight.shape[1]
    place = lambda x, p: turned(x, p, 2) if is_rotary else x
    rows = [
        affine(encoder.embedding, token) + (0.0 if is_rotary else wave(p, width))
        for p, token in enumerate(np.asarray(tokens, np.float64))
    ]
    for block in encoder.blocks:
        way = block.normalization
        before = lambda i, x, b=block, way=way: normalized(b.norms[i], x) if way == "pre" else x
        after = lambda i, x, b=block, way=way: normalized(b.norms[i], x) if way == "post" else x
        pairs = [np.split(affine(block.key_value, before(0, h)), 2) for h in rows]
        refined = []
        for t, h in enumerate(rows):
            visible = pairs[max(0, t + 1 - reach) : t + 1]
            first = max(0, t + 1 - reach)
            keys = [place(k, first + i) for i, (k, _) in enumerate(visible)]
            query = place(affine(block.query, before(0, h)), t)
            mixed = attention(query, keys, [v for _, v in visible], 2)
            h = after(0, h + affine(block.out, mixed))
            inner = np.maximum(affine(block.expand, before(1, h)), 0)
            refined.append(after(1, h + affine(block.contract, inner)))
        rows = refined
    return np.array([normalized(encoder.norm, h) if encoder.norm else h for h in rows])


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_encode_is_the_last_row_of_the_full_computation(shake, window):
    config = TransformerConfig(window=window, width=8, num_heads=2, num_layers=3, hidden=12)
    core = shake(config.build(D, T, key=jax.random.key(0)))
    tokens = draw(window, window, D)
    length = jnp.arange(1, window + 1)  # windows filled 1..N; what lies beyond must not matter
    beyond = jnp.arange(window)[None, :] >= length[:, None]
    wild = jnp.where(beyond[..., None], 9.0, tokens)
    found, _ = jax.jit(lambda *x: core.encode(*x))(wild, length)
    for i in range(window):
        expected = reference(core.encoder, tokens[i, : i + 1])[-1]
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["window", "window-rotary", "post-norm"])
def test_a_window_slides_and_counts_positions_within_itself(shaken_core, name):
    core, tokens = shaken_core(name, D, T), draw(T, 1, D)
    never, always = jnp.zeros((T, 1), bool), jnp.ones((T, 1), bool)
    _, found = jax.jit(lambda *x: core.unroll(*x))(None, tokens, never, always)
    for t in range(T):
        visible = tokens[max(0, t - 2) : t + 1, 0]  # a window of three
        np.testing.assert_allclose(
            found[t, 0], reference(core.encoder, visible)[-1], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("name", "reach"),
    [("trial-whole", T), ("trial-short", 4), ("trial-rotary", 4), ("pre-norm", T)],
)
def test_a_trial_attends_to_its_capacity_and_counts_from_its_start(shaken_core, name, reach):
    core, tokens = shaken_core(name, D, T), draw(T, 1, D)
    never, always = jnp.zeros((T, 1), bool), jnp.ones((T, 1), bool)
    _, found = jax.jit(lambda *x: core.unroll(*x))(None, tokens, never, always)
    expected = reference(core.encoder, tokens[:, 0], reach)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-5)
    assert core.capacity == reach


def test_rotary_positions_tell_distances_alone(shaken_core):
    """Two layers of four tokens see seven: what was before, and how long, changes nothing."""
    tokens = draw(40, 1, D)

    def newest(name, tokens):
        never = jnp.zeros((len(tokens), 1), bool)
        core = shaken_core(name, D, 40)
        return jax.jit(lambda *rows: core.unroll(None, *rows)[1])(tokens, never, ~never)[-1]

    late, early = newest("trial-rotary", tokens), newest("trial-rotary", tokens[-7:])
    np.testing.assert_allclose(late, early, rtol=1e-4, atol=1e-5)
    late, early = newest("trial-short", tokens), newest("trial-short", tokens[-7:])
    assert np.abs(late - early).max() > 0.01


def test_heads_of_rotary_positions_have_an_even_number_of_features():
    config = TransformerConfig(width=6, num_heads=2, position="rotary")
    spec = EnvSpec("world", "test", 1, Continuous(1), 1, 1)
    assert "3 features to a head" in config.check(spec)
    assert TransformerConfig(width=6, num_heads=2).check(spec) is None


def transitions(tokens):
    """Each token, and the one before it beside it."""
    before = np.concatenate([np.zeros_like(tokens[:1]), tokens[:-1]])
    return np.concatenate([tokens, before], axis=1)


def test_a_transition_is_a_token_and_the_one_before_it(shaken_core):
    """Over a trial, from a step or a chunk; over a window, whose first token has none before it."""
    tokens, never, always = draw(T, 1, D), jnp.zeros((T, 1), bool), jnp.ones((T, 1), bool)
    rows = np.asarray(tokens)[:, 0]
    core = shaken_core("trial-transitions", D, T)
    expected = reference(core.encoder, transitions(rows), 4)
    memory, found = core.unroll(None, tokens, never, always)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(memory.token[0, 0], rows[-1])
    window = shaken_core("window-transitions", D, T)
    _, found = window.unroll(None, tokens, never, always)
    for t in range(T):
        expected = reference(window.encoder, transitions(rows[max(0, t - 2) : t + 1]))[-1]
        np.testing.assert_allclose(found[t, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("origin", ["empty", "stepped"])
def test_a_long_chunk_is_passed_over_in_parts(shaken_core, origin):
    """As step by step, through resets and idle rows; no attention is of the chunk to itself."""
    rows, lanes, capacity = 24, 3, 4
    core, tokens = shaken_core("trial-short", D, rows), draw(rows, lanes, D)
    assert core.capacity == capacity
    noise = np.random.default_rng(3)
    start = jnp.asarray(noise.random((rows, lanes)) < 0.15)
    valid = jnp.asarray(noise.random((rows, lanes)) < 0.8)
    held = core.start(lanes)
    if origin == "stepped":
        for token in draw(5, lanes, D):
            held, _ = core.step(held, token, jnp.zeros(lanes, bool))
    unroll = lambda tokens: core.unroll(None if origin == "empty" else held, tokens, start, valid)
    last, found = unroll(tokens)
    step = jax.jit(lambda *x: core.step(*x))
    for t in range(rows):
        after, expected = step(held, tokens[t], start[t])
        held = where_lanes(valid[t], after, held)
        np.testing.assert_allclose(
            np.where(valid[t][:, None], found[t], 0),
            np.where(valid[t][:, None], expected, 0),
            rtol=1e-4,
            atol=1e-5,
        )
    for one, other in zip(jax.tree.leaves(last), jax.tree.leaves(held), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    products = count_products(jax.make_jaxpr(unroll)(tokens).jaxpr)
    assert max(min(*sizes[1:3]) for sizes in products if sizes[0] > 1) <= 3 * capacity


def test_a_step_writes_one_slot_of_each_ring(shaken_core):
    core, tokens = shaken_core("trial-short", D, T), draw(T, 1, D)
    never, always = jnp.zeros((T, 1), bool), jnp.ones((T, 1), bool)
    memory, _ = core.unroll(None, tokens, never, always)
    after, _ = core.step(memory, tokens[0], never[0])
    for rings in ("key", "value"):
        for old, new in zip(getattr(memory, rings), getattr(after, rings), strict=True):
            changed = np.flatnonzero(np.any(np.asarray(old != new)[0], axis=-1))
            assert changed.tolist() == [T % 4]


def test_published_policy_has_its_published_size():
    """Half-cheetah: 807,436 parameters in embedding, layers, head and log_std."""
    spec = EnvSpec("half-cheetah", "locomotion", 20, Continuous(6), 200, 2)

    @eqx.filter_jit
    def build(key):
        core = TransformerConfig().build(token_size(spec), 400, key=key)
        return core, policy_head(core.feature_size, spec.action_space, HeadConfig(), key=key)

    core, head = build(jax.random.key(0))
    size = lambda tree: sum(x.size for x in jax.tree.leaves(eqx.filter(tree, eqx.is_array)))
    assert size(core) == 28 * 128 + 4 * (4 * (128 * 128 + 128) + 128 * 512 + 512 + 512 * 128 + 128)
    assert size(core) + size(head) == 807_436


@pytest.mark.parametrize("context", ["window", "trial"])
def test_the_attention_of_one_head_by_hand(shake, context):
    """One layer, one head, three tokens: the softmax of the newest query with every key."""
    config = TransformerConfig(context, 3, width=4, num_heads=1, num_layers=1, hidden=4)
    core = shake(config.build(D, 3, key=jax.random.key(0)))
    (block,), tokens = core.encoder.blocks, draw(3, 1, D)
    inspect = jax.jit(lambda *x: core.inspect(*x))
    memory = core.start(1)
    for t in range(3):
        memory, _, record = inspect(memory, tokens[t], jnp.array([t == 0]))
    rows = [affine(core.encoder.embedding, np.asarray(x)[0]) + wave(p, 4)
            for p, x in enumerate(tokens)]  # fmt: skip
    keys = [affine(block.key_value, h)[:4] for h in rows]
    score = np.array([affine(block.query, rows[-1]) @ key / 2.0 for key in keys])
    expected = np.exp(score) / np.exp(score).sum()
    np.testing.assert_allclose(
        record.layers[0].attention.by_age(3)[0, 0], expected[::-1], rtol=1e-4
    )
    np.testing.assert_allclose(record.embedding[0], rows[-1], rtol=1e-4, atol=1e-6)
