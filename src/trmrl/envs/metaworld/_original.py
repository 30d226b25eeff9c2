"""One of Meta-World's tasks as its original class has it: its scene, its goals, its starts.

Where episodes start is found by the original's own reset, once for each task; stepping is in
`_lanes.py`.
"""
# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from trmrl.envs.metaworld import _install
from trmrl.types import TrmrlError

NOW = 18  # numbers of one moment in an observation
MOVED = ("body_pos", "site_pos")  # fields of the model that a task may change
READ = ("xpos", "xquat", "xmat", "site_xpos", "site_xmat", "geom_xpos", "geom_xmat", "qpos")
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value
_WELD = (0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5)  # of the hand to the body that actions move
_MAX_ATTRIBUTE = 9  # numbers; what is larger are observations and states
_MAX_STARTS = 4096  # remembered per scene, 10 KB each

Layout = Float[np.ndarray, " V"]  # what differs between a scene's tasks, in meters
Start = Float[np.ndarray, " R"]
State = Float[np.ndarray, " S"]  # all that the simulation goes on from


def _state_of(model: mujoco.MjModel, data: mujoco.MjData) -> State:
    state = np.empty(mujoco.mj_stateSize(model, _STATE))
    mujoco.mj_getState(model, data, state, _STATE)
    return state


def _load_model(path: str) -> mujoco.MjModel:
    """Compile a scene without what is only drawn, which takes most of the memory.

    Rewards may read a geom by its name, so those with a name are kept: an element that does nothing
    refers to them.
    """
    spec = mujoco.MjSpec.from_file(path)
    spec.compiler.discardvisual = True
    named = [geom.name for geom in spec.geoms if geom.name]
    kinds = [mujoco.mjtObj.mjOBJ_GEOM] * len(named)
    spec.add_tuple(name="named", objtype=kinds, objname=named, objprm=[0.0] * len(named))
    return spec.compile()


def _make(cls: Any) -> Any:
    """Return an environment of Meta-World on MuJoCo 4 that takes its layouts from `layouts`."""

    class Original(cls):
        layouts: Iterator[Layout] = iter(())
        simulates = True  # or it is reset for its draws alone
        # Of the first reset of the hand: all that it began with, and the state before its last
        # step. Unless a task moves bodies, every other reset begins with the same.
        settled: tuple[bytes, State] | None = None

        def _initialize_simulation(self):
            model = _load_model(self.fullpath)
            return model, mujoco.MjData(model)

        def reset_mocap_welds(self):
            welds = self.model.eq_type == mujoco.mjtEq.mjEQ_WELD.value
            self.model.eq_data[welds] = 0.0  # MuJoCo 4 has one number more than the original sets
            self.model.eq_data[welds, : len(_WELD)] = _WELD

        def _get_state_rand_vec(self):
            try:
                self._last_rand_vec = next(self.layouts)
            except StopIteration as error:
                raise TrmrlError(f"{cls.__name__} refuses the task") from error
            return self._last_rand_vec

        def _reset_hand(self, steps: int = 50):
            if not self.simulates:
                mujoco.mj_forward(self.model, self.data)
                self.init_tcp = self.tcp_center
                return
            model, data = self.model, self.data
            before = _state_of(model, data).tobytes() + model.body_pos.tobytes()
            if self.settled is not None and self.settled[0] == before:
                mujoco.mj_setState(model, data, self.settled[1], _STATE)
            else:
                cls._reset_hand(self, steps - 1)
                self.settled = self.settled or (before, _state_of(model, data))
            cls._reset_hand(self, 1)

    original = Original()
    original._set_task_called = True
    return original


class Scene:
    """A task of Meta-World by its name there, such as `reach-v3`. Make it with `load_scene`.

    `low` and `high` bound its layouts. A start is one row of numbers: `split` names its parts.
    `views` names attributes that show what the simulation computes at any time, each with the
    field of `MjData` and the row of it.
    """

    def __init__(self, name: str) -> None:
        cls = _install.load().ALL_V3_ENVIRONMENTS[name]
        self.name, self.cls, self.original = name, cls, _make(cls)
        self.model = self.original.model
        box = self.original._random_reset_space
        self.low, self.high = box.low.copy(), box.high.copy()
        self._pristine = {field: getattr(self.model, field).copy() for field in MOVED}
        self.draw(np.random.RandomState(0).uniform)  # all attributes exist after a reset
        self.views = dict(self._find_views())
        self._parts = self._list_parts()
        self.start = functools.lru_cache(_MAX_STARTS)(self._start)

    def draw(self, uniform: Callable[[Layout, Layout], Layout]) -> Layout:
        """Return the task that the original has after a reset in which it draws `uniform`.

        Two passes draw until the original takes the layout; that of the second counts.
        """
        drawn = (uniform(self.low, self.high) for _ in itertools.count())
        self._reset(drawn, simulates=False)
        return self.original._last_rand_vec.copy()

    def takes(self, layout: Layout) -> bool:
        """Return whether the original takes a layout: most want the goal to be far enough."""
        try:
            self._reset(itertools.repeat(layout, 2), simulates=False)
        except TrmrlError:
            return False
        return True

    def split(self, starts: Float[np.ndarray, "B R"]) -> dict[str, Float[np.ndarray, "B ..."]]:
        """Return the parts of some starts by name."""
        parts = {}
        first = 0
        for name, shape in self._parts.items():
            end = first + int(np.prod(shape))
            parts[name] = starts[:, first:end].reshape(len(starts), *shape)
            first = end
        return parts

    def _start(self, layout: bytes) -> Start:
        """Return the start of a layout's task; `TrmrlError` if the original refuses the layout."""
        vector = np.frombuffer(layout)
        observed = self._reset(itertools.repeat(vector, 2), simulates=True)
        original = self.original
        state = _state_of(self.model, original.data)
        moved = [getattr(self.model, field).ravel() for field in MOVED]
        values = [vars(original)[name] for name in list(self._parts)[2 + len(MOVED) :]]
        return np.concatenate([state, observed[:NOW], *moved, *map(np.ravel, values)])

    def _reset(self, layouts: Iterator[Layout], *, simulates: bool) -> Float[np.ndarray, "39"]:
        original = self.original
        original.layouts, original.simulates = layouts, simulates
        # The first of two passes runs from what was before: it must be the same every time.
        for field, value in self._pristine.items():
            getattr(self.model, field)[:] = value
        mujoco.mj_resetData(self.model, original.data)
        return original.reset()[0]

    def _attributes(self) -> Iterator[tuple[str, np.ndarray]]:
        """The numbers that the original has as attributes, by name."""
        for name, value in vars(self.original).items():
            if isinstance(value, float | np.floating | np.ndarray):
                value = np.asarray(value)
                if value.dtype.kind == "f" and value.size <= _MAX_ATTRIBUTE:
                    yield name, value

    def _find_views(self) -> Iterator[tuple[str, tuple[str, int]]]:
        for name, value in self._attributes():
            for field in READ:
                rows = getattr(self.original.data, field)
                if np.shares_memory(value, rows):
                    offset = value.ctypes.data - rows.ctypes.data
                    yield name, (field, offset // rows.strides[0])

    def _list_parts(self) -> dict[str, tuple[int, ...]]:
        parts: dict[str, tuple[int, ...]] = {
            "state": (mujoco.mj_stateSize(self.model, _STATE),),
            "observed": (NOW,),
            **{field: value.shape for field, value in self._pristine.items()},
        }
        named = {name: value.shape for name, value in self._attributes() if name not in self.views}
        return parts | named


@functools.cache
def load_scene(name: str) -> Scene:
    """Return a scene, of which there is one: its starts are found once in a process."""
    return Scene(name)
