"""What a report draws, as data: lines with their intervals, panel by panel.

Learning curves over env steps and wall-clock, adaptation by episode and by step, success. Pictures
(`curve.py`) and pages (`page.py`) draw the same panels; a panel is also a table of its numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trmrl.ops.bootstrap import bootstrap_interval
from trmrl.report.adaptation import Shape, last_evaluations, rewards_by_step
from trmrl.report.efficiency import compared_episodes, evaluated
from trmrl.report.experiments import Episodes, Experiment
from trmrl.report.markup import Table
from trmrl.types import EnvSpec

Line = tuple[np.ndarray, np.ndarray]  # costs [X] and scores [X], one seed's
Legend = list[tuple[str, int | None, str]]  # labels, their colors (None: gray) and styles
COSTS = {"env_steps": "env steps", "seconds": "wall-clock of training (s)"}
PROFILE_POINTS = 100
SPLITS = {"test": "-", "ood": "--"}  # and how their lines are drawn
BOUNDS = {"floor": ":", "ceiling": "-."}  # of a world's `EnvSpec`; likewise
Specs = Mapping[str, EnvSpec]  # what is known of worlds, by their `base_name`


@dataclass(frozen=True)
class Series:
    """One line: a seed in training, a seed's evaluations, or the mean over seeds with a band.

    Or what a world's scores are compared with, which is no run's ("reference").
    """

    label: str
    kind: Literal["training", "evaluated", "mean", "reference"]
    color: int | None  # which of the palette; None: gray
    x: np.ndarray  # [X]
    y: np.ndarray  # [X]
    low: np.ndarray | None = None  # [X], of the 95 % interval
    high: np.ndarray | None = None
    style: str = "-"

    def draw(self, axes: Any, colors: Sequence[str]) -> None:
        """Draw it: faint lines in training, dots for evaluations, strong lines for means."""
        color = _color(self.color, colors)
        if self.kind == "training":
            axes.plot(self.x, self.y, alpha=0.3, linewidth=0.7, color=color)
        elif self.kind == "evaluated":
            axes.plot(self.x, self.y, "o", markersize=3, alpha=0.6, color=color)
        else:
            axes.plot(self.x, self.y, self.style, color=color)
            if self.low is not None:
                axes.fill_between(self.x, self.low, self.high, alpha=0.2, linewidth=0, color=color)


@dataclass(frozen=True)
class Panel:
    """Lines over one axis. Panels of one `scale` are drawn with one vertical axis."""

    name: str  # of its files
    title: str
    xlabel: str
    ylabel: str
    series: list[Series]
    legend: Legend
    scale: str
    limits: tuple[float, float] | None = None

    def draw(
        self, axes: Any, colors: Sequence[str], *, legend: bool = True, below: bool = False
    ) -> None:
        """Draw it, with its axes' names and, unless `legend` is False, its legend.

        The legend is among the lines, or `below` the axes.
        """
        for series in self.series:
            series.draw(axes, colors)
        if legend:
            for label, color, style in self.legend:
                axes.plot([], [], style, color=_color(color, colors), label=label)
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": 3}
            axes.legend(frameon=False, fontsize="small", **(place if below else {}))
        axes.set(xlabel=self.xlabel, ylabel=self.ylabel)
        if self.limits:
            axes.set(ylim=self.limits)
        axes.grid(alpha=0.3)

    def table(self) -> Table:
        """Return every number drawn, one row a point."""
        rows = []
        for series in self.series:
            nothing = [""] * len(series.x)
            low = nothing if series.low is None else series.low.tolist()
            high = nothing if series.high is None else series.high.tolist()
            points = zip(series.x.tolist(), series.y.tolist(), low, high, strict=True)
            rows += [[series.label, series.kind, *point] for point in points]
        header = ["line", "kind", self.xlabel, self.ylabel, "ci95_low", "ci95_high"]
        return Table(header, rows)


def _color(index: int | None, colors: Sequence[str]) -> str:
    return "gray" if index is None else colors[index % len(colors)]


def panels(
    groups: list[Experiment], episodes: Episodes | None = None, specs: Specs | None = None
) -> list[Panel]:
    """Return the panels that the experiments have anything for, in the order they are drawn.

    One over env steps, and one over wall-clock where any run logged it: each seed's mean return per
    episode while training (actions sampled), its deterministic evaluations on held-out tasks, and
    the mean of those over seeds with its 95 % bootstrap interval; all of the same `episodes` of a
    trial, as in `efficiency_table`. Then, where runs were evaluated at their end, how they
    adapted: the return of every episode of a trial over the env steps its task had cost before;
    and, where those kept it, the mean reward of every step since the trial began, a line for each
    split, between the bounds of worlds whose `specs` know any. Last, where any run logged
    `test_success`, the share of tasks with success.
    """
    logs = [record for group in groups for run in group.runs.values() for record in run.metrics()]
    found = [cost_panel(groups, cost, episodes) for cost in COSTS if any(cost in r for r in logs)]
    found += [_episodes(groups), steps_panel(groups, specs), success_panel(groups, episodes)]
    return [panel for panel in found if panel.series]


def _compared(groups: list[Experiment], episodes: Episodes | None) -> list[Episodes]:
    """Return, for each experiment, the episodes it is compared by with others on its world."""
    return [
        episodes or compared_episodes([other for other in groups if other.env == experiment.env])
        for experiment in groups
    ]


def legend(groups: list[Experiment]) -> Legend:
    """Return a line of its color for each experiment."""
    return [(experiment.label, index, "-") for index, experiment in enumerate(groups)]


def _which(compared: list[Episodes]) -> str:
    """Return which episodes all lines are of; nothing where worlds differ in it."""
    return f", episode {compared[0]}" if len(set(compared)) == 1 else ""


def cost_panel(groups: list[Experiment], cost: str, episodes: Episodes | None = None) -> Panel:
    """Return the mean return per episode over a cost: in training, and on held-out tasks."""
    series, compared = [], _compared(groups, episodes)
    for index, (experiment, episodes) in enumerate(zip(groups, compared, strict=True)):
        for run in experiment.runs.values():
            records = [record for record in run.metrics() if cost in record]
            x = np.asarray([record[cost] for record in records], np.float64)
            y = np.asarray([episodes.mean(record["return"]) for record in records], np.float64)
            series.append(Series(experiment.label, "training", index, x, y))
        series += _evaluated(experiment, episodes, cost, "test_return", index)
    title = f"Learning over {'env steps' if cost == 'env_steps' else 'wall-clock'}"
    label = f"return per episode{_which(compared)}"
    return Panel(cost, title, COSTS[cost], label, series, legend(groups), "return")


def _evaluated(
    experiment: Experiment, episodes: Episodes, cost: str, score: str, color: int
) -> list[Series]:
    """Return the evaluations of each seed during training, and their mean over seeds."""
    lines = []
    for run in experiment.runs.values():
        history = evaluated(run, score)
        costs = None if history is None else getattr(history, cost)
        if history is not None and costs is not None:
            lines.append((costs, history.over(episodes)))
    seeds = [Series(experiment.label, "evaluated", color, *line) for line in lines]
    return seeds + mean_series(experiment.label, lines, color)


def mean_series(label: str, lines: list[Line], color: int, style: str = "-") -> list[Series]:
    """Return the mean of several seeds' lines where all are known, and its interval."""
    if not lines:
        return []
    x, scores = on_one_grid(lines)
    if not len(x):
        return []
    low, high = bootstrap_interval(scores)
    return [Series(label, "mean", color, x, scores.mean(axis=0), low, high, style)]


def _episodes(groups: list[Experiment]) -> Panel:
    series = []
    for index, experiment in enumerate(groups):
        series += mean_series(experiment.label, adaptation(experiment), index, ".-")
    return Panel(
        "adaptation", "Adaptation by episode", "env steps on the task before the episode",
        "return of the episode", series, legend(groups), "return",
    )  # fmt: skip


def steps_panel(
    groups: list[Experiment],
    specs: Specs | None = None,
    *,
    splits: Sequence[str] = tuple(SPLITS),
    shape: Shape | None = None,
) -> Panel:
    """Return the mean reward of every step since the trial began, a line for each split.

    Of the standard evaluations, or those of a `shape`; between the bounds of worlds whose `specs`
    know any, if there are test tasks.
    """
    series, drawn = [], []
    for index, experiment in enumerate(groups):
        for split in splits:
            rewards = rewards_by_step(last_evaluations(experiment, split, shape))
            if rewards is not None:
                lines = [(np.arange(rewards.shape[1], dtype=np.float64), row) for row in rewards]
                label = f"{experiment.label}, {split}"
                series += mean_series(label, lines, index, SPLITS[split])
                drawn.append(split)
    names = legend(groups) if len(groups) > 1 else []
    names += [(f"{split} tasks", None, SPLITS[split]) for split in SPLITS if split in drawn]
    if "test" in drawn:
        levels = _bounds(groups, specs, series)
        series = series + levels
        names += [(level.label, None, level.style) for level in levels]
    return Panel(
        "steps", "Adaptation by step", "steps since the trial began", "reward", series, names,
        "reward",
    )  # fmt: skip


def _bounds(groups: list[Experiment], specs: Specs | None, series: list[Series]) -> list[Series]:
    """Return lines at the floor and the ceiling of each world whose spec has them, in reward.

    A spec has returns of one episode on the test split: here a step's share of them. Of all steps
    of the slot, as the reward is 0 after an early end. As long as the other `series`.
    """
    found: list[Series] = []
    ends = np.asarray([min(one.x[0] for one in series), max(one.x[-1] for one in series)])
    known = {group.env: specs[group.env] for group in groups if specs and group.env in specs}
    for env, spec in known.items():
        for name, style in BOUNDS.items():
            value = getattr(spec, name)
            if value is not None:
                level = np.full(2, value / spec.horizon)
                label = name if len(known) == 1 else f"{name} of {env}"
                found.append(Series(label, "reference", None, ends, level, style=style))
    return found


def success_panel(groups: list[Experiment], episodes: Episodes | None = None) -> Panel:
    """Return the share of held-out tasks with success over env steps, of who logged it."""
    series, compared = [], _compared(groups, episodes)
    for index, (experiment, episodes) in enumerate(zip(groups, compared, strict=True)):
        series += _evaluated(experiment, episodes, "env_steps", "test_success", index)
    return Panel(
        "success", "Success", COSTS["env_steps"], f"success per episode{_which(compared)}",
        series, legend(groups), "success", (-0.02, 1.02),
    )  # fmt: skip


def task_panels(groups: list[Experiment]) -> list[Panel]:
    """Return, for each number in which tasks differ, the last episode's return over it.

    Dots are tasks, the mean over seeds; where generalization ends shows beyond the test split.
    """
    found: dict[str, list[Series]] = {}
    for index, experiment in enumerate(groups):
        for split in SPLITS:
            last = last_evaluations(experiment, split)
            if not last or any(one.tasks != last[0].tasks for one in last):
                continue
            returns = np.mean([np.asarray(one.returns)[:, -1] for one in last], axis=0)
            for name, values in _task_numbers(last[0].tasks).items():
                order = np.argsort(values, kind="stable")
                label = f"{experiment.label}, {split}"
                series = Series(label, "evaluated", index, values[order], returns[order])
                found.setdefault(name, []).append(series)
    return [_task_panel(name, series, legend(groups)) for name, series in found.items()]


def _task_panel(name: str, series: list[Series], names: Legend) -> Panel:
    return Panel(
        f"task-{name}", f"Return by {name}", f"{name} of the task", "return of the last episode",
        series, names, f"task-{name}",
    )  # fmt: skip


def _task_numbers(tasks: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the numbers `[N]` of tasks that are single numbers, and the angle of those in pairs.

    Numbers that are the same for all tasks are left out.
    """
    found = {}
    for name in tasks[0] if tasks else ():
        values = np.asarray([task[name] for task in tasks], np.float64)
        if values.shape[1:] == (2,):
            name, values = f"angle of {name}", np.arctan2(values[:, 1], values[:, 0])
        if values.ndim == 1 and np.ptp(values) > 0:
            found[name] = values
    return found


def profile_panel(groups: list[Experiment], split: str = "test") -> Panel:
    """Return performance profiles: the share of tasks and seeds with more than a return.

    Of the last episode; the band is a 95 % bootstrap that draws seeds (Agarwal et al., 2021).
    """
    scores = {
        index: np.asarray([np.asarray(one.returns)[:, -1] for one in last])
        for index, experiment in enumerate(groups)
        if (last := last_evaluations(experiment, split))
        and len({one.num_tasks for one in last}) == 1
    }
    if not scores:
        return Panel("profile", "", "", "", [], [], "profile")
    flat = np.concatenate([one.ravel() for one in scores.values()])
    grid = np.linspace(flat.min(), flat.max(), PROFILE_POINTS)
    series = []
    for index, one in scores.items():
        share = (one[:, :, None] > grid).mean(axis=1)  # [S, X]
        low, high = bootstrap_interval(share)
        label = groups[index].label
        series.append(Series(label, "mean", index, grid, share.mean(axis=0), low, high))
    return Panel(
        "profile", "Performance profile", "return of the last episode",
        f"share of {split} tasks and seeds above", series, legend(groups), "profile",
        (-0.02, 1.02),
    )  # fmt: skip


def adaptation(experiment: Experiment) -> list[Line]:
    """Return experience and return `[K]` of a trial's episodes, one line a seed.

    Of the last deterministic evaluation on the test split; seeds without one have none, nor those
    whose evaluation did not count experience.
    """
    return [
        (np.asarray(last.experience), np.asarray(last.return_per_episode["mean"]))
        for last in last_evaluations(experiment, "test")
        if last.experience
    ]


def on_one_grid(lines: list[Line]) -> tuple[np.ndarray, np.ndarray]:
    """Return costs `[X]` that all lines span, and their scores there `[S, X]`.

    Between two evaluations of a seed its score is interpolated, not beyond them.
    """
    start, stop = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    every = np.unique(np.concatenate([x for x, _ in lines]))
    grid = every[(every >= start) & (every <= stop)]
    return grid, np.stack([np.interp(grid, x, scores) for x, scores in lines])
