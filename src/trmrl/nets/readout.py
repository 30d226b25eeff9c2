"""Readouts: what policy and value read of a core's feature.

The feature itself, or a belief about the task (Zintgraf et al., 2020): a Gaussian over a latent of
it, which `learners/objectives/elbo.py` trains to explain the whole trial.
"""

import abc
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.nets.distributions import Gaussian
from trmrl.nets.initializers import xavier
from trmrl.nets.linear import Linear
from trmrl.settings import AbstractSettings, field
from trmrl.types import PRNGKey

LOG_VARIANCES = -10.0, 2.0  # a belief is neither surer nor vaguer


class AbstractReadout(eqx.Module):
    """What is read of a feature, `[..., size]`."""

    size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(
        self, feature: Float[jax.Array, "*axes F"], token: Float[jax.Array, "*axes D"]
    ) -> Float[jax.Array, "*axes R"]:
        """Return what policy and value read at each row."""


class FeatureReadout(AbstractReadout):
    """The feature as it is."""

    size: int = eqx.field(static=True)

    def __call__(
        self, feature: Float[jax.Array, "*axes F"], token: Float[jax.Array, "*axes D"]
    ) -> Float[jax.Array, "*axes F"]:
        """Return the feature."""
        del token
        return feature


class BeliefReadout(AbstractReadout):
    """A belief over `L` latent numbers, and beside it the observation or the feature.

    Whoever trains the belief reaches it by `belief`, and the core through it; policy and value read
    mean and log variance. `gradient` says what their own gradient reaches, as in `BeliefConfig`.
    """

    moments: Linear  # F to 2 L
    latent: int = eqx.field(static=True)  # L
    size: int = eqx.field(static=True)
    obs_size: int = eqx.field(static=True)
    gradient: Literal["detached", "joint", "split"] = eqx.field(static=True)

    def belief(self, feature: Float[jax.Array, "*axes F"]) -> Gaussian:
        """Return the belief at each row, over `[..., L]`."""
        if self.gradient == "split":
            feature = jax.lax.stop_gradient(feature)
        mean, log_variance = jnp.split(self.moments(feature), 2, axis=-1)
        return Gaussian(mean, 0.5 * jnp.clip(log_variance, *LOG_VARIANCES))

    def __call__(
        self, feature: Float[jax.Array, "*axes F"], token: Float[jax.Array, "*axes D"]
    ) -> Float[jax.Array, "*axes R"]:
        """Return observation (split: feature), mean and log variance, in one vector."""
        belief = self.belief(feature)
        moments = jnp.concatenate([belief.mean, 2.0 * belief.log_std], axis=-1)
        if self.gradient != "joint":
            moments = jax.lax.stop_gradient(moments)
        beside = feature if self.gradient == "split" else token[..., : self.obs_size]
        return jnp.concatenate([beside, moments], axis=-1)


class AbstractReadoutConfig(AbstractSettings):
    """The settings a readout is built from."""

    @abc.abstractmethod
    def build(self, feature_size: int, obs_size: int, *, key: PRNGKey) -> AbstractReadout:
        """Return a fresh readout for features and observations of these sizes."""


class FeatureConfig(AbstractReadoutConfig):
    """Policy and value read the feature."""

    def build(self, feature_size: int, obs_size: int, *, key: PRNGKey) -> FeatureReadout:
        """Return the readout, which learns nothing."""
        del obs_size, key
        return FeatureReadout(feature_size)


class BeliefConfig(AbstractReadoutConfig):
    """Policy and value read a belief, in one of three ways.

    "detached": observation and belief, and their gradient stops there: only objectives that train
    the belief train the core (VariBAD). "joint": the same without the stop. "split": feature and
    belief; their gradient trains the core through the feature, and the belief, which objectives
    train without reaching the core, is read without a gradient.
    """

    latent: int = field(5, low=1)  # numbers the belief is over
    gradient: Literal["detached", "joint", "split"] = "detached"

    def build(self, feature_size: int, obs_size: int, *, key: PRNGKey) -> BeliefReadout:
        """Return a fresh readout: Xavier weights, zero biases."""
        width = 2 * self.latent
        moments = Linear(xavier(feature_size, width, key=key), jnp.zeros(width))
        beside = feature_size if self.gradient == "split" else obs_size
        return BeliefReadout(
            moments=moments,
            latent=self.latent,
            size=beside + width,
            obs_size=obs_size,
            gradient=self.gradient,
        )
