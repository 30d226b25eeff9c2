"""How fast agents adapt, at the resolution at which it happens: steps since the trial began."""

import numpy as np
from jaxtyping import Float

from trmrl.report.experiments import Experiment, evaluations
from trmrl.types import Evaluation

WINDOW = 20  # parts of an episode: rewards are averaged over one of them


def last_evaluations(experiment: Experiment, split: str) -> list[Evaluation]:
    """Return each seed's last deterministic evaluation on a split; seeds without one have none."""
    found = []
    for run in experiment.runs.values():
        candidates = [
            evaluation
            for evaluation in evaluations(run)
            if evaluation.split == split and not evaluation.explore
        ]
        if candidates:
            found.append(max(candidates, key=lambda evaluation: evaluation.env_steps))
    return found


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
