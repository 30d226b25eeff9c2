"""The outer step, for an adaptation of one line: by differences, in NumPy, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.outer import OuterPPOConfig, Readapted, TRPOConfig
from trmrl.ops.masked import mean
from trmrl.types import replace


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
        exploration=0.3 * mean(before.log_prob(first.action), first.valid),
    )


readapt = jax.vmap(readapt_one, in_axes=(None, 0))


@pytest.fixture
def batch_of(random_batch):
    """`batch_of()`: a policy, and a batch that it acted in, in the precision of the moment."""
    return lambda: random_batch(acting)


def surrogate(readapted, batch, clip=np.inf):
    """The loss in NumPy: a mean over tasks of the mean over what happened in the last episode."""
    rollouts = batch.rollouts
    advantage, valid = np.asarray(rollouts.advantage)[:, 1], np.asarray(rollouts.valid)[:, 1]
    ratio = np.exp(readapted.log_ratio)
    gain = np.minimum(ratio * advantage, np.clip(ratio, 1 - clip, 1 + clip) * advantage)
    of_tasks = [one[kept].mean() for one, kept in zip(gain, valid, strict=True)]
    return -np.mean(of_tasks + np.asarray(readapted.exploration))


def step_of(outer, readapt):
    """One outer step, compiled, as a function of policy, optimizer and batch."""
    when = {"env_steps": jnp.float32(0), "key": jax.random.key(0)}
    return jax.jit(lambda policy, optimizer, batch: outer.step(
        readapt, policy, optimizer, batch, **when))  # fmt: skip


@pytest.mark.parametrize("kl_limit", [0.01, 0.5])
def test_a_trust_region_step_is_that_of_numpy(in_double, differences, batch_of, kl_limit):
    """An explicit Hessian by differences of gradients, a solver, and a loop over fractions."""
    outer = TRPOConfig(kl_limit=kl_limit, num_cg_steps=60, damping=1e-2)
    policy, batch = batch_of()
    weights, unravel = ravel_pytree(policy)
    weights = np.asarray(weights)
    measure = jax.jit(lambda w: readapt(unravel(w), batch))
    loss_at = lambda w: surrogate(measure(w), batch)
    slope = jax.jit(jax.grad(lambda w: readapt(unravel(w), batch).kl_after.mean()))
    hessian = differences(slope, weights) + 1e-2 * np.eye(19)
    gradient = differences(loss_at, weights)
    direction = np.linalg.solve(hessian, gradient)
    step = np.sqrt(2 * kl_limit / (direction @ hessian @ direction)) * direction
    for tries in range(15):
        expected = weights - 0.8**tries * step
        kl = np.asarray(measure(expected).kl_after).mean()
        if loss_at(expected) < loss_at(weights) and kl <= kl_limit:
            break
    moved, _, metrics = step_of(outer, readapt)(policy, None, batch)
    assert metrics["line_search_fraction"] == pytest.approx(0.8**tries)
    np.testing.assert_allclose(ravel_pytree(moved)[0], expected, rtol=1e-3, atol=1e-4)


def test_a_step_that_breaks_the_constraint_leaves_every_weight(batch_of):
    policy, batch = batch_of()

    def far(policy, batch):
        readapted = readapt(policy, batch)
        return replace(readapted, kl_after=readapted.kl_after + 1.0)

    moved, _, metrics = step_of(TRPOConfig(), far)(policy, None, batch)
    assert float(metrics["line_search_accepted"]) == float(metrics["step_size"]) == 0
    np.testing.assert_array_equal(ravel_pytree(moved)[0], ravel_pytree(policy)[0])


@pytest.mark.parametrize(("clip", "kl_coef"), [(0.2, 0.0), (0.2, 5.0), (9.0, 0.0)])
def test_a_pass_goes_down_the_clipped_surrogate_and_its_price(differences, batch_of, clip, kl_coef):
    """Adam's first step has the gradient's signs. It begins elsewhere than the policy that acted.

    There, divergences have a slope, and ratios lie on either side of the clip.
    """

    def loss_at(readapted):
        price = kl_coef * np.asarray(readapted.kl_before).mean()
        return surrogate(readapted, batch, clip) + price

    with jax.enable_x64(True):
        policy, batch = batch_of()
        weights, unravel = ravel_pytree(policy)
        weights = np.asarray(weights) + 0.1 * np.sin(np.arange(19.0))
        measure = jax.jit(lambda w: readapt(unravel(w), batch))
        gradient = differences(lambda w: loss_at(measure(w)), weights)
        ratio = np.exp(measure(weights).log_ratio)[np.asarray(batch.rollouts.valid)[:, 1]]
        single = lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x
        policy, batch = jax.tree.map(single, (unravel(jnp.asarray(weights)), batch))
    steps = OptimizerConfig(learning_rate=0.25, max_grad_norm=0.0)
    outer = OuterPPOConfig(clip=clip, kl_coef=kl_coef, num_passes=1, optimizer=steps)
    moved, _, metrics = step_of(outer, readapt)(policy, outer.start(policy), batch)
    assert metrics["grad_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-4)
    step = ravel_pytree(moved)[0] - ravel_pytree(policy)[0]
    np.testing.assert_allclose(step, -0.25 * np.sign(gradient), rtol=1e-3)
    beyond = (np.abs(ratio - 1) > clip).mean()
    assert metrics["clip_fraction"] == pytest.approx(beyond)
    assert (0.3 < beyond < 0.9) == (clip < 1)


@pytest.mark.parametrize(
    ("kl_target", "kl", "factor"),
    [(0.0, 9.0, 1.0), (0.3, 0.46, 2.0), (0.3, 0.44, 1.0), (0.3, 0.21, 1.0), (0.3, 0.19, 0.5)],
)
def test_the_price_follows_the_divergence_before_the_adaptation(batch_of, kl_target, kl, factor):
    """It doubles beyond 1.5 times the target and halves below two thirds, for the next update."""
    policy, batch = batch_of()

    def diverged(policy, batch):
        nothing = jnp.zeros(3)
        return Readapted(jnp.zeros_like(batch.last.reward), nothing + kl, *[nothing + 0.3] * 3)

    outer = OuterPPOConfig(kl_coef=0.25, kl_target=kl_target)
    _, optimizer, metrics = step_of(outer, diverged)(policy, outer.start(policy), batch)
    assert optimizer["kl_coef"] == 0.25 * factor
    assert metrics["kl_coef"] == 0.25


def test_passes_end_once_the_policies_have_diverged(batch_of):
    policy, batch = batch_of()
    before = float(jax.jit(readapt)(policy, batch).kl_after.mean())

    def moved(num_passes, stop_kl):
        steps = OptimizerConfig(learning_rate=1e-2, max_grad_norm=0.0)
        outer = OuterPPOConfig(num_passes=num_passes, stop_kl=stop_kl, optimizer=steps)
        after, _, _ = step_of(outer, readapt)(policy, outer.start(policy), batch)
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(after)])

    one, stopped, free = moved(1, 0.0), moved(4, before + 1e-6), moved(4, 0.0)
    np.testing.assert_allclose(stopped, one, rtol=1e-6)
    assert np.abs(free - one).max() > 1e-2
