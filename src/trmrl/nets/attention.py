"""Multi-head attention on short sequences, with its gradient written out.

Projections, and which rows may attend to which, are the caller's.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

_FEW = 32  # up to so many keys, splitting them into heads is faster than reading them in place


def check_heads(width: int, num_heads: int) -> str | None:
    """Return what is wrong with so many heads on features of that width, else None."""
    if width % num_heads:
        return f"num_heads is {num_heads}, which does not divide width, {width}"
    return None


def attend(
    query: Float[jax.Array, "B Q D"],
    key: Float[jax.Array, "B S D"],
    value: Float[jax.Array, "B S D"],
    mask: Bool[jax.Array, "#B Q S"],
    num_heads: int,
) -> tuple[Float[jax.Array, "B Q D"], Float[jax.Array, "B H Q S"]]:
    """Return `softmax(q k' / sqrt(d_head) + log mask) v`, heads side by side in `D`; and weights.

    Every query must have a key that the mask allows (Vaswani et al., 2017). The weights are there
    to be looked at: no gradient passes through them, and compiled they cost nothing if not used.
    """
    if query.shape[1] == 1 and key.shape[1] > _FEW:
        return _attend_once(query, key, value, mask, num_heads)
    split = lambda x: x.reshape((*x.shape[:-1], num_heads, -1))
    scaled = query * (query.shape[-1] // num_heads) ** -0.5
    mask = jnp.broadcast_to(mask, (query.shape[0], *mask.shape[1:]))
    read, weight = _attend(split(scaled), split(key), split(value), mask)
    return read.reshape(query.shape), weight


def _attend_once(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, num_heads: int
) -> tuple[jax.Array, jax.Array]:
    """One query attends to a cache, whose keys and values are read in place.

    Each head's query is laid out over all of `D`, zero outside its own features. That multiplies by
    many zeros, and still takes less than half the time of splitting the whole cache into heads.
    """
    size = query.shape[-1] // num_heads
    own_features = np.repeat(np.eye(num_heads, dtype=np.float32), size, axis=1)[None]
    spread = (query * size**-0.5) * own_features
    score = jnp.einsum("bsd,bhd->bhs", key, spread)
    visible = jnp.broadcast_to(mask, score.shape)
    weight = jax.nn.softmax(jnp.where(visible, score, -jnp.inf), axis=-1)
    read = jnp.einsum("bhs,bsd->bhd", weight, value)
    return jnp.sum(read * own_features, axis=1, keepdims=True), weight[:, :, None]


# What autodiff makes of this costs half as much again on CPU: it interleaves the softmax's
# derivative with small matrix products. Written out and kept apart, each compiles to one pass.
@jax.custom_vjp
def _attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return _forward(q, k, v, mask)[0]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> tuple[Any, Any]:
    q, k, v = jax.lax.optimization_barrier((q, k, v))
    score = jnp.einsum("bqhd,bshd->bhqs", q, k)
    visible = jnp.broadcast_to(mask[:, None], score.shape)
    weight = jax.nn.softmax(jnp.where(visible, score, -jnp.inf), axis=-1)
    out = jnp.einsum("bhqs,bshd->bqhd", weight, v)
    return (jax.lax.optimization_barrier(out), weight), (q, k, v, weight)


def _backward(kept: Any, bars: Any) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q, k, v, weight = kept
    out_bar = jax.lax.optimization_barrier(bars[0])
    weight_bar = jnp.einsum("bqhd,bshd->bhqs", out_bar, v)
    mean = jnp.sum(weight * weight_bar, axis=-1, keepdims=True)
    score_bar = jax.lax.optimization_barrier(weight * (weight_bar - mean))
    q_bar = jnp.einsum("bhqs,bshd->bqhd", score_bar, k)
    k_bar = jnp.einsum("bhqs,bqhd->bshd", score_bar, q)
    v_bar = jnp.einsum("bhqs,bqhd->bshd", weight, out_bar)
    return *jax.lax.optimization_barrier((q_bar, k_bar, v_bar)), None


_attend.defvjp(_forward, _backward)
