"""How a network descends a loss over shuffled minibatches: passes, step sizes, clipping, stopping.

Lives here: AdamW with a schedule in environment steps and a step size that may follow the
divergence it causes. Does not live here: any loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int, PyTree

from trmrl.types import Metrics, PRNGKey

Loss = Callable[[PyTree, PyTree], tuple[jax.Array, Metrics]]
SCALE_STEP = 1.5  # how fast the step size follows the divergence, as a factor per update
SCALE_RANGE = 0.1, 1.0


class OptimizerConfig(eqx.Module):
    """AdamW (Loshchilov and Hutter, 2019), its step size held until `decay_start` env steps.

    By `decay_end` it has reached `final_factor` times itself and stays there. max_grad_norm: of the
    whole gradient (0: unclipped). target_kl: shrink the step size while an update moves the policy
    further than 1.5 times this, and let it grow back below two thirds (0: never).
    """

    learning_rate: float = 1e-3
    decay: Literal["exponential", "linear"] = "linear"
    decay_start: int = 0
    decay_end: int = 0
    final_factor: float = 1.0
    weight_decay: float = 0.0
    max_grad_norm: float = 0.5
    target_kl: float = 0.0

    def elapsed(self, env_steps: Int[jax.Array, ""]) -> Float[jax.Array, ""]:
        """Return the share of the decay that is over, 0 to 1."""
        span = max(self.decay_end - self.decay_start, 1)
        return jnp.clip((env_steps - self.decay_start).astype(jnp.float32) / span, 0.0, 1.0)

    def factor(self, env_steps: Int[jax.Array, ""]) -> Float[jax.Array, ""]:
        """Return what the schedule multiplies the step size by."""
        elapsed = self.elapsed(env_steps)
        if self.decay == "exponential":
            return jnp.asarray(self.final_factor, jnp.float32) ** elapsed
        return 1.0 - (1.0 - self.final_factor) * elapsed

    def transform(self) -> optax.GradientTransformation:
        """Return the direction of a step; its size is applied by `descend`."""
        clip = optax.clip_by_global_norm(self.max_grad_norm)
        return optax.chain(
            clip if self.max_grad_norm else optax.identity(),
            optax.scale_by_adam(),
            optax.add_decayed_weights(self.weight_decay) if self.weight_decay else optax.identity(),
        )


class Passes(eqx.Module):
    """How often and in what portions a batch is gone through; see `PPOConfig`."""

    num_passes: int
    minibatch_size: int
    stop_kl: float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Progress:
    """Where a descent stands between updates."""

    moments: Any  # Adam's
    step_scale: Float[jax.Array, ""]  # what the divergence has made of the step size


def start_progress(config: OptimizerConfig, params: PyTree) -> Progress:
    """Return the progress before the first step on `params`."""
    return Progress(config.transform().init(eqx.filter(params, eqx.is_array)), jnp.ones(()))


def descend(
    loss: Loss,
    params: PyTree,
    progress: Progress,
    batch: PyTree,
    config: OptimizerConfig,
    passes: Passes,
    *,
    env_steps: Int[jax.Array, ""],
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
    transform = config.transform()
    rate = config.learning_rate * config.factor(env_steps) * progress.step_scale

    def step(carry, index):
        params, moments, stopped = carry
        minibatch = jax.tree.map(lambda x: jnp.take(x, index, 0, unique_indices=True), batch)
        gradient, metrics = jax.grad(loss, has_aux=True)(params, minibatch)
        metrics = metrics | {"grad_norm": optax.tree.norm(gradient)}
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to its integer counter
            direction, new_moments = transform.update(gradient, moments, params)
        new_params = jax.tree.map(lambda p, d: p - rate * d, params, direction)
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
    final_kl = metrics["kl"][-1].mean() if "kl" in metrics else jnp.zeros(())
    num_taken = jnp.maximum(taken.sum(dtype=jnp.float32), 1.0)
    metrics = jax.tree.map(lambda x: jnp.sum(jnp.where(taken, x, 0.0)) / num_taken, metrics)
    metrics["step_size"] = rate
    return params, Progress(moments, _follow(config, progress.step_scale, final_kl)), metrics


def _follow(
    config: OptimizerConfig, step_scale: Float[jax.Array, ""], kl: Float[jax.Array, ""]
) -> Float[jax.Array, ""]:
    """Return the step scale after an update whose last pass diverged by `kl`."""
    if not config.target_kl:
        return step_scale
    shrink = jnp.where(kl > 1.5 * config.target_kl, 1 / SCALE_STEP, 1.0)
    grow = jnp.where(kl < config.target_kl / 1.5, SCALE_STEP, 1.0)
    return jnp.clip(step_scale * shrink * grow, *SCALE_RANGE)
