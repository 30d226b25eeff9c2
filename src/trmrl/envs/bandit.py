"""Bernoulli bandits: `n` pulls of `k` arms, one pull an episode (Duan et al., 2016, section 3.1).

The classical strategies that agents are compared with are in `references/bandit.py`.
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

PATTERN = re.compile(r"bandit-n(\d+)-k(\d+)")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Arms:
    """A task: the probability that each arm pays 1 (else 0), drawn from U[0, 1]."""

    mean: Float[Array, "B K"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BanditState:
    """The arms, and the randomness of the pull to come."""

    arms: Arms
    key: LaneKeys


class Bandit(AbstractEnvs):
    """Arms to pull; there is nothing to observe, so the observation is a constant zero."""

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Arms:
        """Draw arms; every split is the same continuous distribution, drawn afresh."""
        self.spec.check_split(split)
        return Arms(jax.random.uniform(key, (num_tasks, self.spec.action_space.size)))

    def reset(self, tasks: Arms, *, key: LaneKeys) -> tuple[BanditState, Float[Array, "B 1"]]:
        """Begin a pull of each task."""
        return BanditState(tasks, key), jnp.zeros((tasks.mean.shape[0], 1))

    def step(self, env_state: BanditState, action: Int[Array, " B"]) -> tuple[BanditState, Outcome]:
        """Pull one arm per lane, which ends the episode."""
        key, pull_key = split_keys(env_state.key, 2)
        chance = jnp.take_along_axis(env_state.arms.mean, action[:, None], axis=1)[:, 0]
        reward = (jax.vmap(jax.random.uniform)(pull_key) < chance).astype(jnp.float32)
        ended = jnp.ones(chance.shape, bool)
        outcome = Outcome(reward, ended, ~ended, jnp.zeros((chance.shape[0], 1)))
        return BanditState(env_state.arms, key), outcome

    def change_task(self, env_state: BanditState, tasks: Arms) -> BanditState:
        """Return the state with other tasks."""
        return replace(env_state, arms=tasks)

    def view(self, env_state: BanditState) -> Float[Array, "B K"]:
        """Return the arms' means."""
        return env_state.arms.mean


def make(name: str) -> Bandit:
    """Return the bandits that a name such as "bandit-n10-k5" describes: 10 pulls of 5 arms."""
    match = PATTERN.fullmatch(name)
    num_pulls, num_arms = map(int, match.groups()) if match else (0, 0)
    if num_pulls < 1 or num_arms < 2:
        raise TrmrlError(
            f"{name!r} is no bandit: expected bandit-nN-kK, N pulls >= 1 of K >= 2 arms"
        )
    spec = EnvSpec(
        name=name,
        family="bandit",
        obs_size=1,
        action_space=Discrete(num_arms),
        horizon=1,
        num_episodes=num_pulls,
        task_size=num_arms,
        floor=0.5,
        ceiling=num_arms / (num_arms + 1),
        summary=f"{num_pulls} pulls of {num_arms} Bernoulli arms, one pull an episode",
    )
    return Bandit(spec)
