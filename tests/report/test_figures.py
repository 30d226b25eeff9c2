"""Figures kept as data come back as they were, and into the page."""

import numpy as np
import pytest

from trmrl.report.figures import Map, Points, read_figures, write_figures
from trmrl.report.page import write_page
from trmrl.report.panels import Panel, Series
from trmrl.types import TrmrlError

LINE = Series("a", "mean", 1, np.array([0.0, 1.0]), np.array([2.0, 3.0]), style="--")
FIGURES = [
    Panel("lines", "Lines", "x", "y", [LINE], [("a", 1, "--")], "lines", (0.0, 4.0)),
    Points("pca-layer 1", "Points", "first", "second", *np.eye(3), "task"),
    Map("map", "Map", "step", "age", np.array([[1.0, np.nan], [2.0, 3.0]]), "weight", (5.0, 0.0)),
]


def test_they_come_back(tmp_path):
    write_figures(tmp_path / "one.json", FIGURES, numbers={"x": np.float64(1.5)})
    found = read_figures(tmp_path)
    assert [type(one) for one in found] == [Panel, Points, Map]
    for one, other in zip(FIGURES, found, strict=True):
        assert one.table() == other.table() and one.title == other.title
    lines, _, drawn = found
    assert lines.series[0].low is None and lines.legend == [("a", 1, "--")]
    np.testing.assert_array_equal(drawn.values, FIGURES[2].values)


def test_a_map_s_table_leaves_out_what_is_not_there():
    assert FIGURES[2].table().rows == [[5.0, 0.0, 1.0], [5.0, 1.0, 2.0], [6.0, 1.0, 3.0]]


@pytest.mark.parametrize("text", ["{", "[]", '{"figures": [{"kind": "Pie"}]}', '{"figures": [1]}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(TrmrlError, match=r"one.json is damaged"):
        read_figures(tmp_path)


def test_the_page_of_a_run_shows_them(make_run, tmp_path):
    run = make_run("good-s0", [(8, 1.0, [1.0])])
    (run.path / "analysis").mkdir()
    write_figures(run.path / "analysis" / "one.json", FIGURES)
    page = write_page([run], tmp_path / "x.html")
    text = page.read_text()
    assert "<h2>Inside the agents</h2>" in text and 'id="good-s0-pca-layer-1"' in text
    folder = page.with_name("x-figures")
    assert (folder / "good-s0-map.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "good-s0-lines.csv").read_text().splitlines()[1].startswith("a,mean,0.0,2.0")
