"""A core's `unroll` is its `step`, scanned: resets, idle rows, chunks and all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

T, B, D = 11, 5, 4
NAMES = [
    "window", "window-transitions", "trial-whole", "trial-short", "trial-transitions",
    "trial-rotary", "window-rotary",
    "pre-norm", "post-norm", "gtrxl", "snail",
    "gru", "lstm",
]  # fmt: skip


def tokens(num_rows, seed):
    noise = np.random.default_rng(seed)
    return jnp.asarray(noise.normal(size=(num_rows, B, D)), jnp.float32)


def rows():
    """Tokens, starts (mid-sequence, twice in a row, on an idle row) and idle stretches."""
    token = tokens(T, 0)
    start, valid = np.zeros((T, B), bool), np.ones((T, B), bool)
    start[4, 1] = start[6, 2] = start[7, 2] = start[0, 3] = start[5, 3] = start[5, 4] = True
    valid[3:5, 0] = valid[8:, 1] = valid[1:5, 3] = valid[5:7, 4] = valid[0, 4] = False
    return token, jnp.asarray(start), jnp.asarray(valid)


def stepped(step, memory, token, start, valid):
    """Step by step, an idle lane's memory put back by hand."""
    features = []
    for t in range(len(token)):
        new, feature = step(memory, token[t], start[t])
        keep = np.asarray(valid[t])
        memory = jax.tree.map(
            lambda n, o, keep=keep: jnp.where(keep.reshape((-1,) + (1,) * (n.ndim - 1)), n, o),
            new,
            memory,
        )
        features.append(np.asarray(feature))
    return memory, np.stack(features)


@pytest.fixture(scope="module", params=NAMES)
def compiled(request, shaken_core):
    core = shaken_core(request.param, D, 2 * T)
    return core, jax.jit(lambda *x: core.step(*x)), jax.jit(lambda *x: core.unroll(*x))


@pytest.mark.parametrize("origin", ["empty", "stepped"])
def test_unroll_is_scanned_step(compiled, origin):
    core, step, unroll = compiled
    never, always = jnp.zeros((T, B), bool), jnp.ones((T, B), bool)
    memory0, start_of = None, core.start(B)
    if origin == "stepped":
        memory0, _ = stepped(step, start_of, tokens(5, 1), never[:5], always[:5])
        start_of = memory0
    token, start, valid = rows()
    final, features = stepped(step, start_of, token, start, valid)
    happened = np.asarray(valid)

    after, once = unroll(memory0, token, start, valid)
    np.testing.assert_allclose(np.asarray(once)[happened], features[happened], rtol=1e-5, atol=1e-5)

    chunked, parts = memory0, []
    for rows_of in (slice(0, 5), slice(5, 10), slice(10, 11)):
        chunked, part = unroll(chunked, token[rows_of], start[rows_of], valid[rows_of])
        parts.append(np.asarray(part))
    np.testing.assert_allclose(
        np.concatenate(parts)[happened], features[happened], rtol=1e-5, atol=1e-5
    )

    # What is remembered is the same wherever it can still show: step on and compare.
    more = tokens(6, 2)
    _, expected = stepped(step, final, more, never[:6], always[:6])
    for memory in (after, chunked):
        _, found = stepped(step, memory, more, never[:6], always[:6])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_memory_matters_to_this_law(compiled):
    """The weights used here feel the token before, or the law above would be empty."""
    _, _, unroll = compiled
    token, _, valid = rows()
    never = jnp.zeros((T, B), bool)
    _, kept = unroll(None, token, never, valid)
    _, lost = unroll(None, token, never.at[5].set(True), valid)
    assert np.abs(np.asarray(kept[6] - lost[6]))[np.asarray(valid[5])].max(-1).min() > 1e-2
