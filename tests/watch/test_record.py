"""Videos: as many pictures as steps, tasks that change under way, and nothing harmed by errors."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from trmrl.types import TrmrlError
from trmrl.watch.record import _find_ffmpeg, record
from trmrl.watch.session import open_session
from trmrl.watch.tasks import read_tasks


@pytest.fixture(scope="module")
def cheetah(save_run):
    return open_session(save_run("half-cheetah-vel"))


@pytest.fixture
def trace(cheetah, monkeypatch):
    """The target velocity at every step of the session."""
    targets, step = [], cheetah.step

    def traced():
        targets.append(float(cheetah.task["velocity"][0]))
        step()

    monkeypatch.setattr(cheetah, "step", traced)
    return targets


def test_a_gif_whose_task_changes_under_way(cheetah, trace, tmp_path):
    tasks = read_tasks(cheetah.task, [1.0, 2.5, 0.5])
    path = record(cheetah, tmp_path / "a.gif", tasks=tasks, num_steps=10, size=(96, 64))
    assert trace == [1.0] * 3 + [2.5] * 3 + [0.5] * 4
    assert cheetah.t == 10  # of one episode, not begun anew
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (10, (96, 64), 50)
        assert gif.info["loop"] == 0
        frames = []
        for number in range(10):
            gif.seek(number)
            frames.append(np.asarray(gif.convert("RGB")))
    assert all((one != other).any() for one, other in zip(frames[:-1], frames[1:], strict=True))
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_by_default_it_is_one_trial(save_run, tmp_path):
    session = open_session(save_run("tabular-n2"))
    session.step()
    path = record(session, tmp_path / "a.gif", size=(64, 64))
    assert session.is_over and len(session.rewards) == 20
    with Image.open(path) as gif:
        seconds = sum(gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)) / 1000
    assert seconds == pytest.approx(20 / 2.0)  # frames alike are joined


def test_an_mp4(cheetah, tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg")
    path = record(cheetah, tmp_path / "a.mp4", num_steps=10, size=(96, 64))
    shown = subprocess.run([_find_ffmpeg(), "-i", str(path)], capture_output=True, text=True)
    assert re.search(r"h264.*96x64.*20 fps", shown.stderr)
    assert "Duration: 00:00:00.50" in shown.stderr


def test_without_ffmpeg_an_mp4_is_refused_in_a_line(cheetah, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(TrmrlError, match="needs FFmpeg: .*trmrl\\[watch\\].* or record a .gif"):
        record(cheetah, tmp_path / "a.mp4", num_steps=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.avi", {}, "expected a name in .gif or .mp4"),
        ("no/a.gif", {}, "there is no folder"),
        ("a.gif", {"num_steps": 0}, "a video of 0 steps"),
        ("a.gif", {"size": (481, 320)}, "a video of 481 by 320, expected even numbers"),
        ("a.gif", {"size": (480, 20)}, "expected even numbers, 64 to 2000"),
    ],
)
def test_bad_requests_are_one_line(cheetah, tmp_path, name, options, expected):
    with pytest.raises(TrmrlError, match=expected):
        record(cheetah, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_video_that_fails_leaves_the_old_one(cheetah, tmp_path, monkeypatch):
    path = tmp_path / "a.gif"
    path.write_bytes(b"old")

    def fail():
        raise OSError("no space")

    monkeypatch.setattr(cheetah, "step", fail)
    with pytest.raises(TrmrlError, match="cannot write .*a.gif: no space"):
        record(cheetah, path, num_steps=2)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
