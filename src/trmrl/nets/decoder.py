"""The decoder of a belief: what steps bring if the task is the one that a latent stands for."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from trmrl.nets.initializers import xavier
from trmrl.nets.linear import MLP, Linear
from trmrl.types import PRNGKey, Space


class Decoder(eqx.Module):
    """An MLP with rectifiers on every pair of a latent task and a step.

    Its first layer is the sum of a product for each, so that `K` latents and `T` steps cost
    `K + T` products there, not `K T`. With a `task_size`, another MLP decodes the task's own
    numbers from the latent.
    """

    latent: Linear
    step: Linear
    rest: MLP
    task: MLP | None
    space: Space = eqx.field(static=True)

    def __init__(
        self,
        latent_size: int,
        obs_size: int,
        space: Space,
        hidden: tuple[int, ...],
        task_size: int = 0,
        *,
        key: PRNGKey,
    ):
        """Xavier weights, those of the first layer as if it were one; zero biases."""
        first, rest = jax.random.split(key)
        step_size = 2 * obs_size + space.size
        weight = xavier(latent_size + step_size, hidden[0], key=first)
        self.latent = Linear(weight[:latent_size], jnp.zeros(hidden[0]))
        self.step = Linear(weight[latent_size:], None)
        self.rest = MLP((*hidden, 1 + obs_size), 1.0, jax.nn.relu, key=rest)
        self.task = None
        if task_size:
            task = jax.random.fold_in(key, 2)
            self.task = MLP((latent_size, *hidden, task_size), 1.0, jax.nn.relu, key=task)
        self.space = space

    def __call__(
        self,
        latent: Float[jax.Array, "K M L"],
        obs: Float[jax.Array, "T M D"],
        action: Shaped[jax.Array, "T M ..."],
        next_obs: Float[jax.Array, "T M D"],
    ) -> Float[jax.Array, "K T M O"]:
        """Return each step's reward and next observation, `O = 1 + D`, under each latent."""
        step = jnp.concatenate([obs, self.space.encode(action), next_obs], axis=-1)
        of_latent, of_step = self.latent(latent)[:, None], self.step(step)[None]
        shape = jnp.broadcast_shapes(of_latent.shape, of_step.shape)
        return self.rest(
            jax.nn.relu(jnp.broadcast_to(of_latent, shape) + jnp.broadcast_to(of_step, shape))
        )
