"""The TrMRL core: working memories in, episodic memory out, refined by self-attention.

A transformer encoder without LayerNorm, started by T-Fixup (`spec`: Melo, ICML 2022, sections 3
and 4): `h = x E + P`, then per layer `h += MHA(h)` and `h += W2 relu(W1 h)`, causal throughout.
Lives here: its blocks and its two contexts. Window: the last N tokens, encoded afresh at every
step, positions counted within the window. Trial: every token of the trial, keys and values kept.
"""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from trmrl.nets._core import AbstractCore, AbstractCoreConfig
from trmrl.nets.attention import attend
from trmrl.nets.initializers import t_fixup_embedding_std, t_fixup_projection_gain, xavier
from trmrl.nets.linear import Linear
from trmrl.types import PRNGKey


def sinusoid(position: Int[jax.Array, "*axes"], width: int) -> Float[jax.Array, "*axes D"]:
    """Sinusoidal position code (Vaswani et al., 2017): sines at even features, cosines at odd."""
    rate = np.exp(-np.log(10000.0) * np.arange(0, width, 2, dtype=np.float32) / width)
    angle = position[..., None].astype(jnp.float32) * jnp.broadcast_to(
        jnp.asarray(rate, jnp.float32), (*position.shape, len(rate))
    )
    code = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return code.reshape((*position.shape, -1))[..., :width]


class Block(eqx.Module):
    """One layer: attention and a feed-forward map, each added to its input."""

    query: Linear
    key_value: Linear
    out: Linear
    expand: Linear
    contract: Linear
    num_heads: int = eqx.field(static=True)

    def __init__(self, width: int, hidden: int, num_heads: int, num_layers: int, *, key: PRNGKey):
        """Weights by T-Fixup for an encoder of `num_layers`; attention biases zero."""
        keys = jax.random.split(key, 8)
        gain = t_fixup_projection_gain(num_layers)
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
        self.num_heads = num_heads

    def keys_values(self, h: Float[jax.Array, "*axes D"]) -> tuple[jax.Array, jax.Array]:
        """Return what later queries may look at: keys and values, `[..., D]` each."""
        key, value = jnp.split(self.key_value(h), 2, axis=-1)
        return key, value

    def refine(
        self,
        h: Float[jax.Array, "B Q D"],
        keys_values: tuple[jax.Array, jax.Array],
        mask: Bool[jax.Array, "#B Q S"],
    ) -> Float[jax.Array, "B Q D"]:
        """Return the next layer's memories of the rows in `h`, which look at `keys_values`."""
        h = h + self.out(attend(self.query(h), *keys_values, mask, self.num_heads))
        return h + self.contract(jax.nn.relu(self.expand(h)))


class Encoder(eqx.Module):
    """The weights both contexts share: an embedding without bias, and the layers."""

    embedding: Linear
    blocks: tuple[Block, ...]

    def embed(
        self, token: Float[jax.Array, "*axes D"], position: Int[jax.Array, "*axes"]
    ) -> Float[jax.Array, "*axes F"]:
        """Return `x E + P(position)`."""
        h = self.embedding(token)
        return h + sinusoid(position, h.shape[-1])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WindowMemory:
    """The last N tokens, oldest first, zeros after the newest while filling."""

    token: Float[jax.Array, "*B N D"]
    length: Int[jax.Array, "*B"]  # tokens held, at most N


def _push(
    memory: WindowMemory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
) -> WindowMemory:
    """Fill the next free slot, or forget the oldest token; `start` forgets them all first."""
    num_slots = memory.token.shape[1]
    length = jnp.where(start, 0, memory.length)
    slots = jnp.where(start[:, None, None], 0.0, memory.token)
    shifted = jnp.concatenate([slots[:, 1:], jnp.zeros_like(slots[:, :1])], axis=1)
    slots = jnp.where((length == num_slots)[:, None, None], shifted, slots)
    write = jnp.minimum(length, num_slots - 1)
    here = jnp.arange(num_slots)[None, :] == write[:, None]
    return WindowMemory(jnp.where(here[:, :, None], token[:, None], slots), write + 1)


class WindowTransformer(AbstractCore):
    """Encodes the N most recent tokens afresh at every step, as published."""

    encoder: Encoder
    window: int = eqx.field(static=True)
    feature_size: int = eqx.field(static=True)

    def start(self, num_lanes: int) -> WindowMemory:
        """Return empty windows."""
        token_size = self.encoder.embedding.weight.shape[0]
        slots = jnp.zeros((num_lanes, self.window, token_size))
        return WindowMemory(slots, jnp.zeros(num_lanes, jnp.int32))

    def encode(
        self, token: Float[jax.Array, "M N D"], length: Int[jax.Array, " M"]
    ) -> Float[jax.Array, "M F"]:
        """Return the last layer's memory of the newest token of each of `M` windows.

        Nothing but that one row is read from the last layer, so no other is computed there. Empty
        slots lie after the newest token, where the causal mask hides them.
        """
        num_slots = token.shape[1]
        position = jnp.arange(num_slots)
        h = self.encoder.embed(token, jnp.broadcast_to(position[None], token.shape[:2]))
        causal = (position[None, :] <= position[:, None])[None]
        for block in self.encoder.blocks[:-1]:
            h = block.refine(h, block.keys_values(h), causal)
        last = self.encoder.blocks[-1]
        newest = jnp.take_along_axis(h, (length - 1)[:, None, None], axis=1)
        seen = position[None, None, :] < length[:, None, None]
        return last.refine(newest, last.keys_values(h), seen)[:, 0]

    def step(
        self, memory: WindowMemory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[WindowMemory, Float[jax.Array, "B F"]]:
        """Push the token and encode the window."""
        memory = _push(memory, token, start)
        return memory, self.encode(memory.token, memory.length)

    def unroll(
        self,
        memory: WindowMemory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[WindowMemory, Float[jax.Array, "T B F"]]:
        """Lay out every window of the chunk, then encode them all at once."""
        num_rows, num_lanes = start.shape
        held = self.start(num_lanes) if memory is None else memory

        def push(memory, row):
            token, start, valid = row
            pushed = _push(memory, token, start)
            keep = lambda new, old: jnp.where(
                valid.reshape((-1,) + (1,) * (new.ndim - 1)), new, old
            )
            return jax.tree.map(keep, pushed, memory), pushed

        if num_rows == 1:
            held, windows = push(held, (token[0], start[0], valid[0]))
        else:
            held, windows = jax.lax.scan(push, held, (token, start, valid))
        slots = windows.token.reshape((-1, *windows.token.shape[-2:]))
        features = self.encode(slots, windows.length.reshape(-1))
        return held, features.reshape((num_rows, num_lanes, -1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrialMemory:
    """Keys and values of what is remembered, per layer; position p's are in slot p mod S."""

    key: Float[jax.Array, "*B L S F"]
    value: Float[jax.Array, "*B L S F"]
    length: Int[jax.Array, "*B"]  # tokens taken since the memory was last empty


class TrialTransformer(AbstractCore):
    """Sees up to `capacity` tokens of the trial; acting costs one token against a cache.

    Beyond its capacity a lane forgets its oldest token.
    """

    encoder: Encoder
    capacity: int = eqx.field(static=True)
    feature_size: int = eqx.field(static=True)

    def start(self, num_lanes: int) -> TrialMemory:
        """Return empty caches."""
        shape = num_lanes, len(self.encoder.blocks), self.capacity, self.feature_size
        return TrialMemory(jnp.zeros(shape), jnp.zeros(shape), jnp.zeros(num_lanes, jnp.int32))

    def step(
        self, memory: TrialMemory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[TrialMemory, Float[jax.Array, "B F"]]:
        """Write the token's keys and values into the cache, layer by layer, and look at it."""
        length = jnp.where(start, 0, memory.length)
        slot = jnp.arange(self.capacity)[None, :]
        here = (slot == (length % self.capacity)[:, None])[:, :, None]
        seen = (slot <= length[:, None])[:, None, :]
        h = self.encoder.embed(token, length)[:, None]
        keys, values = [], []
        for i, block in enumerate(self.encoder.blocks):
            key, value = block.keys_values(h)
            keys.append(jnp.where(here, key, memory.key[:, i]))
            values.append(jnp.where(here, value, memory.value[:, i]))
            h = block.refine(h, (keys[-1], values[-1]), seen)
        memory = TrialMemory(jnp.stack(keys, 1), jnp.stack(values, 1), length + 1)
        return memory, h[:, 0]

    def unroll(
        self,
        memory: TrialMemory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[TrialMemory, Float[jax.Array, "T B F"]]:
        """One causal pass over the chunk, which may also look at the memory before it."""
        rows = jnp.swapaxes
        token, start, valid = rows(token, 0, 1), rows(start, 0, 1), rows(valid, 0, 1)
        cached = self.start(token.shape[0]) if memory is None else memory
        position, fresh = _positions(start, valid, cached.length)
        mask = self._mask(position, fresh, valid)
        if memory is not None:
            mask = jnp.concatenate([self._cache_mask(cached.length, position, fresh), mask], 2)
        h = self.encoder.embed(token, position)
        keys, values = [], []
        for i, block in enumerate(self.encoder.blocks):
            key, value = block.keys_values(h)
            keys.append(key)
            values.append(value)
            if memory is not None:
                key = jnp.concatenate([memory.key[:, i], key], axis=1)
                value = jnp.concatenate([memory.value[:, i], value], axis=1)
            h = block.refine(h, (key, value), mask)
        memory = self._store(
            cached, jnp.stack(keys, 1), jnp.stack(values, 1), position, fresh, valid
        )
        return memory, rows(h, 0, 1)

    def _mask(self, position, fresh, valid):
        """`[B, T, T]`: which rows of the chunk each row may look at (always itself)."""
        t = jnp.arange(position.shape[1])
        causal = (t[None, :] < t[:, None])[None]
        same = fresh[:, :, None] == fresh[:, None, :]
        near = position[:, :, None] - position[:, None, :] < self.capacity
        return (causal & same & near & valid[:, None, :]) | jnp.eye(len(t), dtype=bool)[None]

    def _cache_mask(self, length, position, fresh):
        """`[B, T, S]`: which slots of the memory before the chunk each row may look at."""
        slot = jnp.arange(self.capacity)[None, :]
        newest = length[:, None] - 1
        held = newest - (newest - slot) % self.capacity  # the position whose token the slot holds
        near = position[:, :, None] - held[:, None, :] < self.capacity
        return (fresh == 0)[:, :, None] & (held >= 0)[:, None, :] & near

    def _store(self, memory, key, value, position, fresh, valid):
        """The cache after the chunk: the last `capacity` valid rows of the newest stretch."""
        taken = jnp.where(valid, position + 1, 0)
        newest = fresh == jnp.max(jnp.where(valid, fresh, 0), axis=1, keepdims=True)
        length = jnp.max(jnp.where(newest, taken, 0), axis=1)
        length = jnp.where(valid.any(axis=1), length, memory.length)
        keep = valid & newest & (position >= length[:, None] - self.capacity)
        slot = jnp.where(keep, position % self.capacity, self.capacity)
        write = lambda old, new: jax.vmap(lambda o, n, s: o.at[:, s].set(n, mode="drop"))(
            old, new, slot
        )
        return TrialMemory(write(memory.key, key), write(memory.value, value), length)


def _positions(
    start: Bool[jax.Array, "B T"], valid: Bool[jax.Array, "B T"], length: Int[jax.Array, " B"]
) -> tuple[Int[jax.Array, "B T"], Int[jax.Array, "B T"]]:
    """Return rows' positions since memory was last empty, and how often it was emptied by then."""
    starts = start & valid
    fresh = jnp.cumsum(starts, axis=1, dtype=jnp.int32)
    before = jnp.cumsum(valid, axis=1, dtype=jnp.int32) - valid.astype(jnp.int32)
    at_start = jax.lax.cummax(jnp.where(starts, before, 0), axis=1)
    return jnp.where(fresh > 0, before - at_start, before + length[:, None]), fresh


class TransformerConfig(AbstractCoreConfig):
    """The TrMRL core. `window` counts tokens; 0 means the whole trial (context "trial" only)."""

    context: Literal["window", "trial"] = "window"
    window: int = 5
    width: int = 128
    num_heads: int = 16
    num_layers: int = 4
    hidden: int = 512

    def build(self, token_size: int, trial_length: int, *, key: PRNGKey) -> AbstractCore:
        """Return a core with T-Fixup weights."""
        embed_key, *keys = jax.random.split(key, self.num_layers + 1)
        std = t_fixup_embedding_std(self.width, self.num_layers)
        embedding = Linear(std * jax.random.normal(embed_key, (token_size, self.width)), None)
        blocks = tuple(
            Block(self.width, self.hidden, self.num_heads, self.num_layers, key=k) for k in keys
        )
        encoder = Encoder(embedding, blocks)
        if self.context == "window":
            return WindowTransformer(encoder=encoder, window=self.window, feature_size=self.width)
        return TrialTransformer(
            encoder=encoder, capacity=self.window or trial_length, feature_size=self.width
        )
