from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

from trmrl.nets.initializers import t_fixup_embedding_std, t_fixup_projection_gain, xavier
from trmrl.nets.transformer import TransformerConfig

LAYERS, WIDTH, HIDDEN, TOKEN = 4, 128, 512, 28


@pytest.fixture(scope="module")
def encoder():
    build = eqx.filter_jit(lambda key: TransformerConfig().build(TOKEN, 400, key=key))
    core: Any = build(jax.random.key(0))
    return core.encoder


def test_golden_numbers():
    """L = 4, as worked from the published code."""
    assert t_fixup_projection_gain(4) == pytest.approx(0.4738, abs=5e-5)
    assert t_fixup_embedding_std(128, 4) == pytest.approx(0.0361, abs=5e-5)
    assert t_fixup_embedding_std(32, 4) == pytest.approx(0.0722, abs=5e-5)


def test_separate_projections_have_the_published_stacks_bound():
    """Xavier on `[3d, d]` times `0.67 L^(-1/4) sqrt(2)` is Xavier on `[d, d]` times ours."""
    published = np.sqrt(6 / (3 * WIDTH + WIDTH)) * 0.67 * LAYERS**-0.25 * np.sqrt(2)
    ours = np.sqrt(6 / (WIDTH + WIDTH)) * t_fixup_projection_gain(LAYERS)
    assert ours == pytest.approx(published)
    assert published == pytest.approx(0.0725, abs=5e-5)


def uniform_on(weight, bound):
    """Fills `±bound` to its edges, and evenly: mean 0, deviation bound / sqrt(3)."""
    weight = np.asarray(weight)
    assert np.abs(weight).max() <= bound
    assert np.abs(weight).max() == pytest.approx(bound, rel=0.02)
    assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=0.03)
    assert abs(weight.mean()) < 0.02 * bound


def test_xavier_bound_and_gain():
    uniform_on(xavier(60, 140, key=jax.random.key(0)), np.sqrt(6 / 200))
    uniform_on(xavier(60, 140, 0.1, key=jax.random.key(1)), 0.1 * np.sqrt(6 / 200))
    assert xavier(60, 140, key=jax.random.key(0)).shape == (60, 140)


def test_a_built_core_carries_the_scales(encoder):
    embedding = np.asarray(encoder.embedding.weight)
    assert embedding.shape == (TOKEN, WIDTH)
    assert embedding.std() == pytest.approx(0.0361, rel=0.05)
    assert np.abs(embedding).max() > 3 * 0.0361  # normal, not uniform
    assert encoder.embedding.bias is None
    assert len(encoder.blocks) == LAYERS
    gain = 0.67 * 4**-0.25
    for block in encoder.blocks:
        square = gain * np.sqrt(6 / (2 * WIDTH))
        key, value = np.split(np.asarray(block.key_value.weight), 2, axis=1)
        for weight in (block.query.weight, key, value, block.out.weight):
            uniform_on(weight, square)
        oblong = gain * np.sqrt(6 / (WIDTH + HIDDEN))
        uniform_on(block.expand.weight, oblong)
        uniform_on(block.contract.weight, oblong)


def test_biases_of_a_built_core(encoder):
    for block in encoder.blocks:
        for linear in (block.query, block.key_value, block.out):
            assert np.all(np.asarray(linear.bias) == 0)
        for linear, fan_in in ((block.expand, WIDTH), (block.contract, HIDDEN)):
            bias, bound = np.abs(np.asarray(linear.bias)), fan_in**-0.5
            assert bias.max() <= bound
            assert bias.max() > 0.9 * bound


def test_no_two_weights_share_their_randomness(encoder):
    first = [
        float(np.asarray(w).reshape(-1)[0])
        for block in encoder.blocks
        for w in (
            block.query.weight / np.abs(block.query.weight).max(),
            block.key_value.weight[:, :WIDTH] / np.abs(block.key_value.weight).max(),
            block.key_value.weight[:, WIDTH:] / np.abs(block.key_value.weight).max(),
            block.out.weight / np.abs(block.out.weight).max(),
            block.expand.weight / np.abs(block.expand.weight).max(),
            block.contract.weight / np.abs(block.contract.weight).max(),
        )
    ]
    assert len({round(x, 4) for x in first}) == len(first)
