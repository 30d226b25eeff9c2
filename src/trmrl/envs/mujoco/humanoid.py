"""The humanoid, which must run in a hidden direction.

As in PEARL's code but without contact forces, which MuJoCo since 2.0 left at zero there. The body
is `humanoid.xml`.
"""

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
    uniform_noise,
)
from trmrl.envs.mujoco._heading import along, anywhere

_HEIGHTS = (1.0, 2.0)  # of the torso of a robot on its feet, meters
_FRAME_SKIP = 5  # of 0.003 s: an action lasts 0.015 s
# 0.25 of the distance, over the time of one substep: the published code forgot the frame skip.
_SPEED_REWARD = 0.25 * _FRAME_SKIP


def _observe(lanes: Lanes) -> Float[np.ndarray, "B 270"]:
    """`qpos` without x and y (22), `qvel` (23), and for the 13 bodies inertia and mass (130) and
    velocity (78) about the center of mass, then the joints' motor torques (17).
    """
    computed, num_lanes = lanes.computed, len(lanes.time)
    parts = (
        lanes.qpos[:, 2:],
        lanes.qvel,
        computed["cinert"][:, 1:].reshape(num_lanes, -1),
        computed["cvel"][:, 1:].reshape(num_lanes, -1),
        computed["qfrc_actuator"][:, 6:],
    )
    return np.concatenate(parts, axis=1).astype(np.float32)


def _place(lanes: Lanes) -> Plane:
    return lanes.computed["subtree_com"][:, 0, :2]


def _stands(lanes: Lanes) -> Bool[np.ndarray, " B"]:
    height = lanes.qpos[:, 2]
    return (height >= _HEIGHTS[0]) & (height <= _HEIGHTS[1])


ROBOT = Robot(
    file="humanoid.xml",
    num_actions=17,
    frame_skip=_FRAME_SKIP,
    obs_size=270,
    noise=uniform_noise(0.01),
    observe=_observe,
    place=_place,
    healthy=_stands,
    computed=("cinert", "cvel", "qfrc_actuator", "subtree_com"),
)


def _go_along(tasks: dict[str, np.ndarray], motion: Motion) -> PerLane:
    return _SPEED_REWARD * along(tasks, motion) - 0.1 * motion.control_cost() + 5.0


def humanoid_dir(num_threads: int | None = None) -> MujocoEnvs:
    """Run along a hidden heading: reward `1.25 * v . heading - 0.1 * sum((0.4 * a) ** 2) + 5`.

    `v` is the center of mass's velocity. Headings are drawn afresh for train and test, any angle
    (Rakelly et al., 2019). Ends when the torso's height leaves [1, 2] m. An action of 1 is the
    motors' limit, a control of 0.4, as in the code published with PEARL, ProMP and VariBAD.
    """
    spec = locomotion_spec(
        "humanoid-dir",
        ROBOT,
        "run along a hidden heading, any angle",
        floor=202.0,  # doing nothing; it falls
    )
    return MujocoEnvs(spec, ROBOT, anywhere, _go_along, num_threads=num_threads)
