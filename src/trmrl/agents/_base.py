"""The four verbs of an agent (and `init`). Lives here: the abstract door. Does not: any method."""

import abc

import equinox as eqx
from jaxtyping import PyTree

from trmrl.types import (
    Decision,
    EnvSpec,
    Memory,
    Metrics,
    PRNGKey,
    Timestep,
    TrainState,
    Trajectory,
)


class AbstractAgent(eqx.Module):
    """A way of learning. Final subclasses hold configuration; whatever learns is in TrainState.

    start: an empty mind. act: one decision per lane. adapt: what happens to a mind between two
    episodes of a trial. update: what a finished trial teaches.

    `lanes_per_task` neighboring lanes live on one task and share a mind; fewer than that are all on
    one. Training tasks come from `num_tasks`, always the same and in the same order (0: drawn
    afresh for every trial).
    """

    lanes_per_task: eqx.AbstractVar[int]
    num_tasks: eqx.AbstractVar[int]

    @abc.abstractmethod
    def init(self, spec: EnvSpec, *, key: PRNGKey) -> TrainState:
        """Return the state before the first update."""

    @abc.abstractmethod
    def start(self, model: PyTree, num_lanes: int) -> Memory:
        """Return an empty memory; leaves that `act` changes have leading axis `num_lanes`."""

    @abc.abstractmethod
    def act(
        self, model: PyTree, memory: Memory, timestep: Timestep, *, explore: bool, key: PRNGKey
    ) -> tuple[Memory, Decision]:
        """Take a `[B]` timestep into memory and answer it; `explore=False` asks for the mode.

        An agent may still sample what its way of adapting needs sampled; it says so.
        """

    @abc.abstractmethod
    def adapt(self, model: PyTree, memory: Memory, episode: Trajectory, *, key: PRNGKey) -> Memory:
        """Digest a finished episode `[H, B]` before the next one of the same trial."""

    @abc.abstractmethod
    def update(self, train_state: TrainState, trial: Trajectory) -> tuple[TrainState, Metrics]:
        """Learn from a trial `[K, H, B]`; pure, and jitted by the caller."""
