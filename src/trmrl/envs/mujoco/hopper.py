"""The planar hopper, whose own make is hidden.

Lives here: the robot and its family. Does not live here: what is random about it
(`_rand_params.py`), and the body (`hopper.xml`).
"""

import numpy as np
from jaxtyping import Bool

from trmrl.envs.mujoco._batch import Lanes
from trmrl.envs.mujoco._family import MujocoEnvs, Robot, uniform_noise
from trmrl.envs.mujoco._rand_params import draw_factors, multiplied, observe, place, run
from trmrl.types import Continuous, EnvSpec


def _stands(lanes: Lanes) -> Bool[np.ndarray, " B"]:
    height, pitch = lanes.qpos[:, 1], lanes.qpos[:, 2]
    calm = (np.abs(lanes.qpos[:, 2:]) < 100).all(axis=1) & (np.abs(lanes.qvel) < 100).all(axis=1)
    return calm & (height > 0.7) & (np.abs(pitch) < 0.2)


ROBOT = Robot(
    file="hopper.xml",
    num_actions=3,
    frame_skip=4,  # of 0.002 s: an action lasts 0.008 s
    obs_size=11,
    noise=uniform_noise(0.005),
    observe=observe,
    place=place,
    healthy=_stands,
)
_draw = draw_factors(num_bodies=5, num_dofs=6, num_geoms=5)


def hopper_rand_params(num_threads: int | None = None) -> MujocoEnvs:
    """Hop with a body of hidden make: reward `v + 1 - 0.001 * sum(a ** 2)`.

    Ends when the torso's height is 0.7 m or less, its pitch 0.2 rad or more either way, or a joint
    or velocity 100 or more. Bodies are drawn afresh for train and test; the published code has 40
    and 10 of the same distribution.
    """
    spec = EnvSpec(
        name="hopper-rand-params",
        obs_size=ROBOT.obs_size,
        action_space=Continuous(ROBOT.num_actions),
        horizon=200,
        num_episodes=2,
        floor=142.0,  # doing nothing; it falls
        summary="hop; every mass, inertia, damping and friction is hidden",
    )
    return MujocoEnvs(spec, ROBOT, _draw, run, multiplied, num_threads)
