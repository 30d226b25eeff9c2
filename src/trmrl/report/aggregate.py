"""What experiments scored on held-out tasks, over seeds, as a table.

Means over seeds and interquartile means over seeds and tasks, from the evaluations in the run
folders; what a single run scored is in `table.py`.
"""

from collections.abc import Iterator
from math import isclose
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float

from trmrl.ops.bootstrap import interquartile_interval, interquartile_mean, mean_interval
from trmrl.report.experiments import Experiment, evaluations, experiments, with_interval
from trmrl.report.markup import Table
from trmrl.report.table import FEW, SEVERAL, actions
from trmrl.run import Run
from trmrl.types import Evaluation

# Evaluations that agree in all of these were made on the same tasks. If their env steps are near,
# training was as long, too: where episodes end early no two seeds train for equally many.
ALIKE = "split", "explore", "num_tasks", "num_episodes", "seed"
NEAR = 0.01
HEADER = [
    "experiment", "split", "actions", "env steps", "score", "episode", "seeds",
    "mean over seeds", "IQM over seeds and tasks", "each seed",
]  # fmt: skip
SCORES = {"return": "returns", "success": "success", "success at the end": "success_at_end"}


def aggregate_table(runs: list[Run]) -> Table:
    """Return one row per experiment, evaluation, score and episode.

    Of many episodes there is one row for the trial: the sum of their returns, or their mean
    success. Success has rows where the world marks it, at any step of the episode and at its last.
    Intervals are 95 % percentile bootstraps that draw seeds; a single seed has none.
    """
    rows = []
    for experiment in experiments(runs):
        for group in _alike(experiment):
            env_steps = round(fmean(evaluation.env_steps for evaluation in group))
            cells = [experiment.label, group[0].split, actions(group[0]), env_steps]
            rows += [cells + rest for rest in _rows(group)]
    return Table(HEADER, rows)


def _alike(experiment: Experiment) -> Iterator[list[Evaluation]]:
    """Yield evaluations that may be averaged, one of a training seed."""
    groups: dict[tuple, list[dict[int, Evaluation]]] = {}
    for seed, run in experiment.runs.items():
        for evaluation in evaluations(run):
            alike = groups.setdefault(tuple(getattr(evaluation, name) for name in ALIKE), [])
            for group in alike:
                trained = next(iter(group.values())).env_steps
                if seed not in group and isclose(evaluation.env_steps, trained, rel_tol=NEAR):
                    group[seed] = evaluation
                    break
            else:
                alike.append({seed: evaluation})
    for alike in groups.values():
        yield from (list(group.values()) for group in alike)


def _rows(group: list[Evaluation]) -> Iterator[list[Any]]:
    """Yield the cells from `score` on, for evaluations of several seeds on the same tasks."""
    for score, name in SCORES.items():
        per_task = [getattr(evaluation, name) for evaluation in group]
        if any(scores is None for scores in per_task):
            continue
        by_episode = np.asarray(per_task, np.float64)
        digits = 2 if score != "return" else 3 if by_episode.shape[2] > FEW else 1
        for episode, scores in _columns(by_episode, score).items():
            of_seeds = scores.mean(axis=1)
            iqm = with_interval(interquartile_mean(scores), interquartile_interval(scores), digits)
            each = ", ".join(f"{value:.{digits}f}" for value in of_seeds)
            mean = with_interval(float(of_seeds.mean()), mean_interval(of_seeds), digits)
            yield [score, episode, len(group), mean, iqm, each]


def _columns(
    by_episode: Float[np.ndarray, "S N K"], score: str
) -> dict[str, Float[np.ndarray, "S N"]]:
    """Return what has a row each: episodes unless they are many, the trial unless they are few."""
    num_episodes = by_episode.shape[2]
    columns = {}
    if num_episodes <= SEVERAL:
        columns = {f"{k + 1}": by_episode[:, :, k] for k in range(num_episodes)}
    if num_episodes > FEW and score == "return":
        columns[f"sum of {num_episodes}"] = by_episode.sum(axis=2)
    elif num_episodes > FEW:
        columns[f"mean of {num_episodes}"] = by_episode.mean(axis=2)
    return columns
