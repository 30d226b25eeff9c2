"""Heads on a core's features: one kind of policy head per kind of action space, and a predictor."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from trmrl.nets.distributions import Categorical, Gaussian
from trmrl.nets.linear import MLP
from trmrl.settings import AbstractSettings, field
from trmrl.types import Continuous, Discrete, PRNGKey, Space

MIN_STD = 1e-6  # as published; there is no maximum


class HeadConfig(AbstractSettings):
    """A head: hidden tanh layers, then a linear one."""

    hidden: tuple[int, ...] = field((64, 64), low=1)  # units of each hidden layer
    last_gain: float = 0.01  # of the last layer's Xavier weights
    init_std: float = field(0.5, low=1e-6)  # first standard deviation of Gaussian policies


class GaussianHead(eqx.Module):
    """A mean from features, and a learned standard deviation that does not depend on them."""

    mean: MLP
    log_std: Float[jax.Array, " A"]

    def __call__(self, feature: Float[jax.Array, "*axes F"]) -> Gaussian:
        """Return the policy at each row."""
        mean = self.mean(feature)
        log_std = jnp.maximum(self.log_std, math.log(MIN_STD))
        return Gaussian(mean, jnp.broadcast_to(log_std, mean.shape))


class CategoricalHead(eqx.Module):
    """Logits from features."""

    logits: MLP

    def __call__(self, feature: Float[jax.Array, "*axes F"]) -> Categorical:
        """Return the policy at each row."""
        return Categorical(self.logits(feature))


PolicyHead = GaussianHead | CategoricalHead


def _gaussian(mlp: MLP, size: int, config: HeadConfig) -> GaussianHead:
    return GaussianHead(mlp, jnp.full(size, math.log(config.init_std), jnp.float32))


def _categorical(mlp: MLP, size: int, config: HeadConfig) -> CategoricalHead:
    del size, config
    return CategoricalHead(mlp)


HEADS = {Continuous: _gaussian, Discrete: _categorical}


def policy_head(feature_size: int, space: Space, config: HeadConfig, *, key: PRNGKey) -> PolicyHead:
    """Return a fresh policy head for features `[..., feature_size]` and an action space."""
    sizes = (feature_size, *config.hidden, space.size)
    return HEADS[type(space)](MLP(sizes, config.last_gain, key=key), space.size, config)


class Predictor(eqx.Module):
    """Predicts reward and next observation from a feature and the action then taken."""

    outcome: MLP
    space: Space = eqx.field(static=True)

    def __init__(
        self, feature_size: int, obs_size: int, space: Space, config: HeadConfig, *, key: PRNGKey
    ):
        """Xavier weights, for features, observations and actions of these sizes."""
        self.outcome = MLP((feature_size + space.size, *config.hidden, 1 + obs_size), key=key)
        self.space = space

    def __call__(
        self, feature: Float[jax.Array, "*axes F"], action: Shaped[jax.Array, "..."]
    ) -> Float[jax.Array, "*axes O"]:
        """Return reward and next observation, `[..., 1 + D]`, in the units they are trained in."""
        return self.outcome(jnp.concatenate([feature, self.space.encode(action)], axis=-1))
