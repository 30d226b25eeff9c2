"""What experiments scored for the same cost: at equal env steps, and at equal wall-clock.

Lives here: a Markdown table from the evaluations that metrics carry. Does not live here: the
evaluations that conclude a run (`aggregate.py`).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trmrl.report.aggregate import mean_interval
from trmrl.report.experiments import Experiment, experiments, with_interval
from trmrl.report.table import markdown
from trmrl.run import Run

HEADER = [
    "env", "experiment", "seeds", "env steps", "return at equal env steps",
    "seconds", "return at equal wall-clock", "env steps by then",
]  # fmt: skip
NONE = "none yet"


@dataclass(frozen=True)
class Curve:
    """A run's evaluations while training, all `[E]`; `seconds` None where it did not log them."""

    env_steps: np.ndarray
    seconds: np.ndarray | None
    score: np.ndarray  # return per episode, mean over the trial


def evaluated(run: Run) -> Curve | None:
    """Return the evaluations in a run's metrics, or None if there are none."""
    records = [record for record in run.metrics() if "test_return" in record]
    if not records:
        return None
    column = lambda name: np.asarray([record[name] for record in records], np.float64)
    timed = all("seconds" in record for record in records)
    score = np.asarray([np.mean(record["test_return"]) for record in records])
    return Curve(column("env_steps"), column("seconds") if timed else None, score)


def efficiency_table(runs: list[Run]) -> str:
    """Return one row per experiment, worlds that two or more were trained on only; "" if none.

    The cost is the largest that every run on the world reached; a run scores what its last
    evaluation within that cost scored. Means over seeds with 95 % bootstrap intervals.
    """
    by_env = sorted(experiments(runs), key=lambda experiment: experiment.env)
    rows: list[list[Any]] = []
    for env, group in itertools.groupby(by_env, key=lambda experiment: experiment.env):
        curves = {experiment.label: _curves(experiment) for experiment in group}
        curves = {label: found for label, found in curves.items() if found}
        if len(curves) > 1:
            rows += [[env, *cells] for cells in _rows(curves)]
    return markdown(HEADER, rows) if rows else ""


def _curves(experiment: Experiment) -> list[Curve]:
    found = [evaluated(run) for run in experiment.runs.values()]
    return [curve for curve in found if curve is not None]


def _rows(curves: dict[str, list[Curve]]) -> list[list[Any]]:
    every = [curve for group in curves.values() for curve in group]
    steps = min(curve.env_steps[-1] for curve in every)
    clocks = [curve.seconds for curve in every if curve.seconds is not None]
    seconds = min(clock[-1] for clock in clocks) if len(clocks) == len(every) else None
    rows = []
    for label, group in curves.items():
        last = [_last(curve.env_steps, steps) for curve in group]
        cells = [label, len(group), int(steps), _score(group, last)]
        if seconds is None:
            rows.append([*cells, *["not logged"] * 3])
            continue
        last = [_last(curve.seconds, seconds) for curve in group]
        lived = [int(c.env_steps[i]) for c, i in zip(group, last, strict=True) if i is not None]
        by_then = f"{np.mean(lived):,.0f}" if len(lived) == len(group) else NONE
        rows.append([*cells, f"{seconds:,.0f}", _score(group, last), by_then])
    return rows


def _last(costs: np.ndarray | None, limit: float) -> int | None:
    """Return the index of the last evaluation within the cost, or None."""
    within = np.flatnonzero(np.asarray(costs) <= limit)
    return int(within[-1]) if len(within) else None


def _score(group: list[Curve], last: Sequence[int | None]) -> str:
    scores = [curve.score[i] for curve, i in zip(group, last, strict=True) if i is not None]
    if len(scores) < len(group):
        return NONE
    return with_interval(float(np.mean(scores)), mean_interval(np.asarray(scores)), digits=2)
