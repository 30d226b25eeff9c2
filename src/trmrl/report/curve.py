"""Learning curves: what held-out tasks returned, over env steps, wall-clock and experience.

Where worlds mark success, the share of tasks with success over env steps, too.
"""

from pathlib import Path
from typing import Any

import numpy as np

from trmrl.ops.bootstrap import bootstrap_interval
from trmrl.report.adaptation import last_evaluations, rewards_by_step
from trmrl.report.efficiency import compared_episodes, evaluated
from trmrl.report.experiments import Episodes, Experiment, experiments
from trmrl.run import Run
from trmrl.types import TrmrlError

Line = tuple[np.ndarray, np.ndarray]  # costs [X] and scores [X], one seed's
SPLITS = {"test": "-", "ood": "--"}  # and how their lines are drawn
COSTS = {"env_steps": "env steps", "seconds": "wall-clock of training (s)"}


def draw(runs: list[Run], path: str | Path, episodes: Episodes | None = None) -> Path:
    """Draw the curves of every experiment into a picture (its ending says which kind).

    One panel over env steps, and one over wall-clock where any run logged it. Then, where runs were
    evaluated at their end, how they adapted: the return of every episode of a trial over the env
    steps its task had cost before; and, where those kept it, the mean reward of every step since
    the trial began, a line for each split. Last, where any run logged `test_success`, the share of
    tasks with success over env steps. Faint lines are each seed's mean return per episode while
    training (actions sampled), dots its deterministic evaluations on held-out tasks; the strong
    line is the mean of those over seeds, the band its 95 % bootstrap interval. All are of the same
    `episodes` of a trial, as in `efficiency_table`; the axis says which. Returns the path; raises
    `TrmrlError` if there is nothing to draw or the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    logged = [run for run in runs if run.metrics()]
    if not logged:
        raise TrmrlError(f"nothing to draw: {', '.join(str(r.path) for r in runs)} logged nothing")
    logs = [record for run in logged for record in run.metrics()]
    costs = [cost for cost in COSTS if any(cost in record for record in logs)]
    groups = experiments(logged)
    compared = [
        episodes or compared_episodes([other for other in groups if other.env == experiment.env])
        for experiment in groups
    ]
    adapted = [adaptation(experiment) for experiment in groups]
    has_success = any("test_success" in record for record in logs)
    by_step = [
        {split: rewards_by_step(last_evaluations(experiment, split)) for split in SPLITS}
        for experiment in groups
    ]
    has_steps = any(rewards is not None for splits in by_step for rewards in splits.values())
    num_panels = len(costs) + any(adapted) + has_steps + has_success
    columns = min(num_panels, 2)
    rows = -(-num_panels // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(7 * columns, 4 * rows), layout="constrained", squeeze=False
    )
    panels = list(grid.flat)
    while len(panels) > num_panels:
        panels.pop().remove()
    if has_success:
        _draw_success(panels.pop(), groups, compared)
    if has_steps:
        _draw_steps(panels.pop(), by_step)
    _draw_returns(panels, groups, compared, costs, adapted)
    path = Path(path)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise TrmrlError(f"cannot write {path}: {error}") from error
    finally:
        plt.close(figure)
    return path


def _draw_returns(
    panels: list[Any],
    groups: list[Experiment],
    compared: list[Episodes],
    costs: list[str],
    adapted: list[list[Line]],
) -> None:
    """Draw returns over every cost, and over experience in a last panel where any adapted."""
    for axes in panels[1:]:
        axes.sharey(panels[0])
    for axes, cost in zip(panels, costs, strict=False):
        for index, (experiment, episodes) in enumerate(zip(groups, compared, strict=True)):
            _draw_experiment(axes, experiment, episodes, cost, f"C{index % 10}")
        axes.set(xlabel=COSTS[cost])
    for index, lines in enumerate(adapted):
        if lines:
            _draw_mean(panels[-1], lines, f"C{index % 10}", ".-")
            panels[-1].set(
                xlabel="env steps on the task before the episode", ylabel="return of the episode"
            )
    for axes in panels:
        axes.grid(alpha=0.3)
    for axes in panels[: len(costs)]:
        axes.set(ylabel=f"return per episode{_which(compared)}")
    panels[0].legend(frameon=False, fontsize="small")


def _which(compared: list[Episodes]) -> str:
    """Return which episodes all lines are of; nothing where worlds differ in it."""
    return f", episode {compared[0]}" if len(set(compared)) == 1 else ""


def _draw_experiment(
    axes: Any, experiment: Experiment, episodes: Episodes, cost: str, color: str
) -> None:
    for run in experiment.runs.values():
        records = [record for record in run.metrics() if cost in record]
        returns = [episodes.mean(record["return"]) for record in records]
        axes.plot([r[cost] for r in records], returns, alpha=0.3, linewidth=0.7, color=color)
    axes.plot([], [], "-", color=color, label=experiment.label)
    _draw_evaluated(axes, experiment, episodes, cost, "test_return", color)


def _draw_success(axes: Any, groups: list[Experiment], compared: list[Episodes]) -> None:
    """Draw the share of held-out tasks with success, mean over the episodes compared."""
    for index, (experiment, episodes) in enumerate(zip(groups, compared, strict=True)):
        color = f"C{index % 10}"
        _draw_evaluated(axes, experiment, episodes, "env_steps", "test_success", color)
    label = f"success per episode{_which(compared)}"
    axes.set(xlabel=COSTS["env_steps"], ylabel=label, ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)


def _draw_steps(axes: Any, by_step: list[dict[str, Any]]) -> None:
    """Draw the reward of every step since the trial began, mean over tasks and seeds."""
    for index, splits in enumerate(by_step):
        for split, rewards in splits.items():
            if rewards is not None:
                lines = [(np.arange(rewards.shape[1]), row) for row in rewards]
                _draw_mean(axes, lines, f"C{index % 10}", SPLITS[split])
    for split, style in SPLITS.items():
        if any(splits[split] is not None for splits in by_step):
            axes.plot([], [], style, color="gray", label=f"{split} tasks")
    axes.legend(frameon=False, fontsize="small")
    axes.set(xlabel="steps since the trial began", ylabel="reward")
    axes.grid(alpha=0.3)


def _draw_evaluated(
    axes: Any, experiment: Experiment, episodes: Episodes, cost: str, score: str, color: str
) -> None:
    """Draw the evaluations of each seed during training as dots, and their mean over seeds."""
    lines = []
    for run in experiment.runs.values():
        history = evaluated(run, score)
        costs = None if history is None else getattr(history, cost)
        if history is not None and costs is not None:
            scores = history.over(episodes)
            axes.plot(costs, scores, "o", markersize=3, alpha=0.6, color=color)
            lines.append((costs, scores))
    if lines:
        _draw_mean(axes, lines, color, "-")


def _draw_mean(axes: Any, lines: list[Line], color: str, style: str) -> None:
    """Draw the mean of several seeds' lines where all are known, and its interval."""
    x, scores = on_one_grid(lines)
    if len(x):
        low, high = bootstrap_interval(scores)
        axes.plot(x, scores.mean(axis=0), style, color=color)
        axes.fill_between(x, low, high, alpha=0.2, linewidth=0, color=color)


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
