"""What a reference returns, and how a strategy's free number is chosen."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from trmrl.envs.base import AbstractEnvs
from trmrl.ops.bootstrap import mean_interval
from trmrl.types import Task

NUM_TUNING = 500  # train tasks on which a free number is chosen


class Earning(NamedTuple):
    """What a strategy earns in a trial on each task: a total of one entry is exact."""

    total: Float[np.ndarray, " B"]
    tuned: str = ""
    success: Bool[np.ndarray, " B"] | None = None  # at any step, where worlds mark it


Earned = dict[str, Earning]  # by strategy


@dataclass(frozen=True)
class Score:
    """What a strategy earned: `total` is the undiscounted reward of a whole trial, per task.

    A total of one entry was computed exactly rather than sampled.
    """

    strategy: str
    total: Float[np.ndarray, " B"]
    tuned: str = ""  # the free number, as chosen on train tasks
    published: float | None = None
    success: float | None = None  # share of tasks, at any step
    distinct: Int[np.ndarray, " B"] | None = (
        None  # the first task that equals each; None: all differ
    )

    @property
    def mean(self) -> float:
        """The mean over tasks."""
        return float(np.mean(self.total))

    @functools.cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % bootstrap interval of the mean over tasks; None if the total is exact."""
        return mean_interval(self.total, self.distinct)

    @property
    def num_distinct(self) -> int:
        """How many different tasks the mean is over; 0 if the total is exact."""
        if len(self.total) == 1:
            return 0
        return len(self.total) if self.distinct is None else len(np.unique(self.distinct))

    def to_json(self) -> dict[str, Any]:
        """Return the score as plain JSON values, without what is known of single tasks.

        Both ends of the interval of an exact total are the total itself.
        """
        low, high = self.interval or (self.mean, self.mean)
        ends = {"ci95_low": low, "ci95_high": high, "num_distinct": self.num_distinct}
        record = asdict(self) | {"mean": self.mean} | ends
        del record["total"], record["distinct"]
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
