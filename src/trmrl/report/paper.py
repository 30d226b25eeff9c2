"""The figures of the TrMRL paper (Melo, ICML 2022), drawn of one's own runs.

A menu: what each figure is drawn from, and how. What runs lack for one, `figure.py` has made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from trmrl.report.ablations import Ablations, ablations
from trmrl.report.adaptation import Shape, last_evaluation, last_evaluations
from trmrl.report.efficiency import evaluated
from trmrl.report.experiments import Experiment
from trmrl.report.figures import Figure, analyzed
from trmrl.report.panels import (
    SPLITS,
    Panel,
    Series,
    Specs,
    cost_panel,
    legend,
    mean_series,
    steps_panel,
    success_panel,
)
from trmrl.run import Run
from trmrl.types import replace

Part = Figure | Ablations  # of a figure: what one world, split or run has in it
Draw = Callable[[list[Experiment], Shape, Specs], list[Part]]
TASK_SHOWN = "--"  # how the lines of oracles are drawn


@dataclass(frozen=True)
class PaperFigure:
    """How one figure is made, and of what.

    `draw(experiments, shape, specs)` returns its parts, none where there is nothing to draw.
    `split` is that of the evaluations of a `shape` it is drawn from, `analysis` the name of the
    analysis. `lacks(run)` says what of a run cannot be made afterwards.
    """

    draw: Draw
    split: str | None = None
    analysis: str | None = None
    lacks: Callable[[Run], str | None] = lambda run: None


def _per_world(make: Callable[[list[Experiment], Shape, Specs], list[Panel]]) -> Draw:
    """Return how a figure of panels is drawn, with panels of its own for each world."""

    def draw(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Part]:
        found: list[Part] = []
        for env in dict.fromkeys(group.env for group in groups):
            among = [group for group in groups if group.env == env]
            panels = [panel for panel in make(among, shape, specs) if panel.series]
            found += [_of_world(panel, among, env) for panel in panels]
        return found

    return draw


def _meta_training(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Panel]:
    """Return means over seeds on held-out tasks over env steps: return and success."""
    panels = {
        "return on held-out tasks": cost_panel(groups, "env_steps"),
        "success on held-out tasks": success_panel(groups),
    }
    means = lambda panel: [series for series in panel.series if series.kind == "mean"]
    return [replace(panel, series=means(panel), title=title) for title, panel in panels.items()]


def _online_adaptation(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Panel]:
    """Return the mean reward of every step of trials of many episodes."""
    panel = steps_panel(groups, specs, splits=("test",), shape=shape)
    known = [series for series in panel.series if series.kind == "reference"]
    names = legend(groups) + [(series.label, None, series.style) for series in known]
    return [replace(panel, title="reward by step, test tasks", legend=names)]


def _returns(split: str, groups: list[Experiment], shape: Shape, specs: Specs) -> list[Panel]:
    """Return the return of every episode of the trials."""
    series: list[Series] = []
    for index, experiment in enumerate(groups):
        lines = [
            (np.arange(1.0, one.num_episodes + 1), np.mean(one.returns, axis=0))
            for one in last_evaluations(experiment, split, shape)
        ]
        series += mean_series(experiment.label, lines, index, "o-")
    title = f"return by episode, {split} tasks"
    names = legend(groups)
    return [Panel("episodes", title, "episode", "return of the episode", series, names, "return")]


def _analyzed(name: str, *kinds: str) -> PaperFigure:
    """Return how the figures of an analysis whose names begin so are drawn, of each run."""

    def draw(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Part]:
        found: list[Part] = []
        for run in (run for group in groups for run in group.runs.values()):
            start = tuple(f"{run.path.resolve().name}-{kind}" for kind in kinds)
            for figure in analyzed(run, name):
                if figure.name.startswith(start):
                    alone = {"scale": figure.name} if isinstance(figure, Panel) else {}
                    found.append(replace(figure, **alone))
        return found

    return PaperFigure(draw, analysis=name)


def _ablations(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Part]:
    return list(ablations(groups, tuple(SPLITS)))


def _of_world(panel: Panel, among: list[Experiment], env: str) -> Panel:
    """Return a panel under its world's name, with its own scale.

    Oracles' lines are dashed, and lines that were not drawn have no place in the legend.
    """
    drawn = {one.color for one in panel.series}
    oracles = {index for index, group in enumerate(among) if _is_oracle(group)}
    marked = [
        replace(one, style=one.style.replace("-", TASK_SHOWN)) if one.color in oracles else one
        for one in panel.series
    ]
    shown = [
        (f"{label} (task shown)", color, TASK_SHOWN) if color in oracles else (label, color, style)
        for label, color, style in panel.legend
        if color in drawn
    ]
    name, title = f"{panel.name}-{env}", f"{env}: {panel.title}"
    return replace(panel, name=name, title=title, series=marked, legend=shown, scale=name)


def _is_oracle(experiment: Experiment) -> bool:
    return str(experiment.config().get("env", "")) != experiment.env


def _never_evaluated(run: Run) -> str | None:
    return "it logged no evaluations" if evaluated(run) is None else None


def _not_concluded(run: Run) -> str | None:
    found = [last_evaluation(run, split) for split in SPLITS]
    return "it has no evaluations" if not any(found) else None


FIGURES: dict[str, PaperFigure] = {
    "meta-training": PaperFigure(_per_world(_meta_training), lacks=_never_evaluated),
    "online-adaptation": PaperFigure(_per_world(_online_adaptation), split="test"),
    "fast-adaptation": PaperFigure(_per_world(partial(_returns, "test")), split="test"),
    "out-of-distribution": PaperFigure(_per_world(partial(_returns, "ood")), split="ood"),
    "latents": _analyzed("latents", "pca", "umap"),
    "attention": _analyzed("attention", "attention", "influence"),
    "ablations": PaperFigure(_ablations, lacks=_not_concluded),
}
