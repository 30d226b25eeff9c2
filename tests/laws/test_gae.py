"""The credit a trial gives, against its definition: every kind of end, every way of counting."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.ops.normalize import Moments
from trmrl.types import (
    Continuous,
    Decision,
    EnvSpec,
    Outcome,
    Timestep,
    Trajectory,
    replace,
)

K, H, B = 3, 5, 6
GAMMA, LAMBDA, VARIANCE = 0.9, 0.7, 4.0
# How each slot of each lane ends: at step `length` of H, by the world ("end") or the clock.
SLOTS = [
    [(5, "clock"), (5, "clock"), (5, "clock")],
    [(2, "end"), (5, "clock"), (5, "clock")],
    [(5, "clock"), (5, "end"), (1, "end")],
    [(1, "end"), (3, "end"), (5, "clock")],
    [(5, "clock"), (3, "clock"), (2, "clock")],
    [(4, "end"), (5, "end"), (5, "end")],
]


def make_rows():
    """A `[K * H, B]` trajectory of noise; idle rows hold nonsense that must not count."""
    noise = np.random.default_rng(0)
    reward, value = noise.normal(size=(2, K, H, B)).astype(np.float32)
    valid = np.zeros((K, H, B), bool)
    terminated, truncated = valid.copy(), valid.copy()
    for lane, slots in enumerate(SLOTS):
        for k, (length, how) in enumerate(slots):
            valid[k, :length, lane] = True
            (terminated if how == "end" else truncated)[k, length - 1, lane] = True
    idle = ~valid
    reward[idle], value[idle] = 77.0, -55.0
    terminated |= idle & (noise.random(valid.shape) < 0.5)
    flat = lambda x: jnp.asarray(x.reshape((K * H, B, *x.shape[3:])))
    start = np.zeros((K, H, B), bool)
    start[:, 0] = True
    nothing = np.zeros((K, H, B, 2), np.float32)
    return Trajectory(
        Timestep(
            flat(nothing), flat(nothing), flat(reward), flat(start), flat(start & (valid < 0))
        ),
        Decision(flat(nothing), flat(value), flat(value)),
        Outcome(flat(reward), flat(terminated), flat(truncated), flat(nothing)),
        flat(valid),
    )


def by_definition(rows, lane, across, bootstrap):
    """Advantage and discounted return of one lane, as double sums over its streams."""
    reward = np.asarray(rows.outcome.reward[:, lane], np.float64) / np.sqrt(VARIANCE)
    value = np.asarray(rows.decision.value[:, lane], np.float64)
    happened = [k * H + h for k, (length, _) in enumerate(SLOTS[lane]) for h in range(length)]
    ends = {k * H + length - 1: how for k, (length, how) in enumerate(SLOTS[lane])}
    # A stream ends with the trial or, if credit does not cross, with every episode.
    stream_ends = ends if not across else {happened[-1]: ends[happened[-1]]}
    advantage, returns = np.zeros(K * H), np.zeros(K * H)
    for i, t in enumerate(happened):
        for j in range(i, len(happened)):
            row = happened[j]
            ended = row in stream_ends
            delta = reward[row] - value[row]
            if not ended:  # steps that an early end leaves idle pass, too
                following = happened[j + 1]
                delta += GAMMA ** (following - row) * value[following]
            if ended and bootstrap and stream_ends[row] == "clock":
                delta = 0.0  # the last row of a cut stream only lends its value to the one before
            advantage[t] += GAMMA ** (row - t) * LAMBDA ** (j - i) * delta
            returns[t] += GAMMA ** (row - t) * reward[row]
            if ended:
                break
    return happened, advantage, returns


@pytest.fixture(scope="module")
def rows():
    return make_rows()


@pytest.mark.parametrize(
    ("across", "bootstrap", "target"),
    list(itertools.product([True, False], [True, False], ["lambda", "return"])),
)
def test_credit_by_definition(small_agent, rows, across, bootstrap, target):
    agent = small_agent(
        "gru", gamma=GAMMA, gae_lambda=LAMBDA, value_target=target, bootstrap=bootstrap,
        credit_across_episodes=across,
    )  # fmt: skip
    spec = EnvSpec("noise", "test", 2, Continuous(2), H, K)
    model = agent.init(spec, key=jax.random.key(0)).model
    moments = Moments(jnp.asarray(3.0), jnp.asarray(VARIANCE), jnp.asarray(9.0))
    model = replace(model, return_moments=moments)
    found, value_target, discount, credited = agent.algorithm.credit(model, rows)
    assert found.shape == value_target.shape == discount.shape == credited.shape == (K * H, B)
    for lane in range(B):
        happened, advantage, returns = by_definition(rows, lane, across, bootstrap)
        np.testing.assert_allclose(found[:, lane], advantage, atol=1e-5)
        value = np.asarray(rows.decision.value[:, lane])
        expected = advantage + value if target == "lambda" else returns
        np.testing.assert_allclose(
            np.asarray(value_target)[happened, lane], expected[happened], atol=1e-5
        )


def test_an_episode_ends_with_its_slot_though_nobody_says_so(small_agent):
    """Two slots of two rows, in a world without a clock: by hand, gamma and lambda one half."""
    reals = lambda *x: jnp.asarray(x, jnp.float32)[:, None]
    flags = lambda *x: jnp.asarray(x, bool)[:, None]
    nothing, never = jnp.zeros((4, 1, 2)), flags(0, 0, 0, 0)
    rows = Trajectory(
        Timestep(nothing, nothing, reals(0, 0, 0, 0), flags(1, 0, 1, 0), flags(1, 0, 0, 0)),
        Decision(nothing, reals(0, 0, 0, 0), reals(1, 2, 4, 8)),
        Outcome(reals(16, 32, 64, 128), never, never, nothing),
        flags(1, 1, 1, 1),
    )
    agent = functools.partial(
        small_agent, "gru", gamma=0.5, gae_lambda=0.5, credit_across_episodes=False,
        normalize_reward=False,
    )  # fmt: skip
    model = agent().init(EnvSpec("n", "test", 2, Continuous(2), 2, 2), key=jax.random.key(0)).model
    # 16 + 2/2 - 1 = 16, and 32 - 2 = 30 beyond it; 64 + 8/2 - 4 = 64, and 128 - 8 = 120.
    ended, _, discount, credited = agent(bootstrap=False).algorithm.credit(model, rows)
    np.testing.assert_allclose(ended[:, 0], [16 + 30 / 4, 30, 64 + 120 / 4, 120])
    np.testing.assert_allclose(discount[:, 0], [0.5, 0, 0.5, 0])
    assert credited.all()
    # Cut, not ended: the last row of each slot lends its value, and learns nothing.
    cut, _, _, credited = agent(bootstrap=True).algorithm.credit(model, rows)
    np.testing.assert_allclose(cut[:, 0], [16, 0, 64, 0])
    np.testing.assert_array_equal(credited[:, 0], [True, False, True, False])
    # An end that the world states cuts nothing off.
    stated = replace(rows, outcome=replace(rows.outcome, terminated=flags(0, 1, 0, 0)))
    *_, credited = agent(bootstrap=True).algorithm.credit(model, stated)
    np.testing.assert_array_equal(credited[:, 0], [True, True, True, False])


def test_a_fall_does_not_bring_the_next_episode_nearer(small_agent):
    """Two slots of three rows, the first ended by a fall after one: by hand, gamma one half."""
    reals = lambda *x: jnp.asarray(x, jnp.float32)[:, None]
    flags = lambda *x: jnp.asarray(x, bool)[:, None]
    nothing, never = jnp.zeros((6, 1, 2)), flags(0, 0, 0, 0, 0, 0)
    rows = Trajectory(
        Timestep(
            nothing, nothing, reals(*6 * [0]), flags(1, 0, 0, 1, 0, 0), flags(1, 0, 0, 0, 0, 0)
        ),
        Decision(nothing, reals(*6 * [0]), reals(1, 99, 99, 16, 0, 0)),
        Outcome(reals(8, 99, 99, 64, 0, 32), flags(1, 0, 0, 0, 0, 1), never, nothing),
        flags(1, 0, 0, 1, 1, 1),
    )
    agent = small_agent("gru", gamma=0.5, gae_lambda=0.5, normalize_reward=False)
    model = agent.init(EnvSpec("n", "test", 2, Continuous(2), 3, 2), key=jax.random.key(0)).model
    found, _, discount, _ = agent.algorithm.credit(model, rows)
    # Errors of the value: 8 + 16 / 2 ** 3 - 1 = 9, then 64 - 16 = 48, 0 and 32.
    np.testing.assert_allclose(discount[:, 0][rows.valid[:, 0]], [0.125, 0.5, 0.5, 0])
    np.testing.assert_allclose(found[:, 0], [9 + 50 / 16, 0, 0, 50, 8, 32])


def test_rewards_are_left_alone_unless_asked(small_agent, rows):
    spec = EnvSpec("noise", "test", 2, Continuous(2), H, K)
    agents = [
        small_agent("gru", gae_lambda=0.0, gamma=0.0, bootstrap=False, normalize_reward=scaled)
        for scaled in (True, False)
    ]
    model = agents[0].init(spec, key=jax.random.key(0)).model
    moments = Moments(jnp.asarray(3.0), jnp.asarray(VARIANCE), jnp.asarray(9.0))
    model = replace(model, return_moments=moments)
    valid = np.asarray(rows.valid)
    for agent, unit in zip(agents, (VARIANCE**0.5, 1.0), strict=True):
        _, target, *_ = agent.algorithm.credit(model, rows)
        reward = np.asarray(rows.outcome.reward) / unit
        np.testing.assert_allclose(np.asarray(target)[valid], reward[valid], atol=1e-5)
