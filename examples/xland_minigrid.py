"""XLand-MiniGrid with rulesets made here: a hidden one of five balls is the one to stand beside.

Needs `pip install xminigrid`; in this folder:

    trmrl train xland_minigrid:make --agent rl2 --steps 3000000

Five of six colors lie in a room, each episode in other places, and standing beside the right one
pays and ends the episode. Sets of colors and goals are divided between train and test.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import xminigrid
from xminigrid.core.constants import Tiles
from xminigrid.core.goals import AgentNearGoal
from xminigrid.core.rules import EmptyRule
from xminigrid.types import RuleSet

from trmrl.envs.finite import draw_rows, split_rows
from trmrl.envs.jax_env import from_jax
from trmrl.types import Discrete

SIZE, HORIZON = 9, 60
COLORS = np.arange(1, 7)
env, params = xminigrid.make("XLand-MiniGrid-R1-9x9")
params = params.replace(height=SIZE, width=SIZE, view_size=5, max_steps=HORIZON)

# Rows of five colors, the goal first.
ROWS = np.asarray(
    [
        (one[i], *one[:i], *one[i + 1 :])
        for one in itertools.combinations(COLORS, 5)
        for i in range(5)
    ]
)


def sample_tasks(split, num_tasks, key):
    rows = jnp.asarray(split_rows(ROWS, split))
    return {"colors": rows[draw_rows(len(rows), num_tasks, key=key)]}


def ruled(task):
    """The package's parameters with the task's rules: its goal, its balls, and nothing changes."""
    ball = lambda color: jnp.stack([jnp.full_like(color, Tiles.BALL), color]).astype(jnp.uint8)
    rules = RuleSet(
        goal=AgentNearGoal(tile=ball(task["colors"][0])).encode(),
        rules=EmptyRule().encode()[None],
        init_tiles=jax.vmap(ball)(task["colors"]),
    )
    return params.replace(ruleset=rules)


def observe(timestep):
    """Of each cell in view: whether it is wall, and the color of the ball there."""
    tile, color = timestep.observation[..., 0], timestep.observation[..., 1]
    colors = (color[..., None] == COLORS) & (tile == Tiles.BALL)[..., None]
    return {"wall": (tile == Tiles.WALL).astype(float), "ball": colors.astype(float)}


def reset(key, task):
    timestep = env.reset(ruled(task), key)
    return observe(timestep), timestep.replace(state=timestep.state.replace(key=None))


def step(key, state, action, task):
    timestep = env.step(ruled(task), state, action)
    terminated = timestep.discount == 0.0
    return observe(timestep), timestep, timestep.reward, terminated, terminated


def make():
    return from_jax(
        reset,
        step,
        sample_tasks,
        name="xland-near",
        action_space=Discrete(env.num_actions(params)),
        horizon=HORIZON,
        num_episodes=4,
        ends_early=True,
    )
