"""How parameters descend a loss: one step of AdamW, and passes over shuffled minibatches.

The only place where an optimizer steps. Step sizes follow a schedule in environment steps, and may
follow the divergence they cause.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, PyTree

from trmrl.settings import AbstractSettings, field
from trmrl.types import EnvSpec, Metrics, PRNGKey

Loss = Callable[[PyTree, PyTree], tuple[jax.Array, Metrics]]
SCALE_STEP = 1.5  # how fast the step size follows the divergence, as a factor per update
SCALE_RANGE = 0.1, 1.0


class OptimizerConfig(AbstractSettings):
    """AdamW (Loshchilov and Hutter, 2019), its step size held until `decay_start` env steps.

    By `decay_end` it has reached `final_factor` times itself and stays there. Over the first
    `warmup` env steps it also rises in a line from zero: the first update then only fills Adam's
    moments.
    """

    learning_rate: float = field(1e-3, low=0)  # step size before its schedule
    decay: Literal["exponential", "linear"] = "linear"
    decay_start: int = field(0, low=0)  # env steps
    decay_end: int = field(0, low=0)  # env steps; 0: the step size never decays
    final_factor: float = field(1.0, low=0, high=1)  # of the step size, from decay_end on
    weight_decay: float = field(0.0, low=0)
    max_grad_norm: float = field(0.5, low=0)  # of the whole gradient (0: unclipped)
    warmup: int = field(0, low=0)  # env steps; 0: the first step is as large as the later ones

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where the schedule ends before it begins."""
        del spec
        if 0 < self.decay_end <= self.decay_start:
            return f"decay_end is {self.decay_end}, not after decay_start, {self.decay_start}"
        return None

    def elapsed(self, env_steps: Float[jax.Array, ""]) -> Float[jax.Array, ""]:
        """Return the share of the decay that is over, 0 to 1; 0 where there is none."""
        if not self.decay_end:
            return jnp.zeros(())
        span = max(self.decay_end - self.decay_start, 1)  # of budgets that no trial fits, too
        return jnp.clip((env_steps - self.decay_start) / span, 0.0, 1.0)

    def rate(self, env_steps: Float[jax.Array, ""]) -> Float[jax.Array, ""]:
        """Return the step size after so many env steps."""
        elapsed = self.elapsed(env_steps)
        if self.decay == "exponential":
            factor = jnp.asarray(self.final_factor, jnp.float32) ** elapsed
        else:
            factor = 1.0 - (1.0 - self.final_factor) * elapsed
        if self.warmup:
            factor = factor * jnp.minimum(env_steps / self.warmup, 1.0)
        return self.learning_rate * factor

    def start(self, params: PyTree) -> PyTree:
        """Return Adam's moments before the first step on `params`."""
        return self._transform().init(eqx.filter(params, eqx.is_array))

    def step(
        self, params: PyTree, moments: PyTree, gradient: PyTree, rate: Float[jax.Array, ""]
    ) -> tuple[PyTree, PyTree]:
        """Return parameters and moments after one step of size `rate` down a gradient."""
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to its integer counter
            direction, moments = self._transform().update(gradient, moments, params)
        return jax.tree.map(lambda p, d: p - rate * d, params, direction), moments

    def _transform(self) -> optax.GradientTransformation:
        clip = optax.clip_by_global_norm(self.max_grad_norm)
        return optax.chain(
            clip if self.max_grad_norm else optax.identity(),
            optax.scale_by_adam(),
            optax.add_decayed_weights(self.weight_decay) if self.weight_decay else optax.identity(),
        )


class Passes(eqx.Module):
    """How often and in what portions the rows of a trial are gone through.

    stop_kl: the passes of an update end when a minibatch's divergence from the acting policy
    exceeds it (0: never). target_kl: the step size shrinks while an update moves the policy further
    than 1.5 times this, and grows back below two thirds (0: never).
    """

    num_passes: int
    minibatch_size: int
    stop_kl: float
    target_kl: float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Progress:
    """Where a descent stands between updates."""

    moments: Any  # Adam's
    step_scale: Float[jax.Array, ""]  # what the divergence has made of the step size


def start_progress(config: OptimizerConfig, params: PyTree) -> Progress:
    """Return the progress before the first step on `params`."""
    return Progress(config.start(params), jnp.ones(()))


def descend(
    loss: Loss,
    params: PyTree,
    progress: Progress,
    batch: PyTree,
    config: OptimizerConfig,
    passes: Passes,
    *,
    env_steps: Float[jax.Array, ""],
    key: PRNGKey,
) -> tuple[PyTree, Progress, Metrics]:
    """Return parameters after `num_passes` over the batch, whose leaves share a leading axis `M`.

    A pass is cut into `ceil(M / minibatch_size)` equal minibatches of shuffled rows; rows left over
    wait for the next shuffle. `loss(params, minibatch)` returns a scalar and metrics, among which
    `kl` steers `target_kl` and `stop_kl`. Returned metrics are means over the minibatches taken.
    """
    num_rows = jax.tree.leaves(batch)[0].shape[0]
    num_minibatches = -(-num_rows // passes.minibatch_size)
    size = num_rows // num_minibatches
    rate = config.rate(env_steps) * progress.step_scale

    def step(carry, index):
        params, moments, stopped = carry
        minibatch = jax.tree.map(lambda x: jnp.take(x, index, 0, unique_indices=True), batch)
        gradient, metrics = jax.grad(loss, has_aux=True)(params, minibatch)
        metrics = metrics | {"grad_norm": optax.tree.norm(gradient)}
        new_params, new_moments = config.step(params, moments, gradient, rate)
        if passes.stop_kl and "kl" in metrics:
            stopped = stopped | (metrics["kl"] > passes.stop_kl)
            keep = lambda new, old: jnp.where(stopped, old, new)
            new_params = jax.tree.map(keep, new_params, params)
            new_moments = jax.tree.map(keep, new_moments, moments)
        return (new_params, new_moments, stopped), (metrics, ~stopped)

    def one_pass(carry, key):
        order = jax.random.permutation(key, num_rows)[: num_minibatches * size]
        return jax.lax.scan(step, carry, order.reshape((num_minibatches, size)))

    carry = params, progress.moments, jnp.zeros((), bool)
    keys = jax.random.split(key, passes.num_passes)
    (params, moments, _), (metrics, taken) = jax.lax.scan(one_pass, carry, keys)
    final_kl = metrics["kl"][-1].mean() if "kl" in metrics else None
    num_taken = jnp.maximum(taken.sum(dtype=jnp.float32), 1.0)
    metrics = jax.tree.map(lambda x: jnp.sum(jnp.where(taken, x, 0.0)) / num_taken, metrics)
    metrics["step_size"] = rate
    step_scale = progress.step_scale
    if passes.target_kl and final_kl is not None:
        step_scale = _follow(passes.target_kl, step_scale, final_kl)
    return params, Progress(moments, step_scale), metrics


def _follow(
    target_kl: float, step_scale: Float[jax.Array, ""], kl: Float[jax.Array, ""]
) -> Float[jax.Array, ""]:
    """Return the step scale after an update whose last pass diverged by `kl`."""
    shrink = jnp.where(kl > 1.5 * target_kl, 1 / SCALE_STEP, 1.0)
    grow = jnp.where(kl < target_kl / 1.5, SCALE_STEP, 1.0)
    return jnp.clip(step_scale * shrink * grow, *SCALE_RANGE)
