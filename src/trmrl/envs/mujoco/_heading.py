"""Hidden headings, the tasks that ant and humanoid share: unit vectors, and speed along them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trmrl.envs.finite import draw_rows
from trmrl.envs.mujoco._family import Motion, PerLane
from trmrl.types import PRNGKey

Heading = dict[str, Float[jax.Array, "B 2"]]


def along(tasks: dict[str, np.ndarray], motion: Motion) -> PerLane:
    """Return the velocity (m/s) along each task's heading."""
    return np.einsum("bp,bp->b", motion.velocity, tasks["heading"].astype(np.float64))


def one_of(*angles: float) -> Callable[[str, int, PRNGKey], Heading]:
    """Return an even draw of `angles` (radians), in every split."""
    vectors = np.asarray([(np.cos(angle), np.sin(angle)) for angle in angles], np.float32)

    def draw(split: str, num_tasks: int, key: PRNGKey) -> Heading:
        del split
        chosen = draw_rows(len(vectors), num_tasks, key=key)
        return {"heading": jnp.asarray(vectors)[chosen]}

    return draw


def anywhere(split: str, num_tasks: int, key: PRNGKey) -> Heading:
    """Draw headings of any angle, U[0, 2 pi], in every split."""
    del split
    angle = jax.random.uniform(key, (num_tasks,), jnp.float32, 0.0, 2.0 * np.pi)
    return {"heading": jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)}
