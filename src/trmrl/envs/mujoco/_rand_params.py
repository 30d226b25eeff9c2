"""Robots of hidden make: masses, inertias, frictions and damping multiplied at random.

Lives here: the tasks and the reward that walker and hopper share, as in the rand-params families of
PEARL (Rakelly et al., 2019). Does not live here: any robot.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trmrl.envs.mujoco._batch import Factors, Lanes
from trmrl.envs.mujoco._family import Motion, PerLane, Plane
from trmrl.types import PRNGKey

_LOG_SCALE = 3.0  # factors are base ** U[-3, 3]
_BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}


def draw_factors(
    num_bodies: int, num_dofs: int, num_geoms: int
) -> Callable[[str, int, PRNGKey], dict[str, jax.Array]]:
    """Return a draw of a factor for each number of each field, in every split.

    World and floor are counted, and multiplied too, as published.
    """
    shapes = {
        "body_mass": (num_bodies,),
        "body_inertia": (num_bodies, 3),
        "dof_damping": (num_dofs,),
        "geom_friction": (num_geoms, 3),
    }

    def draw(split: str, num_tasks: int, key: PRNGKey) -> dict[str, jax.Array]:
        del split
        tasks = {}
        for i, (field, shape) in enumerate(shapes.items()):
            shape, field_key = (num_tasks, *shape), jax.random.fold_in(key, i)
            power = jax.random.uniform(field_key, shape, jnp.float32, -_LOG_SCALE, _LOG_SCALE)
            tasks[field] = _BASES[field] ** power
        return tasks

    return draw


def multiplied(model: Any, tasks: dict[str, np.ndarray]) -> Factors:
    """Return the task itself: fields of the model, and their factors."""
    del model
    return {field: factor.astype(np.float64) for field, factor in tasks.items()}


def run(tasks: Any, motion: Motion) -> PerLane:
    """Return `v + 1 - 0.001 * sum(a ** 2)`."""
    del tasks
    return motion.velocity[:, 0] + 1.0 - 1e-3 * motion.control_cost()


def observe(lanes: Lanes) -> Float[np.ndarray, "B D"]:
    """Return `qpos` without x, and `qvel` clipped to [-10, 10]."""
    velocity = np.clip(lanes.qvel, -10.0, 10.0)
    return np.concatenate([lanes.qpos[:, 1:], velocity], axis=1).astype(np.float32)


def place(lanes: Lanes) -> Plane:
    """Return x."""
    return lanes.qpos[:, :1]
