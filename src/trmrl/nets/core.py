"""Memory cores: they turn a stream of tokens into features of everything remembered so far.

What a token holds is decided in `nets/embed.py`, what a feature is read for in `nets/heads.py`.
"""

import abc
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from trmrl.settings import AbstractSettings
from trmrl.types import Memory, PRNGKey


def where_lanes(lanes: Bool[jax.Array, " B"], new: Memory, old: Memory) -> Memory:
    """Return `new` in the lanes marked True, `old` in the others; every leaf is `[B, ...]`."""
    select = lambda x, y: jnp.where(lanes.reshape((-1,) + (1,) * (x.ndim - 1)), x, y)
    return jax.tree.map(select, new, old)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Attention:
    """What the newest token of each lane attended to in one layer: `S` slots, by `H` heads.

    `read` is the mean over heads of `weight @ vector`.
    """

    weight: Float[jax.Array, "B H S"]  # 0 or more, 1 in sum; 0 in slots that hold nothing
    age: Int[jax.Array, "B S"]  # tokens since the slot's own (0: the newest); -1: holds nothing
    vector: Float[jax.Array, "B H S D"]  # what a slot would add if it had all of a head's weight
    read: Float[jax.Array, "B D"]  # what attention returned, output projection included
    stream: Float[jax.Array, "B D"] | None  # after the skip connection; None without one

    def by_age(self, num_tokens: int) -> Float[jax.Array, "B H N"]:
        """Return the weights of the newest token (0) and those before it, up to `num_tokens`."""
        is_of = self.age[:, None] == jnp.arange(num_tokens)[None, :, None]  # [B, N, S]
        return jnp.einsum("bhs,bns->bhn", self.weight, is_of.astype(self.weight.dtype))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Layer:
    """What a layer made of the newest token of each lane."""

    output: Float[jax.Array, "B F"]  # its memory of everything up to this token
    attention: Attention | None = None  # None where a layer does not attend


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Record:
    """What happened within a core as it took one token per lane."""

    embedding: Float[jax.Array, "B E"]  # the token as it enters the first layer
    layers: tuple[Layer, ...]  # first to last


class AbstractCore(eqx.Module):
    """A memory advanced step by step, or over many steps at once; both must agree.

    Sizes: `B` lanes, `T` steps, `D` features of a token, `F` (`feature_size`) features returned.
    """

    feature_size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def start(self, num_lanes: int) -> Memory:
        """Return an empty memory, every leaf with leading axis `num_lanes`."""

    @abc.abstractmethod
    def inspect(
        self, memory: Memory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[Memory, Float[jax.Array, "B F"], Record]:
        """Take one token per lane; `start` empties a lane's memory before its token is taken.

        Returns the memory, its feature, and what happened within.
        """

    def step(
        self, memory: Memory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[Memory, Float[jax.Array, "B F"]]:
        """Return what `inspect` does but its record, which compiled is then not computed."""
        memory, feature, _ = self.inspect(memory, token, start)
        return memory, feature

    @abc.abstractmethod
    def unroll(
        self,
        memory: Memory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[Memory, Float[jax.Array, "T B F"]]:
        """Take `T` tokens per lane, as `T` calls of `step` would; `memory=None` means empty.

        Rows with `valid=False` leave the memory untouched, and their features mean nothing.
        """


class AbstractRecurrentCore(AbstractCore):
    """A core whose memory is the state of a recurrent cell.

    A final subclass states `start`, `project` and `cell`; emptying, holding and scanning are here.
    """

    @abc.abstractmethod
    def project(self, token: Float[jax.Array, "*axes D"]) -> Float[jax.Array, "*axes G"]:
        """Return the token's share of the gates, which needs no memory."""

    @abc.abstractmethod
    def cell(
        self, memory: Any, gates: Float[jax.Array, "B G"]
    ) -> tuple[Any, Float[jax.Array, "B F"]]:
        """Return the next memory and its feature, given the token's share of the gates."""

    def inspect(
        self, memory: Memory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[Memory, Float[jax.Array, "B F"], Record]:
        """Empty the memory where `start` is True, then apply the cell once: one layer."""
        gates = self.project(token)
        memory, feature = self._advance(memory, gates, start)
        return memory, feature, Record(gates, (Layer(feature),))

    def unroll(
        self,
        memory: Memory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[Memory, Float[jax.Array, "T B F"]]:
        """Scan the cell over time; tokens are projected for all rows at once."""

        def advance(memory: Memory, row: Any) -> tuple[Memory, jax.Array]:
            gates, start, valid = row
            after, feature = self._advance(memory, gates, start)
            return where_lanes(valid, after, memory), feature

        memory = self.start(token.shape[1]) if memory is None else memory
        return jax.lax.scan(advance, memory, (self.project(token), start, valid))

    def _advance(
        self, memory: Memory, gates: jax.Array, start: jax.Array
    ) -> tuple[Memory, jax.Array]:
        return self.cell(where_lanes(start, self.start(len(start)), memory), gates)


class AbstractCoreConfig(AbstractSettings):
    """The settings a core is built from."""

    @abc.abstractmethod
    def build(self, token_size: int, trial_length: int, *, key: PRNGKey) -> AbstractCore:
        """Return a fresh core for tokens `[..., token_size]` and trials of `trial_length` steps."""
