"""The only place where an agent meets a world: K episodes of H steps on one task, with one memory.

The interaction is the same for JAX worlds and host worlds, and knows no particular agent or world.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PyTree

from trmrl.agents.base import AbstractAgent
from trmrl.envs.base import AbstractEnvs, lane_keys
from trmrl.types import Array, PRNGKey, Task, Timestep, Trajectory, Trial


@functools.lru_cache(maxsize=64)
def compiled_act(agent: AbstractAgent, treedef: Any, explore: bool) -> Callable:
    """Return `act` with idle lanes' memory frozen, compiled once per agent and kind of model.

    It is called as `act(leaves, memory, timestep, valid, key, lanes, t)`; at step `t` of an episode
    lane `n` draws from `fold_in(fold_in(key, t), n)`, whichever lanes are beside it. The model is a
    flat list of its leaves: on the host, dispatch is a good part of the cost of acting.
    """

    @jax.jit
    def act(leaves, memory, timestep, valid, key, lanes, t):
        model = jax.tree.unflatten(treedef, leaves)
        keys = lane_keys(jax.random.fold_in(key, t), lanes)
        new_memory, decision = agent.act(model, memory, timestep, explore=explore, key=keys)

        def freeze(new, old):
            if new is old:  # acting left it as it was
                return old
            return jnp.where(valid.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(freeze, new_memory, memory), decision

    return act


@functools.lru_cache(maxsize=64)
def compiled_adapt(agent: AbstractAgent, treedef: Any) -> Callable:
    """Return `adapt(leaves, memory, episode)`, compiled once per agent and kind of model."""

    @jax.jit
    def adapt(leaves, memory, episode):
        return agent.adapt(jax.tree.unflatten(treedef, leaves), memory, episode)

    return adapt


def run_trial(
    agent: AbstractAgent,
    model: PyTree,
    envs: AbstractEnvs,
    task: Task,
    *,
    task_id: Int[Array, " B"] | None = None,
    num_episodes: int | None = None,
    explore: bool,
    record_view: bool = False,
    first_lane: int = 0,
    key: PRNGKey,
) -> Trial:
    """Roll out one trial on each of `B` tasks; returns it with its rows `[K, H, B]`.

    A lane whose episode ends early idles to the end of its slot: its rows are marked
    `valid=False` and its memory is frozen. `num_episodes` defaults to the family's own `K`.
    `task_id` is carried along. With `record_view` the trial holds what a drawing needs. What a lane
    draws depends on the key and on its number, which counts from `first_lane`: the lanes of a batch
    may be rolled out together or in parts.
    """
    space, horizon = envs.spec.action_space, envs.spec.horizon
    num_episodes = num_episodes or envs.spec.num_episodes
    num_lanes = jax.tree.leaves(task)[0].shape[0]
    leaves, treedef = jax.tree.flatten(model)
    act, adapt = compiled_act(agent, treedef, explore), compiled_adapt(agent, treedef)
    step, look = envs.step, envs.view  # bound once: reaching an Equinox module's method takes time
    yes, no = np.ones(num_lanes, bool), np.zeros(num_lanes, bool)
    lane = np.arange(num_lanes, dtype=np.int32)
    lanes, steps = first_lane + lane, np.arange(horizon, dtype=np.int32)

    def episode(carry, k):
        memory, prev_action, prev_reward, trial_start = carry
        reset_key, act_key = jax.random.split(jax.random.fold_in(key, k))
        env_state, obs = envs.reset(task, key=lane_keys(reset_key, lanes))
        timestep = Timestep(obs, prev_action, prev_reward, yes, trial_start)

        def interact(carry, t):
            env_state, memory, timestep, valid = carry
            view = look(env_state) if record_view else None
            memory, decision = act(leaves, memory, timestep, valid, act_key, lanes, t)
            env_state, outcome = step(env_state, decision.action)
            row = Trajectory(timestep, decision, outcome, valid)
            action = space.encode(decision.action)
            timestep = Timestep(outcome.next_obs, action, outcome.reward, no, no)
            valid = valid & ~(outcome.terminated | outcome.truncated)
            return (env_state, memory, timestep, valid), (row, view)

        carry = env_state, memory, timestep, yes
        (_, memory, _, _), (rows, view) = envs.driver.scan(interact, carry, steps)
        memory = adapt(leaves, memory, rows)
        last = rows.valid.sum(axis=0) - 1, lane
        action = space.encode(rows.decision.action[last])
        return (memory, action, rows.outcome.reward[last], no), (rows, view)

    nothing = np.zeros((num_lanes, space.size), np.float32), np.zeros(num_lanes, np.float32)
    carry = agent.start(model, num_lanes), *nothing, yes
    _, (rows, view) = envs.driver.scan(episode, carry, np.arange(num_episodes, dtype=np.int32))
    return Trial(rows, task, task_id, view)
