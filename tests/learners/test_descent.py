"""How a network descends: step sizes, AdamW, minibatches and stopping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.learners.descent import OptimizerConfig, Passes, Progress, descend, start_progress
from trmrl.types import Discrete, EnvSpec

ZERO = jnp.zeros(())
SPEC = EnvSpec("world", "test", 1, Discrete(2), 1, 1)


def at(env_steps):
    """A number of env steps, as updates are given it."""
    return jnp.asarray(env_steps, jnp.float32)


def passes_of(num_passes, minibatch_size, stop_kl=0.0, target_kl=0.0):
    return Passes(num_passes, minibatch_size, stop_kl, target_kl)


def run(loss, params, batch, config, passes, progress=None, env_steps=ZERO, seed=0):
    progress = start_progress(config, params) if progress is None else progress
    key = jax.random.key(seed)
    return jax.jit(
        lambda params, progress, batch, env_steps: descend(
            loss, params, progress, batch, config, passes, env_steps=env_steps, key=key
        )
    )(params, progress, batch, env_steps)


@pytest.mark.parametrize(
    ("decay", "env_steps", "expected"),
    [
        ("linear", 0, 1.0),
        ("linear", 1000, 1.0),
        ("linear", 2000, 0.6),
        ("linear", 3000, 0.2),
        ("linear", 9000, 0.2),
        ("exponential", 1000, 1.0),
        ("exponential", 2000, 0.2**0.5),
        ("exponential", 3000, 0.2),
        ("exponential", 9000, 0.2),
    ],
)
def test_schedule_by_hand(decay, env_steps, expected):
    config = OptimizerConfig(3e-4, decay, decay_start=1000, decay_end=3000, final_factor=0.2)
    assert float(config.rate(at(env_steps))) == pytest.approx(3e-4 * expected, rel=1e-5)


@pytest.mark.parametrize("epoch", [0, 100, 101, 425, 749, 750, 2500])
def test_published_schedule(epoch):
    """Half-cheetah-vel: times `0.1^(1/650)` each epoch of 8,000 steps from 100 to 750."""
    config = OptimizerConfig(
        3e-5, "exponential", decay_start=800_000, decay_end=6_000_000, final_factor=0.1
    )
    expected = 3e-5
    for past in range(epoch):
        if 100 <= past < 750:
            expected *= 0.1 ** (1 / 650)
    found = config.rate(at(8_000 * epoch))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("env_steps", "expected"), [(0, 0.0), (500, 0.25), (1000, 0.5), (2000, 0.75), (3000, 0.5)]
)
def test_a_warmup_rises_beside_the_decay(env_steps, expected):
    config = OptimizerConfig(1e-3, decay_start=1000, decay_end=3000, final_factor=0.5, warmup=2000)
    assert float(config.rate(at(env_steps))) == pytest.approx(1e-3 * expected, rel=1e-5)


def test_by_default_nothing_decays():
    for env_steps in (0, 1, 10**9):
        assert float(OptimizerConfig().rate(at(env_steps))) == np.float32(1e-3)


@pytest.mark.parametrize("decay", ["linear", "exponential"])
@pytest.mark.parametrize("decay_start", [0, 1000])
def test_without_an_end_of_the_decay_the_step_size_stays(decay, decay_start):
    """A final factor alone changes nothing, however late."""
    config = OptimizerConfig(0.1, decay, decay_start=decay_start, decay_end=0, final_factor=0.05)
    for env_steps in (0, 1, 999, 1000, 1001, 8_000, 10**9):
        assert float(config.elapsed(at(env_steps))) == 0.0
        assert float(config.rate(at(env_steps))) == np.float32(0.1)


@pytest.mark.parametrize(
    ("env_steps", "expected"), [(0, 0), (1000, 0), (1500, 0.25), (3000, 1), (9000, 1)]
)
def test_elapsed_is_the_share_of_the_decay_that_is_over(env_steps, expected):
    config = OptimizerConfig(decay_start=1000, decay_end=3000, final_factor=0.2)
    assert float(config.elapsed(at(env_steps))) == pytest.approx(expected)


def test_a_decay_of_no_length_is_a_step():
    config = OptimizerConfig(0.1, decay_start=1000, decay_end=1000, final_factor=0.5)
    found = [float(config.rate(at(env_steps))) for env_steps in (0, 999, 1001, 5000)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.05, 0.05], rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "end", "right"),
    [(0, 0, True), (5, 0, True), (5, 9, True), (5, 5, False), (5, 4, False)],
)
def test_a_schedule_that_does_not_end_after_it_begins_is_a_complaint(start, end, right):
    complaint = OptimizerConfig(decay_start=start, decay_end=end).check(SPEC)
    expected = None if right else f"decay_end is {end}, not after decay_start, {start}"
    assert complaint == expected


@pytest.mark.parametrize(("max_grad_norm", "weight_decay"), [(0.0, 0.0), (0.5, 0.1), (100.0, 0.1)])
def test_adamw_by_hand(max_grad_norm, weight_decay):
    """Three full-batch steps of `mean 0.5 |p - x|^2`, with torch's order of operations."""
    noise = np.random.default_rng(0)
    p, x = noise.normal(size=3), noise.normal(size=(4, 3)) + 2
    config = OptimizerConfig(
        learning_rate=0.1, decay_start=0, decay_end=100, final_factor=0.0,
        weight_decay=weight_decay, max_grad_norm=max_grad_norm,
    )  # fmt: skip

    def loss(params, batch):
        return 0.5 * jnp.mean(jnp.sum((params["p"][None] - batch) ** 2, axis=1)), {}

    params, progress, metrics = run(
        loss, {"p": jnp.asarray(p, jnp.float32)}, jnp.asarray(x, jnp.float32), config,
        passes_of(3, 4), env_steps=at(25),
    )  # fmt: skip
    rate, m, v, norms = 0.1 * 0.75, 0.0, 0.0, []
    for t in (1, 2, 3):
        gradient = (p[None] - x).mean(0)
        norms.append(np.linalg.norm(gradient))
        if max_grad_norm:
            gradient = gradient * min(1.0, max_grad_norm / norms[-1])
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        p = p * (1 - rate * weight_decay)
        p = p - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(params["p"], p, rtol=1e-4)
    assert float(metrics["grad_norm"]) == pytest.approx(np.mean(norms), rel=1e-4)
    assert float(metrics["step_size"]) == pytest.approx(rate)
    assert float(progress.step_scale) == 1.0


@pytest.mark.parametrize("rate", [0.1, 0.03])
def test_a_step_is_of_the_size_given_whatever_the_schedule(rate):
    """The first step of Adam is the sign of the gradient; a frozen part is no array at all."""
    config = OptimizerConfig(9.0, decay_end=10, final_factor=0.0, max_grad_norm=0.0)
    params = {"p": jnp.array([1.0, -2.0, 3.0]), "frozen": None}
    gradient = {"p": jnp.array([4.0, -0.5, 2.0]), "frozen": None}
    moments = config.start(params)
    moved, later = config.step(params, moments, gradient, jnp.asarray(rate))
    expected = np.array([1.0, -2.0, 3.0]) - rate * np.array([1.0, -1.0, 1.0])
    np.testing.assert_allclose(moved["p"], expected, rtol=1e-5)
    assert moved["frozen"] is None
    assert jax.tree.structure(moments) == jax.tree.structure(later)
    assert all(not np.asarray(x).any() for x in jax.tree.leaves(moments))


def test_moments_are_kept_between_updates():
    """Two updates of one pass are one update of two passes."""
    loss = lambda p, batch: (jnp.sum((p - batch.mean()) ** 2), {})
    config = OptimizerConfig(learning_rate=0.5, max_grad_norm=0.0)
    batch, p = jnp.ones(3), jnp.array([2.0])
    whole, _, _ = run(loss, p, batch, config, passes_of(2, 3))
    half, progress, _ = run(loss, p, batch, config, passes_of(1, 3))
    again, _, _ = run(loss, half, batch, config, passes_of(1, 3), progress)
    np.testing.assert_allclose(again, whole, rtol=1e-6)
    fresh, _, _ = run(loss, half, batch, config, passes_of(1, 3))
    assert abs(float(fresh[0] - whole[0])) > 1e-4


@pytest.mark.parametrize(
    ("num_rows", "minibatch_size", "num_minibatches", "size"),
    [(10, 4, 3, 3), (8, 4, 2, 4), (3, 100, 1, 3), (5, 1, 5, 1)],
)
def test_a_pass_takes_each_row_at_most_once(num_rows, minibatch_size, num_minibatches, size):
    taken = []

    def loss(params, batch):
        jax.debug.callback(lambda rows: taken.append(np.asarray(rows)), batch["row"], ordered=True)
        return jnp.sum(params) + 0.0 * jnp.sum(batch["x"]), {}

    batch = {"row": jnp.arange(num_rows), "x": jnp.zeros((num_rows, 2))}
    run(loss, jnp.zeros(1), batch, OptimizerConfig(), passes_of(4, minibatch_size))
    jax.effects_barrier()
    assert [len(rows) for rows in taken] == [size] * (4 * num_minibatches)
    passes = [np.concatenate(taken[i * num_minibatches :][:num_minibatches]) for i in range(4)]
    for rows in passes:
        assert len(set(rows.tolist())) == num_minibatches * size
        assert set(rows.tolist()) <= set(range(num_rows))
    orders = {tuple(rows.tolist()) for rows in passes}
    assert len(orders) > 1  # every pass shuffles anew


def steady(params, batch):
    """A gradient of one, so that Adam steps by the step size; `kl` is the mean of the batch."""
    return -jnp.sum(params), {"kl": jnp.mean(batch)}


@pytest.mark.parametrize(
    ("kl", "before", "after"),
    [
        (0.031, 1.0, 1 / 1.5),  # beyond 1.5 times the target: shrink
        (0.031, 0.12, 0.1),  # but not below a tenth
        (0.029, 0.5, 0.5),  # between: stay
        (0.014, 0.5, 0.5),
        (0.013, 0.5, 0.75),  # below two thirds: grow back
        (0.013, 0.9, 1.0),  # but not above one
    ],
)
def test_step_size_follows_the_divergence(kl, before, after):
    config = OptimizerConfig(learning_rate=0.2, max_grad_norm=0.0)
    moments = start_progress(config, jnp.zeros(1)).moments
    params, progress, metrics = run(
        steady, jnp.zeros(1), jnp.full(4, kl), config, passes_of(2, 2, target_kl=0.02),
        Progress(moments, jnp.asarray(before)),
    )  # fmt: skip
    assert float(progress.step_scale) == pytest.approx(after, rel=1e-5)
    assert float(metrics["step_size"]) == pytest.approx(0.2 * before)
    assert float(params[0]) == pytest.approx(4 * 0.2 * before, rel=1e-4)


def test_without_a_target_the_step_size_stays():
    progress = run(steady, jnp.zeros(1), jnp.full(4, 9.0), OptimizerConfig(), passes_of(1, 2))[1]
    assert float(progress.step_scale) == 1.0


def test_the_last_pass_decides_the_step_size():
    """It grows 0, .1, .2, .3: the last pass's .25 is beyond 1.5 x .15, the mean .15 is not."""
    loss = lambda p, batch: (-jnp.sum(p) + 0.0 * jnp.sum(batch), {"kl": jnp.abs(jnp.sum(p))})
    config, passes = OptimizerConfig(0.1, max_grad_norm=0.0), passes_of(2, 2, target_kl=0.15)
    _, progress, metrics = run(loss, jnp.zeros(1), jnp.zeros(4), config, passes)
    assert float(metrics["kl"]) == pytest.approx(0.15, rel=1e-3)
    assert float(progress.step_scale) == pytest.approx(1 / 1.5)


def stop_at(stop_kl):
    """Eight steps of 0.1; the divergence before step i is 0.1 i."""
    loss = lambda p, batch: (-jnp.sum(p) + 0.0 * jnp.sum(batch), {"kl": jnp.abs(jnp.sum(p))})
    config = OptimizerConfig(learning_rate=0.1, max_grad_norm=0.0)
    return run(loss, jnp.zeros(1), jnp.zeros(4), config, passes_of(4, 2, stop_kl))


def test_passes_stop_at_too_large_a_divergence():
    params, progress, _ = stop_at(0.35)
    assert float(params[0]) == pytest.approx(0.4, rel=1e-4)  # the step at 0.4 was not taken
    counts = [x for x in jax.tree.leaves(progress.moments) if x.dtype == jnp.int32]
    assert [int(x) for x in counts] == [4]
    assert float(stop_at(0.0)[0][0]) == pytest.approx(0.8, rel=1e-4)
    assert float(stop_at(5.0)[0][0]) == pytest.approx(0.8, rel=1e-4)


def test_metrics_are_means_over_the_minibatches_taken():
    assert float(stop_at(0.35)[2]["kl"]) == pytest.approx(0.15, rel=1e-3)  # 0, .1, .2, .3
