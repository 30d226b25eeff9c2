"""From features to what an agent says: its policy, and what it expects of the world.

Lives here: one policy head per kind of action space, and the predictor.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

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


class Predictor(eqx.Module):
    """What a feature and the action then taken say of the reward and the next observation."""

    outcome: MLP
    space: Space = eqx.field(static=True)

    def __init__(
        self, feature_size: int, obs_size: int, space: Space, config: HeadConfig, *, key: PRNGKey
    ):
        """Build from features of `feature_size`, in worlds of `obs_size` and `space`."""
        self.outcome = MLP((feature_size + space.size, *config.hidden, 1 + obs_size), key=key)
        self.space = space

    def __call__(
        self, feature: Float[jax.Array, "*axes F"], action: Shaped[jax.Array, "..."]
    ) -> Float[jax.Array, "*axes O"]:
        """Return the expected reward and next observation, side by side, as they are trained."""
        return self.outcome(jnp.concatenate([feature, self.space.encode(action)], axis=-1))
