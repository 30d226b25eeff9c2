"""A trained agent for somebody else's loop: a robot, a game, a simulator of one's own.

Lives here: one mind that keeps its own memory between calls. Does not live here: training, or
worlds.
"""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, PyTree

from trmrl.agents._base import AbstractAgent
from trmrl.run import Run
from trmrl.train import restore
from trmrl.trial import compiled_act
from trmrl.types import EnvSpec, Timestep, TrmrlError


class Controller:
    """An agent living one trial at a time; `reset()` when the task may have changed.

    It adapts as it acts: give it every observation and the reward of its last action.
    """

    def __init__(
        self, agent: AbstractAgent, model: PyTree, spec: EnvSpec, *, explore: bool, seed: int
    ) -> None:
        """Wrap an agent and its model; see `load`."""
        self.spec = spec
        self._agent, self._model = agent, model
        self._leaves, treedef = jax.tree.flatten(model)
        self._act = compiled_act(agent, treedef, explore)
        self._key = jax.random.key(seed)
        self.reset()

    def reset(self) -> None:
        """Empty the memory: what comes next is a new trial."""
        self._memory = self._agent.start(self._model, 1)
        self._prev_action = np.zeros((1, self.spec.action_space.size), np.float32)
        self._trial_start, self._t = True, 0

    def act(
        self,
        obs: Float[np.ndarray, " D"],
        reward: float = 0.0,
        *,
        episode_start: bool = False,
    ) -> Float[np.ndarray, " A"] | np.int32:
        """Return the action for `obs`, given the reward of the previous action.

        `episode_start` says that the world began anew with the same task. The action is `[A]`
        float32, or an int32 scalar where actions are choices. Raises `TrmrlError` on an
        observation of another size, or on numbers that are not finite.
        """
        obs = np.asarray(obs, np.float32)
        if obs.shape != (self.spec.obs_size,):
            raise TrmrlError(
                f"obs has shape {list(obs.shape)}, {self.spec.name} expects [{self.spec.obs_size}]"
            )
        if not (np.isfinite(obs).all() and np.isfinite(reward)):
            raise TrmrlError("obs or reward is not finite")
        first = self._trial_start
        timestep = Timestep(
            obs[None],
            self._prev_action,
            np.full(1, 0.0 if first else reward, np.float32),
            np.full(1, episode_start or first),
            np.full(1, first),
        )
        valid = np.ones(1, bool)
        self._memory, decision = self._act(
            self._leaves, self._memory, timestep, valid, self._key, np.int32(self._t)
        )
        action = np.asarray(decision.action)
        self._prev_action = np.asarray(self.spec.action_space.encode(action))
        self._trial_start, self._t = False, self._t + 1
        return action[0]


def load(path: str | Path, *, explore: bool = False, seed: int = 0) -> Controller:
    """Return the trained agent of a run folder, ready to act.

    Its actions are the policy's mode, or samples drawn with `seed` if `explore`. Raises
    `TrmrlError` if the folder holds no run or no checkpoint that fits it.
    """
    config, envs, train_state = restore(Run.open(path))
    return Controller(config.agent, train_state.model, envs.spec, explore=explore, seed=seed)
