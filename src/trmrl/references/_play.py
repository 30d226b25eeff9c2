"""Trials of a rule that may use the task, played in the JAX worlds themselves.

The rules for particular worlds are in `navigation.py`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trmrl.envs.base import AbstractEnvs, keys_for
from trmrl.types import Array, Continuous, EnvState, PRNGKey, Task

Rule = Callable[[EnvState, PRNGKey], Array]


def play_trials(
    envs: AbstractEnvs, tasks: Task, rule: Rule, *, key: PRNGKey
) -> Float[np.ndarray, " B"]:
    """Return the total reward of a trial on each task; `rule(env_state, key)` gives all actions."""
    num_lanes = jax.tree.leaves(tasks)[0].shape[0]
    horizon = envs.spec.horizon

    def episode(tasks: Any, key: PRNGKey) -> Float[jax.Array, " B"]:
        reset_key, act_key = jax.random.split(key)
        env_state, _ = envs.reset(tasks, key=keys_for(tasks, reset_key))

        def interact(carry, step_key):
            env_state, valid = carry
            env_state, outcome = envs.step(env_state, rule(env_state, step_key))
            ended = jnp.logical_or(outcome.terminated, outcome.truncated)
            return (env_state, valid & ~ended), jnp.where(valid, outcome.reward, 0.0)

        carry = env_state, jnp.ones(num_lanes, bool)
        _, reward = envs.driver.scan(interact, carry, jax.random.split(act_key, horizon))
        return reward.sum(axis=0)

    compiled = envs.driver.jit(episode)
    total = np.zeros(num_lanes)
    for episode_key in jax.random.split(key, envs.spec.num_episodes):
        total += np.asarray(compiled(tasks, episode_key), np.float64)
    return total


def random_play(envs: AbstractEnvs, num_lanes: int) -> Rule:
    """Return the rule that takes any action: one of a list, or uniform in [-1, 1] per axis."""
    space = envs.spec.action_space

    def rule(env_state: EnvState, key: PRNGKey) -> Array:
        if isinstance(space, Continuous):
            return jax.random.uniform(key, (num_lanes, space.size), jnp.float32, -1.0, 1.0)
        return jax.random.randint(key, (num_lanes,), 0, space.size)

    return rule
