"""Trials of a rule that may look at the task, lived in the JAX worlds themselves.

Lives here: `live_trials`, `random_play`. Does not live here: any rule for a particular world.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trmrl.envs._base import AbstractEnvs
from trmrl.types import Array, Continuous, EnvState, PRNGKey, Task

Rule = Callable[[EnvState, PRNGKey], Array]


def live_trials(
    envs: AbstractEnvs, tasks: Task, rule: Rule, *, key: PRNGKey
) -> Float[np.ndarray, " B"]:
    """Return the total reward of a trial on each task; `rule(env_state, key)` plays all lanes."""
    num_lanes = jax.tree.leaves(tasks)[0].shape[0]
    horizon = envs.spec.horizon

    def episode(tasks: Any, key: PRNGKey) -> Float[jax.Array, " B"]:
        reset_key, act_key = jax.random.split(key)
        env_state, _ = envs.reset(tasks, key=reset_key)

        def interact(carry, step_key):
            env_state, valid = carry
            env_state, outcome = envs.step(env_state, rule(env_state, step_key))
            ended = jnp.logical_or(outcome.terminated, outcome.truncated)
            return (env_state, valid & ~ended), jnp.where(valid, outcome.reward, 0.0)

        carry = env_state, jnp.ones(num_lanes, bool)
        _, reward = envs.scan(interact, carry, jax.random.split(act_key, horizon))
        return reward.sum(axis=0)

    compiled = envs.jit(episode)
    total = np.zeros(num_lanes)
    for episode_key in jax.random.split(key, envs.spec.num_episodes):
        total += np.asarray(compiled(tasks, episode_key), np.float64)
    return total


def random_play(envs: AbstractEnvs, num_lanes: int) -> Rule:
    """Return the rule that takes any action: of a list, or uniformly from [-1, 1] per axis."""
    space = envs.spec.action_space

    def rule(env_state: EnvState, key: PRNGKey) -> Array:
        if isinstance(space, Continuous):
            return jax.random.uniform(key, (num_lanes, space.size), jnp.float32, -1.0, 1.0)
        return jax.random.randint(key, (num_lanes,), 0, space.size)

    return rule
