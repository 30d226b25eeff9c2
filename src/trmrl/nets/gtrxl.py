"""GTrXL, the gated transformer-XL (Parisotto et al., ICML 2020), as a core.

Per layer, with skip stream h and its remembered rows m (no gradient passes through m):
`h = gate(h, relu(attention(LN([m, h]))))`, then `h = gate(h, relu(FF(LN(h))))`. The gates are
nearly shut at first (bias 2), so an untrained agent is nearly memoryless. Attention is by relative
position (Dai et al., 2019).
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from trmrl.nets import ring
from trmrl.nets.attention import check_heads
from trmrl.nets.core import AbstractCore, AbstractCoreConfig, Attention, Layer, Record
from trmrl.nets.encoder import sinusoid
from trmrl.nets.initializers import xavier
from trmrl.nets.linear import Linear
from trmrl.nets.norm import LayerNorm
from trmrl.settings import field
from trmrl.types import EnvSpec, PRNGKey


class Gate(eqx.Module):
    """`g(x, y) = (1 - z) x + z c`: as in a GRU, how far `y` changes the skip stream `x`.

    `r = sigmoid(W_r y + U_r x)`, `z = sigmoid(W_z y + U_z x - b)`, `c = tanh(W_c y + U_c (r x))`.
    """

    change: Linear  # W_r, W_z, W_c side by side
    skip: Linear  # U_r, U_z
    reset: Linear  # U_c
    bias: Float[jax.Array, " F"]

    def __init__(self, width: int, bias: float, *, key: PRNGKey):
        """Xavier matrices, and `bias` everywhere."""
        keys = jax.random.split(key, 6)
        square = [xavier(width, width, key=k) for k in keys]
        self.change = Linear(jnp.concatenate(square[:3], axis=1), None)
        self.skip = Linear(jnp.concatenate(square[3:5], axis=1), None)
        self.reset = Linear(square[5], None)
        self.bias = jnp.full(width, bias, jnp.float32)

    def __call__(
        self, x: Float[jax.Array, "*axes F"], y: Float[jax.Array, "*axes F"]
    ) -> Float[jax.Array, "*axes F"]:
        """Return the stream `x` as changed by `y`."""
        y_reset, y_open, y_new = jnp.split(self.change(y), 3, axis=-1)
        x_reset, x_open = jnp.split(self.skip(x), 2, axis=-1)
        opening = jax.nn.sigmoid(y_open + x_open - jnp.broadcast_to(self.bias, x.shape))
        new = jnp.tanh(y_new + self.reset(jax.nn.sigmoid(y_reset + x_reset) * x))
        return x + opening * (new - x)


class RelativeAttention(eqx.Module):
    """Attention whose scores depend on the distance between two rows, not on their positions.

    `score_ij = ((q_i + u) . k_j + (q_i + v) . r_(i-j)) / sqrt(d_head)`, `r_d = W_R sinusoid(d)`;
    projections have no bias (Dai et al., 2019, section 3.3).
    """

    query: Float[jax.Array, "H F E"]
    key: Float[jax.Array, "H F E"]
    value: Float[jax.Array, "H F E"]
    relative: Float[jax.Array, "H F E"]
    out: Float[jax.Array, "H E F"]
    by_content: Float[jax.Array, "H E"]  # u
    by_distance: Float[jax.Array, "H E"]  # v

    def __init__(self, width: int, num_heads: int, *, key: PRNGKey):
        """Xavier projections of `width / num_heads` features a head; `u` and `v` zero."""
        size = width // num_heads
        keys = jax.random.split(key, 5)
        heads = lambda k: xavier(width, width, key=k).reshape((width, num_heads, size))
        self.query, self.key, self.value, self.relative = (
            jnp.swapaxes(heads(k), 0, 1) for k in keys[:4]
        )
        self.out = xavier(width, width, key=keys[4]).reshape((num_heads, size, width))
        self.by_content = self.by_distance = jnp.zeros((num_heads, size))

    def _distances(self, reach: int) -> Float[jax.Array, "H S E"]:
        """`r_d` for distances `reach - 1` down to 0, scaled as scores are."""
        _, width, size = self.relative.shape
        code = sinusoid(jnp.arange(reach - 1, -1, -1), width)
        return jnp.einsum("sf,hfe->hse", code, self.relative) * size**-0.5

    def _queries(self, x: Float[jax.Array, "B T F"]) -> tuple[jax.Array, jax.Array]:
        """`q + u` and `q + v`, `[B, H, T, E]`."""
        query = jnp.einsum("btf,hfe->bhte", x, self.query)
        bias = lambda b: jnp.broadcast_to(b[None, :, None], query.shape)
        return query + bias(self.by_content), query + bias(self.by_distance)

    def unroll(
        self, x: Float[jax.Array, "B S F"], mask: Bool[jax.Array, "B T S"], reach: int
    ) -> Float[jax.Array, "B T F"]:
        """Let the last `T` of `S` rows attend as `mask` allows, none `reach` rows back or more."""
        num_rows, num_keys = mask.shape[1:]
        reach = min(reach, num_keys)
        by_content, by_distance = self._queries(x[:, num_keys - num_rows :])
        key = jnp.einsum("bsf,hfe->bhse", x, self.key)
        score = jnp.einsum("bhte,bhse->bhts", by_content, key) * key.shape[-1] ** -0.5
        distance = jnp.einsum("bhte,hse->bhts", by_distance, self._distances(reach))
        score = score + _shift(distance, num_keys)
        weight = jax.nn.softmax(jnp.where(mask[:, None], score, -jnp.inf), axis=-1)
        value = jnp.einsum("bsf,hfe->bhse", x, self.value)
        return jnp.einsum("bhte,hef->btf", jnp.einsum("bhts,bhse->bhte", weight, value), self.out)

    def step(
        self,
        x: Float[jax.Array, "B F"],
        rows: Float[jax.Array, "B S F"],
        age: Int[jax.Array, "B S"],
    ) -> tuple[Float[jax.Array, "B F"], Float[jax.Array, "B H S"]]:
        """Let one row attend to a ring whose slots have an age (negative: not visible).

        Returns what it reads, and the weights.

        Keys and values of the ring are never formed: the query is multiplied by the projection of
        keys, and the weighted sum of rows by that of values. It costs `S F H` instead of `S F F`.
        """
        by_content, by_distance = self._queries(x[:, None])
        query = jnp.einsum("bhte,hfe->bhf", by_content, self.key) * self.key.shape[-1] ** -0.5
        distance = jnp.einsum("bhte,hse->bhs", by_distance, self._distances(rows.shape[1]))
        column = jnp.where(age < 0, 0, rows.shape[1] - 1 - age)
        score = jnp.einsum("bhf,bsf->bhs", query, rows)
        score = score + jnp.take_along_axis(distance, column[:, None], axis=2)
        weight = jax.nn.softmax(jnp.where((age < 0)[:, None], -jnp.inf, score), axis=-1)
        value = jnp.einsum("bhf,hfe->bhe", jnp.einsum("bhs,bsf->bhf", weight, rows), self.value)
        return jnp.einsum("bhe,hef->bf", value, self.out), weight

    def vectors(self, rows: Float[jax.Array, "B S F"]) -> Float[jax.Array, "B H S F"]:
        """Return what `step` would read if one row had all of a head's weight, times the heads."""
        value = jnp.einsum("bsf,hfe->bhse", rows, self.value)
        return len(self.out) * jnp.einsum("bhse,hef->bhsf", value, self.out)


def _shift(score: Float[jax.Array, "B H T D"], num_keys: int) -> Float[jax.Array, "B H T S"]:
    """Move scores by distance, greatest first, to the columns they belong to.

    The last of `T` rows ends at the last column, each row before it one column sooner. Columns
    without a distance hold numbers without a meaning. Padding each row by `T` and cutting the
    whole into rows one shorter moves row i by i columns (Dai et al., 2019, appendix B).
    """
    lead, (num_rows, reach) = score.shape[:2], score.shape[2:]
    padded = jnp.pad(score, ((0, 0), (0, 0), (0, 0), (0, num_rows)))
    flat = padded.reshape((*lead, -1))[..., : num_rows * (num_rows + reach - 1)]
    moved = flat.reshape((*lead, num_rows, num_rows + reach - 1))
    extra = num_keys - moved.shape[-1]
    if extra > 0:
        return jnp.pad(moved, ((0, 0), (0, 0), (0, 0), (extra, 0)))
    return moved[..., -extra:]


class GatedBlock(eqx.Module):
    """One layer: attention and a feed-forward map, each behind a gate."""

    attention_norm: LayerNorm
    attention: RelativeAttention
    attention_gate: Gate
    norm: LayerNorm
    expand: Linear
    contract: Linear
    gate: Gate

    def __init__(self, width: int, hidden: int, num_heads: int, gate_bias: float, *, key: PRNGKey):
        """Xavier weights; biases are zero, except those of the gates."""
        keys = jax.random.split(key, 5)
        self.attention_norm, self.norm = LayerNorm(width), LayerNorm(width)
        self.attention = RelativeAttention(width, num_heads, key=keys[0])
        self.attention_gate = Gate(width, gate_bias, key=keys[1])
        self.expand = Linear(xavier(width, hidden, key=keys[2]), jnp.zeros(hidden))
        self.contract = Linear(xavier(hidden, width, key=keys[3]), jnp.zeros(width))
        self.gate = Gate(width, gate_bias, key=keys[4])

    def refine(
        self, h: Float[jax.Array, "*axes F"], read: Float[jax.Array, "*axes F"]
    ) -> tuple[Float[jax.Array, "*axes F"], Float[jax.Array, "*axes F"]]:
        """Return the next layer's stream and that between the gates, given what was read."""
        h = self.attention_gate(h, jax.nn.relu(read))
        change = self.contract(jax.nn.relu(self.expand(self.norm(h))))
        return self.gate(h, jax.nn.relu(change)), h


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GTrXLMemory:
    """The streams that enter each layer, as rings (`nets/ring.py`)."""

    hidden: tuple[Float[jax.Array, "*B S F"], ...]
    length: Int[jax.Array, "*B"]  # tokens taken since the memory was last empty


class GTrXL(AbstractCore):
    """A row attends, in each layer, to itself and to up to `capacity - 1` rows before it."""

    embedding: Linear
    blocks: tuple[GatedBlock, ...]
    capacity: int = eqx.field(static=True)
    feature_size: int = eqx.field(static=True)

    def start(self, num_lanes: int) -> GTrXLMemory:
        """Return empty memories."""
        empty = jnp.zeros((num_lanes, self.capacity, self.feature_size))
        return GTrXLMemory((empty,) * len(self.blocks), jnp.zeros(num_lanes, jnp.int32))

    def inspect(
        self, memory: GTrXLMemory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[GTrXLMemory, Float[jax.Array, "B F"], Record]:
        """Write each layer's stream into its ring, and attend to the ring."""
        now = jnp.where(start, 0, memory.length)
        age = ring.written_ages(now, self.capacity)
        embedding = self.embedding(token)
        h, rings, layers = embedding, [], []
        for past, block in zip(memory.hidden, self.blocks, strict=True):
            rings.append(ring.write(past, h, now))
            rows = block.attention_norm(rings[-1])
            read, weight = block.attention.step(block.attention_norm(h), rows, age)
            h, stream = block.refine(h, read)
            attention = Attention(weight, age, block.attention.vectors(rows), read, stream)
            layers.append(Layer(h, attention))
        return GTrXLMemory(tuple(rings), now + 1), h, Record(embedding, tuple(layers))

    def unroll(
        self,
        memory: GTrXLMemory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[GTrXLMemory, Float[jax.Array, "T B F"]]:
        """One pass over the chunk, whose rows may also attend to the memory before it."""
        before = self.start(token.shape[1]) if memory is None else memory
        chunk = ring.chunk_of(start, valid, before.length)
        mask = chunk.visible(0 if memory is None else self.capacity, self.capacity)
        h, rings = self.embedding(chunk.gather(token)), []
        for past, block in zip(before.hidden, self.blocks, strict=True):
            rings.append(chunk.roll(past, h))
            rows = h
            if memory is not None:
                past = jax.lax.stop_gradient(chunk.unroll(past))
                rows = jnp.concatenate([past, h], axis=1)
            read = block.attention.unroll(block.attention_norm(rows), mask, self.capacity)
            h, _ = block.refine(h, read)
        return GTrXLMemory(tuple(rings), chunk.length), chunk.scatter(h)


class GTrXLConfig(AbstractCoreConfig):
    """GTrXL: a transformer with gates, attention by relative position and a memory of rows."""

    memory: int = field(0, low=0)  # earlier rows that a layer attends to; 0: the whole trial
    width: int = field(128, low=1)  # features of every layer
    num_heads: int = field(8, low=1)  # attention heads; must divide width
    num_layers: int = field(4, low=1)  # layers of attention and a feed-forward map
    hidden: int = field(512, low=1)  # units of the feed-forward maps
    gate_bias: float = 2.0  # gates are shut at first: 2 lets sigmoid(-2) = 0.12 of a change through

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where heads do not divide the width."""
        del spec
        return check_heads(self.width, self.num_heads)

    def build(self, token_size: int, trial_length: int, *, key: PRNGKey) -> AbstractCore:
        """Return a core with Xavier weights."""
        embed_key, *keys = jax.random.split(key, self.num_layers + 1)
        embedding = Linear(xavier(token_size, self.width, key=embed_key), jnp.zeros(self.width))
        blocks = tuple(
            GatedBlock(self.width, self.hidden, self.num_heads, self.gate_bias, key=k) for k in keys
        )
        capacity = self.memory + 1 if self.memory else trial_length
        return GTrXL(embedding=embedding, blocks=blocks, capacity=capacity, feature_size=self.width)
