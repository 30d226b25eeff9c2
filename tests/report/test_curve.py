"""Learning curves are drawn from run folders alone."""

import pytest

from trmrl.report.curve import draw
from trmrl.run import Run
from trmrl.types import TrmrlError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def make_run(tmp_path):
    def make(name, num_records):
        run = Run(tmp_path / name)
        run.create({"env": "somewhere", "agent_name": "somebody", "seed": 3})
        for i in range(1, num_records + 1):
            record = {"updates": i, "env_steps": 8 * i, "return": [float(i), 2.0 * i]}
            run.log(record | ({"test_return": [1.0, 2.0]} if i % 2 else {}))
        run.close()
        return run

    return make


@pytest.fixture
def axes_of(monkeypatch):
    """The axes of every figure that `draw` makes, kept after it is closed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kept, subplots = [], plt.subplots

    def remember(*args, **kwargs):
        figure, axes = subplots(*args, **kwargs)
        kept.append(axes)
        return figure, axes

    monkeypatch.setattr(plt, "subplots", remember)
    yield kept
    assert plt.get_fignums() == []  # whatever happened, nothing stays open


def test_a_curve_shows_training_and_held_out_returns(make_run, axes_of, tmp_path):
    runs = [make_run(name, n) for name, n in (("a", 3), ("b-s1", 2), ("empty", 0), ("b-seed2", 1))]
    path = draw(runs, tmp_path / "x.png")
    assert path.read_bytes().startswith(PNG)
    (axes,) = axes_of
    training, held_out, other, _, sibling = axes.lines[:5]
    assert training.get_xdata().tolist() == [8, 16, 24]
    assert training.get_ydata().tolist() == [1.5, 3.0, 4.5]
    assert held_out.get_xdata().tolist() == [8, 24]
    assert held_out.get_ydata().tolist() == [1.5, 1.5]
    assert other.get_xdata().tolist() == [8, 16]
    assert held_out.get_color() == training.get_color() != other.get_color()
    assert other.get_color() == sibling.get_color()  # another seed of the same experiment
    told = axes.get_legend()
    labels = [text.get_text() for text in told.get_texts()]
    colors = [line.get_color() for line in told.get_lines()]
    assert labels == ["a", "b"]
    assert colors == [training.get_color(), other.get_color()]


def test_nothing_to_draw_is_said(make_run, axes_of, tmp_path):
    with pytest.raises(TrmrlError, match="nothing to draw: .*empty logged nothing"):
        draw([make_run("empty", 0)], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["nowhere/x.png", "x.nonsense"])
def test_a_picture_that_cannot_be_written_is_one_line(make_run, axes_of, tmp_path, name):
    with pytest.raises(TrmrlError, match=f"cannot write .*{name}"):
        draw([make_run("a", 1)], tmp_path / name)
