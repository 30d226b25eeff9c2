"""Lanes of one scene that step together: physics by `mujoco.batch`, rewards all at once."""
# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)

import functools
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Bool, Float
from mujoco.batch import Batch

from trmrl.envs.metaworld import _install
from trmrl.envs.metaworld._original import MOVED, NOW, READ, Scene
from trmrl.envs.metaworld._translate import translate_class, translate_functions
from trmrl.envs.mujoco._batch import usable_cores
from trmrl.types import TrmrlError

OBS_SIZE = 39  # now, one step before, and the goal's place, which is zero
FRAME_SKIP = 5
_MAX_UNUSED = 2  # training and an evaluation beside it
_FIELDS_OF = {"body": "", "site": "site_", "geom": "geom_"}
_POSITIONS = mujoco.mjtStage.mjSTAGE_POS.value
_QUATERNION = (1.0, 0.0, 1.0, 0.0)  # of the hand, always
PerLane = Float[np.ndarray, " B"]
_METHODS = {"evaluate_state", "_get_pos_objects", "_get_quat_objects"}


class _Data:
    """What the originals read of `MjData`, lanes last; the arrays are the simulation's own."""

    def __init__(self, model: Any, fields: dict[str, np.ndarray]) -> None:
        self._model, self._fields = model, fields
        self._found: dict[tuple[str, str], SimpleNamespace] = {}

    def _find(self, kind: str, name: str) -> SimpleNamespace:
        found = self._found.get((kind, name))
        if found is None:
            number, prefix = getattr(self._model, kind)(name).id, _FIELDS_OF[kind]
            views = {
                field.removeprefix(prefix): self._fields[field][:, number].T
                for field in READ
                if field.startswith(f"{prefix}x")
            }
            found = self._found[kind, name] = SimpleNamespace(id=number, **views)
        return found

    def body(self, name: str) -> SimpleNamespace:
        return self._find("body", name)

    def site(self, name: str) -> SimpleNamespace:
        return self._find("site", name)

    def geom(self, name: str) -> SimpleNamespace:
        return self._find("geom", name)

    def joint(self, name: str) -> SimpleNamespace:
        """A joint of one degree of freedom; its `qpos` is `[B]`."""
        return SimpleNamespace(qpos=self._fields["qpos"][:, self._model.joint(name).qposadr[0]])


class Rewards:
    """Stands for `self` of every lane in methods of the originals over lanes."""

    def __init__(self, original: Any, data: _Data, touches: Callable[[int], np.ndarray]) -> None:
        self._original, self.data, self._touches = original, data, touches

    def __getattr__(self, name: str) -> Any:
        value = vars(self._original).get(name, ...)
        if isinstance(value, str | bool | int | None):
            return value
        raise AttributeError(f"{name} of Meta-World's environments differs between lanes")

    def get_body_com(self, name: str) -> Float[np.ndarray, "3 B"]:
        return self.data.body(name).xpos

    def touching_object(self, geom: int) -> Bool[np.ndarray, " B"]:
        return self._touches(geom)


@functools.lru_cache(maxsize=256)
def _unused(scene: str, num_lanes: int, num_threads: int) -> list["Lanes"]:
    """Lanes of that kind and size that nobody uses; the cache bounds how many kinds wait."""
    return []


def borrow_lanes(scene: Scene, num_lanes: int, num_threads: int | None, holder: Any) -> "Lanes":
    """Return lanes that nobody else has until `holder` is garbage: making them takes a while.

    `num_threads` None is as many as usable cores.
    """
    threads = min(num_threads or usable_cores(), num_lanes)
    unused = _unused(scene.name, num_lanes, threads)
    lanes = unused.pop() if unused else Lanes(scene, num_lanes, threads)
    weakref.finalize(holder, _give_back, unused, lanes).atexit = False
    return lanes


def _give_back(unused: list["Lanes"], lanes: "Lanes") -> None:
    if len(unused) < _MAX_UNUSED:
        unused.append(lanes)


@functools.cache
def _translated(cls: type) -> type:
    functions = translate_functions(_install.load("metaworld.utils.reward_utils"))
    names = {"reward_utils": functions, **vars(functions)}
    stop = next(base for base in cls.__mro__ if not base.__module__.startswith("metaworld."))
    return translate_class(cls, Rewards, stop, _METHODS, names)


class Lanes:
    """`B` lanes of a scene on `num_threads` threads. Call `reset` first."""

    def __init__(self, scene: Scene, num_lanes: int, num_threads: int) -> None:
        self.scene, model = scene, scene.model
        batch = self._batch = Batch(model, num_lanes, num_threads)
        self._state, self._warning, self.qpos = batch.state, batch.warning, batch.bind("qpos")
        self._mocap_pos, self._mocap_quat = batch.bind("mocap_pos"), batch.bind("mocap_quat")
        self._ctrl = batch.bind("ctrl")
        self._moved = {field: batch.expand(field) for field in MOVED}
        self._fields = {field: batch.bind(field) for field in READ}
        data = _Data(model, self._fields)
        self._data = data
        fingers = data.body("rightclaw").xpos, data.body("leftclaw").xpos
        self._hand, self._fingers = data.body("hand").xpos, fingers
        original = scene.original
        self._scale = float(original.action_scale)
        self._reach = original.mocap_low.copy(), original.mocap_high.copy()
        hand = original._HAND_SPACE
        self._hand_box = hand.low[:, None].copy(), hand.high[:, None].copy()

    def reset(self, layouts: Float[np.ndarray, "B V"]) -> Float[np.ndarray, "B 39"]:
        """Begin an episode of each layout's task; returns the first observations."""
        scene = self.scene
        starts = np.stack([scene.start(layout.tobytes()) for layout in layouts])
        parts = scene.split(starts)
        self._state[:] = parts.pop("state")
        self._warning[:] = 0
        for field, value in self._moved.items():
            value[:] = parts.pop(field)
        self._batch.forward(stage=_POSITIONS)  # goals may be where the simulation has something
        self._before = np.ascontiguousarray(parts.pop("observed").T)
        # An episode's own: some originals remember things from step to step.
        rewards = _translated(scene.cls)(scene.original, self._data, self._touching)
        for name, value in parts.items():
            setattr(rewards, name, np.ascontiguousarray(np.moveaxis(value, 0, -1)))
        for name, (field, row) in scene.views.items():
            setattr(rewards, name, self._fields[field][:, row].T)
        self._rewards = rewards
        self._goal = rewards._target_pos.T
        obs = np.zeros((OBS_SIZE, len(layouts)))
        obs[:NOW] = obs[NOW : 2 * NOW] = self._before
        return obs.T

    def view(self) -> dict[str, np.ndarray]:
        """Return copies of what places everything: `qpos [B, Q]`, `body_pos [B, N, 3]`, `goal`.

        Where bodies are in their parents may differ between tasks; the goal is `[B, 3]`. Meters.
        """
        places = {"qpos": self.qpos, "body_pos": self._moved["body_pos"], "goal": self._goal}
        return {name: value.copy() for name, value in places.items()}

    def step(
        self, action: Float[np.ndarray, "B 4"], lanes: Bool[np.ndarray, " B"] | None = None
    ) -> tuple[Float[np.ndarray, "B 39"], PerLane, Bool[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Return observations, rewards, marks of success, and which lanes diverged.

        Only `lanes` (None: all) move. One has diverged if MuJoCo warned of it or its state is not
        finite: it is left where it was before. Actions are clipped to [-1, 1]; raises `TrmrlError`
        naming the first lane whose action is not a number.
        """
        if not np.isfinite(action).all():
            lane = int(np.argmin(np.isfinite(action).all(axis=1)))
            raise TrmrlError(f"{self.scene.name}: the action of lane {lane} is not a number")
        action = np.clip(action.astype(np.float64), -1.0, 1.0)
        before = self._state.copy()
        moved = self._mocap_pos[:, 0] + self._scale * action[:, :3]
        self._mocap_pos[:, 0] = np.clip(moved, *self._reach)
        self._mocap_quat[:, 0] = _QUATERNION
        self._ctrl[:, 0], self._ctrl[:, 1] = action[:, 3], -action[:, 3]
        # Rewards read positions after the step: `mj_step` leaves those before its last substep.
        self._batch.step(lanes, nstep=FRAME_SKIP, stage=_POSITIONS)
        diverged = self._warning[:, :, 1].any(axis=1) | ~np.isfinite(self._state).all(axis=1)
        if diverged.any():
            self._state[diverged] = before[diverged]
            self._batch.forward(diverged, stage=_POSITIONS)
            self._warning[diverged] = 0
        with np.errstate(all="ignore"):  # of branches that a lane does not take
            obs = self._observe()
            reward, marks = self._rewards.evaluate_state(obs, action.T)
        num_lanes = len(action)
        success = np.broadcast_to(marks["success"], (num_lanes,)).astype(bool)
        return obs.T, np.broadcast_to(reward, (num_lanes,)), success, diverged

    def _observe(self) -> Float[np.ndarray, "39 B"]:
        obs = np.zeros((OBS_SIZE, len(self._state)))
        obs[:3] = self._hand
        gap = self._fingers[0] - self._fingers[1]
        obs[3] = np.clip(np.sqrt((gap * gap).sum(axis=0)) / 0.1, 0.0, 1.0)
        place, turn = self._rewards._get_pos_objects(), self._rewards._get_quat_objects()
        for i in range(len(place) // 3):
            first = 4 + 7 * i
            obs[first : first + 3] = place[3 * i : 3 * i + 3]
            obs[first + 3 : first + 7] = turn[4 * i : 4 * i + 4]
        obs[NOW : 2 * NOW], self._before = self._before, obs[:NOW].copy()
        for first in (0, NOW):
            np.clip(obs[first : first + 3], *self._hand_box, out=obs[first : first + 3])
        return obs

    def _touching(self, geom: int) -> Bool[np.ndarray, " B"]:
        """Return whether both fingers press on a geom, by forces that `mujoco.batch` has not."""
        original = self.scene.original
        touching = np.zeros(len(self._state), bool)
        for lane in range(len(touching)):
            self._batch.get_model(lane, original.model)
            self._batch.get_data(lane, original.data)
            mujoco.mj_forward(original.model, original.data)
            touching[lane] = original.touching_object(geom)
        return touching
