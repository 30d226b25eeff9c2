"""Any worlds with the task as part of the observation: the oracle that memory is compared with."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from trmrl.envs.base import AbstractEnvs, Driver
from trmrl.types import (
    Array,
    EnvSpec,
    EnvState,
    LaneKeys,
    Outcome,
    PRNGKey,
    Task,
    replace,
    task_numbers,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OracleState:
    """The inner worlds' state, and the task as features."""

    inner: Any
    feature: Float[Array, "B P"]


class OracleEnvs(AbstractEnvs):
    """The worlds `inner`, their observations followed by the task's numbers."""

    inner: AbstractEnvs
    spec: EnvSpec

    @property
    def driver(self) -> Driver:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the inner worlds."""
        return self.inner.driver

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Task:
        """Draw the inner worlds' tasks."""
        return self.inner.sample_tasks(split, num_tasks, key=key)

    def reset(self, tasks: Task, *, key: LaneKeys) -> tuple[OracleState, Float[Array, "B D"]]:
        """Begin an episode of each task."""
        inner, obs = self.inner.reset(tasks, key=key)
        feature = task_numbers(tasks)
        if isinstance(obs, np.ndarray):  # a host world's observations stay on the host
            feature = np.asarray(feature)
        return OracleState(inner, feature), _join(obs, feature)

    def change_task(self, env_state: OracleState, tasks: Task) -> OracleState:
        """Return the state with other tasks, which the next observation shows."""
        inner = self.inner.change_task(env_state.inner, tasks)
        feature = task_numbers(tasks)
        on_host = isinstance(env_state.feature, np.ndarray)
        return OracleState(inner, np.asarray(feature) if on_host else feature)

    def step(self, env_state: OracleState, action: Array) -> tuple[OracleState, Outcome]:
        """Answer one action per lane."""
        inner, outcome = self.inner.step(env_state.inner, action)
        next_obs = _join(outcome.next_obs, env_state.feature)
        return OracleState(inner, env_state.feature), replace(outcome, next_obs=next_obs)

    def view(self, env_state: EnvState) -> PyTree:
        """Return the inner worlds' view."""
        return self.inner.view(env_state.inner)


def _join(obs: Float[Array, "B D"], feature: Float[Array, "B P"]) -> Float[Array, "B E"]:
    library = np if isinstance(obs, np.ndarray) else jnp
    return library.concatenate([obs, feature], axis=1)


def show_task(envs: AbstractEnvs) -> OracleEnvs:
    """Return the worlds with their task observed; the name gains `+task`."""
    tasks = envs.sample_tasks("train", 1, key=jax.random.key(0))
    spec = dataclasses.replace(
        envs.spec,
        name=f"{envs.spec.name}+task",
        obs_size=envs.spec.obs_size + task_numbers(tasks).shape[1],
    )
    return OracleEnvs(inner=envs, spec=spec)
