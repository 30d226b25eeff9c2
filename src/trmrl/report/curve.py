"""Learning curves: what held-out tasks returned, over env steps and over wall-clock."""

from pathlib import Path
from typing import Any

import numpy as np

from trmrl.ops.bootstrap import bootstrap_interval
from trmrl.report.efficiency import evaluated
from trmrl.report.experiments import Experiment, experiments
from trmrl.run import Run
from trmrl.types import TrmrlError

COSTS = {"env_steps": "env steps", "seconds": "wall-clock of training (s)"}


def draw(runs: list[Run], path: str | Path) -> Path:
    """Draw the curves of every experiment into a picture (its ending says which kind).

    One panel over env steps, and one over wall-clock where any run logged it. Faint lines are each
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
    figure, panels = plt.subplots(
        1, len(costs), figsize=(7 * len(costs), 4), layout="constrained", squeeze=False, sharey=True
    )
    for axes, cost in zip(panels[0], costs, strict=True):
        for index, experiment in enumerate(experiments(logged)):
            _draw_experiment(axes, experiment, cost, f"C{index % 10}")
        axes.set(xlabel=COSTS[cost])
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
    x, scores = on_one_grid(curves) if curves else (np.empty(0), np.empty((0, 0)))
    if len(x):
        low, high = bootstrap_interval(scores)
        axes.plot(x, scores.mean(axis=0), "-", color=color)
        axes.fill_between(x, low, high, alpha=0.2, linewidth=0, color=color)


def on_one_grid(curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return costs `[X]` that all curves `(cost, score)` span, and their scores there `[S, X]`.

    Between two evaluations of a seed its score is interpolated, not beyond them.
    """
    start, stop = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    every = np.unique(np.concatenate([x for x, _ in curves]))
    grid = every[(every >= start) & (every <= stop)]
    return grid, np.stack([np.interp(grid, x, scores) for x, scores in curves])
