"""Meta-World's benchmarks of meta-learning: which tasks, and how `B` of them step together."""

import difflib
import functools
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from trmrl.envs.base import HOST, AbstractEnvs, Driver
from trmrl.envs.finite import draw_rows
from trmrl.envs.metaworld import _install
from trmrl.envs.metaworld._figure import TableFigure
from trmrl.envs.metaworld._lanes import FRAME_SKIP, OBS_SIZE, Lanes, borrow_lanes
from trmrl.envs.metaworld._original import load_scene
from trmrl.envs.metaworld.splits import (
    NUM_GOALS,
    TASK_SEED,
    draw_goals,
    num_numbers,
    scenes_of,
    swap_goals,
)
from trmrl.envs.mujoco._batch import check_diverged
from trmrl.types import (
    Array,
    Continuous,
    EnvSpec,
    LaneKeys,
    Outcome,
    PRNGKey,
    Task,
    TrmrlError,
)

_MAX_HORIZON = 500  # the original's own

Tasks = dict[str, np.ndarray]  # scene [B], its number in the package; layout [B, V], meters
Groups = list[tuple[Int[np.ndarray, " N"], Lanes]]  # of each scene: which lanes, and they


@dataclass
class Episode:
    """A handle on running simulations: stepping changes it in place."""

    groups: Groups
    diverged: Bool[np.ndarray, " B"]  # its simulation has: it is stepped no more
    elapsed: int = 0  # steps; the simulation's clock does not begin at zero


class MetaWorldEnvs(AbstractEnvs):
    """`B` lanes of Meta-World's tasks, those of a scene stepped at once.

    Splits: "train" and "test" are the benchmark's own, `NUM_GOALS` layouts of each scene in `train`
    and in `test`, drawn there with `TASK_SEED` and `test_seed`; "fresh" draws new layouts of the
    train scenes from the box that those are from. "swapped", in worlds of one scene, has its train
    layouts with goals moved on from object to object: an agent that found the goal by where the
    object lies fails there. `num_threads` None takes every usable core.

    A lane whose simulation diverges terminates as in locomotion (`MujocoEnvs`).
    """

    driver: ClassVar[Driver] = HOST
    spec: EnvSpec = eqx.field(static=True)
    train: tuple[str, ...] = eqx.field(static=True)
    test: tuple[str, ...] = eqx.field(static=True)
    test_seed: int = eqx.field(static=True)
    num_threads: int | None = eqx.field(static=True, default=None)

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Task:
        """Draw tasks of a split; `TrmrlError` on one that `spec.splits` does not have.

        Each scene is drawn as often as every other, give or take one, and so is each of its goals.
        """
        self.spec.check_split(split)
        names = self.test if split == "test" else self.train
        scene_key, goal_key = jax.random.split(key)
        drawn = np.asarray(draw_rows(len(names), num_tasks, key=scene_key))
        layout = np.zeros((num_tasks, num_numbers(self.train + self.test)))
        for i, name in enumerate(names):
            lanes = np.flatnonzero(drawn == i)
            if not len(lanes):
                continue
            chosen = self._draw(split, name, len(lanes), jax.random.fold_in(goal_key, i))
            layout[lanes, : chosen.shape[1]] = chosen
        return {"scene": _numbers(names)[drawn], "layout": layout}

    def _draw(
        self, split: str, name: str, num_tasks: int, key: PRNGKey
    ) -> Float[np.ndarray, "N V"]:
        if split == "fresh":
            uniform = np.random.default_rng(np.asarray(jax.random.key_data(key))).uniform
            return np.stack([load_scene(name).draw(uniform) for _ in range(num_tasks)])
        if split == "swapped":
            goals = swap_goals(name, TASK_SEED)
        elif split == "train":
            goals = draw_goals(self.train, TASK_SEED)[name]
        else:
            goals = draw_goals(self.test, self.test_seed)[name]
        return goals[np.asarray(draw_rows(len(goals), num_tasks, key=key))]

    def reset(self, tasks: Task, *, key: LaneKeys) -> tuple[Episode, Float[np.ndarray, "B 39"]]:
        """Begin an episode of each task, always in the same state; `key` is not used."""
        del key
        scene, layout = np.asarray(tasks["scene"]), np.asarray(tasks["layout"], np.float64)
        names = scene_names()
        obs = np.empty((len(scene), OBS_SIZE), np.float32)
        episode = Episode([], np.zeros(len(scene), bool))
        for number in np.unique(scene):
            loaded = load_scene(names[number])
            which = np.flatnonzero(scene == number)
            lanes = borrow_lanes(loaded, len(which), self.num_threads, episode)
            obs[which] = lanes.reset(np.ascontiguousarray(layout[which, : len(loaded.low)]))
            episode.groups.append((which, lanes))
        return episode, obs

    def step(self, env_state: Episode, action: Float[Array, "B 4"]) -> tuple[Episode, Outcome]:
        """Answer one action per lane, clipped to [-1, 1]; an episode takes its whole slot.

        Raises `TrmrlError` on an action that is not a number, and where too many lanes diverge.
        """
        action = np.asarray(action)
        num_lanes = len(action)
        obs, reward = np.empty((num_lanes, OBS_SIZE), np.float32), np.empty(num_lanes, np.float32)
        success, diverged = np.empty(num_lanes, bool), np.empty(num_lanes, bool)
        running = ~env_state.diverged
        for which, lanes in env_state.groups:
            moves = None if running[which].all() else running[which]
            stepped = lanes.step(action[which], moves)
            obs[which], reward[which], success[which], diverged[which] = stepped
        env_state.elapsed += 1
        if diverged.any():
            env_state.diverged |= diverged
            check_diverged(self.spec.name, env_state.diverged)
        ended = env_state.diverged
        outcome = Outcome(
            reward=np.where(ended, np.float32(0), reward),
            terminated=ended.copy(),
            truncated=~ended & (env_state.elapsed >= self.spec.horizon),
            next_obs=obs,
            success=success & ~ended,
            diverged=diverged,
        )
        return env_state, outcome

    @property
    def step_seconds(self) -> float:
        """How long a step is, in the world's time."""
        return FRAME_SKIP * load_scene(self.train[0]).model.opt.timestep

    def figure(self) -> TableFigure:
        """Return what the scenes look like; `view` is what they are placed by."""
        return TableFigure(scene_names())

    def view(self, env_state: Episode) -> dict[str, np.ndarray]:
        """Return `scene [B]`, its number in the package, and copies of what `Lanes.view` has.

        Behind that of scenes with fewer joints or bodies stand zeros.
        """
        groups = env_state.groups
        views = [lanes.view() for _, lanes in groups]
        num_lanes = sum(len(which) for which, _ in groups)
        found: dict[str, np.ndarray] = {"scene": np.zeros(num_lanes, np.int32)}
        for name in views[0]:
            shape = np.max([view[name].shape[1:] for view in views], axis=0)
            found[name] = np.zeros((num_lanes, *shape))
        for (which, lanes), view in zip(groups, views, strict=True):
            found["scene"][which] = scene_names().index(lanes.scene.name)
            for name, value in view.items():
                found[name][(which, *map(slice, value.shape[1:]))] = value
        return found


@functools.cache
def scene_names() -> tuple[str, ...]:
    """Return the package's names of its scenes, by their numbers in tasks."""
    return tuple(_install.load().ALL_V3_ENVIRONMENTS)


def script_of(scene: str) -> Any:
    """Return the package's own policy for a scene: `get_action(obs)`, the goal being shown."""
    return _install.load("metaworld.policies").ENV_POLICY_MAP[scene]()


def _numbers(names: tuple[str, ...]) -> Int[np.ndarray, " N"]:
    return np.asarray([scene_names().index(name) for name in names], np.int32)


def ml1(name: str, task: str, horizon: int) -> MetaWorldEnvs:
    """Return the worlds of one scene, `task` without its version: 50 train and 50 test goals."""
    known = [scene.removesuffix("-v3") for scene in scene_names()]
    if task not in known:
        near = difflib.get_close_matches(task, known, n=3, cutoff=0.4) or known
        names = ", ".join(f"ml1-{task}" for task in near)
        raise TrmrlError(f"unknown env {name!r}: did you mean {names}?")
    scenes = (f"{task}-v3",)
    splits = ("train", "test", "fresh")
    if len(swap_goals(scenes[0], TASK_SEED)):
        splits = (*splits, "swapped")
    summary = f"Meta-World's {task}, its goal hidden: {NUM_GOALS} train and {NUM_GOALS} test goals"
    spec = _spec(name, horizon, splits, summary)
    return MetaWorldEnvs(spec, scenes, scenes, TASK_SEED + 1)


def ml_many(name: str, benchmark: str, horizon: int) -> MetaWorldEnvs:
    """Return the worlds of "ML10", "ML25" or "ML45": 50 goals of each scene, others to test on."""
    train, test = (scenes_of(benchmark, split) for split in ("train", "test"))
    summary = (
        f"Meta-World's {benchmark}: {len(train)} train and {len(test)} test tasks, goals hidden"
    )
    spec = _spec(name, horizon, ("train", "test", "fresh"), summary)
    return MetaWorldEnvs(spec, train, test, TASK_SEED)


def _spec(name: str, horizon: int, splits: tuple[str, ...], summary: str) -> EnvSpec:
    return EnvSpec(
        name=name,
        family="manipulation",
        obs_size=OBS_SIZE,
        action_space=Continuous(4),
        horizon=horizon,
        num_episodes=2,
        splits=splits,
        summary=summary,
        has_success=True,
    )


_PATTERN = re.compile(r"(ml10|ml25|ml45|ml1-([a-z-]+?))(?:-h([1-9]\d*))?")


def make(name: str) -> MetaWorldEnvs:
    """Return worlds by name, `-hN` behind it for episodes of N steps rather than 500.

    Raises `TrmrlError` on an unknown name, on a horizon beyond 500, and where `metaworld` is not
    installed.
    """
    match = _PATTERN.fullmatch(name)
    if match is None:
        raise TrmrlError(f"unknown env {name!r}: expected ml1-TASK, ml10, ml25 or ml45, then -hN")
    which, task, steps = match.groups()
    horizon = int(steps or _MAX_HORIZON)
    if horizon > _MAX_HORIZON:
        raise TrmrlError(f"{name}: a horizon of {horizon}, expected 1 to {_MAX_HORIZON}")
    if task:
        return ml1(name, task, horizon)
    return ml_many(name, which.upper(), horizon)
