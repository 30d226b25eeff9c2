"""Walker and hopper with hidden bodies: mass, inertia, friction and damping multiplied at random.

As in the rand-params families of PEARL (Rakelly et al., 2019); the bodies are `walker2d.xml` and
`hopper.xml`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from trmrl.envs.mujoco._batch import Factors, Lanes
from trmrl.envs.mujoco._family import (
    Motion,
    MujocoEnvs,
    PerLane,
    Plane,
    Robot,
    locomotion_spec,
    uniform_noise,
)
from trmrl.types import PRNGKey

_LOG_SCALE = 3.0  # factors are base ** U[-3, 3]
_BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}


def _draw_factors(
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


def _factors(model: Any, tasks: dict[str, np.ndarray]) -> Factors:
    """Return the task itself: fields of the model, and their factors."""
    del model
    return {field: factor.astype(np.float64) for field, factor in tasks.items()}


def _run(tasks: Any, motion: Motion) -> PerLane:
    """Return `v + 1 - 0.001 * sum(a ** 2)`."""
    del tasks
    return motion.velocity[:, 0] + 1.0 - 1e-3 * motion.control_cost()


def _observe(lanes: Lanes) -> Float[np.ndarray, "B D"]:
    """`qpos` without x, and `qvel` clipped to [-10, 10]."""
    velocity = np.clip(lanes.qvel, -10.0, 10.0)
    return np.concatenate([lanes.qpos[:, 1:], velocity], axis=1).astype(np.float32)


def _place(lanes: Lanes) -> Plane:
    return lanes.qpos[:, :1]


def _walker_stands(lanes: Lanes) -> Bool[np.ndarray, " B"]:
    height, pitch = lanes.qpos[:, 1], lanes.qpos[:, 2]
    return (height > 0.8) & (height < 2.0) & (np.abs(pitch) < 1.0)


def _hopper_stands(lanes: Lanes) -> Bool[np.ndarray, " B"]:
    height, pitch = lanes.qpos[:, 1], lanes.qpos[:, 2]
    calm = (np.abs(lanes.qpos[:, 2:]) < 100).all(axis=1) & (np.abs(lanes.qvel) < 100).all(axis=1)
    return calm & (height > 0.7) & (np.abs(pitch) < 0.2)


WALKER = Robot(
    file="walker2d.xml",
    num_actions=6,
    frame_skip=5,  # of 0.002 s: an action lasts 0.01 s
    obs_size=17,
    noise=uniform_noise(0.005),
    observe=_observe,
    place=_place,
    healthy=_walker_stands,
)
HOPPER = Robot(
    file="hopper.xml",
    num_actions=3,
    frame_skip=4,  # of 0.002 s: an action lasts 0.008 s
    obs_size=11,
    noise=uniform_noise(0.005),
    observe=_observe,
    place=_place,
    healthy=_hopper_stands,
)
_draw_walker = _draw_factors(num_bodies=8, num_dofs=9, num_geoms=8)
_draw_hopper = _draw_factors(num_bodies=5, num_dofs=6, num_geoms=5)


def walker_rand_params(num_threads: int | None = None) -> MujocoEnvs:
    """Run with a hidden body: reward `v + 1 - 0.001 * sum(a ** 2)`.

    Ends when the torso's height leaves (0.8, 2) m or its pitch (-1, 1) rad. Bodies are drawn afresh
    for train and test; the published code has 40 and 10 of the same distribution.
    """
    spec = locomotion_spec(
        "walker-rand-params",
        WALKER,
        "walk; every mass, inertia, damping and friction is hidden",
        floor=70.0,  # doing nothing; it falls
    )
    return MujocoEnvs(spec, WALKER, _draw_walker, _run, _factors, num_threads)


def hopper_rand_params(num_threads: int | None = None) -> MujocoEnvs:
    """Hop with a hidden body: reward `v + 1 - 0.001 * sum(a ** 2)`.

    Ends when the torso's height is 0.7 m or less, its pitch 0.2 rad or more either way, or a joint
    or velocity 100 or more. Bodies are drawn afresh for train and test; the published code has 40
    and 10 of the same distribution.
    """
    spec = locomotion_spec(
        "hopper-rand-params",
        HOPPER,
        "hop; every mass, inertia, damping and friction is hidden",
        floor=142.0,  # doing nothing; it falls
    )
    return MujocoEnvs(spec, HOPPER, _draw_hopper, _run, _factors, num_threads)
