"""The last rows of a lane's trial in ring buffers, and chunks of rows that are added to them.

A ring `[B, S, F]` holds position p in slot p mod S, so that one more step writes one row. Positions
count from the last time a lane's memory was emptied. A chunk's idle rows are moved behind the rows
that happened: neighbours in an array are then neighbours in time, and the distance of two rows in
time is the difference of their indices.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int


def write(
    ring: Float[jax.Array, "B S F"], row: Float[jax.Array, "B F"], position: Int[jax.Array, " B"]
) -> Float[jax.Array, "B S F"]:
    """Return the ring with each lane's row of `position` in its slot; no other slot is touched."""
    lane = jnp.arange(ring.shape[0])
    at = ring.at[lane, position % ring.shape[1]]
    return at.set(row, unique_indices=True, mode="promise_in_bounds")


def read(
    ring: Float[jax.Array, "B S F"], position: Int[jax.Array, " B"]
) -> Float[jax.Array, "B F"]:
    """Return what is in the slot of each lane's `position`."""
    lane = jnp.arange(ring.shape[0])
    return ring.at[lane, position % ring.shape[1]].get(mode="promise_in_bounds")


def ages(newest: Int[jax.Array, " B"], size: int) -> Int[jax.Array, "B S"]:
    """Return how many rows before `newest` each slot was written: 0 to `size - 1`.

    A slot of `age > newest` has not been written since the memory was emptied.
    """
    return (newest[:, None] - jnp.arange(size)[None]) % size


def written_ages(newest: Int[jax.Array, " B"], size: int) -> Int[jax.Array, "B S"]:
    """Return the same, and -1 for slots not written since the memory was emptied."""
    age = ages(newest, size)
    return jnp.where(age <= newest[:, None], age, -1)


def _rows(x: jax.Array, index: Int[jax.Array, "B N"]) -> jax.Array:
    """Return row `index[b, n]` of each lane."""
    return jax.vmap(lambda x, i: x.at[i].get(mode="promise_in_bounds"))(x, index)


@dataclass(frozen=True)
class Chunk:
    """`T` rows of `B` lanes, idle ones behind the others, after a memory of `held` rows."""

    order: Int[jax.Array, "B T"]  # index, in the chunk as given, of the row at each place
    position: Int[jax.Array, "B T"]  # rows since memory was last empty
    num_rows: Int[jax.Array, " B"]  # rows that happened
    held: Int[jax.Array, " B"]  # rows in memory before the chunk
    length: Int[jax.Array, " B"]  # rows in memory after it

    def gather(self, rows: Float[jax.Array, "T B F"]) -> Float[jax.Array, "B T F"]:
        """Return rows lane by lane, in the order of the chunk."""
        return _rows(jnp.swapaxes(rows, 0, 1), self.order)

    def scatter(self, rows: Float[jax.Array, "B T F"]) -> Float[jax.Array, "T B F"]:
        """Return rows to the places `gather` took them from."""
        return jnp.swapaxes(_rows(rows, jnp.argsort(self.order, axis=1)), 0, 1)

    def unroll(self, ring: Float[jax.Array, "B S F"]) -> Float[jax.Array, "B S F"]:
        """Return a ring before the chunk with its oldest slot first, its newest last."""
        slot = self.held[:, None] + jnp.arange(ring.shape[1])[None]
        return _rows(ring, slot % ring.shape[1])

    def roll(
        self, ring: Float[jax.Array, "B S F"], rows: Float[jax.Array, "B T F"]
    ) -> Float[jax.Array, "B S F"]:
        """Return the ring after the chunk."""
        index = self.num_rows[:, None] - 1 - ages(self.length - 1, ring.shape[1])
        taken = _rows(rows, jnp.maximum(index, 0))
        return jnp.where((index >= 0)[..., None], taken, ring)

    def visible(self, size: int, reach: int) -> Bool[jax.Array, "B T S"]:
        """Return which of `size` unrolled slots, then rows of the chunk, each row may attend to.

        Those are itself and up to `reach - 1` rows before it, back to where its memory was empty.
        """
        row, column = jnp.arange(self.order.shape[1]), jnp.arange(size + self.order.shape[1])
        distance = size + row[:, None] - column[None]
        near = (distance >= 0) & (distance < reach)
        return near[None] & (distance[None] <= self.position[:, :, None])


def chunk_of(
    start: Bool[jax.Array, "T B"], valid: Bool[jax.Array, "T B"], held: Int[jax.Array, " B"]
) -> Chunk:
    """Lay out a chunk whose memory is emptied before valid rows where `start` is True."""
    start, valid = jnp.swapaxes(start, 0, 1), jnp.swapaxes(valid, 0, 1)
    order = jnp.argsort(~valid, axis=1, stable=True).astype(jnp.int32)
    num_rows = valid.sum(axis=1, dtype=jnp.int32)
    row = jnp.broadcast_to(jnp.arange(start.shape[1], dtype=jnp.int32)[None], start.shape)
    empties = _rows(start & valid, order)
    first = jax.lax.cummax(jnp.where(empties, row, -1), axis=1)  # since memory was last empty
    position = jnp.where(first >= 0, row - first, row + held[:, None])
    last = jnp.take_along_axis(position, jnp.maximum(num_rows - 1, 0)[:, None], axis=1)[:, 0]
    return Chunk(order, position, num_rows, held, jnp.where(num_rows > 0, last + 1, held))
