"""Nothing later, no other lane, and nothing before a start changes a feature by a single bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

T, B, D = 9, 3, 4
START = 4  # lane 1 is emptied before this row
NAMES = [
    "window", "window-transitions", "trial-whole", "trial-short", "trial-transitions",
    "trial-rotary", "window-rotary",
    "pre-norm", "post-norm", "gtrxl", "snail",
    "gru", "lstm",
]  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def replay(request, shaken_core):
    """`replay(token, start, valid, wrecked=lanes) -> features` of one core, compiled once."""
    core = shaken_core(request.param, D, 3 * T)
    unroll = jax.jit(lambda *x: core.unroll(*x))
    memory0, _ = unroll(None, noise(5, (T, B, D)), jnp.zeros((T, B), bool), jnp.ones((T, B), bool))

    def run(token, start, valid, wrecked=()):
        memory = other_memory(memory0, wrecked) if wrecked else memory0
        return np.asarray(unroll(memory, token, start, valid)[1])

    return run


def noise(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def rows():
    start = jnp.zeros((T, B), bool).at[START, 1].set(True)
    return noise(0, (T, B, D)), start, jnp.ones((T, B), bool)


def other_memory(memory, lanes):
    """The memory of some lanes replaced by finite nonsense of the same shape."""
    pick = jnp.zeros(B, bool).at[jnp.asarray(lanes)].set(True)
    wreck = lambda x: x + 1 if jnp.issubdtype(x.dtype, jnp.integer) else 3.0 - 2.0 * x
    return jax.tree.map(
        lambda x: jnp.where(pick.reshape((-1,) + (1,) * (x.ndim - 1)), wreck(x), x), memory
    )


@pytest.mark.parametrize("t", [0, 3, 4, 7])
def test_later_rows_change_nothing(replay, t):
    token, start, valid = rows()
    before = replay(token, start, valid)
    later = noise(1, token.shape).at[: t + 1].set(token[: t + 1])
    flipped = start.at[t + 1 :].set(True), valid.at[t + 1 :].set(False)
    np.testing.assert_array_equal(replay(later, *flipped)[: t + 1], before[: t + 1])
    after = replay(later, start, valid)
    np.testing.assert_array_equal(after[: t + 1], before[: t + 1])
    assert np.all(np.abs(after[t + 1 :] - before[t + 1 :]).max(-1) > 1e-4)


def test_lanes_do_not_leak(replay):
    token, start, valid = rows()
    before = replay(token, start, valid)
    others = noise(1, token.shape).at[:, 1].set(token[:, 1])
    start, valid = start.at[2, 0].set(True), valid.at[3:6, 2].set(False)
    after = replay(others, start, valid, wrecked=(0, 2))
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    assert np.all(np.abs(after[:, 0] - before[:, 0]).max(-1) > 1e-4)


def test_nothing_before_a_start_leaks_past_it(replay):
    token, start, valid = rows()
    before = replay(token, start, valid)
    past = noise(1, token.shape).at[START:].set(token[START:])
    after = replay(past, start.at[2, 1].set(True), valid, wrecked=(0, 1, 2))
    np.testing.assert_array_equal(after[START:, 1], before[START:, 1])
    idle = valid.at[1:3].set(False)  # may move the rows, and so where long sums are rounded
    rounded = replay(past, start.at[2, 1].set(True), idle, wrecked=(0, 1, 2))
    np.testing.assert_allclose(rounded[START:, 1], before[START:, 1], rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(after[:START, 1] - before[:START, 1]).max(-1) > 1e-4)
    assert np.abs(after[START, 0] - before[START, 0]).max() > 1e-4  # a lane that was not emptied


def test_idle_rows_change_nothing(replay):
    token, start, valid = rows()
    idle = valid.at[2:4].set(False)
    before = replay(token, start, idle)
    after = replay(token.at[2:4].set(noise(1, (2, B, D))), start, idle)
    np.testing.assert_array_equal(after[4:], before[4:])
