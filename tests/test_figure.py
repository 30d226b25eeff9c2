"""What a figure needs and a run lacks is made, stored, and used again."""

import json
import re
import shutil

import numpy as np
import pytest

import trmrl.figure
from trmrl.figure import write_figure
from trmrl.recipes import recipe
from trmrl.report.adaptation import Shape, last_evaluation
from trmrl.run import Run
from trmrl.train import conclude, train
from trmrl.types import TrmrlError, replace

SHAPE = Shape(num_tasks=3, num_episodes=6, seed=1)
STORED = "test-3x6-seed1.json"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run folder; copy it before changing it."""
    config = recipe("bandit-n4-k2", "rl2", env_steps=16)
    config = replace(config, num_lanes=2, eval_tasks=3)
    config = replace(config, agent=replace(config.agent, core=replace(config.agent.core, width=4)))
    run = train(config, tmp_path_factory.mktemp("runs") / "run")
    conclude(run)
    return run.path


@pytest.fixture
def run(trained, tmp_path):
    return Run(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def write(tmp_path):
    """`write(name, *runs)`: the figure's parts and the lines shown."""

    def make(name, *runs, out="x.png", shape=SHAPE):
        lines = []
        parts = write_figure(name, list(runs), tmp_path / out, shape, {}, lines.append)
        return parts, lines

    return make


def test_an_evaluation_is_made_once_and_the_standard_one_stays(run, write, tmp_path, monkeypatch):
    standard = last_evaluation(run, "test")
    (panel,), lines = write("fast-adaptation", run)
    stored = json.loads((run.path / "evaluations" / STORED).read_text())
    assert np.shape(stored["returns"]) == (3, 6) and not stored["explore"] and lines == []
    assert panel.series[0].y.tolist() == np.mean(stored["returns"], axis=0).tolist()
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    rows = (tmp_path / "x.csv").read_text().splitlines()
    assert rows[0].startswith("line,kind,episode,return of the episode") and len(rows) == 7
    assert last_evaluation(run, "test") == standard
    monkeypatch.setattr(trmrl.figure, "evaluate_run", None)  # whoever evaluates again fails
    write("online-adaptation", run)


def test_what_was_evaluated_before_training_went_on_is_evaluated_again(run, write):
    write("fast-adaptation", run)
    path = run.path / "evaluations" / STORED
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"env_steps": 8}))
    write("fast-adaptation", run)
    assert json.loads(path.read_text()) == stored and stored["env_steps"] == 16


def test_an_analysis_is_made_once(run, write, tmp_path, monkeypatch):
    parts, _ = write("latents", run)
    assert (run.path / "analysis" / "latents.json").is_file()
    assert {part.name for part in parts} == {"run-pca-embedding", "run-pca-layer 1"}
    assert len(list(tmp_path.glob("x-run-pca-*.csv"))) == 2
    monkeypatch.setattr(trmrl.figure, "analyze", None)
    write("latents", run)


def test_a_run_without_what_is_needed_is_one_line_and_the_rest_is_drawn(run, make_empty, write):
    (panel,), lines = write("fast-adaptation", make_empty, run)
    assert [one.label for one in panel.series] == ["run"]
    assert len(lines) == 1 and re.fullmatch(r"without .*empty: .*has no checkpoint yet", lines[0])


@pytest.fixture
def make_empty(run, tmp_path):
    """A run of another experiment, without a checkpoint."""
    empty = Run(tmp_path / "empty")
    empty.create(run.config() | {"num_lanes": 4})
    return empty


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("out-of-distribution", "no out-of-distribution to draw: .*run: .* has no split 'ood'"),
        ("meta-training", "no meta-training to draw: .*empty: it logged no evaluations"),
        ("ablations", "no ablations to draw: .*empty: it has no evaluations"),
    ],
)
def test_nothing_to_draw_is_said_and_nothing_is_written(
    run, make_empty, write, tmp_path, name, expected
):
    with pytest.raises(TrmrlError, match=expected):
        write(name, run if name == "out-of-distribution" else make_empty)
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize("out", ["x.html", "x", "nowhere/x.png"])
def test_where_no_picture_can_be_nothing_is_evaluated(run, write, out):
    with pytest.raises(TrmrlError, match=f"cannot write .*{out}"):
        write("fast-adaptation", run, out=out)
    assert not (run.path / "evaluations" / STORED).exists()
