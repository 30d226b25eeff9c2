"""Rooms of cells with something hidden in them: GridNavi, Dark Room, Dark Key-to-Door.

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
    """The room, the cell each lane is in, whether it holds the key, and the steps taken."""

    room: Room
    cell: Int[Array, "B 2"]
    key_held: Bool[Array, " B"]
    clock: Int[Array, ""]


# Reward, whether the key is now held, and whether the episode has terminated.
Entry = tuple[Float[Array, " B"], Bool[Array, " B"], Bool[Array, " B"]]


class Grid(AbstractEnvs):
    """A `size` by `size` room with a wall around it, which stops a move; actions are `MOVES`.

    `goals` lists a split's goals, `[R, G, 2]`, of which tasks are drawn evenly; `start` is where
    episodes begin, or None for any cell, drawn with the task. `enter` gives the
    reward of the cell just entered, whether the key is now held and whether the episode has
    terminated; `observe` gives the observation.
    """

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec = eqx.field(static=True)
    size: int = eqx.field(static=True)
    start: tuple[int, int] | None = eqx.field(static=True)
    goals: Callable[[str], np.ndarray] = eqx.field(static=True)
    enter: Callable[[RoomState], Entry] = eqx.field(static=True)
    observe: Callable[[RoomState], Float[Array, "B D"]] = eqx.field(static=True)

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Room:
        """Draw rooms of a split, their goals evenly."""
        self.spec.check_split(split)
        goal_key, start_key = jax.random.split(key)
        goals = jnp.asarray(self.goals(split))
        goal = goals[draw_rows(len(goals), num_tasks, key=goal_key)]
        if self.start is None:
            start = jax.random.randint(start_key, (num_tasks, 2), 0, self.size)
        else:
            start = jnp.broadcast_to(jnp.asarray(self.start, jnp.int32), (num_tasks, 2))
        return Room(start, goal)

    def reset(self, tasks: Room, *, key: LaneKeys) -> tuple[RoomState, Float[Array, "B D"]]:
        """Begin an episode of each task, at its start."""
        start = jnp.asarray(tasks.start)
        state = RoomState(tasks, start, jnp.zeros(start.shape[0], bool), jnp.int32(0))
        return state, self.observe(state)

    def step(self, env_state: RoomState, action: Int[Array, " B"]) -> tuple[RoomState, Outcome]:
        """Move one cell per lane."""
        moved = env_state.cell + jnp.asarray(MOVES)[action]
        cell = jnp.clip(moved, 0, self.size - 1)
        clock = env_state.clock + 1
        entered = RoomState(env_state.room, cell, env_state.key_held, clock)
        reward, key_held, terminated = self.enter(entered)
        state = RoomState(env_state.room, cell, key_held, clock)
        truncated = ~terminated & (clock >= self.spec.horizon)
        return state, Outcome(reward, terminated, truncated, self.observe(state))

    def change_task(self, env_state: RoomState, tasks: Room) -> RoomState:
        """Return the state with other rooms; their starts count from the next episode on."""
        return replace(env_state, room=tasks)

    def view(self, env_state: RoomState) -> Int[Array, "B 2"]:
        """Return the cells the lanes are in."""
        return env_state.cell


def cells(size: int) -> Int[np.ndarray, "C 2"]:
    """Return every cell of a room, (x, y)."""
    return np.stack(np.divmod(np.arange(size * size), size), axis=1).astype(np.int32)


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
    return jnp.where(found, 1.0, -0.1), env_state.key_held, jnp.zeros_like(found)


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
    return Grid(spec, 5, (0, 0), _navi_goals, _enter_navi, _observe_cell)


def _dark_goals(split: str) -> Int[np.ndarray, "R 1 2"]:
    return split_rows(cells(9), split)[:, None]


def _enter_dark(env_state: RoomState) -> Entry:
    found = _at(env_state, 0)
    return found.astype(jnp.float32), env_state.key_held, jnp.zeros_like(found)


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
    return Grid(spec, 9, (4, 4), _dark_goals, _enter_dark, _observe_cell)


def _key_door_goals(split: str) -> Int[np.ndarray, "R 2 2"]:
    every = cells(9)
    key, door = np.divmod(np.arange(len(every) ** 2), len(every))
    return split_rows(np.stack([every[key], every[door]], axis=1), split)


def _enter_key_door(env_state: RoomState) -> Entry:
    opened = env_state.key_held & _at(env_state, 1)
    picked = ~env_state.key_held & _at(env_state, 0)
    return (opened | picked).astype(jnp.float32), env_state.key_held | picked, opened


def _observe_key(env_state: RoomState) -> Float[Array, "B 4"]:
    held = env_state.key_held.astype(jnp.float32)
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
    return Grid(spec, 9, None, _key_door_goals, _enter_key_door, _observe_key)
