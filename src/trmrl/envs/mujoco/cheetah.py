"""The half-cheetah that must run at a velocity, or in a direction, it is not told.

Lives here: tasks, observations and rewards of `half-cheetah-vel` and `half-cheetah-dir`, as in the
code published with TrMRL. Does not live here: the body (`half_cheetah.xml`), and how lanes step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trmrl.envs._base import AbstractEnvs, host_scan
from trmrl.envs.mujoco._batch import Lanes
from trmrl.types import Array, Continuous, EnvSpec, Outcome, PRNGKey, Task

_OBS_SIZE = 20
_FRAME_SKIP = 5  # of 0.01 s: an action lasts 0.05 s
_CONTROL_COST = 0.05
_QPOS_NOISE = 0.1  # half-width of a uniform
_QVEL_NOISE = 0.1  # standard deviation of a normal
_VELOCITIES = {"train": (0.0, 3.0), "test": (0.0, 3.0), "ood": (3.0, 4.0)}  # m/s

_DrawGoal = Callable[[str, int, PRNGKey], Float[jax.Array, " B"]]
_PerLane = Float[np.ndarray, " B"]
_Progress = Callable[[_PerLane, _PerLane], _PerLane]


@dataclass(frozen=True)
class _Episode:
    """A handle on running simulations and what their rewards need: stepping changes it in place."""

    lanes: Lanes
    torso: Float[np.ndarray, "B 3"]  # a live view, meters
    goal: _PerLane


class HalfCheetah(AbstractEnvs):
    """Half-cheetahs, one hidden number each: `{goal_name: [B] float32}`.

    An observation is `qpos` without x (8), `qvel` (9) and the torso's position (3), SI units. An
    action is six torques in units of the gears. The reward of a step is
    `progress(forward velocity, goal) - 0.05 * sum(action ** 2)`, with the action as it was given;
    MuJoCo then clips it to [-1, 1]. Episodes end by the clock only. `num_threads` None takes every
    usable core. Raises `TrmrlError` when a lane's simulation diverges.
    """

    scan: ClassVar[Callable] = staticmethod(host_scan)
    jit: ClassVar[Callable] = staticmethod(lambda function: function)
    spec: EnvSpec = eqx.field(static=True)
    goal_name: str = eqx.field(static=True)
    draw_goal: _DrawGoal = eqx.field(static=True)
    progress: _Progress = eqx.field(static=True)
    num_threads: int | None = eqx.field(static=True, default=None)

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Task:
        """Draw fresh tasks of a split; `TrmrlError` on one that `spec.splits` does not have."""
        self.spec.check_split(split)
        return {self.goal_name: np.asarray(self.draw_goal(split, num_tasks, key))}

    def reset(self, tasks: Task, *, key: PRNGKey) -> tuple[_Episode, Float[np.ndarray, "B D"]]:
        """Begin an episode of each task, standing, with Gymnasium's noise on `qpos` and `qvel`."""
        goal = np.asarray(tasks[self.goal_name])
        num_lanes = len(goal)
        lanes = Lanes(self.spec.name, "half_cheetah.xml", num_lanes, _FRAME_SKIP, self.num_threads)
        noise = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        lanes.reset(
            noise.uniform(-_QPOS_NOISE, _QPOS_NOISE, (num_lanes, lanes.model.nq)),
            noise.normal(0.0, _QVEL_NOISE, (num_lanes, lanes.model.nv)),
        )
        episode = _Episode(lanes, lanes.body_position("torso"), goal)
        return episode, _observe(episode)

    def step(self, env_state: _Episode, action: Float[Array, "B A"]) -> tuple[_Episode, Outcome]:
        """Answer one action per lane, held for 0.05 s."""
        action = np.asarray(action, np.float64)
        lanes = env_state.lanes
        before = lanes.qpos[:, 0].copy()
        lanes.step(action)
        velocity = (lanes.qpos[:, 0] - before) / lanes.dt
        cost = _CONTROL_COST * np.einsum("ba,ba->b", action, action)
        outcome = Outcome(
            reward=(self.progress(velocity, env_state.goal) - cost).astype(np.float32),
            terminated=np.zeros(len(before), bool),
            truncated=lanes.elapsed() >= self.spec.horizon,
            next_obs=_observe(env_state),
        )
        return env_state, outcome

    def view(self, env_state: _Episode) -> Float[np.ndarray, "B 9"]:
        """Return a copy of `qpos`: x, z, pitch, then the hind and fore leg from the hip down."""
        return env_state.lanes.qpos.copy()


# A function, not a method: reaching a method of an Equinox module costs about 15 us.
def _observe(episode: _Episode) -> Float[np.ndarray, "B D"]:
    lanes = episode.lanes
    obs = np.empty((len(episode.goal), _OBS_SIZE), np.float32)
    obs[:, :8] = lanes.qpos[:, 1:]
    obs[:, 8:17] = lanes.qvel
    # After a step this is where the torso was one substep ago, which is what `mj_step` leaves in
    # `xpos` and what mujoco-py's get_body_com gave the published code; kept for parity.
    obs[:, 17:] = episode.torso
    return obs


def _draw_velocity(split: str, num_tasks: int, key: PRNGKey) -> Float[jax.Array, " B"]:
    low, high = _VELOCITIES[split]
    return jax.random.uniform(key, (num_tasks,), jnp.float32, low, high)


def _draw_direction(split: str, num_tasks: int, key: PRNGKey) -> Float[jax.Array, " B"]:
    forward = jax.random.bernoulli(key, 0.5, (num_tasks,))
    return jnp.where(forward, jnp.float32(1.0), jnp.float32(-1.0))


def _track(velocity: _PerLane, goal: _PerLane) -> _PerLane:
    return -np.abs(velocity - goal)


def _run(velocity: _PerLane, direction: _PerLane) -> _PerLane:
    return direction * velocity


def half_cheetah_vel(num_threads: int | None = None) -> HalfCheetah:
    """Run at a hidden velocity v* (m/s): progress is `-|v - v*|`.

    v* ~ U[0, 3], drawn afresh each time for train and test alike; out of distribution, U[3, 4].
    """
    spec = EnvSpec(
        name="half-cheetah-vel",
        obs_size=_OBS_SIZE,
        action_space=Continuous(6),
        horizon=200,
        num_episodes=2,
        splits=("train", "test", "ood"),
        floor=-300.0,  # standing still
        ceiling=-15.0,  # a perfect tracker that needs some time to speed up
        summary="run at a hidden velocity between 0 and 3 m/s (ood: 3 to 4 m/s)",
    )
    return HalfCheetah(spec, "velocity", _draw_velocity, _track, num_threads)


def half_cheetah_dir(num_threads: int | None = None) -> HalfCheetah:
    """Run forward (+1) or backward (-1), which is hidden: progress is `direction * v`.

    Both directions are in train and in test, with probability one half.
    """
    spec = EnvSpec(
        name="half-cheetah-dir",
        obs_size=_OBS_SIZE,
        action_space=Continuous(6),
        horizon=200,
        num_episodes=2,
        floor=0.0,  # standing still
        summary="run forward or backward, whichever is hidden",
    )
    return HalfCheetah(spec, "direction", _draw_direction, _run, num_threads)
