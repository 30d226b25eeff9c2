from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.base import HOST, JAX, AbstractEnvs, Driver, host_scan
from trmrl.types import EnvSpec


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


class Standing(AbstractEnvs):
    """A world in which nothing happens, but for what it leaves out."""

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec

    def sample_tasks(self, split, num_tasks, *, key):
        return jnp.zeros(num_tasks)

    def reset(self, tasks, *, key):
        return tasks, tasks[:, None]

    def view(self, env_state):
        return env_state


def test_a_world_without_step_cannot_be_made():
    with pytest.raises(TypeError, match="abstract method .*step"):
        Standing(make("grid-navi").spec)


@pytest.mark.parametrize("missing", ["sample_tasks", "reset", "step", "view"])
def test_every_method_of_a_world_is_asked_for(missing):
    assert missing in AbstractEnvs.__abstractmethods__


def test_wrapped_worlds_are_driven_as_what_they_wrap():
    for name, driver in (("grid-navi", JAX), ("half-cheetah-vel-delayed", HOST)):
        assert make(name).driver is make(f"{name}+task").driver is driver
