"""Random tabular MDPs: 10 states, 5 actions, 10 steps (Duan et al., 2016, section 3.2).

The classical strategies that agents are compared with are in `references/tabular.py`.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from trmrl.envs.base import JAX, AbstractEnvs, Driver, split_keys
from trmrl.types import (
    Array,
    Discrete,
    EnvSpec,
    LaneKeys,
    Outcome,
    PRNGKey,
    TrmrlError,
    replace,
)

PATTERN = re.compile(r"tabular-n(\d+)")
NUM_STATES, NUM_ACTIONS, HORIZON = 10, 5, 10


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MDP:
    """A task: mean rewards from N(1, 1), transition probabilities from a flat Dirichlet."""

    reward: Float[Array, "B S A"]
    transition: Float[Array, "B S A S"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TabularState:
    """The MDP, the state each lane is in, the steps taken, and the randomness to come."""

    mdp: MDP
    state: Int[Array, " B"]
    clock: Int[Array, ""]
    key: LaneKeys


class Tabular(AbstractEnvs):
    """MDPs whose observation is the state, one-hot; every episode begins in state 0.

    A step in state s by action a pays N(mean[s, a], 1).
    """

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> MDP:
        """Draw MDPs; every split is the same continuous distribution, drawn afresh."""
        self.spec.check_split(split)
        reward_key, transition_key = jax.random.split(key)
        shape = num_tasks, NUM_STATES, NUM_ACTIONS
        # A flat Dirichlet is what exponentials are after division by their sum.
        share = jax.random.exponential(transition_key, (*shape, NUM_STATES))
        transition = share / share.sum(axis=-1, keepdims=True)
        return MDP(1.0 + jax.random.normal(reward_key, shape), transition)

    def reset(self, tasks: MDP, *, key: LaneKeys) -> tuple[TabularState, Float[Array, "B S"]]:
        """Begin an episode of each task."""
        state = jnp.zeros(tasks.reward.shape[0], jnp.int32)
        return TabularState(tasks, state, jnp.int32(0), key), _observe(state)

    def step(
        self, env_state: TabularState, action: Int[Array, " B"]
    ) -> tuple[TabularState, Outcome]:
        """Answer one action per lane."""
        mdp, state = env_state.mdp, env_state.state
        key, noise_key, move_key = split_keys(env_state.key, 3)
        lane = jnp.arange(state.shape[0])
        reward = mdp.reward[lane, state, action] + jax.vmap(jax.random.normal)(noise_key)
        chance = mdp.transition[lane, state, action]
        next_state = jax.vmap(jax.random.categorical)(move_key, jnp.log(chance)).astype(jnp.int32)
        clock = env_state.clock + 1
        truncated = jnp.broadcast_to(clock >= self.spec.horizon, state.shape)
        outcome = Outcome(reward, jnp.zeros_like(truncated), truncated, _observe(next_state))
        return TabularState(mdp, next_state, clock, key), outcome

    def change_task(self, env_state: TabularState, tasks: MDP) -> TabularState:
        """Return the state with other tasks."""
        return replace(env_state, mdp=tasks)

    def view(self, env_state: TabularState) -> Int[Array, " B"]:
        """Return the state each lane is in."""
        return env_state.state


def _observe(state: Int[Array, " B"]) -> Float[Array, "B S"]:
    return jax.nn.one_hot(state, NUM_STATES, dtype=jnp.float32)


def make(name: str) -> Tabular:
    """Return the MDPs that a name such as "tabular-n10" describes: trials of 10 episodes."""
    match = PATTERN.fullmatch(name)
    num_episodes = int(match[1]) if match else 0
    if num_episodes < 1:
        raise TrmrlError(f"{name!r} is no tabular MDP: expected tabular-nN, N episodes >= 1")
    spec = EnvSpec(
        name=name,
        family="tabular",
        obs_size=NUM_STATES,
        action_space=Discrete(NUM_ACTIONS),
        horizon=HORIZON,
        num_episodes=num_episodes,
        floor=10.0,  # random play
        ceiling=21.83,  # the MDP known, on average
        summary=f"{num_episodes} episodes in a random MDP of 10 states and 5 actions",
    )
    return Tabular(spec)
