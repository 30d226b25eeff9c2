"""SNAIL (Mishra et al., ICLR 2018), as a core: causal convolutions in time, and attention.

A linear map of the token, then in turns a stack of gated dilated convolutions, which sum up what
is recent, and attention, which picks from the whole trial; each appends its features to its input.
There is no position code: convolutions depend on the order.
"""

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from trmrl.nets import ring
from trmrl.nets.core import AbstractCore, AbstractCoreConfig, Layer, Record
from trmrl.nets.core import Attention as AttentionRecord
from trmrl.nets.initializers import xavier
from trmrl.nets.linear import Linear
from trmrl.nets.norm import LayerNorm
from trmrl.settings import field
from trmrl.types import PRNGKey


def dilations(trial_length: int, first: int) -> tuple[int, ...]:
    """Return `ceil(log2(trial_length))` dilations, at least one, each twice the one before.

    With `first` 1, their sum reaches a whole trial back. Published is 2 (section 3, "TC block"),
    which never reaches an odd distance.
    """
    return tuple(first * 2**i for i in range(max(math.ceil(math.log2(trial_length)), 1)))


class DenseBlock(eqx.Module):
    """`[x, tanh(a) sigmoid(b)]` where `[a, b] = W x_t + V x_(t-dilation) + c`."""

    now: Linear
    past: Linear
    dilation: int = eqx.field(static=True)

    def __init__(self, size: int, filters: int, dilation: int, *, key: PRNGKey):
        """Xavier weights of a kernel of width two."""
        keys = jax.random.split(key)
        initial = lambda k: xavier(size, 2 * filters, 2**-0.5, key=k)
        self.now = Linear(initial(keys[0]), jnp.zeros(2 * filters))
        self.past = Linear(initial(keys[1]), None)
        self.dilation = dilation

    def __call__(
        self, x: Float[jax.Array, "*axes C"], past: Float[jax.Array, "*axes G"]
    ) -> Float[jax.Array, "*axes E"]:
        """Append this block's features; `past` is `V x_(t-dilation)`, zero where there is none."""
        value, gate = jnp.split(self.now(x) + past, 2, axis=-1)
        return jnp.concatenate([x, jnp.tanh(value) * jax.nn.sigmoid(gate)], axis=-1)


class Convolutions(eqx.Module):
    """Dense blocks of growing dilation.

    One ring serves them all: the last block's output contains the input of every block.
    """

    blocks: tuple[DenseBlock, ...]
    size: int = eqx.field(static=True)  # features of the output

    def __init__(self, size: int, filters: int, steps: tuple[int, ...], *, key: PRNGKey):
        """Build a block for every dilation in `steps`, on `size` features."""
        keys = jax.random.split(key, len(steps))
        self.blocks = tuple(
            DenseBlock(size + i * filters, filters, step, key=keys[i])
            for i, step in enumerate(steps)
        )
        self.size = size + len(steps) * filters

    @property
    def reach(self) -> int:
        """How many rows back the last block reads."""
        return self.blocks[-1].dilation

    def step(
        self, rows: Float[jax.Array, "B S E"], x: Float[jax.Array, "B C"], now: Int[jax.Array, " B"]
    ) -> tuple[jax.Array, Float[jax.Array, "B E"]]:
        """Take the row of position `now`; returns the ring with it, and its features."""
        for block in self.blocks:
            past = ring.read(rows, now - block.dilation)[:, : x.shape[-1]]
            x = block(x, jnp.where((now >= block.dilation)[:, None], block.past(past), 0.0))
        return ring.write(rows, x, now), x

    def unroll(
        self,
        rows: Float[jax.Array, "B S E"] | None,
        x: Float[jax.Array, "B T C"],
        chunk: ring.Chunk,
    ) -> Float[jax.Array, "B T E"]:
        """Take a chunk, after what an unrolled ring holds (None: nothing)."""
        num_rows = x.shape[1]
        for block in self.blocks:
            inputs, back = x, block.dilation
            if rows is not None:
                inputs = jnp.concatenate([rows[:, -back:, : x.shape[-1]], x], axis=1)
            past = block.past(inputs)
            past = jnp.pad(past, ((0, 0), (back, 0), (0, 0))) if rows is None else past
            exists = (chunk.position >= back)[..., None]
            x = block(x, jnp.where(exists, past[:, :num_rows], 0.0))
        return x


class Attention(eqx.Module):
    """`[x, softmax(q k' / sqrt(d)) v]` over every row so far, the present one included."""

    query: Linear
    key: Linear
    value: Linear

    def __init__(self, size: int, key_size: int, value_size: int, *, key: PRNGKey):
        """Xavier weights, zero biases."""
        build = lambda out, k: Linear(xavier(size, out, key=k), jnp.zeros(out))
        keys = jax.random.split(key, 3)
        self.query, self.key = build(key_size, keys[0]), build(key_size, keys[1])
        self.value = build(value_size, keys[2])

    def __call__(
        self,
        x: Float[jax.Array, "B T C"],
        key: Float[jax.Array, "B S K"],
        value: Float[jax.Array, "B S V"],
        mask: Bool[jax.Array, "B T S"],
    ) -> tuple[Float[jax.Array, "B T E"], Float[jax.Array, "B T S"]]:
        """Append to the rows of `x` what they read where `mask` allows; returns the weights too."""
        score = jnp.einsum("btk,bsk->bts", self.query(x) * key.shape[-1] ** -0.5, key)
        weight = jax.nn.softmax(jnp.where(mask, score, -jnp.inf), axis=-1)
        return jnp.concatenate([x, jnp.einsum("bts,bsv->btv", weight, value)], axis=-1), weight


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SNAILMemory:
    """Rings (`nets/ring.py`) of each stack of convolutions' output, and of keys and values."""

    rows: tuple[Float[jax.Array, "*B R _"], ...]
    key: tuple[Float[jax.Array, "*B S K"], ...]
    value: tuple[Float[jax.Array, "*B S V"], ...]
    length: Int[jax.Array, "*B"]  # tokens taken since the memory was last empty


class SNAIL(AbstractCore):
    """Stacks of convolutions and attention in turns, over up to `capacity` rows of a trial."""

    embedding: Linear
    convolutions: tuple[Convolutions, ...]
    attentions: tuple[Attention, ...]
    norm: LayerNorm
    capacity: int = eqx.field(static=True)
    feature_size: int = eqx.field(static=True)

    def start(self, num_lanes: int) -> SNAILMemory:
        """Return empty memories."""
        empty = lambda num_rows, size: jnp.zeros((num_lanes, num_rows, size))
        width = lambda linear: linear.weight.shape[1]
        return SNAILMemory(
            tuple(empty(stack.reach, stack.size) for stack in self.convolutions),
            tuple(empty(self.capacity, width(a.key)) for a in self.attentions),
            tuple(empty(self.capacity, width(a.value)) for a in self.attentions),
            jnp.zeros(num_lanes, jnp.int32),
        )

    def inspect(
        self, memory: SNAILMemory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[SNAILMemory, Float[jax.Array, "B F"], Record]:
        """Write one row into every ring; convolutions read one row for each dilation."""
        now = jnp.where(start, 0, memory.length)
        age = ring.written_ages(now, self.capacity)
        embedding = self.embedding(token)
        x, rows, keys, values, layers = embedding, [], [], [], []
        for i, (stack, attention) in enumerate(self._layers()):
            stack_rows, x = stack.step(memory.rows[i], x, now)
            rows.append(stack_rows)
            keys.append(ring.write(memory.key[i], attention.key(x), now))
            values.append(ring.write(memory.value[i], attention.value(x), now))
            x, weight = attention(x[:, None], keys[-1], values[-1], (age >= 0)[:, None])
            x, value = x[:, 0], values[-1]
            read = x[:, -value.shape[-1] :]
            layers.append(Layer(x, AttentionRecord(weight, age, value[:, None], read, None)))
        memory = SNAILMemory(tuple(rows), tuple(keys), tuple(values), now + 1)
        return memory, self.norm(x), Record(embedding, tuple(layers))

    def unroll(
        self,
        memory: SNAILMemory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[SNAILMemory, Float[jax.Array, "T B F"]]:
        """One pass over the chunk, whose rows may also attend to the memory before it."""
        before = self.start(token.shape[1]) if memory is None else memory
        chunk = ring.chunk_of(start, valid, before.length)
        mask = chunk.visible(0 if memory is None else self.capacity, self.capacity)
        x, rows, keys, values = self.embedding(chunk.gather(token)), [], [], []
        for i, (stack, attention) in enumerate(self._layers()):
            x = stack.unroll(None if memory is None else chunk.unroll(memory.rows[i]), x, chunk)
            rows.append(chunk.roll(before.rows[i], x))
            key, value = attention.key(x), attention.value(x)
            keys.append(chunk.roll(before.key[i], key))
            values.append(chunk.roll(before.value[i], value))
            if memory is not None:
                key = jnp.concatenate([chunk.unroll(memory.key[i]), key], axis=1)
                value = jnp.concatenate([chunk.unroll(memory.value[i]), value], axis=1)
            x, _ = attention(x, key, value, mask)
        after = SNAILMemory(tuple(rows), tuple(keys), tuple(values), chunk.length)
        return after, chunk.scatter(self.norm(x))

    def _layers(self) -> zip:
        return zip(self.convolutions, self.attentions, strict=True)


class SNAILConfig(AbstractCoreConfig):
    """SNAIL: in each layer a stack of causal convolutions, then attention."""

    width: int = field(64, low=1)  # features of an embedded token
    filters: int = field(32, low=1)  # features that each convolution appends
    key_size: int = field(64, low=1)  # features of an attention's queries and keys
    value_size: int = field(32, low=1)  # features that each attention appends
    num_layers: int = field(2, low=1)  # layers of convolutions and attention
    first_dilation: int = field(1, low=1)  # of each stack: 1, or 2 as published

    def build(self, token_size: int, trial_length: int, *, key: PRNGKey) -> AbstractCore:
        """Return a core with Xavier weights, its convolutions reaching a whole trial back."""
        embed_key, *keys = jax.random.split(key, 2 * self.num_layers + 1)
        steps = dilations(trial_length, self.first_dilation)
        size, stacks, attentions = self.width, [], []
        for i in range(self.num_layers):
            stacks.append(Convolutions(size, self.filters, steps, key=keys[2 * i]))
            size = stacks[-1].size
            attentions.append(Attention(size, self.key_size, self.value_size, key=keys[2 * i + 1]))
            size = size + self.value_size
        return SNAIL(
            embedding=Linear(xavier(token_size, self.width, key=embed_key), jnp.zeros(self.width)),
            convolutions=tuple(stacks),
            attentions=tuple(attentions),
            norm=LayerNorm(size),
            capacity=trial_length,
            feature_size=size,
        )
