"""The half-cheetah, whose task or whose damage is hidden.

`half-cheetah-vel` and `half-cheetah-dir` are as in the code published with TrMRL, the rest is ours.
The body is `half_cheetah.xml`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trmrl.envs.finite import draw_rows
from trmrl.envs.mujoco._batch import Factors, Lanes
from trmrl.envs.mujoco._delayed import DelayedEnvs
from trmrl.envs.mujoco._family import (
    Motion,
    MujocoEnvs,
    PerLane,
    Plane,
    Robot,
    locomotion_spec,
    mixed_noise,
)
from trmrl.types import PRNGKey

_TORSO = 1  # its number among the bodies
_CONTROL_COST = 0.05
_SPARSE_DISTANCE = 5.0  # meters
_VELOCITIES = {"train": (0.0, 3.0), "test": (0.0, 3.0), "ood": (3.0, 4.0)}  # m/s
_JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")  # as the actions have them
_TRAIN_JOINTS = ("bthigh", "bfoot", "fthigh", "fshin")
_DEAD = {"train": _TRAIN_JOINTS, "test": _TRAIN_JOINTS, "ood": ("bshin", "ffoot")}
_LOADS = {"train": (0.0, 1.0), "test": (0.0, 1.0), "ood": (1.0, 1.5)}  # of |u|, factors 3^u


def _observe(lanes: Lanes) -> Float[np.ndarray, "B 20"]:
    """`qpos` without x (8), `qvel` (9), the torso's position (3)."""
    obs = np.empty((len(lanes.time), 20), np.float32)
    obs[:, :8] = lanes.qpos[:, 1:]
    obs[:, 8:17] = lanes.qvel
    # After a step this is where the torso was one substep ago, which is what `mj_step` leaves in
    # `xpos` and what mujoco-py's get_body_com gave the published code; kept for parity.
    obs[:, 17:] = lanes.computed["xpos"][:, _TORSO]
    return obs


def _place(lanes: Lanes) -> Plane:
    return lanes.qpos[:, :1]


ROBOT = Robot(
    file="half_cheetah.xml",
    num_actions=6,
    frame_skip=5,  # of 0.01 s: an action lasts 0.05 s
    obs_size=20,
    noise=mixed_noise,
    observe=_observe,
    place=_place,
    computed=("xpos",),
)


def _draw_velocity(split: str, num_tasks: int, key: PRNGKey) -> dict[str, jax.Array]:
    low, high = _VELOCITIES[split]
    return {"velocity": jax.random.uniform(key, (num_tasks,), jnp.float32, low, high)}


def _draw_direction(split: str, num_tasks: int, key: PRNGKey) -> dict[str, jax.Array]:
    del split
    forward = draw_rows(2, num_tasks, key=key) == 0
    return {"direction": jnp.where(forward, jnp.float32(1.0), jnp.float32(-1.0))}


def _draw_dead_joint(split: str, num_tasks: int, key: PRNGKey) -> dict[str, np.ndarray]:
    choices = np.asarray([_JOINTS.index(joint) for joint in _DEAD[split]])
    dead = choices[np.asarray(draw_rows(len(choices), num_tasks, key=key))]
    return {"strength": 1.0 - np.eye(len(_JOINTS), dtype=np.float32)[dead]}


def _draw_load(split: str, num_tasks: int, key: PRNGKey) -> dict[str, jax.Array]:
    low, high = _LOADS[split]
    size_key, sign_key = jax.random.split(key)
    size = jax.random.uniform(size_key, (3, num_tasks), jnp.float32, low, high)
    factor = 3.0 ** (size * jax.random.rademacher(sign_key, (3, num_tasks), jnp.float32))
    return {"mass": factor[0], "damping": factor[1], "friction": factor[2]}


def _gears(model: Any, tasks: dict[str, np.ndarray]) -> Factors:
    del model
    return {"actuator_gear": tasks["strength"].astype(np.float64)[:, :, None]}


def _loaded(model: Any, tasks: dict[str, np.ndarray]) -> Factors:
    factor = {name: value.astype(np.float64) for name, value in tasks.items()}
    mass = np.ones((len(factor["mass"]), model.nbody))
    mass[:, _TORSO] = factor["mass"]
    return {
        "body_mass": mass,
        "body_inertia": mass[:, :, None],
        "dof_damping": factor["damping"][:, None],
        # A contact slides by the greater of its two geoms' frictions: the floor's counts too.
        "geom_friction": factor["friction"][:, None, None],
    }


def _track(tasks: dict[str, np.ndarray], motion: Motion) -> PerLane:
    return -np.abs(motion.velocity[:, 0] - tasks["velocity"]) - _cost(motion)


def _follow(tasks: dict[str, np.ndarray], motion: Motion) -> PerLane:
    return tasks["direction"] * motion.velocity[:, 0] - _cost(motion)


def _follow_far(tasks: dict[str, np.ndarray], motion: Motion) -> PerLane:
    far = np.abs(motion.place[:, 0]) >= _SPARSE_DISTANCE
    return np.where(far, tasks["direction"] * motion.velocity[:, 0], 0.0) - _cost(motion)


def _run(tasks: dict[str, np.ndarray], motion: Motion) -> PerLane:
    del tasks
    return motion.velocity[:, 0] - _cost(motion)


def _cost(motion: Motion) -> PerLane:
    return _CONTROL_COST * motion.control_cost()


def half_cheetah_vel(num_threads: int | None = None) -> MujocoEnvs:
    """Run at a hidden velocity v* (m/s): reward `-|v - v*| - 0.05 * sum(a ** 2)`.

    v* ~ U[0, 3], drawn afresh each time for train and test alike; out of distribution, U[3, 4].
    """
    spec = locomotion_spec(
        "half-cheetah-vel",
        ROBOT,
        "run at a hidden velocity between 0 and 3 m/s (ood: 3 to 4 m/s)",
        task_size=1,
        splits=("train", "test", "ood"),
        floor=-300.0,  # standing still
        ceiling=-15.0,  # a perfect tracker that needs some time to speed up
    )
    return MujocoEnvs(spec, ROBOT, _draw_velocity, _track, num_threads=num_threads)


def half_cheetah_vel_delayed(num_threads: int | None = None) -> DelayedEnvs:
    """`half-cheetah-vel`, its reward paid every 20 steps (1 s) as the sum of what was earned.

    Returns are those of `half-cheetah-vel`; a single token reveals less of the target.
    """
    spec = locomotion_spec(
        "half-cheetah-vel-delayed",
        ROBOT,
        "half-cheetah-vel, rewards summed and paid every 20 steps",
        task_size=1,
        splits=("train", "test", "ood"),
        floor=-300.0,
        ceiling=-15.0,
    )
    return DelayedEnvs(spec, half_cheetah_vel(num_threads), period=20)


def half_cheetah_dir(num_threads: int | None = None) -> MujocoEnvs:
    """Run forward (+1) or backward (-1), hidden: reward `direction * v - 0.05 * sum(a ** 2)`.

    Both directions are in train and in test, with probability one half.
    """
    spec = locomotion_spec(
        "half-cheetah-dir",
        ROBOT,
        "run forward or backward, whichever is hidden",
        task_size=1,
        shared_splits=True,
        floor=0.0,  # standing still
    )
    return MujocoEnvs(spec, ROBOT, _draw_direction, _follow, num_threads=num_threads)


def half_cheetah_dir_sparse(num_threads: int | None = None) -> MujocoEnvs:
    """`half-cheetah-dir` that pays for velocity only 5 m or more from where x is 0; one episode.

    Nearer it costs control alone (Zintgraf et al., 2021, HyperX).
    """
    spec = locomotion_spec(
        "half-cheetah-dir-sparse",
        ROBOT,
        "half-cheetah-dir, velocity paid from 5 m on; one episode",
        num_episodes=1,
        task_size=1,
        shared_splits=True,
        floor=0.0,  # standing still
    )
    return MujocoEnvs(spec, ROBOT, _draw_direction, _follow_far, num_threads=num_threads)


def half_cheetah_crippled(num_threads: int | None = None) -> MujocoEnvs:
    """Run forward with one motor dead: reward `v - 0.05 * sum(a ** 2)`, the dead motor's included.

    A task is each motor's `strength` `[B, 6]`, 0 for the dead one and 1 for the rest. Train and
    test are the same four joints; out of distribution, the two that neither has (after the crippled
    half-cheetah of Nagabandi et al., 2019, which also holds joints out).
    """
    spec = locomotion_spec(
        "half-cheetah-crippled",
        ROBOT,
        "run forward with one of four motors dead (ood: one of the other two)",
        shared_splits=True,
        splits=("train", "test", "ood"),
        floor=0.0,  # standing still
    )
    return MujocoEnvs(spec, ROBOT, _draw_dead_joint, _run, _gears, num_threads)


def half_cheetah_payload(num_threads: int | None = None) -> MujocoEnvs:
    """Run forward under a hidden load, on hidden ground: reward `v - 0.05 * sum(a ** 2)`.

    A task is three factors: on the torso's `mass` (and inertia), on every joint's `damping` and on
    the `friction` of all contacts. Each is 3^u; u ~ U[-1, 1], drawn afresh for train and test;
    out of distribution, |u| ~ U[1, 1.5] with either sign.
    """
    spec = locomotion_spec(
        "half-cheetah-payload",
        ROBOT,
        "run forward; torso mass, damping and friction are hidden",
        splits=("train", "test", "ood"),
        floor=0.0,  # standing still
    )
    return MujocoEnvs(spec, ROBOT, _draw_load, _run, _loaded, num_threads)
