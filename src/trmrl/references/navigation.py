"""What rules that know the goal earn in rooms and as point robots, and GridNavi's best return."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from trmrl.envs.base import AbstractEnvs
from trmrl.envs.grid import MOVES, Grid, Room, RoomState, cells
from trmrl.envs.point import STEP, PointState
from trmrl.envs.treasure import REACH
from trmrl.references._base import Earned, Earning, draw_tasks
from trmrl.references._play import Rule, play_trials, random_play
from trmrl.types import Array, PRNGKey

_UP, _RIGHT, _DOWN, _LEFT, _STAY = range(5)
_MOST_ANSWERS = 4  # of a room to a step: each goal's reward, and nothing

State = tuple[int, int, frozenset[int]]  # cell, stage, and the tasks that it may be


def walk_to_goal(env_state: RoomState, key: PRNGKey) -> Int[Array, " B"]:
    """Walk to the goals in their order, by a shortest way; stay on the last."""
    return _toward(_away(env_state))


def walk_through_rooms(env_state: RoomState, key: PRNGKey) -> Int[Array, " B"]:
    """The same where corridors lead from room to room along y = 1."""
    away = _away(env_state)
    is_elsewhere = jnp.abs(away[:, :1]) > 2  # rooms are three cells wide
    to_corridor = jnp.stack([jnp.zeros_like(away[:, 0]), 1 - env_state.cell[:, 1]], axis=1)
    leaves = is_elsewhere & (env_state.cell[:, 1:] != 1)
    return _toward(jnp.where(leaves, to_corridor, away))


def _away(env_state: RoomState) -> Int[Array, "B 2"]:
    """Return how far the next goal is, in cells (x, y)."""
    wanted = jnp.minimum(env_state.stage, env_state.room.goal.shape[1] - 1)
    goal = jnp.take_along_axis(jnp.asarray(env_state.room.goal), wanted[:, None, None], axis=1)
    return goal[:, 0] - env_state.cell


def _toward(away: Int[Array, "B 2"]) -> Int[Array, " B"]:
    along_x = jnp.where(away[:, 0] > 0, _RIGHT, _LEFT)
    along_y = jnp.where(away[:, 1] > 0, _UP, _DOWN)
    action = jnp.where(away[:, 0] != 0, along_x, jnp.where(away[:, 1] != 0, along_y, _STAY))
    return action.astype(jnp.int32)


def steer_to_goal(env_state: PointState, key: PRNGKey) -> Float[Array, "B 2"]:
    """Close both coordinates as fast as they allow: every distance is then the least possible."""
    return (env_state.task.goal - env_state.position) / STEP


def climb_first(env_state: PointState, key: PRNGKey) -> Float[Array, "B 2"]:
    """Go to the summit, from where the treasure shows, and then to the treasure."""
    climbing = env_state.clock < round(1.0 / STEP)
    wanted = jnp.where(climbing, 0.0, jnp.asarray(env_state.task.goal))
    return (wanted - env_state.position) / STEP


def walk_around(env_state: PointState, key: PRNGKey) -> Float[Array, "B 2"]:
    """Walk around the circle until the treasure is reached; stay there."""
    away = jnp.asarray(env_state.task.goal) - env_state.position
    there = (away**2).sum(axis=1, keepdims=True) <= REACH**2
    x, y = env_state.position[:, 0], env_state.position[:, 1]
    angle = jnp.arctan2(y, x) + STEP
    ahead = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    return jnp.where(there, 0.0, (ahead - env_state.position) / STEP)


def bayes_optimal_grid(
    size: int,
    horizon: int,
    num_episodes: int,
    visit: Callable[[int, Float[np.ndarray, "C Q"]], None] = lambda t, arrive: None,
) -> float:
    """Return the greatest expected total reward of a GridNavi trial, by dynamic programming.

    A belief is the set of cells where the goal may still be, as bits of a number: the prior is
    uniform over the cells beyond the start's corner of four. `worth[cell, belief]` is the future
    reward summed over the goals of the belief, all equally likely; it is worked out backwards, over
    every cell and every belief, from the end of the trial. Once the goal is found, the shortest way
    to it is best from then on. At size 5 this takes a minute or more of processor time, and 0.5 GB.

    `visit(t, arrive)` is called for every step of the trial, last first, where `arrive[cell,
    belief]` is the worth of stepping onto a cell there. Cells count along y first; a belief is
    that before the step, and the array is written again after the call.
    """
    places = [(x, y) for x in range(size) for y in range(size)]
    goals = [cell for cell in places if max(cell) > 1]
    bit = {cell: 1 << i for i, cell in enumerate(goals)}
    candidates = np.zeros(1 << len(goals), np.float32)
    for one in bit.values():
        candidates.reshape(-1, 2, one)[:, 1] += 1.0
    index = {cell: i for i, cell in enumerate(places)}
    worth = np.zeros((len(places), len(candidates)), np.float32)
    for episode in range(num_episodes, 0, -1):
        worth[:] = worth[index[(0, 0)]].copy()  # wherever an episode ends, the next begins at start
        for step in range(horizon, 0, -1):
            arrive = np.empty_like(worth)
            for cell in places:
                after = (num_episodes - episode) * _found(sum(cell), horizon)
                found = horizon - step + 1 + after
                _arrive(arrive[index[cell]], worth[index[cell]], candidates, bit.get(cell), found)
            visit((episode - 1) * horizon + step - 1, arrive)
            for cell in places:
                near = [index[other] for other in places if _is_near(cell, other)]
                np.maximum.reduce(arrive[near], axis=0, out=worth[index[cell]])
    return float(worth[index[(0, 0)], -1]) / len(goals)


def _arrive(
    arrive: Float[np.ndarray, " Q"],
    worth: Float[np.ndarray, " Q"],
    candidates: Float[np.ndarray, " Q"],
    bit: int | None,
    found: float,
) -> None:
    """Write the worth of stepping onto a cell, in every belief: `found` if the goal is there."""
    np.subtract(worth, np.float32(0.1) * candidates, out=arrive)
    if bit is not None:
        open_, closed = arrive.reshape(-1, 2, bit)[:, 1], arrive.reshape(-1, 2, bit)[:, 0]
        open_[:] = closed + np.float32(found)  # not here after all: the belief without the cell


def _found(distance: int, horizon: int) -> float:
    """Return what an episode earns whose goal is known, `distance` moves from the start."""
    return (horizon - distance + 1) - 0.1 * (distance - 1)


def _is_near(cell: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(cell[0] - other[0]) + abs(cell[1] - other[1]) <= 1


def bayes_optimal_episode(envs: Grid) -> float:
    """Return the greatest expected return of one episode of rooms that have few tasks.

    Dynamic programming over every cell, stage and belief that an episode can come to. A belief is
    the set of test tasks that explain all rewards so far, all equally likely.
    """
    tasks, moved = envs.goals("test"), _moves(envs)
    reward, stage = _entries(envs, tasks)

    def step(state: State, action: int) -> list[tuple[float, float, State]]:
        """Return what a step may bring: the chance of each reward, it, and the state then."""
        _, reached, belief = state
        to = int(moved[state[0], action])
        explained: dict[tuple[float, int], set[int]] = {}
        for task in belief:
            answer = float(reward[task, to, reached]), int(stage[task, to, reached])
            explained.setdefault(answer, set()).add(task)
        return [
            (len(rest) / len(belief), paid, (to, now, frozenset(rest)))
            for (paid, now), rest in explained.items()
        ]

    assert envs.start is not None
    first: State = _number(envs, *envs.start), 0, frozenset(range(len(tasks)))
    states: list[State] = [first]
    index: dict[State, int] = {first: 0}
    rows = []
    for state in states:  # grows while it is gone through
        brought = [step(state, action) for action in range(len(MOVES))]
        for _, _, after in (answer for answers in brought for answer in answers):
            if after not in index:
                index[after] = len(states)
                states.append(after)
        none = (0.0, 0.0, first)
        padded = [answers + [none] * (_MOST_ANSWERS - len(answers)) for answers in brought]
        rows.append([[(p, r, index[after]) for p, r, after in answers] for answers in padded])
    chance, paid, after = np.moveaxis(np.array(rows), 3, 0)  # [S, A, answers] each
    worth = np.zeros(len(states))
    for _ in range(envs.spec.horizon):
        worth = (chance * (paid + worth[after.astype(int)])).sum(axis=2).max(axis=1)
    return float(worth[0])


def _number(envs: Grid, x: Any, y: Any) -> Any:
    return x * envs.size[1] + y


def _moves(envs: Grid) -> Int[np.ndarray, "C A"]:
    """Return the number of the cell to which each action leads from each cell."""
    every = cells(*envs.size)
    cell = jnp.asarray(np.repeat(every, len(MOVES), axis=0))
    action = jnp.asarray(np.tile(np.arange(len(MOVES), dtype=np.int32), len(every)))
    nowhere = Room(cell, jnp.full((len(cell), envs.goals("test").shape[1], 2), -1))
    state = RoomState(nowhere, cell, jnp.zeros(len(cell), jnp.int32), jnp.int32(0))
    after = np.asarray(envs.step(state, action)[0].cell)
    return _number(envs, after[:, 0], after[:, 1]).reshape((-1, len(MOVES)))


def _entries(
    envs: Grid, tasks: Int[np.ndarray, "R G 2"]
) -> tuple[Float[np.ndarray, "R C S"], Int[np.ndarray, "R C S"]]:
    """Return the reward of entering each cell of each task in each stage, and the stage then."""
    place, num_stages = cells(*envs.size), tasks.shape[1] + 1
    shape = len(tasks), len(place), num_stages
    task, cell, stage = (axis.reshape(-1) for axis in np.indices(shape))
    at = jnp.asarray(place[cell])
    room = Room(at, jnp.asarray(tasks[task]))
    entered = RoomState(room, at, jnp.asarray(stage, jnp.int32), jnp.int32(0))
    reward, after, _ = envs.enter(entered)
    return np.asarray(reward).reshape(shape), np.asarray(after).reshape(shape)


def _measure(rules: dict[str, Rule], envs: AbstractEnvs, num_tasks: int, seed: int) -> Earned:
    """Return what random play earns, and some rules."""
    tasks, _ = draw_tasks(envs, num_tasks, seed)
    rules = {"random": random_play(envs, num_tasks)} | rules
    play = lambda rule: play_trials(envs, tasks, rule, key=jax.random.key(seed + 1))
    return {name: Earning(play(rule)) for name, rule in rules.items()}


measure_room = functools.partial(_measure, {"oracle": walk_to_goal})
measure_point = functools.partial(_measure, {"oracle": steer_to_goal})
measure_treasure = functools.partial(
    _measure, {"oracle": steer_to_goal, "climb-first": climb_first, "walk-around": walk_around}
)


def measure_grid_navi(envs: AbstractEnvs, num_tasks: int, seed: int) -> Earned:
    """Return the same, and the Bayes-optimal total of a trial, which is exact."""
    spec = envs.spec
    best = bayes_optimal_grid(5, spec.horizon, spec.num_episodes)
    earned = measure_room(envs, num_tasks, seed)
    return earned | {"bayes-optimal": Earning(np.array([best]))}


def measure_rooms(envs: Any, num_tasks: int, seed: int) -> Earned:
    """Return the same for rooms that corridors join."""
    earned = _measure({"oracle": walk_through_rooms}, envs, num_tasks, seed)
    return earned | {"bayes-optimal": Earning(np.array([bayes_optimal_episode(envs)]))}
