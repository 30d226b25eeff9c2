"""A factored first layer is that of the pairs, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets.decoder import Decoder
from trmrl.types import Continuous, Discrete

K, T, M, L, OBS = 3, 5, 2, 4, 3


@pytest.mark.parametrize("space", [Continuous(2), Discrete(4)], ids=["box", "choices"])
def test_every_latent_decodes_every_step(space, shake):
    keys = jax.random.split(jax.random.key(0), 5)
    decoder = shake(Decoder(L, OBS, space, (8, 6), key=keys[0]))
    latent = jax.random.normal(keys[1], (K, M, L))
    obs, next_obs = jax.random.normal(keys[2], (2, T, M, OBS))
    action = jax.random.normal(keys[3], (T, M, 2))
    if isinstance(space, Discrete):
        action = jax.random.randint(keys[4], (T, M), 0, 4)
    found = decoder(latent, obs, action, next_obs)
    assert found.shape == (K, T, M, 1 + OBS)
    relu = lambda x: np.maximum(np.asarray(x), 0)
    first = np.concatenate([decoder.latent.weight, decoder.step.weight])
    (second, last) = decoder.rest.layers
    for k, t, m in np.ndindex(K, T, M):
        step = jnp.concatenate([obs[t, m], space.encode(action[t, m]), next_obs[t, m]])
        hidden = relu(np.concatenate([latent[k, m], step]) @ first + decoder.latent.bias)
        hidden = relu(hidden @ second.weight + second.bias)
        np.testing.assert_allclose(
            found[k, t, m], hidden @ last.weight + last.bias, rtol=1e-4, atol=1e-5
        )
