"""Gymnasium's CartPole with a motor whose direction and strength are hidden, and a hidden pole.

Needs `pip install 'trmrl[gymnasium]'`; in this folder:

    trmrl train gymnasium_cartpole:make --agent rl2 --steps 1000000
"""

import gymnasium

from trmrl.envs.gymnasium import from_gymnasium


def sample_tasks(split, num_tasks, noise):
    """Push right or left by 5 to 15 N; a pole of 0.5 to 2 m (half of it is CartPole's length)."""
    sign = noise.choice([-1.0, 1.0], num_tasks)
    return {
        "force": sign * noise.uniform(5.0, 15.0, num_tasks),
        "length": noise.uniform(0.25, 1.0, num_tasks),
    }


def set_task(env, task):
    cart = env.unwrapped
    cart.force_mag, cart.length = float(task["force"]), float(task["length"])
    cart.polemass_length = cart.masspole * cart.length  # which CartPole derives once


def make_env():
    return gymnasium.make("CartPole-v1", disable_env_checker=True)


def make():
    return from_gymnasium(make_env, sample_tasks, set_task, name="cartpole", horizon=100)
