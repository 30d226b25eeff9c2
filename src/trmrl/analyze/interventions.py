"""What becomes of an agent when something is changed in the middle of a trial.

Each intervention is a variant of the agent or of its worlds that `run_trial` plays like any other.
"""

import abc
import contextlib
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PyTree

from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.analyze.subject import Findings, Subject, panel
from trmrl.envs.base import HOST, AbstractEnvs, Driver
from trmrl.ops.bootstrap import bootstrap_interval, mean_interval
from trmrl.report.panels import Panel, Series
from trmrl.settings import field
from trmrl.types import (
    Array,
    Decision,
    EnvSpec,
    EnvState,
    LaneKeys,
    Learner,
    Memory,
    Metrics,
    Outcome,
    Task,
    Timestep,
    Trajectory,
    Trial,
    TrmrlError,
    replace,
)

WINDOW = 20  # parts of an episode: rewards are averaged over one of them


def middle(spec: EnvSpec) -> int:
    """Return the step at which interventions begin: half an episode before half the trial."""
    return max(spec.num_episodes // 2, 1) * spec.horizon - spec.horizon // 2


class AbstractVariant(AbstractAgent):
    """An agent whose acting is changed from a step of the trial on.

    Its memory is the inner agent's, and which episode and step of it a lane is in: final
    subclasses say what acting is from step `at` on.
    """

    inner: eqx.AbstractVar[AbstractAgent]
    at: eqx.AbstractVar[int]
    horizon: eqx.AbstractVar[int]

    @property
    def plan(self) -> TaskPlan:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner agent's."""
        return self.inner.plan

    def init(self, spec: EnvSpec, *, key: Any) -> Learner:
        """Return the inner agent's learner."""
        return self.inner.init(spec, key=key)

    def start(self, model: PyTree, num_lanes: int) -> Memory:
        """Return the inner agent's empty memory, before the first episode."""
        clock = jnp.full(num_lanes, -1, jnp.int32), jnp.zeros(num_lanes, jnp.int32)
        return self.inner.start(model, num_lanes), clock

    def act(
        self, model: PyTree, memory: Memory, timestep: Timestep, *, explore: bool, key: LaneKeys
    ) -> tuple[Memory, Decision]:
        """Act as the inner agent, or changed."""
        held, (episode, step) = memory
        begins = jnp.asarray(timestep.episode_start)
        episode = episode + begins.astype(jnp.int32)
        step = jnp.where(begins, 0, step)
        now = episode * self.horizon + step
        act = functools.partial(self.inner.act, model, explore=explore, key=key)
        empty = self.inner.start(model, len(step))
        held, decision = self.change(act, held, empty, timestep, now)
        return (held, (episode, step + 1)), decision

    @abc.abstractmethod
    def change(
        self, act: Callable, held: Memory, empty: Memory, timestep: Timestep, now: Array
    ) -> tuple[Memory, Decision]:
        """Return what acting gives in lanes at step `now` `[B]`, `act` being the inner agent's."""

    def adapt(self, model: PyTree, memory: Memory, episode: Trajectory) -> Memory:
        """Adapt as the inner agent does."""
        held, clock = memory
        return self.inner.adapt(model, held, episode), clock

    def update(
        self, learner: Learner, trial: Trial, *, env_steps: Any, key: Any
    ) -> tuple[Learner, Metrics]:
        """Learn as the inner agent does."""
        return self.inner.update(learner, trial, env_steps=env_steps, key=key)


class Erased(AbstractVariant):
    """Its memory is emptied once, before it acts at step `at`."""

    inner: AbstractAgent
    at: int = field(low=0)
    horizon: int = field(low=1)

    def change(self, act, held, empty, timestep, now):
        """Act on an empty memory at step `at`."""
        return act(_where(now == self.at, empty, held), timestep)


class Frozen(AbstractVariant):
    """From step `at` on it forgets each step again: it acts on its memory of before, and on now."""

    inner: AbstractAgent
    at: int = field(low=0)
    horizon: int = field(low=1)

    def change(self, act, held, empty, timestep, now):
        """Act, and keep the memory of before."""
        after, decision = act(held, timestep)
        return _where(now >= self.at, held, after), decision


class Misinformed(AbstractVariant):
    """From step `at` on it is given the rewards of another task: of the lanes beside."""

    inner: AbstractAgent
    at: int = field(low=0)
    horizon: int = field(low=1)

    def change(self, act, held, empty, timestep, now):
        """Act on the reward that another lane has just earned."""
        others = jnp.roll(timestep.prev_reward, self.plan.lanes_per_task)
        reward = jnp.where(now >= self.at, others, timestep.prev_reward)
        return act(held, replace(timestep, prev_reward=reward))


VARIANTS: dict[str, Callable[..., AbstractVariant]] = {
    "memory erased": Erased,
    "memory frozen": Frozen,
    "another task's rewards": Misinformed,
}


def _where(lanes: Bool[Array, " B"], new: Memory, old: Memory) -> Memory:
    """Return `new` in some lanes; leaves of another leading axis (groups) where any lane is."""

    def select(x, y):
        if x.shape[:1] != lanes.shape:
            return jnp.where(lanes.any(), x, y)
        return jnp.where(lanes.reshape((-1,) + (1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(select, new, old)


class Swapped(AbstractEnvs):
    """Worlds whose tasks are replaced by `other` at step `at` of one trial.

    For a single trial: steps are counted from the making on, in `clock`, which is why the driver
    is `HOST` whatever that of `inner`. Rewards and dynamics change at once, by the worlds'
    `change_task`; in worlds without it, when the next episode begins.
    """

    inner: AbstractEnvs
    spec: EnvSpec
    other: Task
    at: int
    clock: list[int] = eqx.field(default_factory=lambda: [0])

    @property
    def driver(self) -> Driver:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A Python loop, in which steps can be counted."""
        return HOST

    def sample_tasks(self, split: str, num_tasks: int, *, key: Any) -> Task:
        """Draw the inner worlds' tasks."""
        return self.inner.sample_tasks(split, num_tasks, key=key)

    def reset(self, tasks: Task, *, key: LaneKeys) -> tuple[EnvState, Float[Array, "B D"]]:
        """Begin an episode of each task, of the other ones from step `at` on."""
        tasks = self.other if self.clock[0] >= self.at else tasks
        state, obs = self._compiled[0](tasks, key=key)
        return (state, tasks), obs

    def step(self, env_state: EnvState, action: Array) -> tuple[EnvState, Outcome]:
        """Answer one action per lane."""
        state, tasks = env_state
        if self.clock[0] == self.at:
            tasks = self.other
            with contextlib.suppress(TrmrlError):  # worlds that change it at the next reset
                state = self.inner.change_task(state, tasks)
        self.clock[0] += 1
        state, outcome = self._compiled[1](state, action)
        return (state, tasks), outcome

    @functools.cached_property
    def _compiled(self) -> tuple[Callable, Callable]:
        compile_ = self.inner.driver.jit
        return compile_(self.inner.reset), compile_(self.inner.step)

    def view(self, env_state: EnvState) -> PyTree:
        """Return the inner worlds' view."""
        return self.inner.view(env_state[0])


def interventions(subject: Subject) -> Findings:
    """Return the reward of every step after each intervention, beside the untouched trial.

    Means over tasks with 95 % bootstrap intervals; deterministic actions. A swap gives every lane
    the task of the lane beside it, so that over all lanes the tasks remain the same, and so does
    what an untouched agent earns on them. `lost` is how much less than untouched the rest of the
    trial paid, `steps_to_recover` after how many steps it pays no less any more.
    """
    spec, agent = subject.envs.spec, subject.agent
    at = middle(spec) if subject.at is None else subject.at
    tasks = subject.tasks(subject.num_tasks)
    roll = lambda x: jnp.roll(jnp.asarray(x), 1, axis=0)
    other = jax.tree.map(np.asarray, agent.plan.spread(jax.tree.map(roll, tasks)))
    reward = functools.partial(_reward, subject, tasks)
    curves = {"untouched": reward()}
    curves |= {name: reward(agent=kind(agent, at, spec.horizon)) for name, kind in VARIANTS.items()}
    swapped = reward(envs=Swapped(inner=subject.envs, spec=spec, other=other, at=at))
    # Lane i continues on task i - 1: compared with what that task pays untouched.
    before = swapped[:at], np.roll(swapped[at:], -1, axis=1)
    curves["task swapped"] = np.concatenate(before)
    numbers: dict[str, Any] = {"at": at, "num_tasks": subject.num_tasks}
    lines = []
    for name, curve in curves.items():
        if name != "untouched":
            numbers[name] = found = _effect(curve, curves["untouched"], at, spec.horizon)
            after = found["steps_to_recover"]
            back = "it does not recover" if after is None else f"it recovers in {after} steps"
            low, high = found["ci95_low"], found["ci95_high"]
            lines.append(
                f"{name} at step {at}: {found['lost']:.2f} lost ({low:.2f} to {high:.2f}) "
                f"of {found['untouched']:.2f} that the rest pays; {back}"
            )
    arrays = {name: curve.astype(np.float32) for name, curve in curves.items()}
    return Findings(numbers, arrays, [_panel(curves, at, spec.horizon)], lines)


def _reward(subject: Subject, tasks: Task, **variant: Any) -> Float[np.ndarray, "T M"]:
    """Return the reward of every step of each task's trial; 0 after an early end."""
    rows = subject.roll_out(tasks, **variant).rows
    reward = np.where(rows.valid, rows.outcome.reward, 0.0).astype(np.float64)
    return subject.agent.plan.by_task(reward).mean(axis=-1).reshape((-1, subject.num_tasks))


def _effect(
    curve: Float[np.ndarray, "T M"], untouched: Float[np.ndarray, "T M"], at: int, horizon: int
) -> dict[str, Any]:
    rest, base = curve[at:], untouched[at:]
    lost = (base - rest).sum(axis=0)
    interval = mean_interval(lost) or (float(lost.mean()),) * 2
    return {
        "lost": float(lost.mean()), "ci95_low": interval[0], "ci95_high": interval[1],
        "untouched": float(base.sum(axis=0).mean()),
        "steps_to_recover": steps_to_recover(rest - base, horizon),
    }  # fmt: skip


def steps_to_recover(difference: Float[np.ndarray, "T M"], horizon: int) -> int | None:
    """Return the first step at which a window's mean, and that of all the rest, is not below 0.

    A window is a `WINDOW`th of an episode; below is what has its whole 95 % interval over tasks
    below. The rest counts too, or a step at which nobody earns anything would be a recovery. None
    if there is no such step.
    """
    size = min(max(horizon // WINDOW, 1), len(difference))
    sums = np.concatenate([np.zeros((1, difference.shape[1])), difference.cumsum(axis=0)])
    window = (sums[size:] - sums[:-size]) / size
    left = np.arange(len(difference), size - 1, -1)[:, None]
    rest = (sums[-1] - sums[: len(window)]) / left
    _, high = bootstrap_interval(np.concatenate([window, rest]).T)
    back = np.flatnonzero((high.reshape((2, -1)) >= -1e-9).all(axis=0))
    return int(back[0]) if len(back) else None


def _panel(curves: dict[str, np.ndarray], at: int, horizon: int) -> Panel:
    series = []
    for i, (name, curve) in enumerate(curves.items()):
        low, high = bootstrap_interval(curve.T)
        steps = np.arange(len(curve), dtype=float)
        series.append(Series(name, "mean", i, steps, curve.mean(axis=1), low, high))
    title = f"What is changed from step {at} on (episodes of {horizon} steps)"
    return panel("interventions", title, "reward", series)
