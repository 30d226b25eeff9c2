"""Positions and first weights; what the layers compute is tested with the contexts they serve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets.encoder import Encoder, sinusoid


def wave(position, width):
    """`sin(p / 10000^(i/d))` at even features i, the cosine of the same angle after it."""
    code = np.zeros(width)
    for i in range(width):
        angle = position / 10000 ** ((i - i % 2) / width)
        code[i] = np.cos(angle) if i % 2 else np.sin(angle)
    return code


def test_sinusoid_by_hand():
    found = sinusoid(jnp.array([[0, 3]]), 4)
    expected = [[[0, 1, 0, 1], [np.sin(3), np.cos(3), np.sin(0.03), np.cos(0.03)]]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("width", [6, 7, 128])
def test_sinusoid_of_any_width(width):
    found = sinusoid(jnp.arange(5), width)
    np.testing.assert_allclose(found, [wave(p, width) for p in range(5)], atol=1e-5)


@pytest.mark.parametrize("normalization", ["none", "pre", "post"])
def test_plain_xavier_has_unit_gain_and_norms_begin_as_identity(normalization):
    encoder = Encoder(6, 32, 4, 2, 64, normalization, "xavier", key=jax.random.key(0))
    square, oblong = np.sqrt(6 / 64), np.sqrt(6 / 96)
    largest = lambda linear: np.abs(np.asarray(linear.weight)).max()
    assert largest(encoder.embedding) == pytest.approx(np.sqrt(6 / 38), rel=0.05)
    for block in encoder.blocks:
        for linear in (block.query, block.key_value, block.out):
            assert largest(linear) == pytest.approx(square, rel=0.02)
        assert largest(block.expand) == pytest.approx(oblong, rel=0.02)
        assert largest(block.contract) == pytest.approx(oblong, rel=0.02)
        assert (block.norms is None) == (normalization == "none")
        for norm in block.norms or ():
            assert np.all(np.asarray(norm.weight) == 1) and np.all(np.asarray(norm.bias) == 0)
    assert (encoder.norm is not None) == (normalization == "pre")


@pytest.mark.parametrize("gain", [1.0, 8.0])
def test_t_fixup_embeds_by_its_formula_times_a_gain(gain):
    """Of 64 features and two layers: `64^(-1/2) * 18^(-1/4)`, times the gain."""
    encoder = Encoder(50, 64, 4, 2, 64, "none", "t_fixup", gain, key=jax.random.key(0))
    found = np.asarray(encoder.embedding.weight).std()
    assert found == pytest.approx(gain * 0.0607, rel=0.05)
