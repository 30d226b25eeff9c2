"""The TrMRL core: working memories in, episodic memory out, refined by self-attention.

The encoder (`encoder.py`) has one of two contexts. Window: the last N tokens, encoded afresh at
every step, positions counted within the window. Trial: every token of the trial, keys and values
kept.
"""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from trmrl.nets import ring
from trmrl.nets.attention import check_heads
from trmrl.nets.core import AbstractCore, AbstractCoreConfig, Record, where_lanes
from trmrl.nets.encoder import Encoder, Initializer, Normalization, PositionCode
from trmrl.settings import field
from trmrl.types import EnvSpec, PRNGKey

LONG = 4  # times its capacity: a chunk that is passed over in parts


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
    is_free = jnp.arange(num_slots)[None, :] == write[:, None]
    return WindowMemory(jnp.where(is_free[:, :, None], token[:, None], slots), write + 1)


def _join(
    token: Float[jax.Array, "*axes D"],
    before: Float[jax.Array, "*axes D"],
    exists: Bool[jax.Array, "*axes"],
) -> Float[jax.Array, "*axes E"]:
    """Return tokens with the one before each beside them, zeros where there is none."""
    return jnp.concatenate([token, jnp.where(exists[..., None], before, 0.0)], axis=-1)


class WindowTransformer(AbstractCore):
    """Encodes the N most recent tokens afresh at every step, as published."""

    encoder: Encoder
    window: int = eqx.field(static=True)
    transitions: bool = eqx.field(static=True)
    feature_size: int = eqx.field(static=True)

    def start(self, num_lanes: int) -> WindowMemory:
        """Return empty windows."""
        token_size = self.encoder.embedding.weight.shape[0] // (1 + self.transitions)
        slots = jnp.zeros((num_lanes, self.window, token_size))
        return WindowMemory(slots, jnp.zeros(num_lanes, jnp.int32))

    def encode(
        self, token: Float[jax.Array, "M N D"], length: Int[jax.Array, " M"]
    ) -> tuple[Float[jax.Array, "M F"], Record]:
        """Return the last layer's memory of the newest token of each of `M` windows; and how.

        Nothing but that one row is read from the last layer, so no other is computed there. Empty
        slots lie after the newest token, where the causal mask hides them.
        """
        num_slots = token.shape[1]
        position = jnp.arange(num_slots)
        positions = jnp.broadcast_to(position[None], token.shape[:2])
        if self.transitions:
            token = _join(token, jnp.roll(token, 1, axis=1), positions > 0)
        h, by = self.encoder.embed(token, positions), self.encoder.rotation(positions)
        causal = (position[None, :] <= position[:, None])[None]
        newest = length - 1
        age = jnp.maximum(newest[:, None] - positions, -1)
        row_of = lambda h: jnp.take_along_axis(h, newest[:, None, None], axis=1)
        embedding, layers = row_of(h)[:, 0], []
        for block in self.encoder.blocks[:-1]:
            keys_values = block.keys_values(h, by)
            h, how = block.refine(h, keys_values, causal, by)
            layers.append(block.layer(h, how, keys_values[1], age, newest))
        last = self.encoder.blocks[-1]
        keys_values = last.keys_values(h, by)
        rotation = self.encoder.rotation(newest[:, None])
        h, how = last.refine(row_of(h), keys_values, (age >= 0)[:, None], rotation)
        layers.append(last.layer(h, how, keys_values[1], age, jnp.zeros_like(newest)))
        return self.encoder.feature(h[:, 0]), Record(embedding, tuple(layers))

    def inspect(
        self, memory: WindowMemory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[WindowMemory, Float[jax.Array, "B F"], Record]:
        """Push the token and encode the window."""
        memory = _push(memory, token, start)
        return memory, *self.encode(memory.token, memory.length)

    def unroll(
        self,
        memory: WindowMemory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[WindowMemory, Float[jax.Array, "T B F"]]:
        """Form every window of the chunk, then encode them all at once."""
        num_rows, num_lanes = start.shape
        held = self.start(num_lanes) if memory is None else memory

        def push(memory, row):
            token, start, valid = row
            pushed = _push(memory, token, start)
            return where_lanes(valid, pushed, memory), pushed

        if num_rows == 1:
            held, windows = push(held, (token[0], start[0], valid[0]))
        else:
            held, windows = jax.lax.scan(push, held, (token, start, valid))
        slots = windows.token.reshape((-1, *windows.token.shape[-2:]))
        features, _ = self.encode(slots, windows.length.reshape(-1))
        return held, features.reshape((num_rows, num_lanes, -1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrialMemory:
    """Keys and values of the remembered rows, a ring (`nets/ring.py`) for each layer."""

    key: tuple[Float[jax.Array, "*B S F"], ...]
    value: tuple[Float[jax.Array, "*B S F"], ...]
    token: Float[jax.Array, "*B 1 D"] | None  # the newest, a ring of one; None if nobody reads it
    length: Int[jax.Array, "*B"]  # tokens taken since the memory was last empty


class TrialTransformer(AbstractCore):
    """Attends to up to `capacity` tokens of the trial; a step is one query against a cache.

    Beyond its capacity a lane forgets its oldest token.
    """

    encoder: Encoder
    capacity: int = eqx.field(static=True)
    transitions: bool = eqx.field(static=True)
    feature_size: int = eqx.field(static=True)

    def start(self, num_lanes: int) -> TrialMemory:
        """Return empty caches."""
        empty = jnp.zeros((num_lanes, self.capacity, self.feature_size))
        rings = (empty,) * len(self.encoder.blocks)
        token = None
        if self.transitions:
            token = jnp.zeros((num_lanes, 1, self.encoder.embedding.weight.shape[0] // 2))
        return TrialMemory(rings, rings, token, jnp.zeros(num_lanes, jnp.int32))

    def inspect(
        self, memory: TrialMemory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[TrialMemory, Float[jax.Array, "B F"], Record]:
        """Write the token's keys and values into the cache, layer by layer, and attend to it."""
        now = jnp.where(start, 0, memory.length)
        age = ring.written_ages(now, self.capacity)
        newest = None
        if memory.token is not None:
            newest = ring.write(memory.token, token, now)
            token = _join(token, memory.token[:, 0], now > 0)
        embedding, by = self.encoder.embed(token, now), self.encoder.rotation(now[:, None])
        h, keys, values, layers = embedding[:, None], [], [], []
        for i, block in enumerate(self.encoder.blocks):
            key, value = block.keys_values(h, by)
            keys.append(ring.write(memory.key[i], key[:, 0], now))
            values.append(ring.write(memory.value[i], value[:, 0], now))
            h, how = block.refine(h, (keys[-1], values[-1]), (age >= 0)[:, None], by)
            layers.append(block.layer(h, how, values[-1], age, jnp.zeros_like(now)))
        memory = TrialMemory(tuple(keys), tuple(values), newest, now + 1)
        return memory, self.encoder.feature(h[:, 0]), Record(embedding, tuple(layers))

    def unroll(
        self,
        memory: TrialMemory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[TrialMemory, Float[jax.Array, "T B F"]]:
        """Causal passes over parts of the chunk, whose rows may also attend to the memory before.

        Where a row reaches a few tokens of a long chunk, most of its attention would be masked.
        """
        length = self._part_of(len(token))
        if length == len(token):
            return self._pass(memory, token, start, valid)
        cut = lambda x: x.reshape((-1, length, *x.shape[1:]))
        after, feature = jax.lax.scan(
            lambda memory, rows: self._pass(memory, *rows),
            self.start(token.shape[1]) if memory is None else memory,
            (cut(token), cut(start), cut(valid)),
        )
        return after, feature.reshape((*token.shape[:2], -1))

    def _part_of(self, num_rows: int) -> int:
        """Return the rows of a pass: twice the capacity or fewer, if that divides a long chunk."""
        if num_rows < LONG * self.capacity:
            return num_rows
        divisors = [n for n in range(self.capacity, 2 * self.capacity + 1) if num_rows % n == 0]
        return max(divisors, default=num_rows)

    def _pass(
        self,
        memory: TrialMemory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[TrialMemory, Float[jax.Array, "T B F"]]:
        """Return memory and features after one causal pass over rows."""
        before = self.start(token.shape[1]) if memory is None else memory
        chunk = ring.chunk_of(start, valid, before.length)
        mask = chunk.visible(0 if memory is None else self.capacity, self.capacity)
        rows, newest = chunk.gather(token), None
        if before.token is not None:
            newest = chunk.roll(before.token, rows)
            earlier = jnp.concatenate([before.token, rows[:, :-1]], axis=1)
            rows = _join(rows, earlier, chunk.position > 0)
        h = self.encoder.embed(rows, chunk.position)
        by = self.encoder.rotation(chunk.position)
        keys, values = [], []
        for i, block in enumerate(self.encoder.blocks):
            key, value = block.keys_values(h, by)
            keys.append(chunk.roll(before.key[i], key))
            values.append(chunk.roll(before.value[i], value))
            if memory is not None:
                key = jnp.concatenate([chunk.unroll(memory.key[i]), key], axis=1)
                value = jnp.concatenate([chunk.unroll(memory.value[i]), value], axis=1)
            h, _ = block.refine(h, (key, value), mask, by)
        after = TrialMemory(tuple(keys), tuple(values), newest, chunk.length)
        return after, chunk.scatter(self.encoder.feature(h))


class TransformerConfig(AbstractCoreConfig):
    """The TrMRL core.

    With normalization "pre" there is a last LayerNorm too. T-Fixup's embedding is added to a
    position code of unit amplitude: at the published `embedding_gain` of 1, tokens of few features
    have a tenth of its size; at `sqrt(width)`, by which Vaswani et al. (2017, section 3.4) multiply
    embeddings, the same size. With `transitions` a working memory holds a whole transition: where
    an action was taken, and what followed. Without (as published) attention has to find the two
    rows before it can compare them.
    """

    # "window": encode the last tokens afresh at every step (as published). "trial": keep keys and
    # values of the trial's tokens.
    context: Literal["window", "trial"] = "window"
    window: int = field(5, low=0)  # tokens attended to; 0: the whole trial (context "trial" only)
    width: int = field(128, low=1)  # features of every layer
    num_heads: int = field(16, low=1)  # attention heads; must divide width
    num_layers: int = field(4, low=1)  # layers of attention and a feed-forward map
    hidden: int = field(512, low=1)  # units of the feed-forward maps
    normalization: Normalization = (
        "none"  # none as published, or LayerNorm before or after sublayers
    )
    initializer: Initializer = "t_fixup"  # of the weights: T-Fixup (as published), or plain Xavier
    embedding_gain: float = field(
        1.0, low=0
    )  # factor on T-Fixup's embedding: published 1, or sqrt(width)
    transitions: bool = False  # embed each token beside the one before it; published: alone
    # "absolute": a code of the position is added to each embedding (as published). "rotary":
    # queries and keys are rotated by it, so that attention reads how far back a token is.
    position: PositionCode = "absolute"

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where an empty window is encoded, or heads do not divide the width."""
        del spec
        if self.context == "window" and self.window < 1:
            return 'window is 0, expected 1 or more in context "window"'
        complaint = check_heads(self.width, self.num_heads)
        if complaint is None and self.position == "rotary" and self.width // self.num_heads % 2:
            return (
                f"num_heads is {self.num_heads}, which leaves {self.width // self.num_heads} "
                'features to a head, expected an even number with position "rotary"'
            )
        return complaint

    def build(self, token_size: int, trial_length: int, *, key: PRNGKey) -> AbstractCore:
        """Return a core with fresh weights."""
        encoder = Encoder(
            token_size * (1 + self.transitions),
            self.width,
            self.num_heads,
            self.num_layers,
            self.hidden,
            self.normalization,
            self.initializer,
            self.embedding_gain,
            self.position,
            key=key,
        )
        if self.context == "window":
            return WindowTransformer(
                encoder=encoder,
                window=self.window,
                transitions=self.transitions,
                feature_size=self.width,
            )
        return TrialTransformer(
            encoder=encoder,
            capacity=self.window or trial_length,
            transitions=self.transitions,
            feature_size=self.width,
        )
