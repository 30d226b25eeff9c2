"""What each change does, of run folders made by hand."""

import copy

import numpy as np
import pytest

from trmrl.report.ablations import ablations, differing
from trmrl.report.curve import draw_figures
from trmrl.report.experiments import experiments

CORE = {"kind": "Transformer", "window": 5, "layers": 2, "start": {"kind": "Fixed", "gain": 1.0}}


@pytest.fixture
def make(make_run, evaluation):
    """`make(name, scores, split=..., seed=..., any field of the core)`: a run with one setting."""

    def build(name, scores, seed=0, split="test", whole=None, **changes):
        core = whole or copy.deepcopy(CORE) | changes
        run = make_run(f"{name}-s{seed}", seed=seed, agent={"core": core, "size": 3})
        returns = [[float(score), float(score) + 2.0] for score in scores]
        run.write_evaluation(split, evaluation(returns, split=split))
        return run

    return build


def labels(found):
    return [change.label for change in found.changes]


def test_experiments_stand_by_what_they_change_from_the_base(make):
    """The base is not the first: it is the one that differs least from the others together."""
    runs = [
        make("ten", [1.0], window=10),
        make("both", [1.0], window=2, layers=4),
        make("base", [1.0]),
        make("deep", [1.0], layers=4),
        make("two", [1.0], window=2),
        make("many", [1.0], window=3, layers=3, start={"kind": "Fixed", "gain": 2.0}),
        make("gru", [1.0], whole={"kind": "GRU", "width": 4}),
    ]
    (found,) = ablations(experiments(runs), ("test", "ood"))
    assert labels(found) == [
        "base", "window = 2", "window = 10", "layers = 4", "core = GRU",
        "window = 2, layers = 4", "many",
    ]  # fmt: skip
    assert found.base == "core = Transformer, layers = 2, window = 5"
    assert (found.title, found.name) == ("somewhere, test tasks", "somewhere-test")
    groups = [change.group for change in found.changes]
    assert groups[1] == groups[2] != groups[3] and len(set(groups)) == 6


def test_a_record_of_another_kind_is_one_difference():
    ours = {"seed": 1, "core.kind": "A", "core.x.kind": "C", "core.n": 1, "n": 2, "cores": 1}
    theirs = {"seed": 2, "core.kind": "B", "core.x.kind": "D", "n": 3, "cores": 1}
    assert differing(ours, theirs) == ["core", "n"]


def test_names_that_end_alike_are_told_apart_by_what_stands_before(make):
    other = {"kind": "Fixed", "gain": 1.0, "window": 1}
    runs = [
        make("base", [1.0], start=other),
        make("a", [1.0], start=other, window=7),
        make("b", [1.0], start=other | {"window": 2}),
    ]
    (found,) = ablations(experiments(runs), ("test",))
    assert labels(found) == ["base", "core.window = 7", "start.window = 2"]


def test_scores_are_means_over_episodes_and_intervals_over_seeds(make):
    """Of two episodes, the second 2 higher: of tasks at 1 and 3, a mean of 3."""
    runs = [make("base", [1.0, 3.0]), make("base", [5.0, 7.0], seed=1), make("w", [0.0], window=1)]
    (found,) = ablations(experiments(runs), ("test",))
    base, changed = found.table().rows
    assert base[:7] == ["test", "base", "base", 2, 5.0, 3.0, 7.0]
    assert base[7] == 5.0 and base[-1] == "3 7"  # of 2, 4, 6 and 8 the middle two
    assert changed[:7] == ["test", "window = 1", "w", 1, 1.0, "", ""]
    rows = found.summary().rows
    assert rows[0][3:5] == ["5.00 (3.00 to 7.00)", ""] and rows[1][3:5] == ["1.00", "-4.00"]


def test_every_world_and_split_has_its_own(make, make_run, evaluation):
    run, other = make("a", [1.0]), make("b", [2.0], window=1)
    run.write_evaluation("ood", evaluation([[9.0]], split="ood"))
    elsewhere = make_run("c", env="elsewhere")
    elsewhere.write_evaluation("test", evaluation([[3.0]]))
    found = ablations(experiments([run, other, elsewhere]), ("test", "ood"))
    assert [one.title for one in found] == [
        "somewhere, test tasks", "somewhere, ood tasks", "elsewhere, test tasks"
    ]  # fmt: skip
    assert [len(one.changes) for one in found] == [2, 1, 1]


def test_the_picture_has_a_row_for_each_with_its_seeds_and_the_base_as_a_line(make, tmp_path):
    from matplotlib.figure import Figure

    runs = [make("base", [2.0], seed=seed) for seed in range(2)] + [make("w", [5.0], window=1)]
    (found,) = ablations(experiments(runs), ("test",))
    axes = Figure().subplots()
    found.draw(axes, ["red"])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["base", "window = 1"]
    lines = [(np.ravel(one.get_xdata()).tolist(), one.get_ydata()) for one in axes.lines]
    interval, seeds, mean, base, _, changed, separator = lines
    assert interval[0] == seeds[0] == [3.0, 3.0] and mean == ([3.0], [0])
    assert base[0] == [3.0, 3.0] and axes.lines[3].get_linestyle() == ":"
    assert np.unique(separator[1]).tolist() == [0.5]
    assert changed == ([6.0], [1]) and axes.lines[5].get_color() == "red"
    assert axes.get_ylim() == (1.5, -0.5) and "base: window = 5" in axes.get_xlabel()
    path = draw_figures([found], tmp_path / "x.png", spacious=True, height=found.height)
    assert path.read_bytes().startswith(b"\x89PNG")
