import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.ops.ppo import clipped_surrogate, kl_estimate

# ratio, advantage, and min(r A, clamp(r, 0.8, 1.2) A) by hand
SURROGATE = [
    (1.0, 2.0, 2.0),
    (1.1, 2.0, 2.2),
    (1.5, 2.0, 2.4),  # nothing to gain beyond 1.2
    (0.5, 2.0, 1.0),  # but still to lose below 0.8
    (1.5, -2.0, -3.0),
    (0.5, -2.0, -1.6),
    (0.9, -1.0, -0.9),
]


@pytest.mark.parametrize(("ratio", "advantage", "expected"), SURROGATE)
def test_clipped_surrogate(ratio, advantage, expected):
    found = clipped_surrogate(jnp.asarray(ratio), jnp.asarray(advantage), 0.2)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_kl_estimate_by_hand():
    assert float(kl_estimate(jnp.asarray(0.0))) == 0.0
    assert float(kl_estimate(jnp.log(jnp.asarray(2.0)))) == pytest.approx(1 - np.log(2))
    assert float(kl_estimate(jnp.log(jnp.asarray(0.5)))) == pytest.approx(np.log(2) - 0.5)


def test_kl_estimate_averages_to_the_divergence():
    """Under the old policy p, `sum_a p (q/p - 1 - log q/p)` is `KL(p || q)`."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    estimate = kl_estimate(jnp.asarray(np.log(q / p), jnp.float32))
    assert np.all(np.asarray(estimate) > 0)
    assert float((p * np.asarray(estimate)).sum()) == pytest.approx((p * np.log(p / q)).sum())
