"""Distributions over one action per row: Gaussian, Gaussian in a box, categorical."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key

from trmrl.types import LaneKeys, PRNGKey


def draw_rows(draw: Callable, key: Key[jax.Array, "*lanes"], shape: tuple[int, ...]) -> jax.Array:
    """Return `draw(key, shape)`; of a key for each row `[B]`, the rows drawn one by one."""
    if not key.shape:
        return draw(key, shape)
    return jax.vmap(lambda row_key: draw(row_key, shape[1:]))(key)


class Gaussian(eqx.Module):
    """Independent normals, unsquashed; `mean` and `log_std` are `[..., A]`."""

    mean: Float[jax.Array, "*axes A"]
    log_std: Float[jax.Array, "*axes A"]

    def sample(self, *, key: PRNGKey | LaneKeys) -> Float[jax.Array, "*axes A"]:
        """Draw one action per row, from one key or from a key for each."""
        return self.mean + jnp.exp(self.log_std) * draw_rows(
            jax.random.normal, key, self.mean.shape
        )

    def mode(self) -> Float[jax.Array, "*axes A"]:
        """Return the likeliest action."""
        return self.mean

    def log_prob(self, action: Float[jax.Array, "*axes A"]) -> Float[jax.Array, "*axes"]:
        """Return the log density of an action."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Float[jax.Array, "*axes"]:
        """Return the differential entropy in nats."""
        return jnp.sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def kl(self, other: "Gaussian") -> Float[jax.Array, "*axes"]:
        """Return the divergence of `other` from this: `KL(self || other)`, nats."""
        spread = jnp.exp(2 * (self.log_std - other.log_std))
        shift = ((self.mean - other.mean) * jnp.exp(-other.log_std)) ** 2
        return jnp.sum(other.log_std - self.log_std + 0.5 * (spread + shift - 1), axis=-1)


class Squashed(eqx.Module):
    """The hyperbolic tangent of independent normals: actions in `(-1, 1)`.

    Actions come with their log density, since it cannot be had back from a rounded tangent. Both
    are differentiable.
    """

    normal: Gaussian

    def sample(self, *, key: PRNGKey | LaneKeys) -> tuple[jax.Array, jax.Array]:
        """Draw one action per row; returns `[..., A]` and its log density `[...]`."""
        return self._squash(self.normal.sample(key=key))

    def mode(self) -> tuple[jax.Array, jax.Array]:
        """Return the image of the mean, and its log density."""
        return self._squash(self.normal.mean)

    def _squash(self, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return `tanh u` and `log N(u) - sum log(1 - tanh(u)^2)`.

        The latter in a form that does not round to zero: `2 (log 2 - u - softplus(-2 u))`.
        """
        log_slope = jnp.sum(2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u)), axis=-1)
        return jnp.tanh(u), self.normal.log_prob(u) - log_slope


class Categorical(eqx.Module):
    """One of `A` choices; `logits` are `[..., A]`, unnormalized."""

    logits: Float[jax.Array, "*axes A"]

    def sample(self, *, key: PRNGKey | LaneKeys) -> Int[jax.Array, "*axes"]:
        """Draw one choice per row, from one key or from a key for each (the Gumbel maximum)."""
        noise = draw_rows(jax.random.gumbel, key, self.logits.shape)
        return jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32)

    def mode(self) -> Int[jax.Array, "*axes"]:
        """Return the likeliest choice."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, action: Int[jax.Array, "*axes"]) -> Float[jax.Array, "*axes"]:
        """Return the log probability of a choice."""
        log_p = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_p, action[..., None], axis=-1)[..., 0]

    def entropy(self) -> Float[jax.Array, "*axes"]:
        """Return the entropy in nats."""
        log_p = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)

    def kl(self, other: "Categorical") -> Float[jax.Array, "*axes"]:
        """Return the divergence of `other` from this: `KL(self || other)`, nats."""
        log_p, log_q = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
