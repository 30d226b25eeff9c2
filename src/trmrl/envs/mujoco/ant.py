"""The ant, which must run in a hidden direction, or to a hidden place.

As published but without contact forces: MuJoCo since 2.0 left them at zero under the published
code. The body is `ant.xml`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from trmrl.envs.mujoco._batch import Lanes
from trmrl.envs.mujoco._family import (
    Motion,
    MujocoEnvs,
    PerLane,
    Plane,
    Robot,
    locomotion_spec,
    mixed_noise,
    never_falls,
)
from trmrl.envs.mujoco._heading import along, one_of
from trmrl.types import PRNGKey

_HEIGHTS = (0.2, 1.0)  # of a torso that has not fallen or jumped, meters
_GOAL_RADIUS = 3.0  # meters
_NEAR_GOAL = 0.75  # meters


def _observe(lanes: Lanes) -> Float[np.ndarray, "B 27"]:
    """`qpos` without x and y (13), `qvel` (14)."""
    return np.concatenate([lanes.qpos[:, 2:], lanes.qvel], axis=1).astype(np.float32)


def _observe_place(lanes: Lanes) -> Float[np.ndarray, "B 29"]:
    """`qpos` (15), `qvel` (14)."""
    return np.concatenate([lanes.qpos, lanes.qvel], axis=1).astype(np.float32)


def _place(lanes: Lanes) -> Plane:
    return lanes.qpos[:, :2]


def _stands(lanes: Lanes) -> Bool[np.ndarray, " B"]:
    height = lanes.qpos[:, 2]
    return (height >= _HEIGHTS[0]) & (height <= _HEIGHTS[1])


ROBOT = Robot(
    file="ant.xml",
    num_actions=8,
    frame_skip=5,  # of 0.01 s: an action lasts 0.05 s
    obs_size=27,
    noise=mixed_noise,
    observe=_observe,
    place=_place,
    healthy=_stands,
)
_GOAL_ROBOT = dataclasses.replace(ROBOT, obs_size=29, observe=_observe_place, healthy=never_falls)
_FORWARD_OR_BACKWARD = one_of(0.0, np.pi)
_RADIAN = one_of(1.0, -1.0)


def _draw_goal(split: str, num_tasks: int, key: PRNGKey) -> dict[str, jax.Array]:
    del split
    radius_key, angle_key = jax.random.split(key)
    radius = _GOAL_RADIUS * jnp.sqrt(jax.random.uniform(radius_key, (num_tasks,)))
    angle = jax.random.uniform(angle_key, (num_tasks,), jnp.float32, 0.0, 2.0 * np.pi)
    return {"goal": jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle)], axis=1)}


def _go_along(tasks: dict[str, np.ndarray], motion: Motion) -> PerLane:
    return along(tasks, motion) - 0.5 * motion.control_cost() + 1.0


def _go_to(tasks: dict[str, np.ndarray], motion: Motion) -> PerLane:
    return -np.abs(motion.place - tasks["goal"]).sum(axis=1) - 0.1 * motion.control_cost()


def _find(tasks: dict[str, np.ndarray], motion: Motion) -> PerLane:
    distance = np.sqrt(((motion.place - tasks["goal"]) ** 2).sum(axis=1))
    near = np.where(distance <= _NEAR_GOAL, 1.0 - distance, -_NEAR_GOAL)
    return near - 0.01 * motion.control_cost()


def ant_dir(num_threads: int | None = None) -> MujocoEnvs:
    """Run forward or backward, hidden: reward `v . heading - 0.5 * sum(a ** 2) + 1`.

    Headings (1, 0) and (-1, 0), each with probability one half, in train and in test (AntRandDirec
    of ProMP; Rothfuss et al., 2019). Ends when the torso's height leaves [0.2, 1] m.
    """
    spec = locomotion_spec(
        "ant-dir",
        ROBOT,
        "run forward or backward, whichever is hidden",
        task_size=2,
        floor=200.0,
        shared_splits=True,
    )
    return MujocoEnvs(spec, ROBOT, _FORWARD_OR_BACKWARD, _go_along, num_threads=num_threads)


def ant_dir_radian(num_threads: int | None = None) -> MujocoEnvs:
    """`ant-dir` as in the code published with TrMRL and VariBAD, where +1 and -1 are radians.

    Headings (cos 1, sin 1) and (cos 1, -sin 1): 115 degrees apart, both half forward.
    """
    spec = locomotion_spec(
        "ant-dir-radian",
        ROBOT,
        "run 57 degrees to the left or to the right",
        task_size=2,
        floor=200.0,
        shared_splits=True,
    )
    return MujocoEnvs(spec, ROBOT, _RADIAN, _go_along, num_threads=num_threads)


def ant_goal(num_threads: int | None = None) -> MujocoEnvs:
    """Go to a hidden goal within 3 m: reward `-sum(abs(xy - goal)) - 0.1 * sum(a ** 2)`.

    Goals are uniform over the disc (ProMP, PEARL), drawn afresh for train and test. Never ends
    early. The observation has x and y too.
    """
    spec = locomotion_spec(
        "ant-goal", _GOAL_ROBOT, "go to a hidden place within 3 m", floor=-509.0, task_size=2
    )
    return MujocoEnvs(spec, _GOAL_ROBOT, _draw_goal, _go_to, num_threads=num_threads)


def ant_goal_sparse(num_threads: int | None = None) -> MujocoEnvs:
    """`ant-goal` that pays only within 0.75 m of the goal; six episodes (HyperX).

    Reward 1 less the distance there, -0.75 elsewhere, and `-0.01 * sum(a ** 2)` (Zintgraf et al.,
    2021).
    """
    spec = locomotion_spec(
        "ant-goal-sparse",
        _GOAL_ROBOT,
        "find a hidden place within 3 m, felt near by; six episodes",
        num_episodes=6,
        floor=-134.0,  # standing still
        task_size=2,
    )
    return MujocoEnvs(spec, _GOAL_ROBOT, _draw_goal, _find, num_threads=num_threads)
