"""Rings against a list per lane that forgets its oldest entry."""

import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets import ring

S, B, T = 3, 4, 6


def numbered(num_rows, begin):
    """Rows `[num_rows, B, 1]` that hold their number and lane: 100 * lane + number."""
    number = begin + np.arange(num_rows)[:, None] + 100 * np.arange(B)[None]
    return jnp.asarray(number[..., None], jnp.float32)


def append(lists, rows, start, valid):
    """Add rows to the lanes' lists; returns what each list holds after every row."""
    after = [[], [], [], []]
    for t in range(len(rows)):
        for lane in range(B):
            if valid[t, lane]:
                lists[lane] = [] if start[t, lane] else lists[lane]
                lists[lane] = [*lists[lane], float(rows[t, lane, 0])]
                after[lane].append(list(lists[lane]))
    return after


def test_a_ring_holds_the_newest_rows_by_age():
    held = jnp.zeros((1, S, 1))
    for p in range(5):
        now = jnp.array([p])
        held = ring.write(held, jnp.array([[10.0 + p]]), now)
        assert float(ring.read(held, now)[0, 0]) == 10 + p
        slots = zip(ring.ages(now, S)[0], held[0, :, 0], strict=True)
        by_age = {int(age): float(row) for age, row in slots}
        assert by_age == {a: (10.0 + p - a if a <= p else 0.0) for a in range(S)}


@pytest.mark.parametrize("num_before", [0, 2, 5])
def test_a_chunk_against_lists(num_before):
    lists = [[] for _ in range(B)]
    rings, held = jnp.zeros((B, S, 1)), jnp.zeros(B, jnp.int32)
    no = np.zeros((T, B), bool)
    for row in numbered(num_before, 0):
        rings = ring.write(rings, row, held)
        append(lists, row[None], no, ~no)
        held = held + 1
    rows = numbered(T, 50)
    start, valid = no.copy(), ~no
    start[3, 1] = start[1, 2] = start[2, 2] = start[4, 3] = True
    valid[2, 0] = valid[0, 1] = valid[5, 1] = valid[4, 3] = False
    valid[:, 2] = [False, True, True, False, False, False]
    chunk = ring.chunk_of(jnp.asarray(start), jnp.asarray(valid), held)
    before = [list(x) for x in lists]
    after = append(lists, rows, start, valid)

    # In order, idle rows last, and back again.
    there = chunk.gather(rows)
    np.testing.assert_array_equal(chunk.scatter(there), rows)
    unrolled = np.asarray(chunk.unroll(rings))[..., 0]
    both = np.concatenate([unrolled, np.asarray(there)[..., 0]], axis=1)
    visible = np.asarray(chunk.visible(S, reach=S))
    for lane in range(B):
        happened = np.flatnonzero(valid[:, lane])
        np.testing.assert_array_equal(there[lane, : len(happened)], rows[happened, lane])
        newest = before[lane][-S:]
        np.testing.assert_array_equal(unrolled[lane, S - len(newest) :], newest)
        for i, remembered in enumerate(after[lane]):
            assert chunk.position[lane, i] == len(remembered) - 1
            assert both[lane, visible[lane, i]].tolist() == remembered[-S:]
        assert int(chunk.length[lane]) == len(lists[lane])

    # The ring after the chunk is the ring of one row at a time.
    rolled = chunk.roll(rings, there)
    age = np.asarray(ring.ages(chunk.length - 1, S))
    for lane in range(B):
        for a in range(min(S, len(lists[lane]))):
            assert float(rolled[lane, age[lane] == a, 0][0]) == lists[lane][-1 - a]


def test_without_a_memory_a_row_attends_to_the_chunk_alone():
    no = jnp.zeros((T, B), bool)
    chunk = ring.chunk_of(no, ~no, jnp.zeros(B, jnp.int32))
    visible = np.asarray(chunk.visible(0, reach=2))[0]
    assert visible.shape == (T, T)
    for t in range(T):
        assert np.flatnonzero(visible[t]).tolist() == [x for x in (t - 1, t) if x >= 0]
