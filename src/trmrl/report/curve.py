"""Learning curves: what held-out tasks returned, over env steps, wall-clock and experience."""

from pathlib import Path
from typing import Any

import numpy as np

from trmrl.ops.bootstrap import bootstrap_interval
from trmrl.report.efficiency import evaluated
from trmrl.report.experiments import Experiment, experiments
from trmrl.report.table import evaluations
from trmrl.run import Run
from trmrl.types import TrmrlError

Curve = tuple[np.ndarray, np.ndarray]  # costs and scores
COSTS = {"env_steps": "env steps", "seconds": "wall-clock of training (s)"}


def draw(runs: list[Run], path: str | Path) -> Path:
    """Draw the curves of every experiment into a picture (its ending says which kind).

    One panel over env steps, and one over wall-clock where any run logged it. Then, where runs were
    evaluated at their end, how they adapted: the return of every episode of a trial over the env
    steps its task had cost before. Faint lines are each
    seed's mean return per episode while training (actions sampled), dots its deterministic
    evaluations on held-out tasks; the strong line is the mean of those over seeds, the band its
    95 % bootstrap interval. Returns the path; raises `TrmrlError` if there is nothing to draw.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    logged = [run for run in runs if run.metrics()]
    if not logged:
        raise TrmrlError(f"nothing to draw: {', '.join(str(r.path) for r in runs)} logged nothing")
    costs = [c for c in COSTS if any(c in record for run in logged for record in run.metrics())]
    adapted = [adaptation(experiment) for experiment in experiments(logged)]
    num_panels = len(costs) + any(adapted)
    figure, panels = plt.subplots(
        1, num_panels, figsize=(7 * num_panels, 4), layout="constrained", squeeze=False, sharey=True
    )
    for axes, cost in zip(panels[0], costs, strict=False):
        for index, experiment in enumerate(experiments(logged)):
            _draw_experiment(axes, experiment, cost, f"C{index % 10}")
        axes.set(xlabel=COSTS[cost])
    for index, curves in enumerate(adapted):
        if curves:
            _draw_mean(panels[0][-1], curves, f"C{index % 10}", ".-")
            panels[0][-1].set(xlabel="env steps lived on the task before the episode")
    for axes in panels[0]:
        axes.grid(alpha=0.3)
    panels[0][0].set(ylabel="return per episode")
    panels[0][0].legend(frameon=False, fontsize="small")
    path = Path(path)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise TrmrlError(f"cannot write {path}: {error}") from error
    finally:
        plt.close(figure)
    return path


def _draw_experiment(axes: Any, experiment: Experiment, cost: str, color: str) -> None:
    curves = []
    for run in experiment.runs.values():
        records = [record for record in run.metrics() if cost in record]
        returns = [np.mean(record["return"]) for record in records]
        axes.plot([r[cost] for r in records], returns, alpha=0.3, linewidth=0.7, color=color)
        found = evaluated(run)
        costs = None if found is None else getattr(found, cost)
        if found is not None and costs is not None:
            axes.plot(costs, found.score, "o", markersize=3, alpha=0.6, color=color)
            curves.append((costs, found.score))
    axes.plot([], [], "-", color=color, label=experiment.label)
    if curves:
        _draw_mean(axes, curves, color, "-")


def _draw_mean(axes: Any, curves: list[Curve], color: str, style: str) -> None:
    """Draw the mean of several seeds' curves where all are known, and its interval."""
    x, scores = on_one_grid(curves)
    if len(x):
        low, high = bootstrap_interval(scores)
        axes.plot(x, scores.mean(axis=0), style, color=color)
        axes.fill_between(x, low, high, alpha=0.2, linewidth=0, color=color)


def adaptation(experiment: Experiment) -> list[Curve]:
    """Return experience and return `[K]` of a trial's episodes, one curve a seed.

    Of the last deterministic evaluation on the test split; seeds without one have none.
    """
    curves = []
    for run in experiment.runs.values():
        told = [
            record
            for record in evaluations(run)
            if record["split"] == "test" and "experience" in record and not record.get("explore")
        ]
        if told:
            last = max(told, key=lambda record: record["env_steps"])
            score = last["return_per_episode"]["mean"]
            curves.append((np.asarray(last["experience"]), np.asarray(score)))
    return curves


def on_one_grid(curves: list[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Return costs `[X]` that all curves `(cost, score)` span, and their scores there `[S, X]`.

    Between two evaluations of a seed its score is interpolated, not beyond them.
    """
    start, stop = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    every = np.unique(np.concatenate([x for x, _ in curves]))
    grid = every[(every >= start) & (every <= stop)]
    return grid, np.stack([np.interp(grid, x, scores) for x, scores in curves])
