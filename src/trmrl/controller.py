"""A trained agent for somebody else's loop: a robot, a game, a simulator of one's own."""

import functools
from collections import deque
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree

from trmrl.agents.base import AbstractAgent
from trmrl.nets.network import Model
from trmrl.pretrained import find_agent
from trmrl.run import Run
from trmrl.train import restore_model
from trmrl.trial import compiled_act, compiled_adapt
from trmrl.types import Decision, EnvSpec, Memory, Outcome, Timestep, Trajectory, TrmrlError

LANES = np.zeros(1, np.int32)  # a controller is one lane, the first


@functools.partial(jax.jit, static_argnums=3)
def _attend(
    model: Model, memory: Memory, timestep: Timestep, num_steps: int
) -> dict[str, Float[jax.Array, "H N"]]:
    _, _, record = model.inspect(memory, timestep)
    return {
        f"layer {number}": layer.attention.by_age(num_steps)[0]
        for number, layer in enumerate(record.layers, start=1)
        if layer.attention is not None
    }


@jax.jit
def _feature(model: Model, memory: Memory, timestep: Timestep) -> Float[jax.Array, " F"]:
    _, feature, _ = model.inspect(memory, timestep)
    return feature[0]


class Controller:
    """An agent in one trial at a time; `reset()` when the task may have changed.

    It adapts as it acts: give it every observation and the reward of its last action.
    """

    def __init__(
        self, agent: AbstractAgent, model: PyTree, spec: EnvSpec, *, explore: bool, seed: int
    ) -> None:
        """Wrap an agent and its model; see `load`."""
        self.spec, self.agent, self.model = spec, agent, model
        self._leaves, treedef = jax.tree.flatten(model)
        self._act = compiled_act(agent, treedef, explore)
        self._adapt = compiled_adapt(agent, treedef)
        self._seed_key, self._num_trials = jax.random.key(seed), 0
        self._episode: deque[tuple[Timestep, Decision]] = deque(maxlen=spec.horizon)
        self.reset()

    def reset(self) -> None:
        """Empty the memory: what comes next is a new trial, with noise of its own."""
        self._key = jax.random.fold_in(self._seed_key, self._num_trials)
        self._num_trials += 1
        self._memory = self.agent.start(self.model, 1)
        self._prev_action = np.zeros((1, self.spec.action_space.size), np.float32)
        self._trial_start, self._t = True, 0
        self._taken: tuple[Memory, Timestep] | None = None  # by the last `act`
        self._episode.clear()

    def act(
        self,
        obs: Float[np.ndarray, " D"],
        reward: float = 0.0,
        *,
        episode_start: bool = False,
        final_obs: Float[np.ndarray, " D"] | None = None,
    ) -> Float[np.ndarray, " A"] | np.int32:
        """Return the action for `obs`, given the reward of the previous action.

        `episode_start`: the world began anew with the same task; `final_obs`: what the episode
        before ended in, where that was observed (else its last observation stands for it). Of
        an episode longer than those trained on, only the last `horizon` steps are digested when it
        is over. The action is `[A]` float32, or an int32 scalar where actions are choices. Raises
        `TrmrlError` on an observation of another size, or on numbers that are not finite.
        """
        obs = self._checked("obs", obs)
        if not np.isfinite(reward):
            raise TrmrlError("reward is not finite")
        first = self._trial_start
        if episode_start and self._episode:
            last = self._episode[-1][0].obs[0] if final_obs is None else final_obs
            self._digest(self._checked("final_obs", last), reward)
        timestep = Timestep(
            obs[None],
            self._prev_action,
            np.full(1, 0.0 if first else reward, np.float32),
            np.full(1, episode_start or first),
            np.full(1, first),
        )
        valid = np.ones(1, bool)
        self._taken = self._memory, timestep
        self._memory, decision = self._act(
            self._leaves, self._memory, timestep, valid, self._key, LANES, np.int32(self._t)
        )
        decision = jax.tree.map(np.asarray, decision)
        self._episode.append((timestep, decision))
        self._prev_action = np.asarray(self.spec.action_space.encode(decision.action))
        self._trial_start, self._t = False, self._t + 1
        return decision.action[0]

    def attention(self, num_steps: int) -> dict[str, Float[np.ndarray, "H N"]]:
        """Return the attention weights of the last `act`, by head and by how many steps ago.

        One entry for each layer that attends: none before the first `act`, and none of agents
        without such layers.
        """
        if self._taken is None or not isinstance(self.model, Model):
            return {}
        found = _attend(self.model, *self._taken, num_steps)
        return {name: np.asarray(weight) for name, weight in found.items()}

    def feature(self) -> Float[np.ndarray, " F"] | None:
        """Return the memory core's feature at the last `act`: what the policy was read from.

        None before the first `act`, and for agents without a memory core.
        """
        if self._taken is None or not isinstance(self.model, Model):
            return None
        return np.asarray(_feature(self.model, *self._taken))

    def _checked(self, name: str, obs: Any) -> Float[np.ndarray, " D"]:
        obs = np.asarray(obs, np.float32)
        if obs.shape != (self.spec.obs_size,):
            raise TrmrlError(
                f"{name} has shape {list(obs.shape)}, "
                f"{self.spec.name} expects [{self.spec.obs_size}]"
            )
        if not np.isfinite(obs).all():
            raise TrmrlError(f"{name} is not finite")
        return obs

    def _digest(self, final_obs: Float[np.ndarray, " D"], reward: float) -> None:
        """Let the agent adapt to the episode that is over; rows beyond its end are not valid."""
        rows = list(self._episode)
        later = [timestep for timestep, _ in rows[1:]]
        rewards = [timestep.prev_reward for timestep in later] + [np.full(1, reward, np.float32)]
        next_obs = [timestep.obs for timestep in later] + [final_obs[None]]
        last = np.arange(len(rows)) == len(rows) - 1

        def lay_out(*steps):
            """Return steps `[1, ...]` as `[H, 1, ...]`, zeros behind them."""
            found = np.zeros((self.spec.horizon, *steps[0].shape), steps[0].dtype)
            found[: len(steps)] = steps
            return found

        timesteps, decisions = zip(*rows, strict=True)
        over = lay_out(*last[:, None])
        episode = Trajectory(
            jax.tree.map(lay_out, *timesteps),
            jax.tree.map(lay_out, *decisions),
            Outcome(lay_out(*rewards), np.zeros_like(over), over, lay_out(*next_obs)),
            lay_out(*np.ones_like(last)[:, None]),
        )
        self._memory = self._adapt(self._leaves, self._memory, episode)
        self._episode.clear()


def load(
    path: str | Path, *, explore: bool = False, seed: int = 0, trust: bool = False
) -> Controller:
    """Return the trained agent of a run folder, of an export or of `pretrained/`, ready to act.

    Its actions are the policy's mode, or samples drawn with `seed` if `explore`. Raises
    `TrmrlError` if the folder holds no run or no checkpoint that fits it, or if it is somebody
    else's and names code to import, unless `trust`.
    """
    config, envs, model = restore_model(Run.open(find_agent(path)), trust=trust)
    return Controller(config.agent, model, envs.spec, explore=explore, seed=seed)
