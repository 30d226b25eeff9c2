"""Which known tasks an agent's memory is nearest to: a line, and a picture of a map."""

from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from trmrl.analyze.subject import differing_numbers
from trmrl.envs.base import task_rows
from trmrl.types import TrmrlError
from trmrl.watch.drawing import AGENT, GOAL, INK, THINGS, Canvas, describe
from trmrl.watch.session import Session

NUM_TASKS = 60  # on the map
NUM_NAMED = 3  # nearest tasks, in words and ringed on the map
SIZE = (320, 240)
MARGIN = 1.6  # by which the picture is wider than the tasks: a moment's memory is less regular
RAMP = np.array([AGENT, GOAL, THINGS[3]])  # of the task's first number, from least to greatest


class NearestTasks:
    """A session's memory among those of reference tasks. Making it plays a trial on each of them.

    Raises `TrmrlError` as `Session.map_memories`.
    """

    def __init__(self, session: Session, num_tasks: int = NUM_TASKS) -> None:
        self._session, self._map = session, session.map_memories(num_tasks)
        self._plane = self._map.place(self._map.memory)
        rows = task_rows(self._map.tasks)
        varies = [name for name in rows[0] if any(row[name] != rows[0][name] for row in rows)]
        named = [describe({name: row[name] for name in varies}) for row in rows]
        self._names = [name or f"number {i}" for i, name in enumerate(named, start=1)]

    def line(self) -> str:
        """Return the names of the nearest tasks; empty before the trial's first step."""
        memory = self._session.memory()
        if memory is None:
            return ""
        return "nearest tasks: " + "; ".join(
            self._names[i] for i in self._map.nearest(memory, NUM_NAMED)
        )

    def picture(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return the map: a disc for each task, the nearest ringed, and the memory of this moment.

        Colors are by the first number that differs between tasks. A memory beyond an edge is drawn
        there.
        """
        canvas, size = Canvas(*SIZE), np.array(SIZE)
        low, high = self._plane.min(axis=0), self._plane.max(axis=0)
        pixel = max(((high - low) / size).max(), 1e-9) * MARGIN  # in units of the plane
        middle, half = (low + high) / 2, pixel * size / 2
        canvas.frame(middle - half, middle + half)
        label, share, ends = self._shares()
        for at, part in zip(self._plane, share[:-1], strict=True):
            canvas.disc(at, 4.0 * pixel, _color(part))
        memory = self._session.memory()
        if memory is not None:
            for i in self._map.nearest(memory, NUM_NAMED):
                canvas.disc(self._plane[i], 6.5 * pixel, None, INK)
            at = middle + np.clip(self._map.place(memory) - middle, -0.96 * half, 0.96 * half)
            canvas.disc(at, 8.0 * pixel, _color(share[-1]), INK)
        for side, part in ((-0.6, 0.0), (0.6, 1.0)):
            text = f"{label} {ends[int(part)]:.3g}"
            canvas.write(middle + half * [side, 0.92], text, color=_color(part))
        return canvas.pixels()

    def _shares(self) -> tuple[str, np.ndarray, tuple[float, float]]:
        """Return what colors say: its name, the share [0, 1] of each task and the hidden one, ends.

        The hidden task's is the last; where it is beyond the others, their end stands for it.
        """
        joined = jax.tree.map(
            lambda x, y: np.concatenate([x, np.asarray(y)]), self._map.tasks, self._session.task
        )
        label = next(iter(differing_numbers(self._map.tasks)))
        value = differing_numbers(joined)[label]
        low, high = value[:-1].min(), value[:-1].max()
        share = (value - low) / max(high - low, np.finfo(float).tiny)
        return label, np.clip(share, 0.0, 1.0), (float(low), float(high))


class MapPanel:
    """Which tasks a session's memory is nearest to, while its box is ticked.

    It is made at the first tick, and meanwhile the page stands still: worlds need not be fit to
    be played in by two threads at once.
    """

    def __init__(self, gui: Any, session: Session) -> None:
        self._gui, self._session = gui, session
        hint = f"plays a trial on each of {NUM_TASKS} tasks first"
        self.box = gui.add_checkbox(f"what {session.name} remembers", False, hint=hint)
        self._folder = gui.add_folder(None, visible=False)
        with self._folder:
            self._text = gui.add_markdown("")
        self._nearest: NearestTasks | None = None
        self._image: Any = None

    def toggle(self) -> None:
        """Follow the box."""
        self._folder.visible = self.box.value
        if self.box.value and self._nearest is None:
            self._text.content = f"playing a trial on each of {NUM_TASKS} tasks ..."
            try:
                self._nearest = NearestTasks(self._session)
            except TrmrlError as error:
                self._text.content = str(error)
        self.update()

    def update(self) -> None:
        """Bring the panel up to date, if it is open."""
        if self._nearest is None or not self.box.value:
            return
        self._text.content = self._nearest.line()
        picture = self._nearest.picture()
        if self._image is None:
            with self._folder:
                self._image = self._gui.add_image(picture)
        else:
            self._image.image = picture


def _color(share: float) -> tuple[int, int, int]:
    place = np.linspace(0.0, 1.0, len(RAMP))
    red, green, blue = (int(np.interp(share, place, part)) for part in RAMP.T)
    return red, green, blue
