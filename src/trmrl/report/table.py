"""What runs scored on held-out tasks, as a table. Reads evaluations and nothing else."""

from typing import Any

import numpy as np

from trmrl.ops.bootstrap import bootstrap_interval, mean_interval
from trmrl.report.adaptation import steps_to_plateau
from trmrl.report.experiments import evaluations, with_interval
from trmrl.report.markup import Table
from trmrl.run import Run
from trmrl.types import Evaluation, PerTask, TrmrlError

FEW = 3  # episodes that are shown with an interval each; of more, the whole trial has one
SEVERAL = 10  # episodes whose means are shown beside the whole trial's


def table(runs: list[Run]) -> Table:
    """Return one row per evaluation stored in the run folders.

    Trials of few episodes show the mean return of each with its 95 % interval over distinct tasks,
    whose number stands beside that of all where some are equal; longer ones the return of the whole
    trial, with the means of its episodes if they are ten or less.
    Where any world marks success there are two columns of it: the share of tasks with success at
    any step of the episode, and at its last; of longer trials, the mean share of their episodes.
    Where rewards by step were kept there is a column of `steps_to_plateau`, of the trial and of its
    last episode. Raises `TrmrlError` if nothing was evaluated.
    """
    found = [(run.path.name, evaluation) for run in runs for evaluation in evaluations(run)]
    if not found:
        raise TrmrlError(f"no evaluations in {', '.join(str(run.path) for run in runs)}")
    header = ["run", "split", "actions", "tasks", "env steps", "return"]
    rows = [[name, *_cells(evaluation)] for name, evaluation in found]
    if any(evaluation.success is not None for _, evaluation in found):
        header += ["success", "success at the end"]
        rows = [[*row, *_success(one)] for row, (_, one) in zip(rows, found, strict=True)]
    if any(evaluation.reward_per_step is not None for _, evaluation in found):
        header += ["steps to the plateau"]
        rows = [[*row, _plateau(one)] for row, (_, one) in zip(rows, found, strict=True)]
    return Table(header, rows)


def actions(evaluation: Evaluation) -> str:
    """Return how an evaluation chose its actions: the policy's mode, or sampled."""
    return "sampled" if evaluation.explore else "mode"


def _cells(evaluation: Evaluation) -> list[Any]:
    """Return the cells of a row from `split` to `return`."""
    returns = np.asarray(evaluation.returns)
    if evaluation.num_episodes > FEW:
        whole, each = returns.sum(axis=1), _each(evaluation.returns, digits=2)
        interval = mean_interval(whole, evaluation.distinct)
        shown = f"{with_interval(float(whole.mean()), interval, 3)} a trial{each}"
    else:
        shown = _episodes(evaluation.returns, evaluation, digits=1)
    tasks, env_steps = evaluation.tasks_label, evaluation.env_steps
    return [evaluation.split, actions(evaluation), tasks, env_steps, shown]


def _success(evaluation: Evaluation) -> list[str]:
    """Return the two cells of success, empty where the world does not mark it."""
    return [_share(evaluation.success, evaluation), _share(evaluation.success_at_end, evaluation)]


def _plateau(evaluation: Evaluation) -> str:
    """Return the steps that the first episode and the last need; empty where that is not known."""
    found = steps_to_plateau(evaluation)
    if found is None:
        return ""
    first, last = ("never" if steps is None else f"{steps:,}" for steps in found)
    return f"{first} (last episode {last})" if evaluation.num_episodes > 1 else first


def _share(success: PerTask | None, evaluation: Evaluation) -> str:
    if success is None:
        return ""
    if len(success[0]) <= FEW:
        return _episodes(success, evaluation, digits=2)
    whole = np.mean(success, axis=1)
    shown = with_interval(float(whole.mean()), mean_interval(whole, evaluation.distinct), 2)
    return f"{shown} an episode{_each(success, digits=2)}"


def _episodes(scores: PerTask, evaluation: Evaluation, digits: int) -> str:
    """Return the mean of each episode with its interval over distinct tasks.

    Made anew from the scores: intervals stored by older versions took equal tasks for different.
    """
    by_task = np.asarray(scores)
    low, high = bootstrap_interval(by_task, evaluation.distinct)
    return ", then ".join(
        with_interval(float(mean), (float(least), float(most)), digits)
        for mean, least, most in zip(by_task.mean(axis=0), low, high, strict=True)
    )


def _each(scores: PerTask, digits: int) -> str:
    """Return the mean of each of several episodes in brackets; of more, nothing."""
    means = np.mean(scores, axis=0)
    if len(means) > SEVERAL:
        return ""
    return f" ({', '.join(f'{mean:.{digits}f}' for mean in means)})"
