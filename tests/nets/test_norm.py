import equinox as eqx
import jax.numpy as jnp
import numpy as np

from trmrl.nets.norm import LayerNorm


def test_by_hand():
    """1, 3, 5 has mean 3 and variance 8/3; the same shift and scale everywhere else."""
    norm = LayerNorm(3)
    found = norm(jnp.array([[1.0, 3.0, 5.0], [10.0, 30.0, 50.0]]))
    unit = 2 / np.sqrt(8 / 3)
    np.testing.assert_allclose(found, [[-unit, 0, unit]] * 2, rtol=1e-4, atol=1e-6)
    learned = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 5.0, -1.0])
    norm = eqx.tree_at(lambda n: (n.weight, n.bias), norm, learned)
    found = norm(jnp.array([[[1.0, 3.0, 5.0]]]))
    np.testing.assert_allclose(found, [[[-unit, 5, 3 * unit - 1]]], rtol=1e-4)


def test_a_constant_row_is_finite():
    np.testing.assert_array_equal(LayerNorm(4)(jnp.full((2, 4), 7.0)), np.zeros((2, 4)))
