"""What is analyzed: a trained agent in its worlds, the trials it plays, and what it did in them.

Trials are rolled out by `trial.py`. What happened inside is then replayed from their rows, by the
same computation as when acting (`AbstractCore.inspect`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from trmrl.agents.base import AbstractAgent
from trmrl.envs.base import AbstractEnvs, task_rows
from trmrl.nets.core import Record, where_lanes
from trmrl.nets.network import Model, Network
from trmrl.nets.readout import BeliefReadout
from trmrl.report.figures import Figure
from trmrl.report.panels import Legend, Panel, Series
from trmrl.run import Run
from trmrl.train import restore
from trmrl.trial import run_trial
from trmrl.types import Array, Task, Trajectory, Trial, TrmrlError


@dataclass(frozen=True)
class Findings:
    """What one analysis found; written as JSON, npz, and as CSV and PNG of every figure."""

    numbers: dict[str, Any] = field(default_factory=dict)  # plain JSON values
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # what it showed, and what could not be made


@dataclass(frozen=True)
class Subject:
    """A trained agent in its worlds; `seed` is of tasks and worlds."""

    agent: AbstractAgent
    model: PyTree
    envs: AbstractEnvs
    num_tasks: int = 200
    seed: int = 0
    at: int | None = None  # step of the trial at which interventions begin; None: `middle`

    @property
    def network(self) -> Model:
        """The model, of an agent with a memory core; raises `TrmrlError` for any other agent."""
        if not isinstance(self.model, Model):
            raise TrmrlError(f"a {type(self.agent).__name__} has no memory core to look into")
        return self.model

    def tasks(self, num_tasks: int) -> Task:
        """Return test tasks: the same for every analysis of so many."""
        task_key, _ = jax.random.split(jax.random.key(self.seed))
        split = "test" if "test" in self.envs.spec.splits else self.envs.spec.splits[0]
        return self.envs.sample_tasks(split, num_tasks, key=task_key)

    def roll_out(
        self,
        tasks: Task,
        *,
        explore: bool = False,
        agent: AbstractAgent | None = None,
        envs: AbstractEnvs | None = None,
    ) -> Trial:
        """Return a trial on each task (spread over the agent's lanes), perhaps of a variant."""
        agent, envs = agent or self.agent, envs or self.envs
        _, key = jax.random.split(jax.random.key(self.seed))
        spread = jax.tree.map(jnp.asarray, agent.plan.spread(tasks))

        def play(model, spread, key):
            return run_trial(agent, model, envs, spread, explore=explore, key=key)

        return jax.tree.map(np.asarray, envs.driver.jit(play)(self.model, spread, key))


def restore_subject(run: Run, *, trust: bool, **fields: Any) -> Subject:
    """Return the newest agent of a run; raises `TrmrlError` as `restore` does."""
    config, envs, train_state = restore(run, trust=trust)
    return Subject(config.agent, train_state.learner.model, envs, **fields)


def replay(model: Model, rows: Trajectory, keep: Callable[[Record, Array], PyTree]) -> PyTree:
    """Return what `keep(record, feature)` gives at every step `[T, B, ...]` of a trial's rows.

    Rows that did not happen leave the memory as it was; what is kept of them means nothing.
    """
    flat = jax.tree.map(jnp.asarray, rows.flatten_time())

    @jax.jit
    def scan(model, timesteps, valid):
        def step(memory, row):
            timestep, valid = row
            after, feature, record = model.inspect(memory, timestep)
            return where_lanes(valid, after, memory), keep(record, feature)

        memory = model.network.core.start(valid.shape[1])
        return jax.lax.scan(step, memory, (timesteps, valid))[1]

    return jax.tree.map(np.asarray, scan(model, flat.timestep, flat.valid))


def sites(network: Network, record: Record, feature: Float[Array, "B F"]) -> dict[str, Array]:
    """Return where a memory can be read, by name.

    The embedded token, every layer's output, and mean and log deviation of the belief, if there is
    one.
    """
    found = {"embedding": record.embedding}
    found |= {f"layer {i}": layer.output for i, layer in enumerate(record.layers, start=1)}
    if isinstance(network.readout, BeliefReadout):
        belief = network.readout.belief(jnp.asarray(feature))
        found["belief"] = jnp.concatenate([belief.mean, belief.log_std], axis=-1)
    return found


def differing_numbers(tasks: Task) -> dict[str, Float[np.ndarray, " B"]]:
    """Return every number of the tasks that differs between them, by name."""
    found = {}
    for name in (rows := task_rows(tasks))[0]:
        values = np.asarray([row[name] for row in rows], np.float64).reshape((len(rows), -1))
        for i, column in enumerate(values.T):
            if np.ptp(column) > 0:
                found[name if values.shape[1] == 1 else f"{name}[{i}]"] = column
    return found


def some_steps(num_steps: int, most: int = 25) -> np.ndarray:
    """Return up to `most` steps of a trial: all of the first ones, then ever fewer."""
    spread = np.geomspace(1, num_steps, most).round().astype(int) - 1
    return np.unique(np.concatenate([spread, np.linspace(0, num_steps - 1, most // 3, dtype=int)]))


def panel(
    name: str,
    title: str,
    label: str,
    series: list[Series],
    *,
    over: str = "steps since the trial began",
    limits: tuple[float, float] | None = None,
) -> Panel:
    """Return lines by step of the trial, or over something else, each in the legend."""
    legend: Legend = [(one.label, one.color, one.style) for one in series]
    return Panel(name, title, over, label, series, legend, name, limits)
