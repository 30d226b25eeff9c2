"""The four verbs of an agent (and `init`), and which tasks it trains on."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, PyTree

from trmrl.settings import AbstractSettings, field
from trmrl.types import (
    Decision,
    EnvSpec,
    LaneKeys,
    Learner,
    Memory,
    Metrics,
    PRNGKey,
    Task,
    Timestep,
    Trajectory,
    Trial,
    TrmrlError,
)

HELD_OUT = "test", "ood"  # splits that nobody trains on


class TaskPlan(AbstractSettings):
    """Which tasks training draws, and how many neighboring lanes share each.

    The splits "test" and "ood" are what agents are judged by, and nobody trains on them.
    """

    num_tasks: int = field(0, low=0)  # trained on, a fixed set in a ring (0: fresh ones each trial)
    lanes_per_task: int = field(1, low=1)  # neighboring lanes on one task, with one memory
    split: str = "train"  # that tasks are drawn from

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where the worlds lack the split, or it is held out."""
        open_splits = [split for split in spec.splits if split not in HELD_OUT]
        if self.split not in open_splits:
            return f"split is {self.split!r}, expected one of {', '.join(open_splits)} to train on"
        return None

    def groups(self, num_lanes: int) -> int:
        """Return how many tasks so many lanes work on; fewer lanes than a task's are one group.

        Raises `TrmrlError` if they are not a multiple of `lanes_per_task`.
        """
        if num_lanes > self.lanes_per_task and num_lanes % self.lanes_per_task:
            raise TrmrlError(
                f"{num_lanes} lanes, expected a multiple of {self.lanes_per_task}, a task's lanes"
            )
        return max(num_lanes // self.lanes_per_task, 1)

    def spread(self, tasks: Task) -> Task:
        """Return tasks `[M, ...]` for their lanes, `[M * lanes_per_task, ...]`."""
        if self.lanes_per_task == 1:
            return tasks
        return jax.tree.map(lambda x: x.repeat(self.lanes_per_task, axis=0), tasks)

    def by_task(self, x: Any) -> Any:
        """Return an array `[..., B]` with its lanes by task, `[..., M, lanes]`."""
        return x.reshape((*x.shape[:-1], self.groups(x.shape[-1]), -1))

    def task_ids(self, num_lanes: int, updates: Int[jax.Array, ""]) -> Int[jax.Array, " B"]:
        """Return which of the fixed set each lane has after `updates` trials: the next, in a ring.

        Tasks follow each other as the lanes do, each on its `lanes_per_task`.
        """
        ring = self.num_tasks * self.lanes_per_task
        first = (updates % ring) * num_lanes  # reduced first: 32 bits hold any number of updates
        return (first + jnp.arange(num_lanes)) % ring // self.lanes_per_task


class AbstractAgent(AbstractSettings):
    """A way of adapting. Final subclasses hold configuration; whatever learns is in `Learner`.

    start: an empty memory. act: one decision per lane. adapt: what becomes of a memory between two
    episodes of a trial. update: what changes in the learner after a trial. Beside them, collector:
    who rolls out the trials that training learns from.
    """

    plan: eqx.AbstractVar[TaskPlan]

    def collector(self) -> "AbstractAgent":
        """Return the agent that rolls out training's trials: this one, or a variant of it.

        A variant has the same model and memory. All other trials, whether actions are sampled in
        them or not, are this agent's own: `explore` does not tell training from evaluation.
        """
        return self

    @abc.abstractmethod
    def init(self, spec: EnvSpec, *, key: PRNGKey) -> Learner:
        """Return the learner before the first update."""

    @abc.abstractmethod
    def start(self, model: PyTree, num_lanes: int) -> Memory:
        """Return an empty memory; leaves that `act` changes have leading axis `num_lanes`."""

    @abc.abstractmethod
    def act(
        self, model: PyTree, memory: Memory, timestep: Timestep, *, explore: bool, key: LaneKeys
    ) -> tuple[Memory, Decision]:
        """Take a `[B]` timestep into memory and answer it; `explore=False` asks for the mode.

        Each lane draws from its own key alone.
        An agent may still sample what its way of adapting needs sampled; its docstring says so.
        """

    @abc.abstractmethod
    def adapt(self, model: PyTree, memory: Memory, episode: Trajectory) -> Memory:
        """Take a finished episode `[H, B]` into memory before the next one of the same trial."""

    @abc.abstractmethod
    def update(
        self,
        learner: Learner,
        trial: Trial,
        *,
        env_steps: Float[jax.Array, ""],
        key: PRNGKey,
    ) -> tuple[Learner, Metrics]:
        """Learn from a trial; pure, and jitted by the caller.

        `env_steps` is how many environment steps training had taken before this trial. As a float
        it is exact up to 2^24, and to one part in 2^24 beyond, which schedules do not feel.
        """
