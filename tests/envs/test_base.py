import jax
import jax.numpy as jnp
import numpy as np

from trmrl.envs._base import host_scan


def test_host_scan_is_lax_scan():
    def body(carry, x):
        total = carry["total"] + x["a"]
        return {"total": total}, (total * 2.0, {"b": x["b"]})

    xs = {"a": np.arange(5, dtype=np.float32), "b": np.arange(10, dtype=np.int32).reshape(5, 2)}
    carry = {"total": np.float32(1.0)}
    here = host_scan(body, carry, xs)
    there = jax.lax.scan(body, jax.tree.map(jnp.asarray, carry), jax.tree.map(jnp.asarray, xs))
    assert jax.tree.structure(here) == jax.tree.structure(there)
    for one, two in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype
    np.testing.assert_array_equal(here[1][0], 2 * np.array([1, 2, 4, 7, 11]))


def test_host_scan_copies_each_row():
    buffer = np.zeros(2)

    def body(carry, _):
        buffer[:] = carry
        return carry + 1, buffer

    carry, rows = host_scan(body, 0, None, length=3)
    assert carry == 3
    np.testing.assert_array_equal(rows, [[0, 0], [1, 1], [2, 2]])
