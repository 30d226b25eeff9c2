"""The figures of the TrMRL paper (Melo, ICML 2022), drawn of one's own runs.

A menu: what each figure is drawn from, and how. What runs lack for one, `figure.py` has made.
"""

from collections.abc import Callable
from dataclasses import dataclass

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
    bounds,
    cost_panel,
    legend,
    mean_series,
    steps_panel,
    success_panel,
)
from trmrl.run import Run
from trmrl.types import replace

Part = Figure | Ablations  # of a figure: what one world, split or run has in it
TASK_SHOWN = "--"  # how the lines of oracles are drawn


@dataclass(frozen=True)
class PaperFigure:
    """How one figure is made, and of what.

    `draw(experiments, shape, specs)` returns its parts, none where there is nothing to draw.
    `split` is that of the evaluations of a `shape` it is drawn from, `analysis` the name of the
    analysis. `lacks(run)` says what of a run cannot be made afterwards.
    """

    draw: Callable[[list[Experiment], Shape, Specs], list[Part]]
    split: str | None = None
    analysis: str | None = None
    lacks: Callable[[Run], str | None] = lambda run: None


def _meta_training(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Part]:
    """Return, per world, means over seeds on held-out tasks over env steps."""
    found: list[Part] = []
    for env, among in _by_world(groups).items():
        parts = (
            (cost_panel(among, "env_steps"), "Return on held-out tasks"),
            (success_panel(among), "Success on held-out tasks"),
        )
        for panel, title in parts:
            means = [series for series in panel.series if series.kind == "mean"]
            panel = replace(panel, series=means, title=title)
            found += _part(panel, panel.legend, among, env)
    return found


def _online_adaptation(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Part]:
    """Return, per world, the mean reward of every step of trials of many episodes."""
    found: list[Part] = []
    for env, among in _by_world(groups).items():
        panel = steps_panel(among, specs, splits=("test",), shape=shape)
        names = legend(among) + [
            (series.label, None, series.style) for series in _references(panel.series)
        ]
        found += _part(panel, names, among, env)
    return found


def _by_episode(split: str) -> Callable[[list[Experiment], Shape, Specs], list[Part]]:
    def draw(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Part]:
        """Return, per world, the return of every episode of the trials."""
        found: list[Part] = []
        for env, among in _by_world(groups).items():
            series: list[Series] = []
            for index, experiment in enumerate(among):
                lines = [
                    (np.arange(1.0, one.num_episodes + 1), np.mean(one.returns, axis=0))
                    for one in last_evaluations(experiment, split, shape)
                ]
                series += mean_series(experiment.label, lines, index, "o-")
            known = specs if split == "test" else {}
            levels, names = bounds(among, known, series, by_step=False) if series else ([], [])
            panel = Panel(
                f"episodes-{split}", f"Adaptation by episode, {split} tasks", "episode",
                "return of the episode", series + levels, [], "return",
            )  # fmt: skip
            found += _part(panel, legend(among) + names, among, env)
        return found

    return draw


def _analysis(name: str, kinds: tuple[str, ...]) -> PaperFigure:
    """Return the entry of what `trmrl analyze` draws; of it, the figures whose names begin so."""

    def draw(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Part]:
        found = []
        for run in (run for group in groups for run in group.runs.values()):
            start = tuple(f"{run.path.resolve().name}-{kind}" for kind in kinds)
            found += [figure for figure in analyzed(run, name) if figure.name.startswith(start)]
        return found

    return PaperFigure(draw, analysis=name)


def _ablations(groups: list[Experiment], shape: Shape, specs: Specs) -> list[Part]:
    return list(ablations(groups, tuple(SPLITS)))


def _by_world(groups: list[Experiment]) -> dict[str, list[Experiment]]:
    found: dict[str, list[Experiment]] = {}
    for group in groups:
        found.setdefault(group.env, []).append(group)
    return found


def _references(series: list[Series]) -> list[Series]:
    return [one for one in series if one.kind == "reference"]


def _part(panel: Panel, names: list, among: list[Experiment], env: str) -> list[Part]:
    """Return the panel of one world, with its own scale and legend; nothing if it has no lines.

    Oracles' lines are dashed, and lines that were not drawn have no place in the legend.
    """
    drawn = {one.color for one in panel.series}
    if not drawn - {None}:
        return []
    oracles = {index for index, group in enumerate(among) if _is_oracle(group)}
    marked = [
        replace(one, style=one.style.replace("-", TASK_SHOWN)) if one.color in oracles else one
        for one in panel.series
    ]
    shown = [
        (f"{label} (task shown)", color, TASK_SHOWN) if color in oracles else (label, color, style)
        for label, color, style in names
        if color in drawn
    ]
    fields = {"name": f"{panel.name}-{env}", "title": f"{panel.title} of {env}"}
    scale = f"{panel.scale}-{env}"
    return [replace(panel, series=marked, legend=shown, scale=scale, **fields)]


def _is_oracle(experiment: Experiment) -> bool:
    return str(experiment.config().get("env", "")) != experiment.env


def _never_evaluated(run: Run) -> str | None:
    return "it logged no evaluations" if evaluated(run) is None else None


def _not_concluded(run: Run) -> str | None:
    found = [last_evaluation(run, split) for split in SPLITS]
    return "it has no evaluations" if not any(found) else None


FIGURES: dict[str, PaperFigure] = {
    "meta-training": PaperFigure(_meta_training, lacks=_never_evaluated),
    "online-adaptation": PaperFigure(_online_adaptation, split="test"),
    "fast-adaptation": PaperFigure(_by_episode("test"), split="test"),
    "out-of-distribution": PaperFigure(_by_episode("ood"), split="ood"),
    "latents": _analysis("latents", ("pca", "umap")),
    "attention": _analysis("attention", ("attention", "influence", "look-back")),
    "ablations": PaperFigure(_ablations, lacks=_not_concluded),
}
