"""Pictures of worlds, by software alone: no graphics card, no OpenGL.

A robot is drawn from the solids of its model, every other kind of world by its family's function;
worlds of a family without one are shown as the numbers of their view.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import ConvexHull

from trmrl.envs.base import AbstractEnvs
from trmrl.envs.recipe_room import SIZE as ROOM_SIZE
from trmrl.watch.session import Session

PAPER, INK, FAINT = (250, 249, 246), (40, 40, 40), (214, 211, 204)
AGENT, GOAL, SECOND = (0, 114, 178), (0, 158, 115), (213, 94, 0)  # Okabe and Ito (2008)
THINGS = [GOAL, SECOND, (204, 121, 167), (230, 159, 0), (86, 180, 233), (120, 60, 160)]
STRIP = 100  # steps that fit a curve of rewards before it is narrowed
FINE = 2  # pixels drawn for each one shown, along each axis


class Canvas:
    """A picture in coordinates of a world, y up, inside the rectangle given to `frame`."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self._image = Image.new("RGB", (FINE * width, FINE * height), PAPER)
        self._pen = ImageDraw.Draw(self._image)
        self.frame((0.0, 0.0), (1.0, 1.0))

    def frame(self, low: Any, high: Any) -> None:
        """Fit the rectangle between two corners (x, y) into the picture."""
        (width, height), (x, y) = self._image.size, np.subtract(high, low)
        self._scale = min(width / x, height / y)
        self._middle = np.add(low, high) / 2

    def _at(self, points: Any) -> list[tuple[float, float]]:
        offset = (np.reshape(points, (-1, 2)) - self._middle) * [self._scale, -self._scale]
        return [tuple(point) for point in offset + np.array(self._image.size) / 2]

    def polygon(self, points: Any, fill: Any, edge: Any = None) -> None:
        """Fill the polygon of some points `[N, 2]`."""
        self._pen.polygon(self._at(points), fill=fill, outline=edge, width=FINE)

    def line(self, points: Any, color: Any, width: float = 1.0) -> None:
        """Join points `[N, 2]` by a line of so many pixels."""
        self._pen.line(self._at(points), fill=color, width=round(FINE * width), joint="curve")

    def disc(self, center: Any, radius: float, fill: Any, edge: Any = None) -> None:
        """Draw a disc whose radius is in the world's units."""
        (x, y), r = self._at(center)[0], radius * self._scale
        self._pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=edge, width=FINE)

    def bar(self, low: Any, high: Any, fill: Any) -> None:
        """Fill the rectangle between two corners."""
        (left, right), (bottom, top) = zip(low, high, strict=True)
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], fill)

    def write(self, at: Any, text: str, size: int = 12, color: Any = INK) -> None:
        """Write a line of text around a point."""
        self._pen.text(self._at(at)[0], text, color, _font(FINE * size), anchor="mm")

    def caption(self, lines: list[str], size: int = 13) -> None:
        """Write lines in the upper left corner."""
        for row, text in enumerate(lines):
            at = FINE * 8, FINE * (6 + row * (size + 4))
            self._pen.text(at, text, INK, _font(FINE * size))

    def strip(self, values: list[float], color: Any = AGENT, share: float = 0.16) -> None:
        """Draw a curve, each value as far along as it stands in the list, along the lower edge."""
        width, height = self._image.size
        low, high = min(values), max(values)
        y = height * (1.0 - share * (np.array(values) - low) / max(high - low, 1e-9)) - 4 * FINE
        x = np.arange(len(values)) * (width / max(len(values), STRIP))
        points = list(zip(x.tolist(), (y - 2 * FINE).tolist(), strict=True))
        self._pen.line(points, fill=color, width=FINE + 1, joint="curve")

    def pixels(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return the picture."""
        return np.asarray(self._image.resize(self.size, Image.Resampling.BOX))


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


@dataclass(frozen=True)
class Drawing:
    """How worlds are shown: what paints a session's moment, and at how many steps a second."""

    paint: Callable[[Canvas, Session], None]
    rate: float
    readings: Callable[[Session], dict[str, float]] = lambda session: {}  # what a caption adds
    figure: Any = None  # the solids of a robot, for who can show them in space


def drawing_of(envs: AbstractEnvs) -> Drawing:
    """Return how worlds are shown."""
    worlds = innermost(envs)
    if getattr(worlds, "figure", None) is not None:
        return Robot(worlds).drawing()
    return DRAWINGS.get(worlds.spec.family, Drawing(paint_numbers, rate=4.0))


def innermost(envs: AbstractEnvs) -> Any:
    """Return the worlds that others wrap: those that show the task, or pay late."""
    while (inner := getattr(envs, "inner", None)) is not None:
        envs = inner
    return envs


def picture(
    session: Session, drawing: Drawing, size: tuple[int, int], *, caption: bool = True
) -> UInt8[np.ndarray, "height width 3"]:
    """Return what a session looks like now; with `caption`, its numbers and rewards too."""
    canvas = Canvas(*size)
    drawing.paint(canvas, session)
    if caption:
        canvas.caption(caption_of(session, drawing))
        if len(session.rewards) > 1:
            canvas.strip(session.rewards)
    return canvas.pixels()


MOST_NUMBERS = 6  # of a task under one name, that a caption has room for


def caption_of(session: Session, drawing: Drawing) -> list[str]:
    """Return the lines that say where a session is: its task, its readings, rewards and steps."""
    task = describe(session.task_numbers())
    named = [f"task: {task}"] if task else []
    named += [f"{name} {value:.2f}" for name, value in drawing.readings(session).items()]
    reward = session.rewards[-1] if session.rewards else 0.0
    spec = session.spec
    return [
        *named,
        f"reward {reward:.2f}, return {session.episode_return:.1f}",
        f"episode {session.episode + 1} of {spec.num_episodes}, step {session.t} of {spec.horizon}",
    ]


def describe(numbers: dict[str, Any]) -> str:
    """Return a task's numbers by name (`task_rows`), without names of more than `MOST_NUMBERS`."""
    return ", ".join(f"{k} {_short(v)}" for k, v in numbers.items() if np.size(v) <= MOST_NUMBERS)


def _short(value: Any) -> str:
    return " ".join(f"{number:.3g}" for number in np.ravel(value))


class Robot:
    """Worlds with a figure, drawn from the side and a little from above, around its root."""

    def __init__(self, worlds: Any) -> None:
        self.figure, self._dt = worlds.figure(), worlds.step_seconds
        turn, tilt = self.figure.turn, self.figure.tilt
        right = [np.cos(turn), np.sin(turn), 0.0]
        away = [-np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), -np.sin(tilt)]
        self._away = np.array(away)
        self._plane = np.array([right, np.cross(right, away)])

    def drawing(self) -> Drawing:
        """Return how these are shown: in real time, and what moves about with its speed."""
        readings = self.readings if self.figure.is_mobile else Drawing.readings
        return Drawing(self.paint, 1.0 / self._dt, readings, self.figure)

    def readings(self, session: Session) -> dict[str, float]:
        """Return the speed along x (m/s) over the last step."""
        roots = [self._root(view) for view in session.views[-2:]]
        return {"speed along x": (roots[1] - roots[0])[0] / self._dt if len(roots) == 2 else 0.0}

    def _root(self, view: Any) -> Float[np.ndarray, " 3"]:
        self.figure.place(view)
        return self.figure.root()

    def paint(self, canvas: Canvas, session: Session) -> None:
        """Draw the floor, a line each meter, and the solids from far to near."""
        position, rotation = self.figure.place(session.views[-1])
        root = self.figure.root() * [1.0, 1.0, 0.0]
        half = 2.2 * self.figure.reach
        canvas.frame((-half, -0.6 * half), (half, 1.1 * half))
        for start, end in self._floor(root, half) if self.figure.is_mobile else ():
            canvas.line([self._plane @ (start - root), self._plane @ (end - root)], FAINT)
        solids = self.figure.solids
        corners = [
            solid.vertices @ turn.T + at - root
            for solid, at, turn in zip(solids, position, rotation, strict=True)
        ]
        # By its farthest corner: what stands on a large solid is drawn after it.
        for i in np.argsort([-(points @ self._away).max() for points in corners]):
            flat = corners[i] @ self._plane.T
            edge = tuple(int(0.6 * part) for part in solids[i].color)
            canvas.polygon(flat[ConvexHull(flat).vertices], solids[i].color, edge)

    @staticmethod
    def _floor(root: np.ndarray, half: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return lines of the ground, one each meter along x, and three across them."""
        meters = np.arange(np.floor(root[0] - 1.5 * half), root[0] + 1.5 * half)
        point = lambda x, y: np.array([x, root[1] + y, 0.0])
        lines = [(point(x, -1.0), point(x, 1.0)) for x in meters]
        far = 2.0 * half
        return lines + [
            (point(root[0] - far, y), point(root[0] + far, y)) for y in (-1.0, 0.0, 1.0)
        ]


def _cells(canvas: Canvas, width: int, height: int) -> None:
    canvas.frame((-1.0, -1.0), (width, height + 1.5))
    for x in range(width + 1):
        canvas.line([(x - 0.5, -0.5), (x - 0.5, height - 0.5)], FAINT)
    for y in range(height + 1):
        canvas.line([(-0.5, y - 0.5), (width - 0.5, y - 0.5)], FAINT)


def paint_grid(canvas: Canvas, session: Session) -> None:
    """Draw a room: its hidden goals in their order (green, then orange), the way, the agent."""
    room = innermost(session.envs)
    _cells(canvas, *room.size)
    for wall in room.walls:
        canvas.bar(np.array(wall) - 0.5, np.array(wall) + 0.5, FAINT)
    for number, goal in enumerate(np.asarray(session.task.goal[0])):
        corner = goal - 0.42
        canvas.bar(corner, corner + 0.84, THINGS[number])
    canvas.line(session.views, AGENT, 1.5)
    canvas.disc(session.views[-1], 0.27, AGENT)


def paint_rules(canvas: Canvas, session: Session) -> None:
    """Draw a room of things: those that lie there by number, and in the agent what it carries."""
    state = session.views[-1]
    _cells(canvas, ROOM_SIZE, ROOM_SIZE)
    for kind in np.flatnonzero(state.lies):
        canvas.disc(state.place[kind], 0.4, THINGS[kind])
        canvas.write(state.place[kind], str(kind))
    canvas.disc(state.cell, 0.27, AGENT)
    if state.hand < len(state.lies):
        canvas.disc(state.cell, 0.16, THINGS[int(state.hand)])


def paint_point(canvas: Canvas, session: Session) -> None:
    """Draw the plane: the hidden goal, the way and where the point is."""
    canvas.frame((-1.6, -1.3), (1.6, 1.9))
    canvas.line([(-9, 0), (9, 0)], FAINT)
    canvas.line([(0, -9), (0, 9)], FAINT)
    canvas.disc(np.asarray(session.task.goal[0]), 0.08, GOAL)
    canvas.line(session.views, AGENT, 1.5)
    canvas.disc(session.views[-1], 0.05, AGENT)


def paint_bandit(canvas: Canvas, session: Session) -> None:
    """Draw how often each arm pays, hidden from the agent, and which it has just pulled."""
    means = session.views[-1]
    canvas.frame((-0.7, -0.25), (len(means) - 0.3, 1.5))
    for arm, mean in enumerate(means):
        pulled = session.action is not None and int(session.action) == arm
        canvas.bar((arm - 0.35, 0.0), (arm + 0.35, mean), AGENT if pulled else FAINT)
        canvas.write((arm, -0.08), f"{mean:.2f}", color=AGENT if pulled else INK)


def paint_tabular(canvas: Canvas, session: Session) -> None:
    """Draw the states on a ring, greener where the best action pays more, and the last move."""
    best = np.asarray(session.task.reward[0]).max(axis=1)
    share = (best - best.min()) / max(float(np.ptp(best)), 1e-9)
    angle = 2 * np.pi * np.arange(len(best)) / len(best)
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    canvas.frame((-1.5, -1.4), (1.5, 1.9))
    states = [int(state) for state in session.views]
    canvas.line(place[states[-2:]], AGENT, 2.0)
    for state, at in enumerate(place):
        color = (np.array(PAPER) + share[state] * (np.array(GOAL) - PAPER)).astype(int)
        here = state == states[-1]
        canvas.disc(at, 0.17, tuple(color.tolist()), AGENT if here else INK)
        canvas.write(at, f"{best[state]:.1f}")
        if here:
            canvas.disc(1.3 * at, 0.07, AGENT)


def paint_numbers(canvas: Canvas, session: Session) -> None:
    """Draw the numbers of a view as bars around zero, x as high as x / (1 + |x|)."""
    leaves = [np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(session.views[-1])]
    row = np.concatenate(leaves)
    canvas.frame((-1.0, -1.2), (len(row), 1.8))
    for i, value in enumerate(row / (1.0 + np.abs(row))):
        canvas.bar((i - 0.4, min(value, 0.0)), (i + 0.4, max(value, 0.0)), AGENT)
    canvas.line([(-0.6, 0.0), (len(row) - 0.4, 0.0)], INK)


DRAWINGS = {
    "bandit": Drawing(paint_bandit, rate=2.0),
    "tabular": Drawing(paint_tabular, rate=2.0),
    "grid": Drawing(paint_grid, rate=4.0),
    "point": Drawing(paint_point, rate=8.0),
    "rules": Drawing(paint_rules, rate=3.0),
}
