"""Pictures say where things are; every world has one."""

import numpy as np
import pytest

from trmrl.envs import make
from trmrl.types import replace
from trmrl.watch.drawing import AGENT, FAINT, GOAL, PAPER, caption_of, drawing_of, picture
from trmrl.watch.session import open_session

SIZE = (240, 160)


def paint(session, size=SIZE, caption=False):
    return picture(session, drawing_of(session.envs), size, caption=caption)


def center(pixels, color):
    """Where the pixels of a color are, on average: (x, y) in pixels, y down."""
    rows, columns = np.nonzero((pixels == color).all(axis=-1))
    assert len(rows) > 10
    return np.array([columns.mean(), rows.mean()])


def test_a_room_shows_its_goal_and_its_agent(save_run):
    session = open_session(save_run("grid-navi"))
    goal = np.array([[[3, 2]]], np.int32)
    session.new_trial(replace(session.task, goal=goal))
    pixels = paint(session)
    away = (center(pixels, GOAL) - center(pixels, AGENT)) / [3, -2]  # from (0, 0), y up
    np.testing.assert_allclose(away, away[0], rtol=0.03)  # a cell is as wide as it is high
    assert away[0] > 10


def test_a_room_shows_its_walls(save_run):
    session = open_session(save_run("multi-stage-rooms"))
    pixels = paint(session, (960, 480))
    start, first = np.array([7, 1]), np.asarray(session.task.goal[0, 0])
    middle = center(pixels, AGENT)
    width = (center(pixels, GOAL) - middle)[0] / (first - start)[0]  # of a cell
    where = lambda cell: np.rint(middle + (cell - start) * width * [1, -1]).astype(int)  # y up
    colors = {(x, y): pixels[*where((x, y))[::-1]] for x in range(15) for y in range(3)}
    walls = {cell for cell, color in colors.items() if tuple(color) == FAINT}
    assert walls == {(x, y) for x in (3, 4, 5, 9, 10, 11) for y in (0, 2)}


def test_a_point_shows_its_goal_and_itself(save_run):
    session = open_session(save_run("point-robot"))
    session.views.append(np.array([-1.0, 0.5]))
    session.task = replace(session.task, goal=np.array([[0.5, -0.5]], np.float32))
    session.views = session.views[-1:]
    pixels = paint(session, (480, 480))
    away = center(pixels, GOAL) - center(pixels, AGENT)
    np.testing.assert_allclose(away / away[1], [1.5, 1.0], rtol=0.03)


def test_an_arm_is_as_high_as_it_pays_and_the_pulled_one_is_marked(save_run):
    session = open_session(save_run("bandit-n6-k3"))
    assert not (paint(session) == AGENT).all(axis=-1).any()  # none is pulled yet
    session.views, session.action = [np.array([0.2, 0.9, 0.5])], np.int32(1)
    high = (paint(session) == AGENT).all(axis=-1).sum()
    session.action = np.int32(2)
    assert (paint(session) == AGENT).all(axis=-1).sum() / high == pytest.approx(5 / 9, rel=0.15)


@pytest.fixture(scope="module")
def cheetah(save_run):
    return open_session(save_run("half-cheetah-vel"))


def test_a_robot_stays_in_the_middle_and_the_ground_has_a_line_each_meter(cheetah):
    pose = cheetah.views[0].copy()
    pixels = {}
    for name, x in (("here", 0.0), ("on", 7.0), ("between", 0.5)):
        moved = pose.copy()
        moved[0] += x
        cheetah.views = [moved]
        pixels[name] = paint(cheetah)
    np.testing.assert_array_equal(pixels["here"], pixels["on"])
    assert (pixels["here"] != pixels["between"]).any()
    bent = pose.copy()
    bent[3] += 1.0  # the back thigh
    cheetah.views = [bent]
    assert (paint(cheetah) != pixels["here"]).any(axis=-1).sum() > 50
    drawn = (pixels["here"] != PAPER).any(axis=-1)
    assert 0.02 < drawn.mean() < 0.5


def test_a_caption_says_the_target_the_speed_and_the_step(cheetah):
    cheetah.new_trial({"velocity": np.array([1.5], np.float32)})
    cheetah.step()
    cheetah.views[-1][0] = cheetah.views[-2][0] + 0.1  # meters in 0.05 s
    cheetah.rewards[-1] = -0.25
    assert caption_of(cheetah, drawing_of(cheetah.envs)) == [
        "task: velocity 1.5",
        "speed along x 2.00",
        "reward -0.25, return -0.2",
        "episode 1 of 2, step 1 of 200",
    ]
    assert (paint(cheetah, caption=True) != paint(cheetah)).any()


def test_a_table_shows_its_arm_and_the_hidden_goal(save_run):
    """Of two tasks that differ in it; the speed of what does not move about is left out."""
    pytest.importorskip("metaworld", reason="needs Meta-World")
    session = open_session(save_run("ml1-reach-h20"))
    pictures = [paint(session, (960, 640))]
    layout = session.task["layout"].copy()
    layout[0, 3] = -layout[0, 3]  # the goal's x
    session.new_trial(session.task | {"layout": layout})
    pictures.append(paint(session, (960, 640)))
    away = center(pictures[1], GOAL) - center(pictures[0], GOAL)
    assert np.sign(away[0]) == -np.sign(layout[0, 3])  # from behind the table, x points left
    for _ in range(5):
        session.step()
    assert (paint(session, (960, 640)) != pictures[1]).any()
    lines = caption_of(session, drawing_of(session.envs))
    assert lines[0].startswith("task: layout ") and not any("speed" in line for line in lines)


WORLDS = ["tabular-n4", "recipe-room", "half-cheetah-vel-delayed+task", "host-drift"]


@pytest.mark.parametrize("name", WORLDS)
def test_other_worlds_change_their_picture_as_they_go(save_run, name):
    session = open_session(save_run(name))
    pictures = [paint(session)]
    for _ in range(3):
        session.step()
        pictures.append(paint(session))
    assert any((one != pictures[0]).any() for one in pictures[1:])


def test_robots_are_shown_in_real_time(cheetah):
    assert drawing_of(cheetah.envs).rate == pytest.approx(20.0)
    assert drawing_of(make("humanoid-dir")).rate == pytest.approx(1 / 0.015)
