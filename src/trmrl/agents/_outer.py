"""How the weights that tasks begin with are moved, once each task's adaptation has been relived.

Lives here: what an outer step reads of a trial, and its two kinds, by a trust region or by clipped
passes. Does not live here: adaptation itself (`maml.py`), or the mathematics (`ops/`).
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, Int, PyTree, Shaped

from trmrl.agents._ppo import mean
from trmrl.agents._sgd import OptimizerConfig, Passes, descend, start_progress
from trmrl.nets.heads import PolicyHead
from trmrl.ops.ppo import clipped_surrogate
from trmrl.ops.trpo import line_search, natural_step
from trmrl.types import Metrics, PRNGKey

KL_RANGE = 1.5  # how far from its target a divergence may stray before its price changes


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rollouts:
    """What the `R` lanes of a task lived, one episode or `K`, zero where nothing happened.

    The leaves of `M` tasks' rollouts lead with `M`.
    """

    obs: Float[jax.Array, "*axes D"]
    action: Shaped[jax.Array, "..."]  # in the policy's own units
    log_prob: Float[jax.Array, "*axes"]  # of that action when it was taken
    reward: Float[jax.Array, "*axes"]
    advantage: Float[jax.Array, "*axes"]  # standardized per task and episode
    valid: Bool[jax.Array, "*axes"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """A trial as an outer step reads it; every leaf leads with the tasks, `M`."""

    rollouts: Rollouts  # [M, K, H, R]
    old_before: Any  # distributions that acted in all episodes but the last, [M, K - 1, H, R]
    old_after: Any  # and in the last, [M, H, R]
    credit: Float[jax.Array, " *M"]  # mean reward of the last episode, standardized over tasks

    @property
    def last(self) -> Rollouts:
        """What was lived after the last adaptation, `[M, H, R]`."""
        return jax.tree.map(lambda x: x[:, -1], self.rollouts)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reading:
    """What a policy, adapted anew to each of `M` tasks, says of a batch."""

    log_ratio: Float[jax.Array, "*M H R"]  # of the last episode's actions, to when they were taken
    kl_before: Float[jax.Array, " *M"]  # from those who acted before the last adaptation, nats
    kl_after: Float[jax.Array, " *M"]  # from who acted after it, nats
    entropy: Float[jax.Array, " *M"]  # after it, nats
    exploration: Float[jax.Array, " *M"]  # E-MAML's term, to be maximized; weighted


Read = Callable[[PolicyHead, Batch], Reading]


def surrogate_loss(reading: Reading, batch: Batch, clip: float = 0.0) -> Float[jax.Array, ""]:
    """Return the negative surrogate after adaptation, a mean over tasks (`clip` 0: unclipped)."""
    last, ratio = batch.last, jnp.exp(reading.log_ratio)
    gain = clipped_surrogate(ratio, last.advantage, clip) if clip else ratio * last.advantage
    return -jnp.mean(jax.vmap(mean)(gain, last.valid) + reading.exploration)


class AbstractOuter(eqx.Module):
    """One way to move the weights that tasks begin with."""

    @abc.abstractmethod
    def start(self, policy: PolicyHead) -> PyTree:
        """Return what steers the steps, before the first."""

    @abc.abstractmethod
    def step(
        self,
        read: Read,
        policy: PolicyHead,
        optimizer: PyTree,
        batch: Batch,
        *,
        env_steps: Int[jax.Array, ""],
        key: PRNGKey,
    ) -> tuple[PolicyHead, PyTree, Metrics]:
        """Return the policy, and what steers, after the step of one trial."""


class TRPOConfig(AbstractOuter):
    """One natural-gradient step per trial (Schulman et al., 2015), as MAML takes it.

    kl_limit: of the mean divergence of the adapted policies, nats. num_cg_steps: products by its
    Hessian, exact through the adaptation. damping: added to that Hessian's diagonal. A step that
    fails is shortened by `backtrack_ratio`, `max_tries` times at most; else the weights stay.
    """

    kl_limit: float = 0.01
    num_cg_steps: int = 10
    damping: float = 1e-5
    backtrack_ratio: float = 0.8
    max_tries: int = 15

    def start(self, policy: PolicyHead) -> None:
        """Return None: every step stands alone."""
        del policy

    def step(
        self,
        read: Read,
        policy: PolicyHead,
        optimizer: None,
        batch: Batch,
        *,
        env_steps: Int[jax.Array, ""],
        key: PRNGKey,
    ) -> tuple[PolicyHead, None, Metrics]:
        """Return the policy moved along the natural gradient, or as it was."""
        del env_steps, key
        weights, unravel = ravel_pytree(policy)

        def measure(weights):
            reading = read(unravel(weights), batch)
            return surrogate_loss(reading, batch), reading.kl_after.mean()

        loss, gradient = jax.value_and_grad(lambda w: measure(w)[0])(weights)
        # Linearized once, then pushed through for every product: the Hessian's own columns.
        _, hessian = jax.linearize(jax.grad(lambda w: measure(w)[1]), weights)
        product = lambda v: hessian(v) + self.damping * v
        step = natural_step(gradient, product, self.kl_limit, self.num_cg_steps)
        fraction = line_search(
            lambda f: measure(weights - f * step),
            loss,
            self.kl_limit,
            self.backtrack_ratio,
            self.max_tries,
        )
        moved = jnp.where(fraction > 0, weights - fraction * step, weights)
        metrics = {
            "grad_norm": jnp.linalg.norm(gradient),
            "step_size": jnp.linalg.norm(moved - weights),
            "line_search_accepted": (fraction > 0).astype(jnp.float32),
            "line_search_fraction": fraction,
        }
        return unravel(moved), optimizer, metrics


class OuterPPOConfig(AbstractOuter):
    """`num_passes` clipped steps on the whole trial, each adapting anew.

    kl_coef: price of the divergence on what was lived before adapting, from those who acted then:
    ProMP's penalty (Rothfuss et al., 2019), 0 for plain PPO. kl_target: the price doubles after an
    update that diverged by more than 1.5 times this, and halves below two thirds (0: it is fixed).
    stop_kl: an update ends once the adapted policies have diverged by more than this (0: never).
    """

    clip: float = 0.3
    num_passes: int = 5
    kl_coef: float = 0.0
    kl_target: float = 0.0
    stop_kl: float = 0.0
    optimizer: OptimizerConfig = OptimizerConfig(max_grad_norm=0.0)

    def start(self, policy: PolicyHead) -> PyTree:
        """Return Adam's moments and the price."""
        price = jnp.asarray(self.kl_coef, jnp.float32)
        return {"progress": start_progress(self.optimizer, policy), "kl_coef": price}

    def step(
        self,
        read: Read,
        policy: PolicyHead,
        optimizer: PyTree,
        batch: Batch,
        *,
        env_steps: Int[jax.Array, ""],
        key: PRNGKey,
    ) -> tuple[PolicyHead, PyTree, Metrics]:
        """Return the policy after the passes."""
        price = optimizer["kl_coef"]

        def loss(policy, batch):
            reading = read(policy, batch)
            clipped = jnp.abs(jnp.exp(reading.log_ratio) - 1) > self.clip
            metrics = {
                "kl": reading.kl_after.mean(),
                "clip_fraction": mean(clipped.astype(jnp.float32), batch.last.valid),
            }
            penalty = price * reading.kl_before.mean()
            return surrogate_loss(reading, batch, self.clip) + penalty, metrics

        passes = Passes(self.num_passes, batch.credit.shape[0], self.stop_kl)
        policy, progress, metrics = descend(
            loss,
            policy,
            optimizer["progress"],
            batch,
            self.optimizer,
            passes,
            env_steps=env_steps,
            key=key,
        )
        if self.kl_target:
            kl = read(policy, batch).kl_before.mean()
            price = jnp.where(kl > KL_RANGE * self.kl_target, 2.0 * price, price)
            price = jnp.where(kl < self.kl_target / KL_RANGE, 0.5 * price, price)
        metrics["kl_coef"] = optimizer["kl_coef"]
        return policy, {"progress": progress, "kl_coef": price}, metrics
