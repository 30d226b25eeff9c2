"""What policy and value read, by hand, and what their gradient reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets.readout import BeliefConfig, FeatureConfig

F, D, OBS, LATENT = 4, 6, 2, 3
KEY = jax.random.key(0)
FEATURE = 0.5 * jax.random.normal(jax.random.key(1), (5, F))
TOKEN = jax.random.normal(jax.random.key(2), (5, D))


def build(gradient):
    return BeliefConfig(LATENT, gradient).build(F, OBS, key=KEY)


def test_a_feature_is_read_as_it_is():
    readout = FeatureConfig().build(F, OBS, key=KEY)
    assert readout.size == F
    np.testing.assert_array_equal(readout(FEATURE, TOKEN), FEATURE)
    assert not jax.tree.leaves(readout)


@pytest.mark.parametrize("gradient", ["detached", "joint", "split"])
def test_a_belief_is_read_with_what_stands_beside_it(gradient):
    """Observation, or feature, then means and log variances: two products by hand."""
    readout = build(gradient)
    moments = np.asarray(FEATURE) @ np.asarray(readout.moments.weight)
    beside = FEATURE if gradient == "split" else TOKEN[:, :OBS]
    expected = np.concatenate([beside, moments[:, :LATENT], moments[:, LATENT:]], axis=1)
    found = readout(FEATURE, TOKEN)
    assert found.shape == (5, readout.size)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    belief = readout.belief(FEATURE)
    np.testing.assert_allclose(belief.mean, moments[:, :LATENT], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(jnp.exp(2 * belief.log_std), np.exp(moments[:, LATENT:]), rtol=1e-4)


def test_a_belief_is_neither_too_sure_nor_too_vague():
    belief = build("joint").belief(1e4 * FEATURE)
    variance = np.exp(2 * np.asarray(belief.log_std))
    np.testing.assert_allclose([variance.min(), variance.max()], np.exp([-10.0, 2.0]), rtol=1e-4)


@pytest.mark.parametrize(
    ("gradient", "of_reading", "of_belief"),
    [
        ("detached", set(), {"feature", "moments"}),
        ("joint", {"feature", "moments"}, {"feature", "moments"}),
        ("split", {"feature"}, {"moments"}),
    ],
)
def test_gradients_stop_where_they_should(gradient, of_reading, of_belief):
    readout = build(gradient)
    weights = jax.random.normal(jax.random.key(3), (5, readout.size))

    def reached(function):
        by_feature, by_readout = jax.grad(function, argnums=(0, 1))(FEATURE, readout)
        found = {"feature": by_feature, "moments": by_readout.moments.weight}
        return {name for name, x in found.items() if np.any(np.asarray(x) != 0)}

    assert reached(lambda f, r: jnp.sum(weights * r(f, TOKEN))) == of_reading
    assert (
        reached(lambda f, r: jnp.sum(r.belief(f).entropy() + r.belief(f).mean[:, 0])) == of_belief
    )
