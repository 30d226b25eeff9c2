"""What experiments scored for the same cost: at equal env steps, and at equal wall-clock.

A table from the evaluations that metrics carry, made during training; those that conclude
a run are in `aggregate.py`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from trmrl.ops.bootstrap import mean_interval
from trmrl.report.experiments import (
    Episodes,
    Experiment,
    common_episodes,
    experiments,
    with_interval,
)
from trmrl.report.markup import Table
from trmrl.run import Run

HEADER = [
    "env", "experiment", "seeds", "episode", "env steps on the task before", "env steps",
    "return at equal env steps", "seconds", "return at equal wall-clock", "env steps by then",
]  # fmt: skip
NONE = "none yet"


@dataclass(frozen=True)
class ScoreHistory:
    """A run's evaluations during training: what each had cost, and its scores `[E, K]`."""

    env_steps: Float[np.ndarray, " E"]
    seconds: Float[np.ndarray, " E"] | None  # None where the run did not log them
    scores: Float[np.ndarray, "E K"]  # by episode
    # [K]: env steps that a task had cost before each episode, at the last evaluation; None where
    # the run did not log them.
    experience: list[float] | None = None

    def over(self, episodes: Episodes) -> Float[np.ndarray, " E"]:
        """Return the mean score of some episodes."""
        return np.asarray([episodes.mean(scores) for scores in self.scores])

    @property
    def num_episodes(self) -> int:
        """How many a trial has, `K`."""
        return self.scores.shape[1]


def evaluated(run: Run, score: str = "test_return") -> ScoreHistory | None:
    """Return the evaluations in a run's metrics that have this score, or None if there are none.

    Scores are `test_return` and `test_success`.
    """
    records = [record for record in run.metrics() if score in record]
    if not records:
        return None
    column = lambda name: np.asarray([record[name] for record in records], np.float64)
    timed = all("seconds" in record for record in records)
    experience = records[-1].get("test_experience")
    seconds = column("seconds") if timed else None
    return ScoreHistory(column("env_steps"), seconds, column(score), experience)


def compared_episodes(group: Sequence[Experiment]) -> Episodes:
    """Return which episodes of their trials experiments on one world are compared by."""
    runs = [run for experiment in group for run in experiment.runs.values()]
    lengths = [trained_episodes(run) for run in runs]
    return common_episodes(length for length in lengths if length is not None)


def trained_episodes(run: Run) -> int | None:
    """Return how many episodes a trial has, in evaluations during training or else in training.

    None where nothing was logged.
    """
    history, latest = evaluated(run), run.latest()
    if history is not None:
        return history.num_episodes
    return None if latest is None else len(latest["return"])


def efficiency_table(runs: list[Run], episodes: Episodes | None = None) -> Table:
    """Return one row per experiment, worlds that two or more were trained on only.

    The cost is the largest that every run on the world reached; a run scores what its last
    evaluation within that cost scored, in the same `episodes` of a trial as all others on the world
    (None: by `common_episodes`). What a task had cost before the last of them stands beside, and
    who had less than others is marked. Means over seeds with 95 % bootstrap intervals.
    """
    by_env = sorted(experiments(runs), key=lambda experiment: experiment.env)
    rows: list[list[Any]] = []
    for env, group in itertools.groupby(by_env, key=lambda experiment: experiment.env):
        group = list(group)
        found = {experiment.label: _histories(experiment) for experiment in group}
        histories = {label: of_seeds for label, of_seeds in found.items() if of_seeds}
        if len(histories) > 1:
            compared = episodes or compared_episodes(group)
            rows += [[env, *cells] for cells in _rows(histories, compared)]
    return Table(HEADER, rows)


def _histories(experiment: Experiment) -> list[ScoreHistory]:
    found = [evaluated(run) for run in experiment.runs.values()]
    return [history for history in found if history is not None]


def _rows(histories: dict[str, list[ScoreHistory]], episodes: Episodes) -> list[list[Any]]:
    every = [history for group in histories.values() for history in group]
    steps = min(history.env_steps[-1] for history in every)
    clocks = [history.seconds for history in every if history.seconds is not None]
    seconds = min(clock[-1] for clock in clocks) if len(clocks) == len(every) else None
    known = _experience(histories, episodes)
    rows = []
    for (label, group), before in zip(histories.items(), known, strict=True):
        last = [_last(history.env_steps, steps) for history in group]
        had = episodes.within(group[0].num_episodes)
        cells = [label, len(group), str(had), before, int(steps), _score(group, last, had)]
        if seconds is None:
            rows.append([*cells, *["not logged"] * 3])
            continue
        last = [_last(history.seconds, seconds) for history in group]
        trained = [int(h.env_steps[i]) for h, i in zip(group, last, strict=True) if i is not None]
        by_then = f"{np.mean(trained):,.0f}" if len(trained) == len(group) else NONE
        rows.append([*cells, f"{seconds:,.0f}", _score(group, last, had), by_then])
    return rows


def _experience(histories: dict[str, list[ScoreHistory]], episodes: Episodes) -> list[str]:
    """Return, for each experiment, what a task had cost before the last episode compared."""
    before: list[float | None] = []
    for group in histories.values():
        last = episodes.within(group[0].num_episodes).last
        counted = [history.experience for history in group if history.experience is not None]
        known = [experience[last - 1] for experience in counted]
        before.append(float(np.mean(known)) if len(known) == len(group) else None)
    most = max((steps for steps in before if steps is not None), default=0.0)
    return [
        "not logged" if steps is None else f"{steps:,.0f}{' (fewer)' * (steps < 0.99 * most)}"
        for steps in before
    ]


def _last(costs: np.ndarray | None, limit: float) -> int | None:
    """Return the index of the last evaluation within the cost, or None."""
    within = np.flatnonzero(np.asarray(costs) <= limit)
    return int(within[-1]) if len(within) else None


def _score(group: list[ScoreHistory], last: Sequence[int | None], episodes: Episodes) -> str:
    pairs = zip(group, last, strict=True)
    scores = [episodes.mean(history.scores[i]) for history, i in pairs if i is not None]
    if len(scores) < len(group):
        return NONE
    return with_interval(float(np.mean(scores)), mean_interval(np.asarray(scores)), digits=2)
