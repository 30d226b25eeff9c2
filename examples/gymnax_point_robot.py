"""Gymnax's PointRobot with its goal hidden for a whole trial, trained in one compiled loop.

Needs `pip install 'trmrl[gymnax]'`; in this folder:

    trmrl train gymnax_point_robot:make --agent rl2 --steps 2000000

Its own `reset_env` draws another goal in every episode; here the goal is the task. A robot that
reached the goal is put somewhere else, so it can be paid again.
"""

import gymnax
import jax
import jax.numpy as jnp

from trmrl.envs.jax_env import from_jax
from trmrl.types import Continuous

env, params = gymnax.make("PointRobot-misc")


def sample_tasks(split, num_tasks, key):
    angle = jax.random.uniform(key, (num_tasks,), maxval=jnp.pi)
    return {"goal": jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)}


def reset(key, task):
    obs, state = env.reset_env(key, params)
    return obs, state.replace(goal=task["goal"])


def step(key, state, action, task):
    obs, state, reward, terminated, _ = env.step_env(key, state, params.max_force * action, params)
    return obs, state, reward, terminated


def make():
    return from_jax(
        reset, step, sample_tasks, name="gymnax-point", action_space=Continuous(2), horizon=50
    )
