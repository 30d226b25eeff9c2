"""What a reference hands back, and how a strategy's free number is chosen.

Lives here: `Score`, `tune`, `draw_tasks`. Does not live here: any strategy.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from trmrl.envs._base import AbstractEnvs
from trmrl.types import Task

NUM_TUNING = 500  # train tasks on which a free number is chosen
_NORMAL_95 = 1.959964  # quantile of the normal: half of a 95 % interval, in standard errors

# By strategy: total reward of a trial on each task (a single number if exact), and what was tuned.
Earned = dict[str, tuple[Float[np.ndarray, " B"], str]]


@dataclass(frozen=True)
class Score:
    """What a strategy earned: `total` is the undiscounted reward of a whole trial, per task.

    A total of one entry was computed exactly rather than sampled.
    """

    strategy: str
    total: Float[np.ndarray, " B"]
    tuned: str = ""  # the free number, as chosen on train tasks
    published: float | None = None

    @property
    def mean(self) -> float:
        """The mean over tasks."""
        return float(np.mean(self.total))

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the mean, by the central limit; zero if exact."""
        if len(self.total) < 2:
            return 0.0
        return float(_NORMAL_95 * np.std(self.total, ddof=1) / np.sqrt(len(self.total)))

    def to_json(self) -> dict[str, Any]:
        """Return the score as plain JSON values, without the single totals."""
        summary = {"mean": self.mean, "ci95_half_width": self.half_width}
        record = asdict(self) | summary
        del record["total"]
        return record


def tune(play: Callable[[float], np.ndarray], grid: Sequence[float]) -> float:
    """Return the number of the grid whose trials earned most on average; the first of equals."""
    return max(grid, key=lambda number: float(np.mean(play(number))))


def draw_tasks(envs: AbstractEnvs, num_tasks: int, seed: int) -> tuple[Task, Task]:
    """Return `num_tasks` test tasks, and train tasks to tune on (as many, `NUM_TUNING` at most)."""
    test_key, train_key = jax.random.split(jax.random.key(seed))
    num_tuning = min(num_tasks, NUM_TUNING)
    train = envs.sample_tasks("train", num_tuning, key=train_key)
    return envs.sample_tasks("test", num_tasks, key=test_key), train
