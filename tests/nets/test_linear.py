"""Affine maps: values by hand, and the gradient that is written out against sums of products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets.linear import MLP, Linear


def test_a_map_by_hand():
    layer = Linear(jnp.array([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]]), jnp.array([0.5, 0.0, -1.0]))
    np.testing.assert_array_equal(layer(jnp.array([2.0, 1.0])), [2.5, 3.0, 2.0])


@pytest.mark.parametrize(("size_in", "size_out"), [(2, 5), (5, 2), (3, 3)])
@pytest.mark.parametrize("axes", [(), (4,), (2, 3)])
def test_gradients_are_sums_of_products(size_in, size_out, axes):
    draw = np.random.default_rng(0)
    x, weight, y_bar = (
        draw.normal(size=shape).astype(np.float32)
        for shape in ((*axes, size_in), (size_in, size_out), (*axes, size_out))
    )
    loss = lambda x, weight: jnp.sum(Linear(weight, None)(x) * y_bar)
    x_bar, weight_bar = jax.grad(loss, argnums=(0, 1))(jnp.asarray(x), jnp.asarray(weight))
    expected = np.zeros((size_in, size_out))
    for row, row_bar in zip(x.reshape(-1, size_in), y_bar.reshape(-1, size_out), strict=True):
        expected += np.outer(row, row_bar)
    np.testing.assert_allclose(weight_bar, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(x_bar, np.einsum("...o,io->...i", y_bar, weight), rtol=1e-5)


def test_a_gradient_can_be_differentiated_again():
    """The inner step of a meta-gradient: d/dw |d/dw (x w)^3|, and its product with a vector."""
    x = jnp.array([[0.5, -1.0]])
    loss = lambda weight: jnp.sum(Linear(weight, None)(x) ** 3)
    weight, vector = jnp.array([[0.3], [0.7]]), jnp.array([[1.0], [2.0]])
    y = 0.5 * 0.3 - 1.0 * 0.7
    hessian = 6 * y * np.outer([0.5, -1.0], [0.5, -1.0])
    _, product = jax.jvp(jax.grad(loss), (weight,), (vector,))
    np.testing.assert_allclose(product[:, 0], hessian @ [1.0, 2.0], rtol=1e-5)
    twice = jax.grad(lambda w: jnp.sum(jax.grad(loss)(w) * vector))(weight)
    np.testing.assert_allclose(twice[:, 0], hessian @ [1.0, 2.0], rtol=1e-5)


def test_layers_but_the_last_are_squashed():
    net = MLP((2, 3, 1), key=jax.random.key(0))
    x = np.array([0.3, -0.8], np.float32)
    first, last = net.layers
    hidden = np.tanh(x @ np.asarray(first.weight) + np.asarray(first.bias))
    np.testing.assert_allclose(
        net(jnp.asarray(x)), hidden @ np.asarray(last.weight) + np.asarray(last.bias), rtol=1e-5
    )
