"""What is logged of every training trial, whoever the agent: the menu, and a function for each."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Shaped

from trmrl.types import Metrics, Trial


def episode_return(trial: Trial) -> Float[jax.Array, " K"]:
    """Return the mean over lanes of each episode's summed reward."""
    reward = jnp.where(trial.rows.valid, trial.rows.outcome.reward, 0.0)
    return reward.sum(axis=1).mean(axis=1)


def episode_success(trial: Trial) -> Float[jax.Array, " K"] | None:
    """Return the share of lanes with any success in each episode; None where none is marked."""
    if trial.rows.outcome.success is None:
        return None
    success = jnp.asarray(trial.rows.outcome.success) & jnp.asarray(trial.rows.valid)
    return success.any(axis=1).mean(axis=1, dtype=jnp.float32)


def idle_share(trial: Trial) -> Float[jax.Array, ""]:
    """Return the share of rows that lie behind an early end."""
    return (~jnp.asarray(trial.rows.valid)).mean(dtype=jnp.float32)


def num_diverged(trial: Trial) -> Int[jax.Array, ""] | None:
    """Return how many episodes ended because their simulation diverged; None where none can."""
    diverged = trial.rows.outcome.diverged
    if diverged is None:
        return None
    return (jnp.asarray(diverged) & jnp.asarray(trial.rows.valid)).sum(dtype=jnp.int32)


def trial_steps(trial: Trial) -> Int[jax.Array, ""]:
    """Return how many rows happened, in all lanes together."""
    return jnp.asarray(trial.rows.valid).sum(dtype=jnp.int32)


def bad_obs(trial: Trial) -> Float[jax.Array, ""]:
    """Return how many rows have an observation that is not finite."""
    finite = jnp.isfinite(trial.rows.outcome.next_obs).all(axis=-1)
    return jnp.sum(~finite & jnp.asarray(trial.rows.valid)).astype(jnp.float32)


METRICS: dict[str, Callable[[Trial], Shaped[jax.Array, "..."] | None]] = {
    "return": episode_return,
    "success": episode_success,
    "idle_share": idle_share,
    "num_diverged": num_diverged,
    "trial_steps": trial_steps,
    "bad_obs": bad_obs,
}


def describe(trial: Trial) -> Metrics:
    """Return every metric of the menu that the trial has."""
    values = {name: metric(trial) for name, metric in METRICS.items()}
    return {name: value for name, value in values.items() if value is not None}
