from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trmrl.nets.gru import GRUConfig


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_cell_by_definition(shaken_core):
    core = shaken_core("gru", 4, 7)
    noise = np.random.default_rng(0)
    h, token = noise.normal(size=(3, 8)), noise.normal(size=(3, 4))
    start = np.array([False, True, False])
    floats = jnp.asarray(h, jnp.float32), jnp.asarray(token, jnp.float32)
    memory, feature = core.step(*floats, jnp.asarray(start))
    np.testing.assert_array_equal(memory, feature)
    weights = {
        name: (np.asarray(getattr(core, name).weight), np.asarray(getattr(core, name).bias))
        for name in ("embedding", "inputs", "hidden")
    }
    affine = lambda name, x: x @ weights[name][0] + weights[name][1]
    for lane in range(3):
        old = np.zeros(8) if start[lane] else h[lane]
        x = affine("inputs", np.maximum(affine("embedding", token[lane]), 0))
        u = affine("hidden", old)
        r, z = sigmoid(x[:8] + u[:8]), sigmoid(x[8:16] + u[8:16])
        n = np.tanh(x[16:] + r * u[16:])
        np.testing.assert_allclose(memory[lane], (1 - z) * n + z * old, atol=1e-5)


def test_recurrent_weights_begin_orthogonal():
    core: Any = GRUConfig(width=16).build(5, 7, key=jax.random.key(0))
    weight = np.asarray(core.hidden.weight)
    for part in np.split(weight, 3, axis=1):
        np.testing.assert_allclose(part @ part.T, np.eye(16), atol=1e-5)
    assert np.all(np.asarray(core.hidden.bias) == 0)
