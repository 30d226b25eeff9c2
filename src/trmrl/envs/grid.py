"""Rooms of cells with hidden goals: GridNavi, Dark Room, Dark Key-to-Door, Multi-Stage Rooms.

What the best strategies earn is in `references/navigation.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from trmrl.envs.base import JAX, AbstractEnvs, Driver
from trmrl.envs.finite import draw_rows, split_rows
from trmrl.types import Array, Discrete, EnvSpec, LaneKeys, Outcome, PRNGKey, replace

# Up, right, down, left, stay, as (x, y).
MOVES = np.array([[0, 1], [1, 0], [0, -1], [-1, 0], [0, 0]], np.int32)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Room:
    """A task, in cells (x, y): where every episode begins, and the goals in their order."""

    start: Int[Array, "B 2"]
    goal: Int[Array, "B G 2"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RoomState:
    """The room, the cell each lane is in, how many goals it has reached, and the steps taken."""

    room: Room
    cell: Int[Array, "B 2"]
    stage: Int[Array, " B"]
    clock: Int[Array, ""]


# Reward, the stage that is now reached, and whether the episode has terminated.
Entry = tuple[Float[Array, " B"], Int[Array, " B"], Bool[Array, " B"]]


class Grid(AbstractEnvs):
    """A room of `size` (x, y) with a wall around it, which stops a move; actions are `MOVES`.

    `walls` are cells that nobody enters. `goals` lists a split's goals, `[R, G, 2]`, of which tasks
    are drawn evenly; `start` is where episodes begin, or None for any cell, drawn with the task.
    `enter` gives the reward of the cell just entered, the stage now reached and whether the episode
    has terminated; `observe` gives the observation.
    """

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec = eqx.field(static=True)
    size: tuple[int, int] = eqx.field(static=True)
    start: tuple[int, int] | None = eqx.field(static=True)
    goals: Callable[[str], np.ndarray] = eqx.field(static=True)
    enter: Callable[[RoomState], Entry] = eqx.field(static=True)
    observe: Callable[[RoomState], Float[Array, "B D"]] = eqx.field(static=True)
    walls: tuple[tuple[int, int], ...] = eqx.field(static=True, default=())

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Room:
        """Draw rooms of a split, their goals evenly."""
        self.spec.check_split(split)
        goal_key, start_key = jax.random.split(key)
        goals = jnp.asarray(self.goals(split))
        goal = goals[draw_rows(len(goals), num_tasks, key=goal_key)]
        if self.start is None:
            start = jax.random.randint(start_key, (num_tasks, 2), 0, jnp.asarray(self.size)[None])
        else:
            start = jnp.broadcast_to(jnp.asarray(self.start, jnp.int32), (num_tasks, 2))
        return Room(start, goal)

    def reset(self, tasks: Room, *, key: LaneKeys) -> tuple[RoomState, Float[Array, "B D"]]:
        """Begin an episode of each task, at its start."""
        start = jnp.asarray(tasks.start)
        state = RoomState(tasks, start, jnp.zeros(start.shape[0], jnp.int32), jnp.int32(0))
        return state, self.observe(state)

    def step(self, env_state: RoomState, action: Int[Array, " B"]) -> tuple[RoomState, Outcome]:
        """Move one cell per lane."""
        moved = env_state.cell + jnp.asarray(MOVES)[action]
        cell = jnp.clip(moved, 0, jnp.asarray(self.size)[None] - 1)
        if self.walls:
            is_wall = (cell[:, None] == jnp.asarray(self.walls)[None]).all(axis=2).any(axis=1)
            cell = jnp.where(is_wall[:, None], env_state.cell, cell)
        clock = env_state.clock + 1
        entered = RoomState(env_state.room, cell, env_state.stage, clock)
        reward, stage, terminated = self.enter(entered)
        state = RoomState(env_state.room, cell, stage, clock)
        truncated = ~terminated & (clock >= self.spec.horizon)
        return state, Outcome(reward, terminated, truncated, self.observe(state))

    def change_task(self, env_state: RoomState, tasks: Room) -> RoomState:
        """Return the state with other rooms; their starts count from the next episode on."""
        return replace(env_state, room=tasks)

    def view(self, env_state: RoomState) -> Int[Array, "B 2"]:
        """Return the cells the lanes are in."""
        return env_state.cell


def cells(width: int, height: int = 0) -> Int[np.ndarray, "C 2"]:
    """Return every cell of a room, (x, y), along y first; it is square without a height."""
    height = height or width
    return np.stack(np.divmod(np.arange(width * height), height), axis=1).astype(np.int32)


def cells_after(size: int) -> Int[np.ndarray, "C A 2"]:
    """Return where every action leads from every cell of a room, (x, y)."""
    return np.clip(cells(size)[:, None] + MOVES, 0, size - 1)


def _at(env_state: RoomState, goal: int) -> Bool[Array, " B"]:
    return (env_state.cell == jnp.asarray(env_state.room.goal)[:, goal]).all(axis=1)


def _observe_cell(env_state: RoomState) -> Float[Array, "B 2"]:
    return env_state.cell.astype(jnp.float32)


def _navi_goals(split: str) -> Int[np.ndarray, "R 1 2"]:
    """Return the 21 cells that are not the corner of four around the start."""
    every = cells(5)
    return every[(every > 1).any(axis=1)][:, None]


def _enter_navi(env_state: RoomState) -> Entry:
    found = _at(env_state, 0)
    return jnp.where(found, 1.0, -0.1), env_state.stage, jnp.zeros_like(found)


def grid_navi() -> Grid:
    """GridNavi (Zintgraf et al., 2020): find one of 21 cells of a 5 by 5 room, again and again.

    From (0, 0), 15 steps an episode, +1 for a step that ends on the goal and -0.1 for any other.
    Train and test share all 21 goals, as published: the Bayes-optimal return depends on the prior.
    """
    spec = EnvSpec(
        name="grid-navi",
        family="grid",
        obs_size=2,
        action_space=Discrete(5),
        horizon=15,
        num_episodes=4,
        task_size=4,
        floor=-1.16,  # random play, as for every room
        ceiling=11.071,  # the goal known
        shared_splits=True,
        summary="find a hidden cell of a 5 by 5 room, and return to it",
    )
    return Grid(spec, (5, 5), (0, 0), _navi_goals, _enter_navi, _observe_cell)


def _dark_goals(split: str) -> Int[np.ndarray, "R 1 2"]:
    return split_rows(cells(9), split)[:, None]


def _enter_dark(env_state: RoomState) -> Entry:
    found = _at(env_state, 0)
    return found.astype(jnp.float32), env_state.stage, jnp.zeros_like(found)


def dark_room() -> Grid:
    """Dark Room (Laskin et al., 2022): 9 by 9, from the center, 20 steps an episode.

    A step that ends on the goal pays 1. The 81 goals are divided between train and test.
    """
    spec = EnvSpec(
        name="dark-room",
        family="grid",
        obs_size=2,
        action_space=Discrete(5),
        horizon=20,
        num_episodes=10,
        task_size=4,
        floor=0.33,
        ceiling=16.94,  # of the test cells; 16.54 over all
        summary="stand on a hidden cell of a dark 9 by 9 room; unseen cells in test",
    )
    return Grid(spec, (9, 9), (4, 4), _dark_goals, _enter_dark, _observe_cell)


def _key_door_goals(split: str) -> Int[np.ndarray, "R 2 2"]:
    every = cells(9)
    key, door = np.divmod(np.arange(len(every) ** 2), len(every))
    return split_rows(np.stack([every[key], every[door]], axis=1), split)


def _enter_key_door(env_state: RoomState) -> Entry:
    opened = (env_state.stage == 1) & _at(env_state, 1)
    picked = (env_state.stage == 0) & _at(env_state, 0)
    reached = opened | picked
    return reached.astype(jnp.float32), env_state.stage + reached.astype(jnp.int32), opened


def _observe_key(env_state: RoomState) -> Float[Array, "B 4"]:
    held = (env_state.stage > 0).astype(jnp.float32)
    clock = jnp.broadcast_to(env_state.clock.astype(jnp.float32) / 50.0, held.shape)
    place = env_state.cell.astype(jnp.float32) / 9.0
    return jnp.concatenate([place, held[:, None], clock[:, None]], axis=1)


def dark_key_to_door() -> Grid:
    """Dark Key-to-Door (as in AMAGO, Grigsby et al., 2024): 9 by 9, 50 steps an episode at most.

    The first visit to the key pays 1, then the door pays 1 and ends the episode. Start, key and
    door are any cells; pairs of key and door are divided between train and test. Observed: x / 9,
    y / 9, key held, time / 50.
    """
    spec = EnvSpec(
        name="dark-key-to-door",
        family="grid",
        obs_size=4,
        action_space=Discrete(5),
        horizon=50,
        num_episodes=10,
        task_size=6,
        ends_early=True,
        floor=0.25,
        ceiling=2.0,
        observed=("start",),
        summary="find a hidden key, then a hidden door, in a dark 9 by 9 room",
    )
    return Grid(spec, (9, 9), None, _key_door_goals, _enter_key_door, _observe_key)


# Three rooms of 3 by 3 in a row, joined by corridors of three cells; the middle one's center.
_SUITE, _MIDDLE = (15, 3), (7, 1)
_CORRIDOR_WALLS = tuple((x, y) for x in (3, 4, 5, 9, 10, 11) for y in (0, 2))
_STAGE_REWARDS = (1.0, 10.0, 100.0)


def _stage_goals(split: str) -> Int[np.ndarray, "R 3 2"]:
    """Return corners: of the middle room, of the room on that corner's side, of the middle again.

    The third is not the first.
    """
    del split
    corners = lambda first_x: [(first_x + dx, y) for dx in (0, 2) for y in (0, 2)]
    middle = corners(6)
    side = lambda corner: corners(0) if corner[0] < _MIDDLE[0] else corners(12)
    return np.array(
        [[a, b, c] for a in middle for b in side(a) for c in middle if c != a], np.int32
    )


def _enter_stage(env_state: RoomState) -> Entry:
    reward, stage = jnp.float32(-0.1), env_state.stage
    for number in reversed(range(len(_STAGE_REWARDS))):
        reached = _at(env_state, number) & (env_state.stage >= number)
        reward = jnp.where(reached, _STAGE_REWARDS[number], reward)
        stage = jnp.maximum(stage, jnp.where(reached, number + 1, 0))
    return reward, stage, jnp.zeros_like(stage, bool)


def _observe_suite(env_state: RoomState) -> Float[Array, "B 2"]:
    middle = jnp.asarray([_MIDDLE], jnp.float32)
    return (env_state.cell.astype(jnp.float32) - middle) / middle


def multi_stage_rooms() -> Grid:
    """Multi-Stage Rooms (Zintgraf et al., 2021, HyperX): three goals, to be reached in order.

    One episode of 50 steps from the middle of three rooms in a row. A step that ends on the first
    goal pays 1, on the second 10 once the first has been reached, on the third 100 once the second
    has; any other pays -0.1. The first and the third goal are different corners of the middle room,
    the second one of the room on the first one's side. Train and test share all 48 tasks, as
    published. Observed: x and y from the start, in units of the way to the outer walls.
    """
    spec = EnvSpec(
        name="multi-stage-rooms",
        family="grid",
        obs_size=2,
        action_space=Discrete(5),
        horizon=50,
        num_episodes=1,
        task_size=8,
        shared_splits=True,
        floor=0.5,
        ceiling=3_376.0,
        summary="find three hidden corners of three rooms, in their order",
    )
    goals, enter, observe = _stage_goals, _enter_stage, _observe_suite
    return Grid(spec, _SUITE, _MIDDLE, goals, enter, observe, _CORRIDOR_WALLS)
