"""Many simulations of one MuJoCo model, stepped on a thread pool: reset, step, save and restore.

Observations, rewards and tasks are the robots' (`_family.py`, and one file per robot).
"""
# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)

import functools
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from importlib import resources

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int
from mujoco.batch import Batch

from trmrl.types import Array, TrmrlError

_NO_STAGE = mujoco.mjtStage.mjSTAGE_NONE.value
_BAD_CTRL = mujoco.mjtWarning.mjWARN_BADCTRL.value
_MAX_UNUSED = 2  # training and an evaluation beside it
# Of the lanes of an episode, the share that may diverge (and one lane always may). A few are the
# simulator's failures. Of more, scores would mean little: an early end spares a lane what is left
# of a negative reward, so an agent could even learn to break the simulation.
MAX_DIVERGED = 0.1

Factors = Mapping[str, Float[np.ndarray, "B ..."]]


def no_factors(model: mujoco.MjModel) -> Factors:
    """Return that nothing is scaled: every lane is the model as it is."""
    del model
    return {}


@functools.lru_cache(maxsize=16)
def load_model(file: str) -> mujoco.MjModel:
    """Compile the MJCF `file` of this folder; every caller shares the one model."""
    xml = resources.files("trmrl.envs.mujoco").joinpath(file).read_text(encoding="utf-8")
    model = mujoco.MjModel.from_xml_string(xml)
    # One robot is one island: looking for islands costs 7 % and changes no bit of the result.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND.value
    return model


def usable_cores() -> int:
    """Return the number of cores this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.lru_cache(maxsize=8)
def _unused(file: str, num_lanes: int, num_threads: int, scaled: tuple[str, ...]) -> list[Batch]:
    """Simulations of that kind and size that nobody uses; the cache bounds how many kinds wait."""
    return []


def check_diverged(name: str, diverged: Bool[np.ndarray, " B"]) -> None:
    """Raise `TrmrlError` if more than one lane and more than `MAX_DIVERGED` of all have diverged.

    `diverged` is of an episode so far.
    """
    total, num_lanes = int(diverged.sum()), len(diverged)
    if total > max(1, MAX_DIVERGED * num_lanes):
        raise TrmrlError(
            f"{name}: {total} of {num_lanes} lanes diverged in one episode, "
            f"expected at most {MAX_DIVERGED:.0%}"
        )


class Lanes:
    """`B` simulations of one model; a mutable handle, all of whose state is `save()`'s array.

    The arrays `qpos` `[B, nq]`, `qvel` `[B, nv]` (SI units, float64) and `time` `[B]` (seconds
    since the lane's reset) are MuJoCo's own: every call overwrites them. Simulations and their
    threads are reused: they go back to a pool when the handle is garbage, so no two handles ever
    share them.

    `computed` names fields of `MjData` that MuJoCo computes, likewise its own arrays `[B, ...]`, in
    the dict of that name: current after `reset`, after `step` as `mj_step` leaves them (one substep
    late, or at the last stage of RK4), and stale after `restore` until the next step.

    `factors(model)` maps fields of `MjModel` to what multiplies them in each lane, broadcast to
    `[B, *field.shape]`; constants that MuJoCo derives follow.

    `num_threads` defaults to the usable cores, and is never more than `num_lanes`. Raises
    `TrmrlError` if it is less than 1. Call `reset` first.
    """

    def __init__(
        self,
        name: str,
        file: str,
        num_lanes: int,
        frame_skip: int,
        num_threads: int | None = None,
        computed: tuple[str, ...] = (),
        factors: Callable[[mujoco.MjModel], Factors] = no_factors,
    ) -> None:
        if num_threads is not None and num_threads < 1:
            raise TrmrlError(f"{name}: num_threads is {num_threads}, expected 1 or more")
        num_threads = min(num_threads or usable_cores(), num_lanes)
        self.model = load_model(file)
        self.dt = frame_skip * self.model.opt.timestep
        scaled = factors(self.model)
        unused = _unused(file, num_lanes, num_threads, tuple(sorted(scaled)))
        try:
            batch = unused.pop()
        except IndexError:
            batch = Batch(self.model, num_lanes, num_threads)
        weakref.finalize(self, _give_back, unused, batch).atexit = False
        self._name, self._frame_skip, self._batch = name, frame_skip, batch
        self._state, self._warning = batch.state, batch.warning
        self.time, self._ctrl = batch.bind("time"), batch.bind("ctrl")
        self.qpos, self.qvel = batch.bind("qpos"), batch.bind("qvel")
        # Computed fields read zero if bound after the call.
        self.computed = {field: batch.bind(field) for field in computed}
        self.scale(scaled)

    def scale(self, factors: Factors) -> None:
        """Replace the factors by others on the same fields; no bit of any state changes."""
        for field, factor in factors.items():
            self._batch.expand(field)[:] = getattr(self.model, field) * factor
        if factors:
            self._batch.set_const()

    def elapsed(self) -> Int[np.ndarray, " B"]:
        """Return how many steps each lane has taken since its reset."""
        return np.rint(self.time / self.dt).astype(np.int32)

    def reset(
        self, qpos_noise: Float[np.ndarray, "B nq"], qvel_noise: Float[np.ndarray, "B nv"]
    ) -> None:
        """Put all lanes at the model's initial state plus noise, all fields current."""
        self._batch.reset(stage=_NO_STAGE)
        self.qpos[:] += qpos_noise
        self.qvel[:] += qvel_noise
        self._batch.forward()

    def step(
        self, control: Float[Array, "B nu"], lanes: Bool[np.ndarray, " B"] | None = None
    ) -> Bool[np.ndarray, " B"]:
        """Hold `control` for `frame_skip` substeps; MuJoCo clips it to the actuators' range.

        Only `lanes` (None: all) move; the state of the others stays as it is. Returns which lanes
        diverged: MuJoCo warned of them, or their state holds a number that it would warn of (not
        finite, or beyond `mjMAXVAL`). They are left where they were before, all fields current.
        Raises `TrmrlError` naming the lane whose action is not a number.
        """
        moved = np.ones(len(self.time), bool) if lanes is None else lanes
        before = self.save()
        self._ctrl[:] = control
        self._batch.step(lanes, nstep=self._frame_skip)
        # MuJoCo resets a diverged lane silently and goes on: its counters show it. What the last
        # substep broke it would find only in the next call.
        warned = self._warning[:, :, 1] > 0
        if warned[:, _BAD_CTRL].any():
            lane = warned[:, _BAD_CTRL].argmax()
            raise TrmrlError(f"{self._name}: the action of lane {lane} is not a number")
        sound = (np.abs(self._state) <= mujoco.mjMAXVAL).all(axis=1)
        diverged = moved & (warned.any(axis=1) | ~sound)
        if diverged.any():
            self._state[diverged] = before[diverged]
            self._batch.forward(diverged)
            self._warning[diverged] = 0
        return diverged

    def save(self) -> Float[np.ndarray, "B S"]:
        """Return a copy of the exact state, solver warm start included."""
        return self._state.copy()

    def restore(self, saved: Float[np.ndarray, "B S"]) -> None:
        """Go back to what `save` returned; the steps that follow repeat bit for bit."""
        self._state[:] = saved
        # A step leaves no counter raised, so none was when this was saved.
        self._warning[:] = 0


def _give_back(unused: list[Batch], batch: Batch) -> None:
    if len(unused) < _MAX_UNUSED:
        unused.append(batch)
