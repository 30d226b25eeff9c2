"""A causal transformer encoder (Vaswani et al., 2017): TrMRL's own, and its controls.

TrMRL has no LayerNorm and initializes by T-Fixup (Melo, ICML 2022, sections 3 and 4). The controls
put LayerNorm before or after each sublayer, or initialize as transformers usually do. Which rows
attend to which, and what is kept between steps, is decided in `transformer.py`.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from trmrl.nets.attention import attend
from trmrl.nets.core import Attention, Layer
from trmrl.nets.initializers import t_fixup_embedding_std, t_fixup_projection_gain, xavier
from trmrl.nets.linear import Linear
from trmrl.nets.norm import LayerNorm
from trmrl.types import PRNGKey

Normalization = Literal["none", "pre", "post"]
Initializer = Literal["t_fixup", "xavier"]
PositionCode = Literal["absolute", "rotary"]


def sinusoid(position: Int[jax.Array, "*axes"], width: int) -> Float[jax.Array, "*axes D"]:
    """Sinusoidal position code (Vaswani et al., 2017): sines at even features, cosines at odd."""
    angle = _angles(position, width)
    code = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return code.reshape((*position.shape, -1))[..., :width]


class Rotation(NamedTuple):
    """The rotary position code of rows (Su et al., 2021): an angle for two features of a head."""

    cos: Float[jax.Array, "*axes A"]
    sin: Float[jax.Array, "*axes A"]


def rotate(
    x: Float[jax.Array, "*axes D"], by: Rotation, num_heads: int
) -> Float[jax.Array, "*axes D"]:
    """Return queries or keys turned by their rows' rotation, heads side by side in `D`.

    Feature `i` of a head and the one half a head behind it turn together by an angle proportional
    to the position: products of queries with keys depend on the distance of the two alone.
    """
    heads = x.reshape((*x.shape[:-1], num_heads, -1))
    first, second = jnp.split(heads, 2, axis=-1)
    cos, sin = by.cos[..., None, :], by.sin[..., None, :]
    turned = [first * cos - second * sin, first * sin + second * cos]
    return jnp.concatenate(turned, axis=-1).reshape(x.shape)


def _angles(position: Int[jax.Array, "*axes"], width: int) -> Float[jax.Array, "*axes A"]:
    """Return the angle at each position for each of `ceil(width / 2)` wavelengths."""
    rate = np.exp(-np.log(10000.0) * np.arange(0, width, 2, dtype=np.float32) / width)
    rate = jnp.broadcast_to(jnp.asarray(rate, jnp.float32), (*position.shape, len(rate)))
    return position[..., None].astype(jnp.float32) * rate


class Refinement(NamedTuple):
    """How a block came to its rows."""

    weight: Float[jax.Array, "B H Q S"]  # of attention
    read: Float[jax.Array, "B Q D"]  # what attention returned
    stream: Float[jax.Array, "B Q D"]  # between its two sublayers


class Block(eqx.Module):
    """One layer: attention and a feed-forward map, each added to its own input.

    With normalization "pre", `h + f(LN(h))`; with "post", `LN(h + f(h))`; else `h + f(h)`.
    """

    query: Linear
    key_value: Linear
    out: Linear
    expand: Linear
    contract: Linear
    norms: tuple[LayerNorm, LayerNorm] | None
    num_heads: int = eqx.field(static=True)
    normalization: Normalization = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        hidden: int,
        num_heads: int,
        gain: float,
        normalization: Normalization,
        *,
        key: PRNGKey,
    ):
        """Xavier weights times `gain`; attention biases zero."""
        keys = jax.random.split(key, 8)
        square = lambda k: xavier(width, width, gain, key=k)
        bias = lambda fan_in, size, k: jax.random.uniform(
            k, (size,), minval=-(fan_in**-0.5), maxval=fan_in**-0.5
        )
        self.query = Linear(square(keys[0]), jnp.zeros(width))
        stacked = jnp.concatenate([square(keys[1]), square(keys[2])], axis=1)
        self.key_value = Linear(stacked, jnp.zeros(2 * width))
        self.out = Linear(square(keys[3]), jnp.zeros(width))
        self.expand = Linear(xavier(width, hidden, gain, key=keys[4]), bias(width, hidden, keys[5]))
        self.contract = Linear(
            xavier(hidden, width, gain, key=keys[6]), bias(hidden, width, keys[7])
        )
        self.norms = None if normalization == "none" else (LayerNorm(width), LayerNorm(width))
        self.num_heads = num_heads
        self.normalization = normalization

    def _rotate(self, x: Float[jax.Array, "*axes D"], by: Rotation | None) -> jax.Array:
        return x if by is None else rotate(x, by, self.num_heads)

    def _before(self, sublayer: int, h: Float[jax.Array, "*axes D"]) -> jax.Array:
        return self.norms[sublayer](h) if self.norms and self.normalization == "pre" else h

    def _after(self, sublayer: int, h: Float[jax.Array, "*axes D"]) -> jax.Array:
        return self.norms[sublayer](h) if self.norms and self.normalization == "post" else h

    def keys_values(
        self, h: Float[jax.Array, "*axes D"], by: Rotation | None
    ) -> tuple[jax.Array, jax.Array]:
        """Return the keys and values that queries of later rows attend to, `[..., D]` each."""
        key, value = jnp.split(self.key_value(self._before(0, h)), 2, axis=-1)
        return self._rotate(key, by), value

    def refine(
        self,
        h: Float[jax.Array, "B Q D"],
        keys_values: tuple[jax.Array, jax.Array],
        mask: Bool[jax.Array, "#B Q S"],
        by: Rotation | None,
    ) -> tuple[Float[jax.Array, "B Q D"], Refinement]:
        """Return the next layer's rows for those in `h`, which attend to `keys_values`; and how."""
        query = self._rotate(self.query(self._before(0, h)), by)
        mixed, weight = attend(query, *keys_values, mask, self.num_heads)
        read = self.out(mixed)
        h = self._after(0, h + read)
        change = self.contract(jax.nn.relu(self.expand(self._before(1, h))))
        return self._after(1, h + change), Refinement(weight, read, h)

    def layer(
        self,
        h: Float[jax.Array, "B Q D"],
        refinement: Refinement,
        value: Float[jax.Array, "B S D"],
        age: Int[jax.Array, "B S"],
        row: Int[jax.Array, " B"],
    ) -> Layer:
        """Return what the layer made of one row of each lane: `h` and how are from `refine`."""
        of_row = lambda x: jnp.take_along_axis(x, row[:, None, None], axis=1)[:, 0]
        weight = jnp.take_along_axis(refinement.weight, row[:, None, None, None], axis=2)[:, :, 0]
        value = value.reshape((*value.shape[:-1], self.num_heads, -1))
        out = self.out.weight.reshape((self.num_heads, -1, h.shape[-1]))
        vector = self.num_heads * jnp.einsum("bshe,hed->bhsd", value, out)
        if self.out.bias is not None:
            vector = vector + jnp.broadcast_to(self.out.bias, vector.shape)
        read, stream = of_row(refinement.read), of_row(refinement.stream)
        return Layer(of_row(h), Attention(weight, age, vector, read, stream))


class Encoder(eqx.Module):
    """An embedding without bias, the layers, and with normalization "pre" a last LayerNorm."""

    embedding: Linear
    blocks: tuple[Block, ...]
    norm: LayerNorm | None
    position_code: PositionCode = eqx.field(static=True)

    def __init__(
        self,
        token_size: int,
        width: int,
        num_heads: int,
        num_layers: int,
        hidden: int,
        normalization: Normalization,
        initializer: Initializer,
        embedding_gain: float = 1.0,
        position_code: PositionCode = "absolute",
        *,
        key: PRNGKey,
    ):
        """Initialize by T-Fixup for an encoder of `num_layers`, or by plain Xavier.

        `embedding_gain` multiplies T-Fixup's embedding. Positions are added to embeddings, or
        rotate queries and keys.
        """
        embed_key, *keys = jax.random.split(key, num_layers + 1)
        if initializer == "t_fixup":
            gain = t_fixup_projection_gain(num_layers)
            std = embedding_gain * t_fixup_embedding_std(width, num_layers)
            weight = std * jax.random.normal(embed_key, (token_size, width))
        else:
            gain, weight = 1.0, xavier(token_size, width, key=embed_key)
        self.embedding = Linear(weight, None)
        self.blocks = tuple(
            Block(width, hidden, num_heads, gain, normalization, key=k) for k in keys
        )
        self.position_code = position_code
        self.norm = LayerNorm(width) if normalization == "pre" else None

    def embed(
        self, token: Float[jax.Array, "*axes D"], position: Int[jax.Array, "*axes"]
    ) -> Float[jax.Array, "*axes F"]:
        """Return `x E + P(position)`; without `P` where positions rotate queries and keys."""
        h = self.embedding(token)
        return h if self.position_code == "rotary" else h + sinusoid(position, h.shape[-1])

    def rotation(self, position: Int[jax.Array, "*axes"]) -> Rotation | None:
        """Return by what every layer turns the queries and keys of rows; None where none turns."""
        if self.position_code != "rotary":
            return None
        angle = _angles(position, self.embedding.weight.shape[1] // self.blocks[0].num_heads)
        return Rotation(jnp.cos(angle), jnp.sin(angle))

    def feature(self, h: Float[jax.Array, "*axes F"]) -> Float[jax.Array, "*axes F"]:
        """Return the features of the last layer's rows, normalized if there is a last LayerNorm."""
        return h if self.norm is None else self.norm(h)
