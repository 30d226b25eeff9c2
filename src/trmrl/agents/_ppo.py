"""What PPO asks of a trial, and the trial as its losses read it.

Lives here: settings, rows cut into chunks, and averages over the rows that happened. Does not live
here: the losses (`memory_ppo.py`), or their mathematics (`ops/`).
"""

from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Shaped


class PPOConfig(eqx.Module):
    """What is asked of a trial.

    gamma, gae_lambda: discount per step, and of advantage estimates. clip: of the ratio.
    num_passes over the trial, in minibatches of `minibatch_size` rows, each a set of chunks of
    `chunk_length` steps (0: the whole trial). stop_kl: the passes of an update end when a
    minibatch's divergence from the acting policy exceeds it (0: never). entropy_coef: of the bonus
    for the policy's entropy, times `entropy_final_factor` by the end of the step size's decay.

    prediction_coef: of self-supervision: the feature and the action taken predict the reward and
    the next observation (0: they do not). Nothing else of the agent reads the predictions; what
    they leave is a memory of what actions did here before, which a policy's gradient is slow to
    form where rewards are noisy.

    value_loss: "squared", or "gaussian", the published likelihood with a learned width.
    value_target: "lambda", advantage plus value, or "return", the published discounted return.
    value_phase: "joint" adds `value_coef` times the value loss to the policy's; "after" takes all
    value passes once the policy's are over, by the agent's `value_optimizer`.

    credit_across_episodes: rewards of later episodes of a trial count for earlier ones; else every
    episode is a stream of its own, which ends where the world or the clock ended it, and at the
    latest with its slot. bootstrap: a stream that the clock cuts goes on in expectation (its last
    row then serves only as the value of the row before); else the clock is an end like any other.
    """

    gamma: float = 0.95
    gae_lambda: float = 0.9
    clip: float = 0.2
    num_passes: int = 4
    minibatch_size: int = 1600
    chunk_length: int = 1
    stop_kl: float = 0.0
    entropy_coef: float = 0.0
    entropy_final_factor: float = 1.0
    prediction_coef: float = 0.0
    normalize_advantage: bool = True
    value_loss: Literal["squared", "gaussian"] = "squared"
    value_target: Literal["lambda", "return"] = "lambda"
    value_phase: Literal["joint", "after"] = "joint"
    value_coef: float = 0.5
    credit_across_episodes: bool = True
    bootstrap: bool = True


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """A trial cut into `M` chunks of `C` rows, as the losses read it."""

    memory0: Any  # before each chunk's first row, [M, ...]; None where that is always empty
    token: Float[jax.Array, "*M C D"]
    start: Bool[jax.Array, "*M C"]
    valid: Bool[jax.Array, "*M C"]
    action: Shaped[jax.Array, "*actions"]
    log_prob: Float[jax.Array, "*M C"]
    advantage: Float[jax.Array, "*M C"]
    value_target: Float[jax.Array, "*M C"]
    outcome: Float[jax.Array, "*M C O"]  # what may be predicted: reward, next observation


def mean(x: Float[jax.Array, "*axes"], valid: Bool[jax.Array, "*axes"]) -> Float[jax.Array, ""]:
    """Return the mean over valid rows, zero where there are none."""
    return jnp.sum(jnp.where(valid, x, 0.0)) / jnp.maximum(valid.sum(dtype=x.dtype), 1.0)


def standardize(
    x: Float[jax.Array, "*axes"], valid: Bool[jax.Array, "*axes"]
) -> Float[jax.Array, "*axes"]:
    """Return `x` less its mean, over its deviation."""
    centered = x - mean(x, valid)
    return centered / (jnp.sqrt(mean(centered**2, valid)) + 1e-8)


def explained_variance(
    target: jax.Array, value: jax.Array, valid: jax.Array
) -> Float[jax.Array, ""]:
    """Return the share of the targets' variance that the values predicted."""
    variance = lambda x: mean((x - mean(x, valid)) ** 2, valid)
    return 1.0 - variance(target - value) / (variance(target) + 1e-8)
