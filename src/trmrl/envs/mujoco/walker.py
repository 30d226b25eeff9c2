"""The planar walker, whose own make is hidden.

Lives here: the robot and its family. Does not live here: what is random about it
(`_rand_params.py`), and the body (`walker2d.xml`).
"""

import numpy as np
from jaxtyping import Bool

from trmrl.envs.mujoco._batch import Lanes
from trmrl.envs.mujoco._family import MujocoEnvs, Robot, uniform_noise
from trmrl.envs.mujoco._rand_params import draw_factors, multiplied, observe, place, run
from trmrl.types import Continuous, EnvSpec


def _stands(lanes: Lanes) -> Bool[np.ndarray, " B"]:
    height, pitch = lanes.qpos[:, 1], lanes.qpos[:, 2]
    return (height > 0.8) & (height < 2.0) & (np.abs(pitch) < 1.0)


ROBOT = Robot(
    file="walker2d.xml",
    num_actions=6,
    frame_skip=5,  # of 0.002 s: an action lasts 0.01 s
    obs_size=17,
    noise=uniform_noise(0.005),
    observe=observe,
    place=place,
    healthy=_stands,
)
_draw = draw_factors(num_bodies=8, num_dofs=9, num_geoms=8)


def walker_rand_params(num_threads: int | None = None) -> MujocoEnvs:
    """Run with a body of hidden make: reward `v + 1 - 0.001 * sum(a ** 2)`.

    Ends when the torso's height leaves (0.8, 2) m or its pitch (-1, 1) rad. Bodies are drawn afresh
    for train and test; the published code has 40 and 10 of the same distribution.
    """
    spec = EnvSpec(
        name="walker-rand-params",
        obs_size=ROBOT.obs_size,
        action_space=Continuous(ROBOT.num_actions),
        horizon=200,
        num_episodes=2,
        floor=70.0,  # doing nothing; it falls
        summary="walk; every mass, inertia, damping and friction is hidden",
    )
    return MujocoEnvs(spec, ROBOT, _draw, run, multiplied, num_threads)
