"""From features to policies and values. Lives here: one policy head per kind of action space."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.nets.distributions import Categorical, Gaussian
from trmrl.nets.linear import MLP
from trmrl.types import Continuous, Discrete, PRNGKey, Space

MIN_STD = 1e-6  # as published; there is no maximum


class HeadConfig(eqx.Module):
    """`hidden` tanh layers, the last linear layer's gain, and the first standard deviation."""

    hidden: tuple[int, ...] = (64, 64)
    last_gain: float = 0.01
    init_std: float = 0.5


class GaussianHead(eqx.Module):
    """A mean from features, and a learned standard deviation that is the same everywhere."""

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
    """Return the head that suits an action space."""
    sizes = (feature_size, *config.hidden, space.size)
    return HEADS[type(space)](MLP(sizes, config.last_gain, key=key), space.size, config)
