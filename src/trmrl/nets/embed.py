"""Tokens: a timestep as the vector `[obs, previous action, previous reward, boundary flag]`.

Each core learns an embedding of its own.
"""

import jax.numpy as jnp
from jaxtyping import Float

from trmrl.ops.normalize import Moments, normalize
from trmrl.types import Array, EnvSpec, Timestep


def token_size(spec: EnvSpec) -> int:
    """Return the number of features of a token."""
    return spec.obs_size + spec.action_space.size + 2


def token(timestep: Timestep, moments: Moments | None, forget: Array) -> Float[Array, "*axes D"]:
    """Return a timestep as one vector, `[..., D]`.

    Observations are normalized by `moments` if given; the reward is as the environment
    gave it. Where `forget` is True the memory is empty, and previous action, reward and flag are
    zero, as the published code resets them there.
    """
    obs = timestep.obs if moments is None else normalize(moments, jnp.asarray(timestep.obs))
    previous = [
        timestep.prev_action,
        timestep.prev_reward[..., None],
        timestep.episode_start[..., None].astype(jnp.float32),
    ]
    past = jnp.concatenate(previous, axis=-1)
    return jnp.concatenate([obs, jnp.where(forget[..., None], 0.0, past)], axis=-1)
