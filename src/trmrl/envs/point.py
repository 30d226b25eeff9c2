"""The four published point robots: points that must find a hidden place in the plane.

What the best strategies earn is in `references/navigation.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from trmrl.envs.base import JAX, AbstractEnvs, Driver
from trmrl.envs.finite import draw_rows, split_rows
from trmrl.types import Array, Continuous, EnvSpec, LaneKeys, Outcome, PRNGKey, replace

STEP = 0.1  # length of the longest move along each axis
RADIUS = 0.2  # within which a sparse goal pays
_ARRIVED = 0.01  # distance along each axis at which `navigation-2d` ends
_NUM_GOALS = 100

_Goals = Callable[[str, int, PRNGKey], Float[Array, "B 2"]]
_Reward = Callable[[Float[Array, " B"]], Float[Array, " B"]]  # of the distance to the goal


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Place:
    """A task: where to go, (x, y)."""

    goal: Float[Array, "B 2"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PointState:
    """The task, where the points are, and the steps taken."""

    task: Place
    position: Float[Array, "B 2"]
    clock: Int[Array, ""]


class PointRobot(AbstractEnvs):
    """Points that move by `STEP * clip(action, -1, 1)` and observe their position.

    A step pays `reward(distance)`, of the distance from where it ends to the goal; where there is a
    `dense_reward`, training is given that of the same distance too. Episodes begin at the origin,
    or anywhere in the square of half-width `spread`; they end within `arrived` of the goal along
    both axes, or by the clock. `draw_goals` draws a split's goals.
    """

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec = eqx.field(static=True)
    draw_goals: _Goals = eqx.field(static=True)
    reward: _Reward = eqx.field(static=True)
    dense_reward: _Reward | None = eqx.field(static=True, default=None)
    spread: float = eqx.field(static=True, default=0.0)
    arrived: float = eqx.field(static=True, default=0.0)

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Place:
        """Draw goals of a split."""
        self.spec.check_split(split)
        return Place(self.draw_goals(split, num_tasks, key))

    def reset(self, tasks: Place, *, key: LaneKeys) -> tuple[PointState, Float[Array, "B 2"]]:
        """Begin an episode of each task."""
        shape = tasks.goal.shape
        draw = lambda key: jax.random.uniform(
            key, shape[1:], jnp.float32, -self.spread, self.spread
        )
        position = jax.vmap(draw)(key)
        return PointState(tasks, position, jnp.int32(0)), position

    def step(
        self, env_state: PointState, action: Float[Array, "B 2"]
    ) -> tuple[PointState, Outcome]:
        """Move once per lane."""
        position = env_state.position + STEP * jnp.clip(action, -1.0, 1.0)
        away = position - env_state.task.goal
        clock = env_state.clock + 1
        terminated = (jnp.abs(away) < self.arrived).all(axis=1)
        truncated = ~terminated & (clock >= self.spec.horizon)
        distance = jnp.sqrt((away**2).sum(axis=1))
        dense_reward = None if self.dense_reward is None else self.dense_reward(distance)
        reward = self.reward(distance)
        outcome = Outcome(reward, terminated, truncated, position, dense_reward)
        return PointState(env_state.task, position, clock), outcome

    def change_task(self, env_state: PointState, tasks: Place) -> PointState:
        """Return the state with other tasks."""
        return replace(env_state, task=tasks)

    def view(self, env_state: PointState) -> Float[Array, "B 2"]:
        """Return the positions."""
        return env_state.position


def _dense(distance: Float[Array, " B"]) -> Float[Array, " B"]:
    return -distance


def _sparse(distance: Float[Array, " B"]) -> Float[Array, " B"]:
    return jnp.where(distance <= RADIUS, 1.0 - distance, 0.0)


def square_goals() -> Float[np.ndarray, "R 2"]:
    """Return the 100 goals of `point-robot`, drawn once from U[-1, 1]^2."""
    return np.random.default_rng(1337).uniform(-1.0, 1.0, (_NUM_GOALS, 2)).astype(np.float32)


def half_circle_goals() -> Float[np.ndarray, "R 2"]:
    """Return the 100 goals of `point-robot-sparse`, evenly spaced on the upper unit half-circle."""
    angle = np.linspace(0.0, np.pi, _NUM_GOALS)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def _one_of(rows: Callable[[], np.ndarray]) -> _Goals:
    """Return an even draw from the split's part of a finite list."""

    def draw(split: str, num_tasks: int, key: PRNGKey) -> Float[Array, "B 2"]:
        goals = jnp.asarray(split_rows(rows(), split))
        return goals[draw_rows(len(goals), num_tasks, key=key)]

    return draw


def _on_half_circle(split: str, num_tasks: int, key: PRNGKey) -> Float[Array, "B 2"]:
    angle = jax.random.uniform(key, (num_tasks,), jnp.float32, 0.0, jnp.pi)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)


def _in_half_square(split: str, num_tasks: int, key: PRNGKey) -> Float[Array, "B 2"]:
    return jax.random.uniform(key, (num_tasks, 2), jnp.float32, -0.5, 0.5)


def point_robot() -> PointRobot:
    """The dense point robot of PEARL (Rakelly et al., 2019): 20 steps, each pays `-distance`.

    Episodes begin anywhere in [-1, 1]^2. 100 goals in that square, 80 train and 20 test.
    """
    spec = EnvSpec(
        name="point-robot",
        family="point",
        obs_size=2,
        action_space=Continuous(2),
        horizon=20,
        num_episodes=2,
        task_size=2,
        floor=-23.9,  # random play, as for every point robot
        ceiling=-5.54,
        summary="go to a hidden place in a square; unseen places in test",
    )
    return PointRobot(spec, _one_of(square_goals), _dense, spread=1.0)


def point_robot_sparse() -> PointRobot:
    """The sparse point robot of PEARL (Rakelly et al., 2019): 20 steps from the origin.

    A step pays `1 - distance` within 0.2 of the goal, else 0. 100 goals on the upper unit
    half-circle, 80 train and 20 test. As published, training is given `-distance` too.
    """
    spec = EnvSpec(
        name="point-robot-sparse",
        family="point",
        obs_size=2,
        action_space=Continuous(2),
        horizon=20,
        num_episodes=6,
        task_size=2,
        floor=0.0,
        ceiling=13.36,
        summary="find a hidden place on a half-circle, felt near by; unseen in test",
    )
    return PointRobot(spec, _one_of(half_circle_goals), _sparse, dense_reward=_dense)


def semicircle() -> PointRobot:
    """The sparse point robot of VariBAD and HyperX (Zintgraf et al., 2021): 100 steps.

    As `point-robot-sparse`, with the goal's angle from U[0, pi], drawn afresh for train and test.
    """
    spec = EnvSpec(
        name="semicircle",
        family="point",
        obs_size=2,
        action_space=Continuous(2),
        horizon=100,
        num_episodes=3,
        task_size=2,
        floor=0.55,
        ceiling=93.38,
        summary="find a hidden place anywhere on a half-circle, felt near by",
    )
    return PointRobot(spec, _on_half_circle, _sparse)


def navigation_2d() -> PointRobot:
    """The 2-D navigation of MAML (Finn et al., 2017): 100 steps, each pays `-distance`.

    From the origin to a goal from U[-0.5, 0.5]^2, drawn afresh for train and test; an episode ends
    within 0.01 of it along both axes.
    """
    spec = EnvSpec(
        name="navigation-2d",
        family="point",
        obs_size=2,
        action_space=Continuous(2),
        horizon=100,
        num_episodes=2,
        task_size=2,
        ends_early=True,
        floor=-61.6,
        ceiling=-0.51,
        summary="go to a hidden place in a small square, and end there",
    )
    return PointRobot(spec, _in_half_square, _dense, arrived=_ARRIVED)
