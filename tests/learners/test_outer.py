"""The outer step, for an adaptation of one line: by differences, in NumPy, and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.outer import (
    Batch,
    OuterPPOConfig,
    Readapted,
    Rollouts,
    TRPOConfig,
    surrogate_loss,
)
from trmrl.nets.heads import HeadConfig, policy_head
from trmrl.ops.masked import mean
from trmrl.types import Continuous, replace

M, K, H, R, D, A = 3, 2, 4, 2, 2, 2


def in_double(function):
    """In double precision, where differences are exact enough."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return run


def adapt(policy, rollouts):
    """A task's policy after one step up its surrogate in the first of two episodes."""
    first = jax.tree.map(lambda x: x[0], rollouts)

    def gain(policy):
        ratio = jnp.exp(policy(first.obs).log_prob(first.action) - first.log_prob)
        return mean(ratio * first.advantage, first.valid)

    return jax.tree.map(lambda w, g: w + 0.2 * g, policy, jax.grad(gain)(policy))


def acting(policy, rollouts):
    """Distributions of a task's two episodes, before and after the adaptation between them."""
    return policy(rollouts.obs[:1]), adapt(policy, rollouts)(rollouts.obs[1])


def readapt_one(policy, batch):
    before, after = acting(policy, batch.rollouts)
    first, last = (jax.tree.map(lambda x, k=k: x[k], batch.rollouts) for k in (slice(1), 1))
    return Readapted(
        log_ratio=after.log_prob(last.action) - last.log_prob,
        kl_before=mean(batch.old_before.kl(before), first.valid),
        kl_after=mean(batch.old_after.kl(after), last.valid),
        entropy=mean(after.entropy(), last.valid),
        exploration=jnp.zeros(()),
    )


readapt = jax.vmap(readapt_one, in_axes=(None, 0))


def random_batch(seed=0):
    """A policy of 19 weights and a batch of `M` tasks that it acted in."""
    noise = np.random.default_rng(seed)
    policy = policy_head(D, Continuous(A), HeadConfig((3,), 1.0, 1.0), key=jax.random.key(seed))
    shaken = lambda x: jnp.asarray(np.asarray(x, np.float64) + 0.3 * noise.normal(size=x.shape))
    policy = jax.tree.map(shaken, policy)
    shape = (M, K, H, R)
    rollouts = Rollouts(
        obs=jnp.asarray(noise.normal(size=(*shape, D))),
        action=jnp.asarray(noise.normal(size=(*shape, A))),
        log_prob=jnp.zeros(shape),
        reward=jnp.asarray(noise.normal(size=shape)),
        advantage=jnp.asarray(noise.normal(size=shape)),
        valid=jnp.asarray(noise.uniform(size=shape) < 0.8),
    )

    @jax.jit
    def act(policy, rollouts):  # as if nobody had adapted when it acted: ratios are not all one
        log_prob = policy(rollouts.obs).log_prob(rollouts.action)
        rollouts = replace(rollouts, log_prob=log_prob)
        before, after = jax.vmap(acting, in_axes=(None, 0))(policy, rollouts)
        return Batch(rollouts, before, after, jnp.zeros(M))

    return policy, act(policy, rollouts)


def differences(function, weights, size=1e-6):
    """The derivative along every weight, by central differences, in the last axis."""
    columns = []
    for i in range(len(weights)):
        step = np.zeros(len(weights))
        step[i] = size
        columns.append((function(weights + step) - function(weights - step)) / (2 * size))
    return np.stack(columns, axis=-1)


def step_of(outer, readapt):
    """One outer step, compiled, as a function of policy, optimizer and batch."""
    when = {"env_steps": jnp.float32(0), "key": jax.random.key(0)}
    return jax.jit(lambda policy, optimizer, batch: outer.step(
        readapt, policy, optimizer, batch, **when))  # fmt: skip


@pytest.mark.parametrize("kl_limit", [0.01, 0.5])
@in_double
def test_a_trust_region_step_is_that_of_numpy(kl_limit):
    """An explicit Hessian by differences of gradients, a solver, and a loop over fractions."""
    outer = TRPOConfig(kl_limit=kl_limit, num_cg_steps=60, damping=1e-2)
    policy, batch = random_batch()
    weights, unravel = ravel_pytree(policy)
    weights = np.asarray(weights)

    @jax.jit
    def measure(w):
        readapted = readapt(unravel(w), batch)
        return surrogate_loss(readapted, batch), readapted.kl_after.mean()

    slope = jax.jit(jax.grad(lambda w: measure(w)[1]))
    hessian = differences(slope, weights) + 1e-2 * np.eye(19)
    gradient = differences(lambda w: measure(w)[0], weights)
    direction = np.linalg.solve(hessian, gradient)
    step = np.sqrt(2 * kl_limit / (direction @ hessian @ direction)) * direction
    loss = measure(weights)[0]
    for tries in range(15):
        expected = weights - 0.8**tries * step
        there, kl = measure(expected)
        if there < loss and kl <= kl_limit:
            break
    moved, _, metrics = step_of(outer, readapt)(policy, None, batch)
    assert metrics["line_search_fraction"] == pytest.approx(0.8**tries)
    np.testing.assert_allclose(ravel_pytree(moved)[0], expected, rtol=1e-4, atol=1e-6)


@in_double
def test_a_step_that_breaks_the_constraint_leaves_every_weight():
    policy, batch = random_batch()

    def far(policy, batch):
        readapted = readapt(policy, batch)
        return replace(readapted, kl_after=readapted.kl_after + 1.0)

    moved, _, metrics = step_of(TRPOConfig(), far)(policy, None, batch)
    assert float(metrics["line_search_accepted"]) == float(metrics["step_size"]) == 0
    np.testing.assert_array_equal(ravel_pytree(moved)[0], ravel_pytree(policy)[0])


@pytest.mark.parametrize(("kl_target", "factor"), [(0.0, 1.0), (1e-9, 2.0), (1e9, 0.5)])
def test_the_price_of_divergence_follows_it(kl_target, factor):
    policy, batch = random_batch()
    outer = OuterPPOConfig(kl_coef=0.25, kl_target=kl_target)
    _, optimizer, metrics = step_of(outer, readapt)(policy, outer.start(policy), batch)
    assert optimizer["kl_coef"] == 0.25 * factor
    assert metrics["kl_coef"] == 0.25


def test_a_price_holds_the_policy_back():
    found = []
    policy, batch = random_batch()
    for kl_coef in (0.0, 100.0):
        outer = OuterPPOConfig(
            kl_coef=kl_coef, optimizer=OptimizerConfig(learning_rate=1e-2, max_grad_norm=0.0)
        )
        moved, _, _ = step_of(outer, readapt)(policy, outer.start(policy), batch)
        found.append(jax.jit(readapt)(moved, batch).kl_before.mean())
    assert 0 < 3 * found[1] < found[0]


def test_passes_end_once_the_policies_have_diverged():
    policy, batch = random_batch()
    before = float(jax.jit(readapt)(policy, batch).kl_after.mean())

    def moved(num_passes, stop_kl):
        steps = OptimizerConfig(learning_rate=1e-2, max_grad_norm=0.0)
        outer = OuterPPOConfig(num_passes=num_passes, stop_kl=stop_kl, optimizer=steps)
        after, _, _ = step_of(outer, readapt)(policy, outer.start(policy), batch)
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(after)])

    one, stopped, free = moved(1, 0.0), moved(4, before + 1e-6), moved(4, 0.0)
    np.testing.assert_allclose(stopped, one, rtol=1e-6)
    assert np.abs(free - one).max() > 1e-2
