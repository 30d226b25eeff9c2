"""Affine maps over the last axis, and multilayer perceptrons; weights are `[in, out]`."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.nets.initializers import xavier
from trmrl.types import PRNGKey


class Linear(eqx.Module):
    """`y = x W + b` for any leading axes; `bias` may be None."""

    weight: Float[jax.Array, "in out"]
    bias: Float[jax.Array, " out"] | None

    def __call__(self, x: Float[jax.Array, "*axes in"]) -> Float[jax.Array, "*axes out"]:
        """Map `[..., in]` to `[..., out]`."""
        y = _product(x, self.weight)
        if self.bias is None:
            return y
        return y + jnp.broadcast_to(self.bias, y.shape)


# By default XLA on CPU multiplies transposed operands in place, at half the speed of its other
# products. The barriers make it transpose the smaller of the two in memory first.
@jax.custom_vjp
def _product(x: jax.Array, weight: jax.Array) -> jax.Array:
    return x @ weight


def _forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ weight, (x, weight)


def _backward(kept: tuple[jax.Array, jax.Array], y_bar: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    rows, rows_bar = (a.reshape((-1, a.shape[-1])) for a in (x, y_bar))
    materialize = jax.lax.optimization_barrier
    if weight.shape[0] <= weight.shape[1]:
        weight_bar = materialize(rows.T) @ rows_bar
    else:
        weight_bar = materialize(materialize(rows_bar.T) @ rows).T
    return y_bar @ weight.T, weight_bar


_product.defvjp(_forward, _backward)


class MLP(eqx.Module):
    """Layers with an activation, then a linear one; Xavier weights and zero biases."""

    layers: tuple[Linear, ...]
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __init__(
        self,
        sizes: tuple[int, ...],
        last_gain: float = 1.0,
        activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
        *,
        key: PRNGKey,
    ):
        """Build from `sizes = (in, hidden, ..., out)`; the last layer's weights get `last_gain`."""
        self.activation = activation
        keys = jax.random.split(key, len(sizes) - 1)
        gains = [1.0] * (len(sizes) - 2) + [last_gain]
        self.layers = tuple(
            Linear(xavier(in_size, out_size, gain, key=k), jnp.zeros(out_size))
            for in_size, out_size, gain, k in zip(sizes[:-1], sizes[1:], gains, keys, strict=True)
        )

    def __call__(self, x: Float[jax.Array, "*axes in"]) -> Float[jax.Array, "*axes out"]:
        """Map `[..., in]` to `[..., out]`."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
