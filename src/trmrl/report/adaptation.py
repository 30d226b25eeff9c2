"""How fast agents adapt, at the resolution at which it happens: steps since the trial began.

Also which of a run's evaluations a report speaks of.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trmrl.report.efficiency import trained_episodes
from trmrl.report.experiments import Experiment, stored_evaluations
from trmrl.run import Run
from trmrl.types import Evaluation

WINDOW = 20  # parts of an episode: rewards are averaged over one of them


@dataclass(frozen=True)
class Shape:
    """An evaluation other than the standard one, asked for by its tasks and their trials."""

    num_tasks: int = 20
    num_episodes: int = 6
    seed: int = 1  # of tasks and worlds

    def fits(self, evaluation: Evaluation) -> bool:
        """Return whether an evaluation is of this shape."""
        asked = self.num_tasks, self.num_episodes, self.seed
        return asked == (evaluation.num_tasks, evaluation.num_episodes, evaluation.seed)


def last_evaluation(run: Run, split: str, shape: Shape | None = None) -> Evaluation | None:
    """Return a run's last deterministic evaluation on a split, of a shape where one is asked for.

    Without a shape it is the standard one. Evaluations of trials as long as in training go before
    all others, however late those were made; of them the last counts; of equally late ones that
    which concluded the run, stored under the name of the split; and if none did, the one with the
    most tasks and the lowest seed. So what was evaluated for another purpose replaces no score.
    """
    found = {
        name: evaluation
        for name, evaluation in stored_evaluations(run).items()
        if evaluation.split == split and not evaluation.explore
    }
    if shape is not None:
        fitting = [evaluation for evaluation in found.values() if shape.fits(evaluation)]
        return max(fitting, key=lambda evaluation: evaluation.env_steps, default=None)
    length = trained_episodes(run)

    def rank(name: str) -> tuple:
        one = found[name]
        as_trained = one.num_episodes == length
        return as_trained, one.env_steps, name == split, one.num_tasks, -one.seed

    return found[max(found, key=rank)] if found else None


def last_evaluations(
    experiment: Experiment, split: str, shape: Shape | None = None
) -> list[Evaluation]:
    """Return each seed's `last_evaluation`; seeds without one have none."""
    found = [last_evaluation(run, split, shape) for run in experiment.runs.values()]
    return [evaluation for evaluation in found if evaluation is not None]


def rewards_by_step(found: list[Evaluation]) -> Float[np.ndarray, "S T"] | None:
    """Return mean rewards by step of the trial, a row for each evaluation that kept them.

    None if there are none, or if their trials are of unlike length.
    """
    kept = [np.asarray(e.reward_per_step["mean"]) for e in found if e.reward_per_step is not None]
    return np.stack(kept) if kept and len({len(row) for row in kept}) == 1 else None


def steps_to_plateau(evaluation: Evaluation) -> tuple[int | None, int | None] | None:
    """Return how many steps of the trial, and of its last episode, go before the final reward.

    The plateau is the second half of the last episode (of the trial, where an episode is a step):
    the mean reward there, and its 95 % interval over tasks. It is reached where the mean over a
    twentieth of an episode first is not below the interval. What the last episode needs is the
    time to get going, such as to run up; what the first needs beyond it went into finding out the
    task. None instead of a number: it is not reached in that episode. None alone: rewards by step
    were not kept, or episodes end early, and there is no plateau.
    """
    kept = evaluation.reward_per_step
    if kept is None or min(kept["running"]) < 1.0:
        return None
    mean, low = np.asarray(kept["mean"]), np.asarray(kept["ci95_low"])
    horizon = len(mean) // evaluation.num_episodes
    length = horizon if horizon > 1 else len(mean)
    plateau = float(low[-(length - length // 2) :].mean())
    first, last = mean[:length], mean[-length:]
    return _reached(first, plateau), _reached(last, plateau)


def _reached(reward: Float[np.ndarray, " H"], plateau: float) -> int | None:
    """Return the first step from which a window of rewards is on the plateau."""
    window = max(len(reward) // WINDOW, 1)
    smooth = np.convolve(reward, np.full(window, 1.0 / window), mode="valid")
    reached = np.flatnonzero(smooth >= plateau)
    return int(reached[0]) if len(reached) else None
