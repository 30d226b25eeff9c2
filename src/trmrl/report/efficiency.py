"""What experiments scored for the same cost: at equal env steps, and at equal wall-clock.

A Markdown table from the evaluations that metrics carry, made during training; those that conclude
a run are in `aggregate.py`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from trmrl.ops.bootstrap import mean_interval
from trmrl.report.experiments import Experiment, experiments, with_interval
from trmrl.report.table import markdown
from trmrl.run import Run

HEADER = [
    "env", "experiment", "seeds", "env steps", "return at equal env steps",
    "seconds", "return at equal wall-clock", "env steps by then",
]  # fmt: skip
NONE = "none yet"


@dataclass(frozen=True)
class ScoreHistory:
    """A run's evaluations during training: what each had cost, and its score."""

    env_steps: Float[np.ndarray, " E"]
    seconds: Float[np.ndarray, " E"] | None  # None where the run did not log them
    score: Float[np.ndarray, " E"]  # of an episode, mean over the trial


def evaluated(run: Run, score: str = "test_return") -> ScoreHistory | None:
    """Return the evaluations in a run's metrics that have this score, or None if there are none.

    Scores are `test_return` and `test_success`.
    """
    records = [record for record in run.metrics() if score in record]
    if not records:
        return None
    column = lambda name: np.asarray([record[name] for record in records], np.float64)
    timed = all("seconds" in record for record in records)
    per_trial = np.asarray([np.mean(record[score]) for record in records], np.float64)
    return ScoreHistory(column("env_steps"), column("seconds") if timed else None, per_trial)


def efficiency_table(runs: list[Run]) -> str:
    """Return one row per experiment, worlds that two or more were trained on only; "" if none.

    The cost is the largest that every run on the world reached; a run scores what its last
    evaluation within that cost scored. Means over seeds with 95 % bootstrap intervals.
    """
    by_env = sorted(experiments(runs), key=lambda experiment: experiment.env)
    rows: list[list[Any]] = []
    for env, group in itertools.groupby(by_env, key=lambda experiment: experiment.env):
        found = {experiment.label: _histories(experiment) for experiment in group}
        histories = {label: of_seeds for label, of_seeds in found.items() if of_seeds}
        if len(histories) > 1:
            rows += [[env, *cells] for cells in _rows(histories)]
    return markdown(HEADER, rows) if rows else ""


def _histories(experiment: Experiment) -> list[ScoreHistory]:
    found = [evaluated(run) for run in experiment.runs.values()]
    return [history for history in found if history is not None]


def _rows(histories: dict[str, list[ScoreHistory]]) -> list[list[Any]]:
    every = [history for group in histories.values() for history in group]
    steps = min(history.env_steps[-1] for history in every)
    clocks = [history.seconds for history in every if history.seconds is not None]
    seconds = min(clock[-1] for clock in clocks) if len(clocks) == len(every) else None
    rows = []
    for label, group in histories.items():
        last = [_last(history.env_steps, steps) for history in group]
        cells = [label, len(group), int(steps), _score(group, last)]
        if seconds is None:
            rows.append([*cells, *["not logged"] * 3])
            continue
        last = [_last(history.seconds, seconds) for history in group]
        trained = [int(h.env_steps[i]) for h, i in zip(group, last, strict=True) if i is not None]
        by_then = f"{np.mean(trained):,.0f}" if len(trained) == len(group) else NONE
        rows.append([*cells, f"{seconds:,.0f}", _score(group, last), by_then])
    return rows


def _last(costs: np.ndarray | None, limit: float) -> int | None:
    """Return the index of the last evaluation within the cost, or None."""
    within = np.flatnonzero(np.asarray(costs) <= limit)
    return int(within[-1]) if len(within) else None


def _score(group: list[ScoreHistory], last: Sequence[int | None]) -> str:
    scores = [history.score[i] for history, i in zip(group, last, strict=True) if i is not None]
    if len(scores) < len(group):
        return NONE
    return with_interval(float(np.mean(scores)), mean_interval(np.asarray(scores)), digits=2)
