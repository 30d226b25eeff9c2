"""What experiments scored on held-out tasks, over seeds, as a Markdown table.

Lives here: means over seeds and interquartile means over seeds and tasks, from the evaluations in
the run folders. Does not live here: what a single run scored (`table.py`).
"""

from collections.abc import Iterator, Sequence
from math import isclose
from statistics import fmean
from typing import Any

import numpy as np

from trmrl.ops.bootstrap import bootstrap_interval, interquartile_interval, interquartile_mean
from trmrl.report.experiments import Experiment, experiments, with_interval
from trmrl.report.table import FEW, SEVERAL, actions, evaluations, markdown
from trmrl.run import Run

# Evaluations that agree in all of these lived the same tasks. If their env steps are near, training
# was as long, too: where episodes end early no two seeds live equally long.
ALIKE = "split", "explore", "num_tasks", "num_episodes", "seed"
NEAR = 0.01
HEADER = [
    "experiment", "split", "actions", "env steps", "episode", "seeds",
    "mean over seeds", "IQM over seeds and tasks", "each seed",
]  # fmt: skip


def aggregate_table(runs: list[Run]) -> str:
    """Return one row per experiment, evaluation and episode (of many episodes: their sum).

    Intervals are 95 % percentile bootstraps that draw seeds; a single seed has none.
    """
    rows = []
    for experiment in experiments(runs):
        for records in _alike(experiment):
            env_steps = round(fmean(record["env_steps"] for record in records))
            cells = [experiment.label, records[0]["split"], actions(records[0]), env_steps]
            rows += [cells + rest for rest in _rows(records)]
    return markdown(HEADER, rows)


def _alike(experiment: Experiment) -> Iterator[list[dict[str, Any]]]:
    """Yield evaluations that may be averaged, one of a training seed."""
    groups: dict[tuple, list[dict[int, dict[str, Any]]]] = {}
    for seed, run in experiment.runs.items():
        for record in evaluations(run):
            alike = groups.setdefault(tuple(record.get(name) for name in ALIKE), [])
            for group in alike:
                trained = next(iter(group.values()))["env_steps"]
                if seed not in group and isclose(record["env_steps"], trained, rel_tol=NEAR):
                    group[seed] = record
                    break
            else:
                alike.append({seed: record})
    for alike in groups.values():
        yield from (list(group.values()) for group in alike)


def _rows(records: list[dict[str, Any]]) -> Iterator[list[Any]]:
    """Yield the cells from `episode` on, for evaluations of several seeds on the same tasks."""
    returns = np.asarray([record["returns"] for record in records], np.float64)  # [S, N, K]
    num_seeds, _, num_episodes = returns.shape
    columns = {f"{k + 1}": returns[:, :, k] for k in range(num_episodes)}
    if num_episodes > SEVERAL:
        columns = {}
    if num_episodes > FEW:
        columns[f"sum of {num_episodes}"] = returns.sum(axis=2)
    digits = 3 if num_episodes > FEW else 1
    for episode, scores in columns.items():
        of_seeds = scores.mean(axis=1)
        iqm = with_interval(interquartile_mean(scores), interquartile_interval(scores), digits)
        each = ", ".join(f"{value:.{digits}f}" for value in of_seeds)
        mean = with_interval(float(of_seeds.mean()), mean_interval(of_seeds), digits)
        yield [episode, num_seeds, mean, iqm, each]


def mean_interval(of_seeds: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of the mean of scores `[S]` of seeds; None for one seed.

    Of two or three seeds it is the least and the greatest: a resample repeats one seed throughout
    with a chance of 1/4 or 1/27, above the 1/40 that the interval leaves out at either end.
    """
    if len(of_seeds) < 2:
        return None
    low, high = bootstrap_interval(np.asarray(of_seeds, np.float64)[:, None])
    return float(low[0]), float(high[0])
