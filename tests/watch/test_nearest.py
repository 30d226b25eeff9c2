"""The nearest tasks are named, and where they lie on the map is where the picture has them."""

from unittest.mock import MagicMock, Mock

import numpy as np
import pytest

from trmrl.analyze.latents import MemoryMap
from trmrl.types import TrmrlError, replace
from trmrl.watch.drawing import INK
from trmrl.watch.nearest import RAMP, SIZE, MapPanel, NearestTasks
from trmrl.watch.session import Session, open_session

START = np.array([[0, 0]] * 3, np.int32)
GOAL = np.array([[1, 4], [3, 4], [2, 0]], np.int32)
MEMORY = np.array([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [2.0, 3.0, 1.0]])


@pytest.fixture
def nearest(save_run, monkeypatch):
    """Three tasks in a corner each of a triangle, and an agent that has not moved yet."""
    session = open_session(save_run("grid-navi"))
    session.new_trial(replace(session.task, start=START[:1], goal=GOAL[1:2, None]))
    tasks = replace(session.task, start=START, goal=GOAL[:, None])
    axes = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    monkeypatch.setattr(session, "map_memories", lambda count: MemoryMap(tasks, MEMORY, axes))
    monkeypatch.setattr(session, "memory", lambda: None)
    return NearestTasks(session), session


def centers(pixels, color):
    """The leftmost and the rightmost pixel of a color below the writing: (x, y) of each."""
    rows, columns = np.nonzero((pixels[40:] == color).all(axis=-1))
    assert len(rows) > 10
    return columns.min(), columns.max()


def test_it_names_what_differs_between_the_tasks(nearest, monkeypatch):
    """The start of all is one cell, and is left out."""
    shown, session = nearest
    assert shown.line() == ""
    monkeypatch.setattr(session, "memory", lambda: np.array([3.5, 0.2, 1.0]))
    assert shown.line() == "nearest tasks: goal 3 4; goal 2 0; goal 1 4"


def test_tasks_have_their_colors_and_places(nearest):
    """By the first number of the goal: 1 at the left, 3 at the right, 2 between them."""
    shown, _ = nearest
    pixels = shown.picture()
    assert pixels.shape == (SIZE[1], SIZE[0], 3)
    left, middle, right = (np.mean(centers(pixels, color)) for color in RAMP)
    assert right - middle == pytest.approx(middle - left, abs=1.5)
    assert right - left == pytest.approx(SIZE[0] / 1.6, rel=0.05)


def test_the_memory_of_the_moment_has_the_color_of_the_hidden_task(nearest, monkeypatch):
    """It is a larger disc than a task's, with a ring; beyond the edge it stays in the picture."""
    shown, session = nearest
    before = (shown.picture() == RAMP[2]).all(axis=-1).sum()
    monkeypatch.setattr(session, "memory", lambda: np.array([2.0, 0.5, 1.0]))
    pixels = shown.picture()
    assert (pixels == RAMP[2]).all(axis=-1).sum() > 2 * before  # the hidden goal is (3, 4)
    assert (pixels == INK).all(axis=-1).any()
    monkeypatch.setattr(session, "memory", lambda: np.array([99.0, 0.5, 1.0]))
    assert (shown.picture() != pixels).any()
    assert (shown.picture() == RAMP[2]).all(axis=-1).sum() > 2 * before


def test_a_memory_that_cannot_be_read_is_one_line():
    refuse = Mock(side_effect=TrmrlError("no memory core to look into"))
    session = Mock(Session, map_memories=refuse)
    session.name = "one"
    panel = MapPanel(Mock(add_folder=MagicMock()), session)
    assert not refuse.called
    panel.box.value = True
    panel.toggle()
    assert panel._text.content == "no memory core to look into" and panel._folder.visible
    panel.box.value = False
    panel.toggle()
    assert refuse.call_count == 1 and not panel._folder.visible
