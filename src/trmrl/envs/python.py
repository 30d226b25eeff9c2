"""Worlds that are Python objects, one a lane, in this process or spread over others.

What such an object wraps is its own file's (`gymnasium.py`).
"""

import functools
import multiprocessing
import signal
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, ClassVar, Protocol

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float

from trmrl.envs.base import HOST, AbstractEnvs, Driver
from trmrl.envs.ray_actors import start_actors
from trmrl.types import Array, EnvSpec, LaneKeys, Outcome, PRNGKey, Task, TrmrlError

Row = Float[np.ndarray, " D"]


class Lane(Protocol):
    """One world, on its own. It never resets itself."""

    def reset(self, task: Any, seed: int) -> Row:
        """Begin an episode of one task (its numbers without the axis `B`)."""
        ...

    def step(self, action: Any) -> tuple[Row, float, bool, bool, bool]:
        """Return successor, reward, whether it terminated, was truncated, and has succeeded."""
        ...


# Successors [B, D], rewards, terminated, truncated, success [B].
Answers = tuple[
    Float[np.ndarray, "B D"],
    Float[np.ndarray, " B"],
    Bool[np.ndarray, " B"],
    Bool[np.ndarray, " B"],
    Bool[np.ndarray, " B"],
]


class Local:
    """`B` lanes in this process."""

    usable = True

    def __init__(self, make_lane: Callable[[], Lane], num_lanes: int) -> None:
        self._lanes = [make_lane() for _ in range(num_lanes)]
        self._obs: list[Row] = []

    def reset(self, tasks: list[Any], seeds: list[int]) -> Float[np.ndarray, "B D"]:
        """Begin an episode in every lane."""
        rows = zip(self._lanes, tasks, seeds, strict=True)
        self._obs = [lane.reset(task, seed) for lane, task, seed in rows]
        return np.stack(self._obs)

    def step(self, action: Array, running: Bool[np.ndarray, " B"]) -> Answers:
        """Step the lanes that are running; the others repeat their last observation, unpaid."""
        reward = np.zeros(len(running), np.float32)
        terminated, truncated, success = flags = np.zeros((3, len(running)), bool)
        for lane in np.flatnonzero(running):
            self._obs[lane], reward[lane], *flags[:, lane] = self._lanes[lane].step(action[lane])
        return np.stack(self._obs), reward, terminated, truncated, success


class Server:
    """Some lanes, which answer requests; an error is an answer too."""

    def __init__(self, make_lane: Callable[[], Lane], num_lanes: int) -> None:
        self._make_lane, self._num_lanes = make_lane, num_lanes
        self._lanes: Local | None = None

    def answer(self, request: tuple[str, list[Any]]) -> tuple[str, Any]:
        """Return what went wrong, else nothing, and what a method of `Local` answers."""
        method, arguments = request
        try:
            self._lanes = self._lanes or Local(self._make_lane, self._num_lanes)
            return "", getattr(self._lanes, method)(*arguments)
        except Exception as error:
            traceback.print_exc()
            return f"{type(error).__name__}: {error}", None


class Workers:
    """`B` lanes spread over processes, neighbors together.

    `start(servers)` returns a connection to each process, in which one of `servers` answers.
    Raises `TrmrlError` when a lane fails.
    """

    def __init__(
        self,
        name: str,
        make_lane: Callable[[], Lane],
        num_lanes: int,
        num_processes: int,
        start: Callable[[list[Callable[[], Server]]], list[Any]],
    ) -> None:
        self._name, self.usable = name, True
        shares = np.array_split(np.arange(num_lanes), min(num_processes, num_lanes))
        self._shares = [slice(share[0], share[-1] + 1) for share in shares]
        self._connections = start(
            [functools.partial(Server, make_lane, len(share)) for share in shares]
        )
        weakref.finalize(self, _close, self._connections)

    def reset(self, tasks: list[Any], seeds: list[int]) -> Float[np.ndarray, "B D"]:
        """Begin an episode in every lane."""
        return np.concatenate(self._ask("reset", tasks, seeds))

    def step(self, action: Array, running: Bool[np.ndarray, " B"]) -> Answers:
        """As `Local.step`, all processes at once."""
        obs, *rest = zip(*self._ask("step", action, running), strict=True)
        reward, terminated, truncated, success = (np.concatenate(part) for part in rest)
        return np.concatenate(obs), reward, terminated, truncated, success

    def _ask(self, method: str, *per_lane: Any) -> list[Any]:
        """Return every process's answer, each asked about its own lanes."""
        self.usable = False  # until all have answered: an interrupt leaves answers behind
        try:
            for connection, share in zip(self._connections, self._shares, strict=True):
                connection.send((method, [values[share] for values in per_lane]))
            answers = [connection.recv() for connection in self._connections]
        except (EOFError, OSError) as error:
            raise TrmrlError(f"{self._name}: a worker process ended") from error
        self.usable = True
        for complaint, _ in answers:
            if complaint:
                raise TrmrlError(f"{self._name}: in a worker process, {complaint}")
        return [answer for _, answer in answers]


def spawn(name: str, servers: list[Callable[[], Server]]) -> list[Connection]:
    """Return connections to processes of this machine, one for each server.

    They are spawned: they share nothing with this one, and what makes a lane must be found by
    its import path. Raises `TrmrlError` where it cannot be.
    """
    context = multiprocessing.get_context("spawn")
    connections: list[Connection] = []
    for server in servers:
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, server), daemon=True)
        try:
            process.start()
        except Exception as error:  # of pickling, which has several
            _close([*connections, here, there])
            raise TrmrlError(
                f"{name}: worker processes import what makes a lane, so make_env and set_task "
                f"must be functions of a module, not lambdas: {error}"
            ) from error
        there.close()
        connections.append(here)
    return connections


def _serve(connection: Connection, server: Callable[[], Server]) -> None:
    """Answer until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's: it saves first
    serving = server()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(serving.answer(request))


def _close(connections: list[Any]) -> None:
    for connection in connections:
        connection.close()


@dataclass(frozen=True, eq=False)
class Pool:
    """Lanes that nobody uses, by how many are together: worlds are dear to make, cheap to reset.

    With `num_processes` 0 they are in this process; with a `ray_address` too, processes are actors
    of that Ray cluster.
    """

    name: str
    make_lane: Callable[[], Lane]
    num_processes: int = 0
    ray_address: str = ""
    unused: dict[int, list[Any]] = field(default_factory=dict)

    def take(self, num_lanes: int) -> "Local | Workers":
        """Return lanes that nobody else has; hand them back to `give_back`."""
        unused = self.unused.setdefault(num_lanes, [])
        if unused:
            return unused.pop()
        if self.num_processes:
            return Workers(self.name, self.make_lane, num_lanes, self.num_processes, self._start)
        return Local(self.make_lane, num_lanes)

    def _start(self, servers: list[Callable[[], Server]]) -> list[Any]:
        if self.ray_address:
            return start_actors(self.name, servers, self.ray_address)
        return spawn(self.name, servers)

    def give_back(self, num_lanes: int, lanes: "Local | Workers") -> None:
        """Take lanes back, unless they cannot go on."""
        if lanes.usable:
            self.unused[num_lanes].append(lanes)


class Episode:
    """A handle on running lanes: stepping changes it in place."""

    def __init__(self, pool: Pool, tasks: list[Any], seeds: list[int]) -> None:
        num_lanes = len(tasks)
        self.lanes = pool.take(num_lanes)
        self.obs = self.lanes.reset(tasks, seeds)
        self.running = np.ones(num_lanes, bool)  # it has ended in no way yet
        self.clock = 0
        weakref.finalize(self, pool.give_back, num_lanes, self.lanes).atexit = False


class PythonEnvs(AbstractEnvs):
    """`B` Python objects, one task each.

    `draw(split, num_tasks, noise)` gives tasks. A lane whose episode has ended is stepped no more:
    until its slot is over it repeats its last observation, with reward 0 and `terminated` True.
    What a lane draws, it draws from the seed that comes of its own key. `obs_names` says what each
    number of an observation is. Raises `TrmrlError` when an episode ends before its slot is over
    though `spec.ends_early` is False.
    """

    driver: ClassVar[Driver] = HOST
    spec: EnvSpec = eqx.field(static=True)
    pool: Pool = eqx.field(static=True)
    draw: Callable[[str, int, np.random.Generator], Task] = eqx.field(static=True)
    obs_names: tuple[str, ...] = eqx.field(static=True, default=())

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Task:
        """Draw tasks of a split: their numbers in 32 bits, as learning has them."""
        self.spec.check_split(split)
        noise = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        tasks = jax.tree.map(_in_32_bits, self.draw(split, num_tasks, noise))
        if any(leaf.shape[:1] != (num_tasks,) for leaf in jax.tree.leaves(tasks)):
            raise TrmrlError(f"{self.spec.name}: tasks need a leading axis of {num_tasks}")
        return tasks

    def reset(self, tasks: Task, *, key: LaneKeys) -> tuple[Episode, Float[np.ndarray, "B D"]]:
        """Begin an episode of each task."""
        leaves, treedef = jax.tree.flatten(jax.tree.map(np.asarray, tasks))
        rows = [treedef.unflatten(row) for row in zip(*leaves, strict=True)]
        # 31 bits: the seeds that every library takes.
        words = [np.random.SeedSequence(word) for word in np.asarray(jax.random.key_data(key))]
        seeds = [int(word.generate_state(1)[0] >> 1) for word in words]
        episode = Episode(self.pool, rows, seeds)
        return episode, episode.obs

    def step(self, env_state: Episode, action: Array) -> tuple[Episode, Outcome]:
        """Answer one action per lane."""
        spec, running = self.spec, env_state.running
        env_state.clock += 1
        answers = env_state.lanes.step(np.asarray(action), running)
        env_state.obs, reward, terminated, cut, success = answers
        last = env_state.clock >= spec.horizon
        if not (spec.ends_early or last) and (terminated | cut).any():
            lane = int((terminated | cut).argmax())
            raise TrmrlError(
                f"{spec.name}: lane {lane} ended at step {env_state.clock} of {spec.horizon}, "
                "expected only where ends_early is True"
            )
        terminated |= ~running
        truncated = ~terminated & (cut | last)
        env_state.running = ~(terminated | truncated)
        return env_state, Outcome(
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            next_obs=env_state.obs,
            success=success if spec.has_success else None,
        )

    def view(self, env_state: Episode) -> Float[np.ndarray, "B D"]:
        """Return what the lanes observe; `obs_names` are the columns."""
        return env_state.obs


def _in_32_bits(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    short = {"f": np.float32, "i": np.int32, "u": np.int32}
    return leaf.astype(short.get(leaf.dtype.kind, leaf.dtype))
