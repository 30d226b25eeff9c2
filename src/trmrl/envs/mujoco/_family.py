"""MuJoCo worlds of any robot: reset, step and early ends, and what a robot and a task consist of.

Robots and tasks are in a file each (`cheetah.py`, `ant.py`, ...); how simulations run is in
`_batch.py`.
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

from trmrl.envs.base import HOST, AbstractEnvs, Driver
from trmrl.envs.mujoco._batch import Factors, Lanes, check_diverged, load_model
from trmrl.envs.mujoco.geometry import Figure
from trmrl.types import (
    Array,
    Continuous,
    EnvSpec,
    LaneKeys,
    Outcome,
    PRNGKey,
    Task,
    replace,
)

PerLane = Float[np.ndarray, " B"]
Plane = Float[np.ndarray, "B P"]
Noise = tuple[Float[np.ndarray, " nq"], Float[np.ndarray, " nv"]]  # of one lane


def never_falls(lanes: Lanes) -> Bool[np.ndarray, " B"]:
    """Return that every lane is healthy: nothing a robot does ends its episode."""
    return np.ones(len(lanes.time), bool)


def unchanged(model: mujoco.MjModel, tasks: Task) -> Factors:
    """Return that a task changes nothing in the model."""
    del model, tasks
    return {}


def uniform_noise(width: float) -> Callable[[np.random.Generator, int, int], Noise]:
    """Return one lane's noise, drawn from U[-width, width] for `qpos` and `qvel` alike."""

    def draw(noise: np.random.Generator, nq: int, nv: int) -> Noise:
        return noise.uniform(-width, width, nq), noise.uniform(-width, width, nv)

    return draw


def mixed_noise(noise: np.random.Generator, nq: int, nv: int) -> Noise:
    """Return Gymnasium's noise for cheetah and ant: `qpos` + U[-0.1, 0.1], `qvel` + 0.1 N(0, 1)."""
    return noise.uniform(-0.1, 0.1, nq), noise.normal(0.0, 0.1, nv)


@dataclass(frozen=True)
class Robot:
    """A body, and what is observed of it. Its functions read `Lanes` and return new arrays.

    `computed` names what `Lanes.computed` must hold. An action is held for `frame_skip` substeps.
    `place` is the position `[B, P]` (meters) whose change over a step is the velocity that rewards
    know; it may be a view of `Lanes`. A lane whose robot is no longer `healthy` has terminated.
    """

    file: str
    num_actions: int
    frame_skip: int
    obs_size: int
    noise: Callable[[np.random.Generator, int, int], Noise]
    observe: Callable[[Lanes], Float[np.ndarray, "B D"]]
    place: Callable[[Lanes], Plane]
    healthy: Callable[[Lanes], Bool[np.ndarray, " B"]] = never_falls
    computed: tuple[str, ...] = ()


def locomotion_spec(
    name: str, robot: Robot, summary: str, num_episodes: int = 2, **fields: Any
) -> EnvSpec:
    """Return the spec of a robot's worlds: episodes of 200 steps; `fields` as in `EnvSpec`."""
    return EnvSpec(
        name=name,
        family="locomotion",
        obs_size=robot.obs_size,
        action_space=Continuous(robot.num_actions),
        horizon=200,
        num_episodes=num_episodes,
        ends_early=robot.healthy is not never_falls,
        summary=summary,
        **fields,
    )


@dataclass(frozen=True)
class Motion:
    """What a reward may know of a step, float64."""

    place: Plane  # after it, meters
    velocity: Plane  # mean over it, m/s
    control: Float[np.ndarray, "B A"]  # as it was given, not as MuJoCo clips it

    def control_cost(self) -> PerLane:
        """Return the sum of the squared control."""
        return np.einsum("ba,ba->b", self.control, self.control)


@dataclass(frozen=True)
class Episode:
    """A handle on running simulations: stepping changes it in place."""

    lanes: Lanes
    tasks: Task
    running: Bool[np.ndarray, " B"]  # it has not terminated: its robot has been healthy so far
    diverged: Bool[np.ndarray, " B"]  # it has terminated because its simulation diverged


class MujocoEnvs(AbstractEnvs):
    """`B` copies of a robot, one task each.

    Actions are in units of what the actuators can do: the control is the action times the limit
    that the model gives them, beyond which MuJoCo clips it.

    `draw(split, num_tasks, key)` gives tasks, `reward(tasks, motion)` the reward `[B]` of a step,
    `factors(model, tasks)` what multiplies fields of the model in each lane (`Lanes`). A lane that
    has terminated is stepped no more: until its slot is over it repeats its last observation, with
    reward 0 and `terminated` True. `num_threads` None takes every usable core.

    A lane whose simulation diverges terminates with `Outcome.diverged`, reward 0 and an observation
    of the state before that step, whatever `spec.ends_early` says. Raises `TrmrlError` when too
    many have in an episode (`check_diverged`).
    """

    driver: ClassVar[Driver] = HOST
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

    def reset(self, tasks: Task, *, key: LaneKeys) -> tuple[Episode, Float[np.ndarray, "B D"]]:
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
        seeds = np.asarray(jax.random.key_data(key))
        nq, nv = lanes.qpos.shape[1], lanes.qvel.shape[1]
        noise = [robot.noise(np.random.default_rng(seed), nq, nv) for seed in seeds]
        lanes.reset(*(np.stack(part) for part in zip(*noise, strict=True)))
        running = np.ones(num_lanes, bool)
        return Episode(lanes, tasks, running, ~running), robot.observe(lanes)

    def step(self, env_state: Episode, action: Float[Array, "B A"]) -> tuple[Episode, Outcome]:
        """Answer one action per lane."""
        robot, lanes, running = self.robot, env_state.lanes, env_state.running
        control = np.asarray(action, np.float64) * lanes.model.actuator_ctrlrange[:, 1]
        before = robot.place(lanes).copy()
        diverged = lanes.step(control, None if running.all() else running)
        if diverged.any():
            self._end(env_state, diverged)
        place = robot.place(lanes)
        motion = Motion(place, (place - before) / lanes.dt, control)
        reward = np.where(running, self.reward(env_state.tasks, motion), 0.0)
        running &= robot.healthy(lanes)
        outcome = Outcome(
            reward=reward.astype(np.float32),
            terminated=~running,
            truncated=running & (lanes.elapsed() >= self.spec.horizon),
            next_obs=robot.observe(lanes),
            diverged=diverged,
        )
        return env_state, outcome

    def _end(self, env_state: Episode, diverged: Bool[np.ndarray, " B"]) -> None:
        """End the episode of lanes that have just diverged, or refuse if these are too many."""
        env_state.running[diverged] = False
        env_state.diverged[diverged] = True
        check_diverged(self.spec.name, env_state.diverged)

    def change_task(self, env_state: Episode, tasks: Task) -> Episode:
        """Return the handle with other tasks: other rewards, and another model where it is one."""
        tasks = jax.tree.map(np.asarray, tasks)
        env_state.lanes.scale(self.factors(env_state.lanes.model, tasks))
        return replace(env_state, tasks=tasks)

    @property
    def step_seconds(self) -> float:
        """How long a step is, in the world's time."""
        return self.robot.frame_skip * load_model(self.robot.file).opt.timestep

    def figure(self) -> Figure:
        """Return what the robot looks like; `view` is what it is placed by."""
        return Figure(load_model(self.robot.file))

    def view(self, env_state: Episode) -> Float[np.ndarray, "B nq"]:
        """Return a copy of `qpos`."""
        return env_state.lanes.qpos.copy()
