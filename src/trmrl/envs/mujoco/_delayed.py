"""Any MuJoCo worlds with delayed rewards: they are summed, and the sum is paid at intervals."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from trmrl.envs.base import AbstractEnvs, Driver
from trmrl.types import Array, EnvSpec, EnvState, LaneKeys, Outcome, PRNGKey, Task, replace


@dataclass(frozen=True)
class Owing:
    """The inner worlds' state, and the reward not yet paid: stepping changes it in place."""

    inner: Any
    owed: Float[np.ndarray, " B"]  # earned since the last payment, float64
    clock: Int[np.ndarray, ""]  # steps of this episode so far


class DelayedEnvs(AbstractEnvs):
    """The worlds `inner`, whose reward is 0 except every `period` steps, when it is the sum.

    An episode's end pays what is owed, so that returns are the inner worlds'.
    """

    spec: EnvSpec = eqx.field(static=True)
    inner: AbstractEnvs
    period: int = eqx.field(static=True)

    @property
    def driver(self) -> Driver:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the inner worlds."""
        return self.inner.driver

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Task:
        """Draw the inner worlds' tasks."""
        self.spec.check_split(split)
        return self.inner.sample_tasks(split, num_tasks, key=key)

    def reset(self, tasks: Task, *, key: LaneKeys) -> tuple[Owing, Float[np.ndarray, "B D"]]:
        """Begin an episode of each task, owing nothing."""
        inner, obs = self.inner.reset(tasks, key=key)
        return Owing(inner, np.zeros(len(obs)), np.zeros((), np.int64)), obs

    def step(self, env_state: Owing, action: Float[Array, "B A"]) -> tuple[Owing, Outcome]:
        """Answer one action per lane, and pay if it is time."""
        inner, outcome = self.inner.step(env_state.inner, action)
        env_state.clock[...] += 1
        env_state.owed[:] += outcome.reward
        due = outcome.terminated | outcome.truncated | (env_state.clock % self.period == 0)
        paid = np.where(due, env_state.owed, 0.0).astype(np.float32)
        env_state.owed[due] = 0.0
        return Owing(inner, env_state.owed, env_state.clock), replace(outcome, reward=paid)

    def change_task(self, env_state: Owing, tasks: Task) -> Owing:
        """Return the state with other tasks; what is owed stays owed."""
        return replace(env_state, inner=self.inner.change_task(env_state.inner, tasks))

    def view(self, env_state: EnvState) -> Any:
        """Return the inner worlds' view."""
        return self.inner.view(env_state.inner)
