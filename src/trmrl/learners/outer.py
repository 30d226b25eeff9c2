"""How the weights that tasks begin with are moved: MAML's outer step, in two kinds.

By a trust region, or by clipped passes. Adaptation itself is computed by `agents/maml.py`.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, PyTree, Shaped

from trmrl.learners.descent import OptimizerConfig, Passes, descend, start_progress
from trmrl.nets.heads import PolicyHead
from trmrl.ops.masked import mean
from trmrl.ops.ppo import clipped_surrogate
from trmrl.ops.trpo import line_search, natural_step
from trmrl.settings import AbstractSettings, field
from trmrl.types import Metrics, PRNGKey

KL_RANGE = 1.5  # how far from its target a divergence may stray before its price changes


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rollouts:
    """What happened in the `R` lanes of a task, one episode or `K`; zero where nothing did.

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
        """The episode after the last adaptation, `[M, H, R]`."""
        return jax.tree.map(lambda x: x[:, -1], self.rollouts)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Readapted:
    """What a policy, adapted anew to each of `M` tasks, computes for a batch."""

    log_ratio: Float[jax.Array, "*M H R"]  # of the last episode's actions, to when they were taken
    kl_before: Float[jax.Array, " *M"]  # from those who acted before the last adaptation, nats
    kl_after: Float[jax.Array, " *M"]  # from who acted after it, nats
    entropy: Float[jax.Array, " *M"]  # after it, nats
    exploration: Float[jax.Array, " *M"]  # E-MAML's term, to be maximized; weighted


Readapt = Callable[[PolicyHead, Batch], Readapted]


def surrogate_loss(readapted: Readapted, batch: Batch, clip: float = 0.0) -> Float[jax.Array, ""]:
    """Return the negative surrogate after adaptation, a mean over tasks (`clip` 0: unclipped)."""
    last, ratio = batch.last, jnp.exp(readapted.log_ratio)
    gain = clipped_surrogate(ratio, last.advantage, clip) if clip else ratio * last.advantage
    return -jnp.mean(jax.vmap(mean)(gain, last.valid) + readapted.exploration)


class AbstractOuter(AbstractSettings):
    """One way to move the weights that tasks begin with."""

    @abc.abstractmethod
    def start(self, policy: PolicyHead) -> PyTree:
        """Return what steers the steps, before the first."""

    @abc.abstractmethod
    def step(
        self,
        readapt: Readapt,
        policy: PolicyHead,
        optimizer: PyTree,
        batch: Batch,
        *,
        env_steps: Float[jax.Array, ""],
        key: PRNGKey,
    ) -> tuple[PolicyHead, PyTree, Metrics]:
        """Return the policy, and what steers, after the step of one trial."""


class TRPOConfig(AbstractOuter):
    """One natural-gradient step per trial (Schulman et al., 2015), as MAML takes it.

    The Hessian is that of the mean divergence of the adapted policies, exact through the
    adaptation. A step that fails is shortened; after the last try the weights stay.
    """

    kl_limit: float = field(0.01, low=0)  # of the divergence, nats
    num_cg_steps: int = field(10, low=1)  # products by the Hessian
    damping: float = field(1e-5, low=0)  # added to the Hessian's diagonal
    backtrack_ratio: float = field(0.8, low=0, high=1)  # by which a failed step is shortened
    max_tries: int = field(15, low=1)

    def start(self, policy: PolicyHead) -> None:
        """Return None: every step stands alone."""
        del policy

    def step(
        self,
        readapt: Readapt,
        policy: PolicyHead,
        optimizer: None,
        batch: Batch,
        *,
        env_steps: Float[jax.Array, ""],
        key: PRNGKey,
    ) -> tuple[PolicyHead, None, Metrics]:
        """Return the policy moved along the natural gradient, or as it was."""
        del env_steps, key
        weights, unravel = ravel_pytree(policy)

        def measure(weights):
            readapted = readapt(unravel(weights), batch)
            return surrogate_loss(readapted, batch), readapted.kl_after.mean()

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

    kl_coef: price of the divergence from the policies that acted before the adaptation, on what
    they did: ProMP's penalty (Rothfuss et al., 2019), 0 for plain PPO. kl_target: the price doubles
    after an update that diverged by more than 1.5 times this, and halves below two thirds.
    """

    clip: float = field(0.3, low=0)  # of the ratio
    num_passes: int = field(5, low=1)  # over the trial
    kl_coef: float = field(0.0, low=0)  # first price of the divergence
    kl_target: float = field(0.0, low=0)  # the price steers at (0: the price is fixed)
    stop_kl: float = field(0.0, low=0)  # divergence that ends an update's passes (0: none does)
    target_kl: float = field(0.0, low=0)  # divergence the step size steers at (0: it does not)
    optimizer: OptimizerConfig = OptimizerConfig(max_grad_norm=0.0)

    def start(self, policy: PolicyHead) -> PyTree:
        """Return Adam's moments and the price."""
        price = jnp.asarray(self.kl_coef, jnp.float32)
        return {"progress": start_progress(self.optimizer, policy), "kl_coef": price}

    def step(
        self,
        readapt: Readapt,
        policy: PolicyHead,
        optimizer: PyTree,
        batch: Batch,
        *,
        env_steps: Float[jax.Array, ""],
        key: PRNGKey,
    ) -> tuple[PolicyHead, PyTree, Metrics]:
        """Return the policy after the passes."""
        price = optimizer["kl_coef"]

        def loss(policy, batch):
            readapted = readapt(policy, batch)
            clipped = jnp.abs(jnp.exp(readapted.log_ratio) - 1) > self.clip
            metrics = {
                "kl": readapted.kl_after.mean(),
                "clip_fraction": mean(clipped.astype(jnp.float32), batch.last.valid),
            }
            penalty = price * readapted.kl_before.mean()
            return surrogate_loss(readapted, batch, self.clip) + penalty, metrics

        passes = Passes(self.num_passes, batch.credit.shape[0], self.stop_kl, self.target_kl)
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
            kl = readapt(policy, batch).kl_before.mean()
            price = jnp.where(kl > KL_RANGE * self.kl_target, 2.0 * price, price)
            price = jnp.where(kl < self.kl_target / KL_RANGE, 0.5 * price, price)
        metrics["kl_coef"] = optimizer["kl_coef"]
        return policy, {"progress": progress, "kl_coef": price}, metrics
