"""PPO's own terms: the surrogate, the entropy of the policy, and the error of the value."""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.learners.objectives.base import AbstractObjective, Chunks
from trmrl.nets.network import Network, Reading
from trmrl.ops.masked import mean
from trmrl.ops.ppo import clipped_surrogate, kl_estimate
from trmrl.settings import field
from trmrl.types import Metrics


class Surrogate(AbstractObjective):
    """PPO's negative clipped surrogate (Schulman et al., 2017)."""

    reaches: ClassVar[tuple[str, ...]] = ("core", "policy")

    clip: float = field(0.2, low=0)  # of the ratio
    coef: float = 1.0  # the others are weighed against it

    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return `-mean min(r A, clip(r) A)` over the rows with an advantage."""
        del network
        log_ratio = reading.policy.log_prob(chunks.action) - chunks.log_prob
        ratio = jnp.exp(log_ratio)
        gain = mean(clipped_surrogate(ratio, chunks.advantage, self.clip), chunks.credited)
        clipped = jnp.abs(ratio - 1) > self.clip
        return -gain, {
            "policy_loss": -gain,
            "entropy": mean(reading.policy.entropy(), chunks.valid),
            "kl": mean(kl_estimate(log_ratio), chunks.valid),
            "clip_fraction": mean(clipped.astype(jnp.float32), chunks.valid),
        }


class Entropy(AbstractObjective):
    """A bonus for the policy's entropy, on a straight line over the decay of the step size."""

    reaches: ClassVar[tuple[str, ...]] = ("core", "policy")

    coef: float = field(0.0, low=0)  # of the bonus at the start
    final_factor: float = field(1.0, low=0, high=1)  # what is left of it at the end of the decay

    def weight(self, elapsed: Float[jax.Array, ""]) -> Float[jax.Array, ""]:
        """Return `coef (1 - (1 - final_factor) elapsed)`."""
        return self.coef * (1.0 - (1.0 - self.final_factor) * elapsed)

    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return minus the mean entropy, nats."""
        del network
        return -mean(reading.policy.entropy(), chunks.valid), {}


class Value(AbstractObjective):
    """The error of the value: half its square, or "gaussian", the published likelihood.

    The likelihood has a learned width, the same for every row.
    """

    reaches: ClassVar[tuple[str, ...]] = ("core", "critic")

    coef: float = field(0.5, low=0)
    error: Literal["squared", "gaussian"] = "squared"

    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return `mean 0.5 (v - target)^2`, or `mean 0.5 (v - target)^2 / s^2 + log s`."""
        loss = 0.5 * (reading.value - chunks.value_target) ** 2
        if self.error == "gaussian":
            log_std = network.critic.log_std
            loss = loss * jnp.exp(-2 * log_std) + log_std
        loss = mean(loss, chunks.credited)
        return loss, {"value_loss": loss}
