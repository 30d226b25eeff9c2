from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trmrl.nets.lstm import LSTMConfig, LSTMMemory


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_cell_by_definition(shaken_core):
    core = shaken_core("lstm", 4, 7)
    noise = np.random.default_rng(0)
    hidden, cell, token = (
        noise.normal(size=(3, 8)),
        noise.normal(size=(3, 8)),
        noise.normal(size=(3, 4)),
    )
    start = np.array([False, True, False])
    floats = lambda x: jnp.asarray(x, jnp.float32)
    memory = LSTMMemory(floats(hidden), floats(cell))
    after, feature = core.step(memory, floats(token), jnp.asarray(start))
    np.testing.assert_array_equal(after.hidden, feature)
    weight = lambda name: np.asarray(getattr(core, name).weight)
    affine = lambda name, x: x @ weight(name) + np.asarray(getattr(core, name).bias)
    for lane in range(3):
        h = np.zeros(8) if start[lane] else hidden[lane]
        c = np.zeros(8) if start[lane] else cell[lane]
        x = affine("inputs", np.maximum(affine("embedding", token[lane]), 0))
        i, f, g, o = np.split(x + h @ weight("hidden"), 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        np.testing.assert_allclose(after.cell[lane], c, atol=1e-5)
        np.testing.assert_allclose(feature[lane], sigmoid(o) * np.tanh(c), atol=1e-5)


def test_first_weights():
    core: Any = LSTMConfig(width=16).build(5, 7, key=jax.random.key(0))
    for part in np.split(np.asarray(core.hidden.weight), 4, axis=1):
        np.testing.assert_allclose(part @ part.T, np.eye(16), atol=1e-5)
    take, keep, new, show = np.split(np.asarray(core.inputs.bias), 4)
    assert np.all(keep == 1)  # begins by remembering
    assert np.all(np.concatenate([take, new, show]) == 0)
