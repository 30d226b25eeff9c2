"""The paper's figures, drawn of run folders made by hand."""

import dataclasses

import numpy as np
import pytest

from trmrl.report.adaptation import Shape
from trmrl.report.experiments import experiments
from trmrl.report.figures import Map, Points, write_figures
from trmrl.report.panels import Panel, Series
from trmrl.report.paper import FIGURES
from trmrl.types import STEP_NUMBERS, Discrete, EnvSpec

SHAPE = Shape(num_tasks=2, num_episodes=3, seed=4)
ASKED = "test-2x3-seed4"
SPEC = EnvSpec("somewhere", "test", 1, Discrete(2), horizon=2, num_episodes=2, floor=-4.0)


def parts(name, runs, specs=None):
    return FIGURES[name].draw(experiments(runs), SHAPE, specs or {})


@pytest.fixture
def evaluated(make_run, evaluation):
    """`evaluated(name, rewards [6], split=..., config)`: also with another evaluation's scores."""

    def make(name, rewards, split="test", **config):
        run = make_run(name, [(8, 1.0, [1.0, 2.0])], **config)
        steps = dict.fromkeys(STEP_NUMBERS, list(rewards))
        returns = np.reshape(rewards, (3, 2)).sum(axis=1).tolist()
        asked = dataclasses.asdict(SHAPE) | {"split": split, "reward_per_step": steps}
        run.write_evaluation(ASKED, evaluation([returns, returns], **asked))
        other = {"reward_per_step": dict.fromkeys(STEP_NUMBERS, [99.0] * 4), "env_steps": 99_999}
        run.write_evaluation(split, evaluation([[99.0, 99.0]], split=split, **other))
        return run

    return make


def drawn(panel, kind="mean"):
    return {one.label: one.y.tolist() for one in panel.series if one.kind == kind}


def test_meta_training_has_means_over_seeds_of_return_and_success_for_each_world(make_run):
    runs = [
        make_run("a-s0", [(8, 1.0, [1.0, 3.0], [0.0, 1.0]), (16, 2.0, [3.0, 5.0], [1.0, 1.0])]),
        make_run("a-s1", [(8, 1.0, [3.0, 5.0], [0.0, 0.0])], seed=1),
        make_run("b", [(8, 1.0, [7.0, 7.0])], clip=1),
        make_run("c", [(8, 1.0, [9.0])], env="elsewhere"),
    ]
    here, success, there = parts("meta-training", runs)
    assert drawn(here) == {"a": [3.0], "b": [7.0]} and drawn(there) == {"c": [9.0]}
    assert drawn(success) == {"a": [0.25]}
    assert {one.kind for panel in (here, success) for one in panel.series} == {"mean"}
    assert [label for label, *_ in here.legend] == ["a", "b"]
    assert [label for label, *_ in success.legend] == ["a"]  # who logged it
    assert here.title == "somewhere: return on held-out tasks"
    assert len({panel.name for panel in (here, success, there)}) == 3


def test_online_adaptation_is_of_the_asked_shape_between_what_is_known(evaluated):
    runs = [
        evaluated("a-s0", range(6)),
        evaluated("a-s1", range(2, 8), seed=1),
        evaluated("o-s0", [7.0] * 6, env="somewhere+task"),
    ]
    (panel,) = parts("online-adaptation", runs, {"somewhere": SPEC})
    assert drawn(panel) == {"a, test": [1, 2, 3, 4, 5, 6], "o, test": [7.0] * 6}
    assert drawn(panel, "reference") == {"floor": [-2.0, -2.0]}  # -4 in two steps; no ceiling
    mean, oracle, floor = panel.series
    assert floor.x.tolist() == [0.0, 5.0]
    assert mean.low.tolist() == [0, 1, 2, 3, 4, 5] and mean.high.tolist() == [2, 3, 4, 5, 6, 7]
    assert (mean.style, oracle.style, floor.style) == ("-", "--", ":")
    assert panel.legend == [("a", 0, "-"), ("o (task shown)", 1, "--"), ("floor", None, ":")]
    assert len(panel.table().rows) == 6 + 6 + 2


def test_without_anything_known_of_its_world_there_are_the_runs_alone(evaluated):
    (panel,) = parts("online-adaptation", [evaluated("a", range(6))])
    assert [one.kind for one in panel.series] == ["mean"]


@pytest.mark.parametrize(
    ("name", "split"), [("fast-adaptation", "test"), ("out-of-distribution", "ood")]
)
def test_adaptation_by_episode_is_of_the_asked_shape(evaluated, name, split):
    runs = [evaluated("a-s0", range(6), split=split), evaluated("b", [1] * 6, clip=1)]
    (panel,) = parts(name, runs, {"somewhere": SPEC})
    assert drawn(panel)["a"] == [1.0, 5.0, 9.0] and panel.series[0].x.tolist() == [1, 2, 3]
    assert set(drawn(panel)) == ({"a", "b"} if split == "test" else {"a"})
    assert f"{split} tasks" in panel.title


def test_analyses_are_drawn_of_every_run_without_what_is_no_part_of_the_figure(make_run):
    line = Series("x", "mean", 0, np.arange(2.0), np.arange(2.0))
    found = {
        "latents": [
            Points("pca-layer 1", "PCA", "first", "second", *np.eye(3), "task"),
            Panel("probes", "Probes", "x", "y", [line], [], "probes"),
        ],
        "attention": [
            Map("attention-layer 1", "Map", "step", "age", np.eye(2), "weight"),
            Panel("influence", "Influence", "x", "y", [line], [], "influence"),
        ],
    }
    runs = [make_run("a"), make_run("b", clip=1)]
    for run in runs:
        (run.path / "analysis").mkdir()
        for name, figures in found.items():
            write_figures(run.path / "analysis" / f"{name}.json", figures)
    assert [one.name for one in parts("latents", runs)] == ["a-pca-layer 1", "b-pca-layer 1"]
    shown = parts("attention", runs)
    assert [one.name for one in shown] == [
        "a-attention-layer 1", "a-influence", "b-attention-layer 1", "b-influence"
    ]  # fmt: skip
    assert shown[1].scale != shown[3].scale  # each with its own legend


def test_ablations_are_of_standard_evaluations(evaluated):
    (found,) = parts("ablations", [evaluated("a", range(6)), evaluated("b", [1] * 6, clip=1)])
    assert [change.of_seeds.tolist() for change in found.changes] == [[99.0], [99.0]]


@pytest.mark.parametrize("name", FIGURES)
def test_of_runs_with_nothing_of_it_there_is_nothing(make_run, name):
    run = make_run("empty", [(8, 1.0, None)])
    assert parts(name, [run]) == []
    known = {"meta-training": "it logged no evaluations", "ablations": "it has no evaluations"}
    assert FIGURES[name].lacks(run) == known.get(name)
