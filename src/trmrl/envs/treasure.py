"""Treasure hunt: a hidden place on a circle, which can be looked for from a mountain.

The world of HyperX (Zintgraf et al., 2021). Walking around the circle finds the treasure; climbing,
which costs more at first, shows where it is.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.envs.base import JAX, AbstractEnvs, Driver
from trmrl.envs.point import STEP, Place, PointState
from trmrl.types import Array, Continuous, EnvSpec, LaneKeys, Outcome, PRNGKey, replace

REACH = 0.1  # of the treasure, and of the summit
MOUNTAIN = 0.5  # radius
_LIMIT = 1.5  # nobody goes farther along an axis
_TREASURE, _STEP_COST = 10.0, 5.0


class TreasureHunt(AbstractEnvs):
    """Points that move by `STEP * clip(action, -1, 1)`, from (0, -1), on [-1.5, 1.5]^2.

    Observed: the position, and the treasure's place, zeros but within `REACH` of the summit (0, 0).
    A step that ends on the mountain pays -5, and one less per unit of height; within `REACH` of the
    treasure +10; anywhere else -5, times the distance from the summit beyond 1. A step succeeds
    where it ends at the treasure.
    """

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec = eqx.field(static=True)

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Place:
        """Draw treasures on the unit circle, afresh for every split."""
        self.spec.check_split(split)
        angle = jax.random.uniform(key, (num_tasks,), jnp.float32, 0.0, 2 * jnp.pi)
        return Place(jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1))

    def reset(self, tasks: Place, *, key: LaneKeys) -> tuple[PointState, Float[Array, "B 4"]]:
        """Begin an episode of each task, always at the same place; `key` is not used."""
        del key
        position = jnp.broadcast_to(jnp.asarray([0.0, -1.0]), tasks.goal.shape)
        state = PointState(tasks, position, jnp.int32(0))
        return state, _observe(state)

    def step(
        self, env_state: PointState, action: Float[Array, "B 2"]
    ) -> tuple[PointState, Outcome]:
        """Move once per lane."""
        moved = env_state.position + STEP * jnp.clip(action, -1.0, 1.0)
        position = jnp.clip(moved, -_LIMIT, _LIMIT)
        state = PointState(env_state.task, position, env_state.clock + 1)
        center, treasure = _norm(position), _norm(position - env_state.task.goal)
        found = (treasure <= REACH) & (center > MOUNTAIN)
        climb = -_STEP_COST - (MOUNTAIN - center)
        away = jnp.where(found, _TREASURE, -_STEP_COST * jnp.maximum(center, 1.0))
        reward = jnp.where(center <= MOUNTAIN, climb, away)
        never = jnp.zeros(found.shape, bool)
        over = jnp.broadcast_to(state.clock >= self.spec.horizon, found.shape)
        return state, Outcome(reward, never, over, _observe(state), success=found)

    def change_task(self, env_state: PointState, tasks: Place) -> PointState:
        """Return the state with other tasks."""
        return replace(env_state, task=tasks)

    def view(self, env_state: PointState) -> Float[Array, "B 2"]:
        """Return the positions."""
        return env_state.position


def treasure_hunt() -> TreasureHunt:
    """One episode of 100 steps; the treasure's angle from U[0, 2 pi]."""
    spec = EnvSpec(
        name="treasure-hunt",
        family="point",
        obs_size=4,
        action_space=Continuous(2),
        horizon=100,
        num_episodes=1,
        floor=-570.0,  # random play
        ceiling=849.0,  # the treasure known
        has_success=True,
        observed=("goal",),
        summary="find a hidden place on a circle, which a mountain's summit shows",
    )
    return TreasureHunt(spec)


def _norm(x: Float[Array, "B 2"]) -> Float[Array, " B"]:
    return jnp.sqrt((x**2).sum(axis=1))


def _observe(state: PointState) -> Float[Array, "B 4"]:
    at_summit = (_norm(state.position) < REACH)[:, None]
    return jnp.concatenate([state.position, jnp.where(at_summit, state.task.goal, 0.0)], axis=1)
