"""The weighted terms of one loss, and the menu of those that a recipe may add to PPO's own.

A term states what it needs of the network (`build`) and of the trial (`targets`), and its loss on a
reading of a minibatch. Whatever it builds is trained by the descent that its loss is part of.
"""

import abc
import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, PyTree, Shaped

from trmrl.nets.core import AbstractCore
from trmrl.nets.heads import HeadConfig, Predictor
from trmrl.nets.network import Model, Network, Reading
from trmrl.ops.masked import mean, standardize
from trmrl.ops.normalize import normalize
from trmrl.ops.ppo import clipped_surrogate, kl_estimate
from trmrl.settings import AbstractSettings, field
from trmrl.types import EnvSpec, Metrics, PRNGKey, Trajectory


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chunks:
    """A trial cut into `M` chunks of `C` rows: chunk first while they are shuffled, `[M, C]`,
    time first as objectives read them, `[C, M]`.
    """

    memory0: Any  # before each chunk's first row, [M, ...]; None where that is always empty
    token: Float[jax.Array, "*axes D"]
    start: Bool[jax.Array, "*axes"]
    valid: Bool[jax.Array, "*axes"]
    action: Shaped[jax.Array, "..."]
    log_prob: Float[jax.Array, "*axes"]
    advantage: Float[jax.Array, "*axes"]
    value_target: Float[jax.Array, "*axes"]
    credited: Bool[jax.Array, "*axes"]  # valid rows whose advantage and value target are known
    targets: dict[str, Any]  # of objectives, by their names


class AbstractObjective(AbstractSettings):
    """One term of a loss, `weight` times `loss`.

    A subclass states `coef`, its `loss`, and in `reaches` the parts of `Network` that its gradient
    changes: "core", "policy", "critic", or "head" for what it built itself. The rest is optional.
    """

    coef: eqx.AbstractVar[float]
    reaches: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return the term for a minibatch, all time first, and what to log of it."""

    def weight(self, elapsed: Float[jax.Array, ""]) -> Any:
        """Return what the term counts once a share `elapsed` of the step size's decay is over."""
        del elapsed
        return self.coef

    def build(self, core: AbstractCore, spec: EnvSpec, head: HeadConfig, *, key: PRNGKey) -> PyTree:
        """Return what it adds to `Network.heads` under its class's name; None if nothing."""
        del core, spec, head, key

    def targets(self, model: Model, rows: Trajectory) -> PyTree:
        """Return what its loss compares with, leaves `[T, B, ...]`; None if nothing."""
        del model, rows


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


class Prediction(AbstractObjective):
    """Self-supervision: the feature and the action taken predict reward and next observation.

    Nothing else of the agent reads the predictions; what they leave is a memory of what actions did
    here before, which a policy's gradient is slow to form where rewards are noisy.
    """

    reaches: ClassVar[tuple[str, ...]] = ("core", "head")

    coef: float = field(0.0, low=0)  # 0: nothing is predicted

    def build(
        self, core: AbstractCore, spec: EnvSpec, head: HeadConfig, *, key: PRNGKey
    ) -> Predictor:
        """Return the head that predicts."""
        return Predictor(core.feature_size, spec.obs_size, spec.action_space, head, key=key)

    def targets(self, model: Model, rows: Trajectory) -> Float[jax.Array, "T B O"]:
        """Return rewards, by this trial's own moments, and next observations as they are shown."""
        reward = standardize(rows.outcome.reward, rows.valid)[..., None]
        next_obs = rows.outcome.next_obs
        if model.normalize_obs:
            next_obs = normalize(model.obs_moments, next_obs)
        return jnp.concatenate([reward, next_obs], axis=-1)

    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return half the squared errors of the reward and, on average, of the observation."""
        name = type(self).__name__
        prediction = network.heads[name](reading.feature, chunks.action)
        error = 0.5 * (prediction - chunks.targets[name]) ** 2
        reward = mean(error[..., 0], chunks.valid)
        obs = mean(error[..., 1:].mean(axis=-1), chunks.valid)
        return reward + obs, {"reward_prediction_loss": reward, "obs_prediction_loss": obs}


class Objectives(AbstractSettings):
    """The menu: what a loss holds besides the surrogate and the value; `coef` 0 leaves one out.

    `others` are one's own, given from Python.
    """

    entropy: Entropy = Entropy()
    prediction: Prediction = Prediction()
    others: tuple[AbstractObjective, ...] = ()

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where two objectives would share a name, and so a head."""
        del spec
        names = [type(objective).__name__ for objective in self.listed()]
        twice = sorted({name for name in names if names.count(name) > 1})
        return f"others has {', '.join(twice)} more than once" if twice else None

    def listed(self) -> tuple[AbstractObjective, ...]:
        """Return every objective that counts, in the order of the menu."""
        names = (declared.name for declared in dataclasses.fields(self))
        menu = (getattr(self, name) for name in names if name != "others")
        return tuple(objective for objective in (*menu, *self.others) if objective.coef)
