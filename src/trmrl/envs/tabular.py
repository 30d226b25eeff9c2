"""Random tabular MDPs: 10 states, 5 actions, 10 steps (Duan et al., 2016, section 3.2).

Lives here: the task, the transition and the reward, in pure JAX. Does not live here: the classical
strategies (`references/tabular.py`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from trmrl.envs._base import AbstractEnvs
from trmrl.types import Array, Discrete, EnvSpec, Outcome, PRNGKey, TrmrlError

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
    """The MDP, where each lane stands in it, the steps taken, and the randomness to come."""

    mdp: MDP
    place: Int[Array, " B"]
    clock: Int[Array, ""]
    key: PRNGKey


class Tabular(AbstractEnvs):
    """MDPs seen as a one-hot state; every episode begins in state 0 and ends by the clock.

    A step in state s by action a pays N(mean[s, a], 1).
    """

    scan: ClassVar[Callable] = staticmethod(jax.lax.scan)
    jit: ClassVar[Callable] = staticmethod(jax.jit)
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

    def reset(self, tasks: MDP, *, key: PRNGKey) -> tuple[TabularState, Float[Array, "B S"]]:
        """Stand in state 0."""
        place = jnp.zeros(tasks.reward.shape[0], jnp.int32)
        return TabularState(tasks, place, jnp.int32(0), key), _see(place)

    def step(
        self, env_state: TabularState, action: Int[Array, " B"]
    ) -> tuple[TabularState, Outcome]:
        """Answer one action per lane."""
        mdp, place = env_state.mdp, env_state.place
        key, noise_key, move_key = jax.random.split(env_state.key, 3)
        lane = jnp.arange(place.shape[0])
        reward = mdp.reward[lane, place, action] + jax.random.normal(noise_key, place.shape)
        chance = mdp.transition[lane, place, action]
        landed = jax.random.categorical(move_key, jnp.log(chance), axis=-1).astype(jnp.int32)
        clock = env_state.clock + 1
        truncated = jnp.broadcast_to(clock >= self.spec.horizon, place.shape)
        outcome = Outcome(reward, jnp.zeros_like(truncated), truncated, _see(landed))
        return TabularState(mdp, landed, clock, key), outcome

    def view(self, env_state: TabularState) -> Int[Array, " B"]:
        """Return the state each lane stands in."""
        return env_state.place


def _see(place: Int[Array, " B"]) -> Float[Array, "B S"]:
    return jax.nn.one_hot(place, NUM_STATES, dtype=jnp.float32)


def make(name: str) -> Tabular:
    """Return the MDPs that a name such as "tabular-n10" describes: trials of 10 episodes."""
    match = PATTERN.fullmatch(name)
    num_episodes = int(match[1]) if match else 0
    if num_episodes < 1:
        raise TrmrlError(f"{name!r} is no tabular MDP: expected tabular-nN, N episodes >= 1")
    spec = EnvSpec(
        name=name,
        obs_size=NUM_STATES,
        action_space=Discrete(NUM_ACTIONS),
        horizon=HORIZON,
        num_episodes=num_episodes,
        floor=10.0,  # random play
        ceiling=21.83,  # the MDP known, on average
        summary=f"{num_episodes} episodes in a random MDP of 10 states and 5 actions",
    )
    return Tabular(spec)
