"""Soft values and their targets, worked by hand."""

import jax.numpy as jnp
import numpy as np

from trmrl.ops.sac import soft_value, value_target


def test_the_lesser_critic_counts_and_unlikely_actions_gain():
    found = soft_value(
        jnp.array([1.0, 5.0]), jnp.array([2.0, 3.0]), jnp.array([-1.0, 2.0]), jnp.asarray(0.5)
    )
    np.testing.assert_allclose(found, [1.0 + 0.5, 3.0 - 1.0])


def test_a_terminated_episode_has_no_next_value():
    found = value_target(
        jnp.array([1.0, 1.0]), jnp.array([False, True]), jnp.array([10.0, 10.0]), 0.9
    )
    np.testing.assert_allclose(found, [10.0, 1.0])
