"""One agent in one world, a step at a time, whose hidden task may change at any moment.

What a page or a video shows is read from here; nothing is drawn here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from trmrl.analyze.latents import MemoryMap, map_memories
from trmrl.analyze.subject import Subject
from trmrl.controller import Controller
from trmrl.envs.base import AbstractEnvs, keys_for, task_rows
from trmrl.pretrained import find_agent
from trmrl.run import Run
from trmrl.train import restore_model
from trmrl.types import Task, TrmrlError, base_name


class Session:
    """Trials of one lane without end; a mutable handle. `step()` goes on by one step.

    `views` are the world's views since the episode began, before the first step and after each
    (rows, without the axis `B`), `rewards` those of the trial's steps, `action` the last one (None
    at the start of an episode). `episode` and `t` count from 0 the episode of the trial and the
    steps taken in it. `task` has the leading axis 1.
    """

    def __init__(
        self, name: str, envs: AbstractEnvs, controller: Controller, task: Task, seed: int = 0
    ) -> None:
        self.name, self.envs, self.spec, self.task = name, envs, envs.spec, task
        self._controller, self._key, self._num_resets = controller, jax.random.key(seed), 0
        self._reset, self._step = envs.driver.jit(envs.reset), envs.driver.jit(envs.step)
        self._view = envs.view
        self.new_trial()

    def new_trial(self, task: Task | None = None) -> None:
        """Begin a trial, on the same task or another: the agent's memory is emptied."""
        self.task = self.task if task is None else task
        self._controller.reset()
        self.rewards: list[float] = []
        self.episode = -1
        self._begin_episode()

    def change_task(self, task: Task) -> None:
        """Change the hidden task under way, unknown to the agent.

        In worlds that know their task only from `reset`, a new trial begins.
        """
        try:
            self._env_state = self.envs.change_task(self._env_state, task)
        except TrmrlError:
            self.new_trial(task)
        self.task = task

    def step(self) -> None:
        """Go on by one step; after an episode's end the next begins, after the last a new trial."""
        if self._ended and self.episode + 1 == self.spec.num_episodes:
            self.new_trial()
        elif self._ended:
            self._begin_episode()
        action = self._controller.act(
            self._obs,
            self.rewards[-1] if self.rewards else 0.0,
            episode_start=self.t == 0,
            final_obs=self._final_obs,
        )
        self._env_state, outcome = self._step(self._env_state, np.asarray(action)[None])
        self.action, self.t = action, self.t + 1
        self.rewards.append(float(outcome.reward[0]))
        self._obs = self._final_obs = np.asarray(outcome.next_obs[0])
        self._ended = bool(outcome.terminated[0] | outcome.truncated[0])
        self._look()

    @property
    def is_over(self) -> bool:
        """Whether the trial is over: the next step begins another."""
        return self._ended and self.episode + 1 == self.spec.num_episodes

    @property
    def episode_return(self) -> float:
        """The sum of the rewards of this episode so far."""
        return sum(self.rewards[len(self.rewards) - self.t :])

    def attention(self, num_steps: int) -> dict[str, Float[np.ndarray, " N"]]:
        """Return what each layer attended to for the last action, by how many steps ago.

        Mean over heads; no entries for agents that do not attend (`Controller.attention`).
        """
        by_head = self._controller.attention(num_steps)
        return {layer: weight.mean(axis=0) for layer, weight in by_head.items()}

    def memory(self) -> Float[np.ndarray, " D"] | None:
        """Return what the agent remembers at its last action; None as `Controller.feature`."""
        return self._controller.feature()

    def map_memories(self, num_tasks: int) -> MemoryMap:
        """Return a map of what the agent remembers of so many tasks; plays a trial on each.

        Raises `TrmrlError` as `trmrl.analyze.latents.map_memories`.
        """
        agent, model = self._controller.agent, self._controller.model
        return map_memories(Subject(agent, model, self.envs, num_tasks))

    def task_numbers(self) -> dict[str, Any]:
        """Return the task's numbers by name, as in an evaluation."""
        return task_rows(self.task)[0]

    def _begin_episode(self) -> None:
        self.episode, self.t = self.episode + 1, 0
        key = jax.random.fold_in(self._key, self._num_resets)
        self._num_resets += 1
        final_obs = self._obs if self.episode else None
        self._env_state, obs = self._reset(self.task, key=keys_for(self.task, key))
        self._obs, self._final_obs = np.asarray(obs[0]), final_obs
        self._ended, self.action, self.views = False, None, []
        self._look()

    def _look(self) -> None:
        row = jax.tree.map(lambda x: np.array(x[0]), self._view(self._env_state))
        self.views.append(row)


def open_sessions(
    names: Sequence[str | Path], *, seed: int = 0, trust: bool = False
) -> list[Session]:
    """Return sessions on the same task, one or two of them, that begin in the same state.

    Raises `TrmrlError` on another number of them, and unless all are of one world; an oracle's is
    that of its agent too.
    """
    if not 1 <= len(names) <= 2:
        raise TrmrlError(f"watch {len(names)} runs? expected one or two")
    sessions = [open_session(name, seed=seed, trust=trust) for name in names]
    worlds = {base_name(session.spec.name) for session in sessions}
    if len(worlds) > 1:
        raise TrmrlError(f"runs of {' and '.join(sorted(worlds))} have no task in common")
    return sessions


def open_session(name: str | Path, *, seed: int = 0, trust: bool = False) -> Session:
    """Return a session of a run folder, of an export or of an agent that comes with the library.

    The first task is drawn from the test split with `seed`. Raises as `trmrl.load`.
    """
    path = find_agent(name)
    config, envs, model = restore_model(Run.open(path), trust=trust)
    controller = Controller(config.agent, model, envs.spec, explore=False, seed=seed)
    split = "test" if "test" in envs.spec.splits else envs.spec.splits[0]
    task = envs.sample_tasks(split, 1, key=jax.random.key(seed))
    return Session(path.name, envs, controller, task, seed)
