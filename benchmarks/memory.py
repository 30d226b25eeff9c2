"""What acting costs as a trial grows longer: TrMRL over the whole trial, against its cache.

    python benchmarks/memory.py [--pulls 50 100 200 400 800] [--lanes 64]

Plays trials of bandits of that many pulls and prints, for each length, the time of one step of all
lanes, and the same over that of the shortest. With a cache a step looks once at what is remembered,
so doubling the trial at most doubles a step; reading the trial again at every step would make it
four times as long. A GRU, which remembers in a vector, stands beside it.
"""

import argparse

import jax

from trmrl import make, recipe, run_trial
from trmrl.bench import median_seconds

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--pulls", type=int, nargs="+", default=[50, 100, 200, 400, 800])
parser.add_argument("--lanes", type=int, default=64)
parser.add_argument("--agents", nargs="+", default=["trmrl", "gtrxl", "snail", "rl2"])


def step_seconds(agent_name: str, num_pulls: int, num_lanes: int) -> float:
    env = f"bandit-n{num_pulls}-k5"
    agent, envs = recipe(env, agent_name).agent, make(env)
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    tasks = envs.sample_tasks("train", num_lanes, key=jax.random.key(1))
    play = envs.driver.jit(
        lambda model, key: run_trial(agent, model, envs, tasks, explore=True, key=key)
    )
    return median_seconds(lambda: play(model, jax.random.key(2)), repeats=3) / num_pulls


def main() -> None:
    options = parser.parse_args()
    print(f"{'agent':8} {'pulls':>6} {'us a step':>10} {'ratio':>6}")
    for agent_name in options.agents:
        first = None
        for num_pulls in options.pulls:
            seconds = step_seconds(agent_name, num_pulls, options.lanes)
            first = first or seconds
            print(f"{agent_name:8} {num_pulls:6} {1e6 * seconds:10.0f} {seconds / first:6.2f}")


if __name__ == "__main__":
    main()
