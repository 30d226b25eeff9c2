"""A family of MuJoCo tasks: a robot, and functions that say what is asked of it.

Lives here: reset, step and early ends, the same for every robot. Does not live here: any robot or
task (one file per robot), and how simulations run (`_batch.py`).
"""
# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import mujoco
import numpy as np
from jaxtyping import Bool, Float

from trmrl.envs._base import AbstractEnvs, host_scan
from trmrl.envs.mujoco._batch import Factors, Lanes
from trmrl.types import Array, EnvSpec, Outcome, PRNGKey, Task

PerLane = Float[np.ndarray, " B"]
Plane = Float[np.ndarray, "B P"]
Noise = tuple[Float[np.ndarray, "B nq"], Float[np.ndarray, "B nv"]]


def never_falls(lanes: Lanes) -> Bool[np.ndarray, " B"]:
    """Return that every lane is healthy: episodes end by the clock only."""
    return np.ones(len(lanes.time), bool)


def unchanged(model: mujoco.MjModel, tasks: Task) -> Factors:
    """Return that a task changes nothing in the model."""
    del model, tasks
    return {}


def uniform_noise(width: float) -> Callable[[np.random.Generator, Lanes], Noise]:
    """Return noise drawn from U[-width, width], for `qpos` and `qvel` alike."""

    def draw(noise: np.random.Generator, lanes: Lanes) -> Noise:
        qpos, qvel = lanes.qpos.shape, lanes.qvel.shape
        return noise.uniform(-width, width, qpos), noise.uniform(-width, width, qvel)

    return draw


def mixed_noise(noise: np.random.Generator, lanes: Lanes) -> Noise:
    """Return Gymnasium's noise for cheetah and ant: `qpos` + U[-0.1, 0.1], `qvel` + 0.1 N(0, 1)."""
    qpos, qvel = lanes.qpos.shape, lanes.qvel.shape
    return noise.uniform(-0.1, 0.1, qpos), noise.normal(0.0, 0.1, qvel)


@dataclass(frozen=True)
class Robot:
    """A body, and how it is seen. Its functions read live arrays and return new ones.

    `computed` names what `Lanes.computed` must hold. An action is held for `frame_skip` substeps.
    `place` is the position `[B, P]` (meters) whose change over a step is the velocity that rewards
    know; it may be a live view. A lane whose robot is no longer `healthy` has terminated.
    """

    file: str
    num_actions: int
    frame_skip: int
    obs_size: int
    noise: Callable[[np.random.Generator, Lanes], Noise]
    observe: Callable[[Lanes], Float[np.ndarray, "B D"]]
    place: Callable[[Lanes], Plane]
    healthy: Callable[[Lanes], Bool[np.ndarray, " B"]] = never_falls
    computed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Motion:
    """What a reward may know of a step, float64."""

    place: Plane  # after it, meters
    velocity: Plane  # mean over it, m/s
    action: Float[np.ndarray, "B A"]  # as it was given, not as MuJoCo clips it

    def control_cost(self) -> PerLane:
        """Return the sum of the squared action."""
        return np.einsum("ba,ba->b", self.action, self.action)


@dataclass(frozen=True)
class Episode:
    """A handle on running simulations: stepping changes it in place."""

    lanes: Lanes
    tasks: Task
    alive: Bool[np.ndarray, " B"]  # its robot has been healthy so far


class MujocoEnvs(AbstractEnvs):
    """`B` copies of a robot, one task each.

    `draw(split, num_tasks, key)` gives tasks, `reward(tasks, motion)` the reward `[B]` of a step,
    `factors(model, tasks)` what multiplies fields of the model in each lane (`Lanes`). A lane that
    has terminated is stepped no more: until its slot is over it repeats its last observation, with
    reward 0 and `terminated` True. `num_threads` None takes every usable core. Raises `TrmrlError`
    when the simulation of a lane that has not terminated diverges.
    """

    scan: ClassVar[Callable] = staticmethod(host_scan)
    jit: ClassVar[Callable] = staticmethod(lambda function: function)
    spec: EnvSpec = eqx.field(static=True)
    robot: Robot = eqx.field(static=True)
    draw: Callable[[str, int, PRNGKey], Task] = eqx.field(static=True)
    reward: Callable[[Any, Motion], PerLane] = eqx.field(static=True)
    factors: Callable[[mujoco.MjModel, Any], Factors] = eqx.field(static=True, default=unchanged)
    num_threads: int | None = eqx.field(static=True, default=None)

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Task:
        """Draw tasks of a split; `TrmrlError` on one that `spec.splits` does not have."""
        self.spec.check_split(split)
        return jax.tree.map(np.asarray, self.draw(split, num_tasks, key))

    def reset(self, tasks: Task, *, key: PRNGKey) -> tuple[Episode, Float[np.ndarray, "B D"]]:
        """Begin an episode of each task, in the model's pose plus the robot's noise."""
        robot = self.robot
        tasks = jax.tree.map(np.asarray, tasks)
        num_lanes = len(jax.tree.leaves(tasks)[0])
        lanes = Lanes(
            self.spec.name,
            robot.file,
            num_lanes,
            robot.frame_skip,
            self.num_threads,
            robot.computed,
            lambda model: self.factors(model, tasks),
        )
        noise = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        lanes.reset(*robot.noise(noise, lanes))
        return Episode(lanes, tasks, np.ones(num_lanes, bool)), robot.observe(lanes)

    def step(self, env_state: Episode, action: Float[Array, "B A"]) -> tuple[Episode, Outcome]:
        """Answer one action per lane."""
        robot, lanes, alive = self.robot, env_state.lanes, env_state.alive
        action = np.asarray(action, np.float64)
        before, lived = robot.place(lanes).copy(), alive.copy()
        lanes.step(action, None if lived.all() else lived)
        place = robot.place(lanes)
        motion = Motion(place, (place - before) / lanes.dt, action)
        reward = np.where(lived, self.reward(env_state.tasks, motion), 0.0)
        alive &= robot.healthy(lanes)
        outcome = Outcome(
            reward=reward.astype(np.float32),
            terminated=~alive,
            truncated=alive & (lanes.elapsed() >= self.spec.horizon),
            next_obs=robot.observe(lanes),
        )
        return env_state, outcome

    def view(self, env_state: Episode) -> Float[np.ndarray, "B nq"]:
        """Return a copy of `qpos`."""
        return env_state.lanes.qpos.copy()
