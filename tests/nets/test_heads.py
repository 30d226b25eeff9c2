from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets.distributions import Categorical, Gaussian
from trmrl.nets.heads import HeadConfig, policy_head
from trmrl.types import Continuous, Discrete


def test_gaussian_head_by_hand(shake):
    head: Any = policy_head(
        5, Continuous(2), HeadConfig((7, 6), init_std=0.2), key=jax.random.key(0)
    )
    assert isinstance(head(jnp.ones((3, 5))), Gaussian)
    np.testing.assert_allclose(np.exp(head(jnp.ones((3, 5))).log_std), 0.2, rtol=1e-6)
    head = shake(head)
    x = np.random.default_rng(0).normal(size=(3, 5))
    policy = head(jnp.asarray(x, jnp.float32))
    *hidden, last = [(np.asarray(la.weight), np.asarray(la.bias)) for la in head.mean.layers]
    assert [w.shape for w, _ in (*hidden, last)] == [(5, 7), (7, 6), (6, 2)]
    for weight, bias in hidden:
        x = np.tanh(x @ weight + bias)
    np.testing.assert_allclose(policy.mean, x @ last[0] + last[1], atol=1e-5)
    np.testing.assert_array_equal(policy.log_std, np.tile(head.log_std, (3, 1)))


def test_std_has_a_floor_and_no_ceiling():
    head: Any = policy_head(5, Continuous(2), HeadConfig((4,)), key=jax.random.key(0))
    for log_std, expected in ((-50.0, 1e-6), (3.0, np.exp(3.0))):
        wide = eqx.tree_at(lambda h: h.log_std, head, jnp.full(2, log_std))
        np.testing.assert_allclose(np.exp(wide(jnp.ones((1, 5))).log_std), expected, rtol=1e-5)


def test_last_layer_gain():
    config = HeadConfig((64,), last_gain=0.01)
    head: Any = policy_head(64, Discrete(64), config, key=jax.random.key(0))
    assert isinstance(head(jnp.ones((3, 64))), Categorical)
    first, last = (np.abs(np.asarray(la.weight)).max() for la in head.logits.layers)
    assert first == pytest.approx(np.sqrt(6 / 128), rel=0.02)
    assert last == pytest.approx(0.01 * np.sqrt(6 / 128), rel=0.02)
    assert all(np.all(np.asarray(la.bias) == 0) for la in head.logits.layers)
