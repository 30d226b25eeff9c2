"""The only place where an agent meets a world: K episodes of H steps on one task, with one memory.

Lives here: the interaction, for JAX worlds and host worlds alike. Does not live here: learning,
scores, or any knowledge of a particular agent or world.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from trmrl.agents._base import AbstractAgent
from trmrl.envs._base import AbstractEnvs
from trmrl.types import PRNGKey, Task, Timestep, Trajectory


@functools.lru_cache(maxsize=64)
def compiled_act(agent: AbstractAgent, treedef: Any, explore: bool) -> Callable:
    """Return `act` with idle lanes' memory frozen, compiled once per agent and kind of model.

    It is called as `act(leaves, memory, timestep, valid, key, t)`; step `t` of an episode draws
    from `fold_in(key, t)`. The model travels as a flat list of its leaves: on the host, dispatch
    is a good part of the cost of acting.
    """

    @jax.jit
    def act(leaves, memory, timestep, valid, key, t):
        model = jax.tree.unflatten(treedef, leaves)
        step_key = jax.random.fold_in(key, t)
        seen, decision = agent.act(model, memory, timestep, explore=explore, key=step_key)

        def freeze(new, old):
            if new is old:  # acting left it as it was
                return old
            return jnp.where(valid.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(freeze, seen, memory), decision

    return act


@functools.lru_cache(maxsize=64)
def compiled_adapt(agent: AbstractAgent, treedef: Any) -> Callable:
    """Return `adapt(leaves, memory, episode, key)`, compiled once per agent and kind of model."""

    @jax.jit
    def adapt(leaves, memory, episode, key):
        return agent.adapt(jax.tree.unflatten(treedef, leaves), memory, episode, key=key)

    return adapt


def sample_tasks(
    agent: AbstractAgent, envs: AbstractEnvs, split: str, num_tasks: int, *, key: PRNGKey
) -> Task:
    """Draw tasks, each for as many neighboring lanes as the agent asks for."""
    tasks = envs.sample_tasks(split, num_tasks, key=key)
    if agent.lanes_per_task == 1:
        return tasks
    return jax.tree.map(lambda x: x.repeat(agent.lanes_per_task, axis=0), tasks)


def run_trial(
    agent: AbstractAgent,
    model: PyTree,
    envs: AbstractEnvs,
    tasks: Task,
    *,
    num_episodes: int | None = None,
    explore: bool,
    key: PRNGKey,
) -> Trajectory:
    """Live one trial on each of `B` tasks; returns a `[K, H, B]` trajectory.

    A lane whose episode ends early idles to the end of its slot: its rows are marked
    `valid=False` and its memory is frozen. `num_episodes` defaults to the family's own `K`.
    """
    space, horizon = envs.spec.action_space, envs.spec.horizon
    num_episodes = num_episodes or envs.spec.num_episodes
    num_lanes = jax.tree.leaves(tasks)[0].shape[0]
    leaves, treedef = jax.tree.flatten(model)
    act, adapt = compiled_act(agent, treedef, explore), compiled_adapt(agent, treedef)
    step = envs.step  # bound once: reaching a method of an Equinox module takes time
    yes, no = np.ones(num_lanes, bool), np.zeros(num_lanes, bool)
    lanes, steps = np.arange(num_lanes), np.arange(horizon, dtype=np.int32)

    def episode(carry, k):
        memory, prev_action, prev_reward, trial_start = carry
        reset_key, act_key, adapt_key = jax.random.split(jax.random.fold_in(key, k), 3)
        env_state, obs = envs.reset(tasks, key=reset_key)
        timestep = Timestep(obs, prev_action, prev_reward, yes, trial_start)

        def interact(carry, t):
            env_state, memory, timestep, valid = carry
            memory, decision = act(leaves, memory, timestep, valid, act_key, t)
            env_state, outcome = step(env_state, decision.action)
            row = Trajectory(timestep, decision, outcome, valid)
            action = space.encode(decision.action)
            timestep = Timestep(outcome.next_obs, action, outcome.reward, no, no)
            valid = valid & ~(outcome.terminated | outcome.truncated)
            return (env_state, memory, timestep, valid), row

        carry = env_state, memory, timestep, yes
        (_, memory, _, _), rows = envs.scan(interact, carry, steps)
        memory = adapt(leaves, memory, rows, adapt_key)
        last = rows.valid.sum(axis=0) - 1, lanes
        action = space.encode(rows.decision.action[last])
        return (memory, action, rows.outcome.reward[last], no), rows

    nothing = np.zeros((num_lanes, space.size), np.float32), np.zeros(num_lanes, np.float32)
    carry = agent.start(model, num_lanes), *nothing, yes
    _, trial = envs.scan(episode, carry, np.arange(num_episodes, dtype=np.int32))
    return trial
