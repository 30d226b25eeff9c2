"""What it costs to record what a drawing needs along a trial: `run_trial` with and without it.

    python benchmarks/recording.py [ENV] [AGENT] [NUM_LANES]

Prints milliseconds of this process's own time a trial with the recording off and on, the median of
trials in turns, and their ratio with the range of its middle half. And what off costs beside the
same trial again: the ratio of every other one, which says how far the numbers can be trusted.
"""

import sys
import time

import jax
import numpy as np

from trmrl import recipe
from trmrl.envs import make
from trmrl.trial import run_trial

ROUNDS = 15


def main() -> None:
    env = sys.argv[1] if len(sys.argv) > 1 else "half-cheetah-vel"
    name = sys.argv[2] if len(sys.argv) > 2 else "trmrl"
    num_lanes = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    envs, agent = make(env), recipe(env, name).agent
    model = jax.jit(lambda key: agent.init(envs.spec, key=key))(jax.random.key(0)).model
    tasks = envs.sample_tasks("train", num_lanes, key=jax.random.key(1))

    def play(model, tasks, record_view):
        key = jax.random.key(2)
        return run_trial(agent, model, envs, tasks, explore=True, record_view=record_view, key=key)

    ways = {
        name: envs.driver.jit(lambda model, tasks, on=on: play(model, tasks, on))
        for name, on in {"off": False, "on": True, "off again": False}.items()
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            begun = time.process_time()
            jax.block_until_ready(way(model, tasks))
            if number:  # the first compiles
                spent[name].append(time.process_time() - begun)
    off = np.array(spent["off"])
    for name, times in spent.items():
        low, middle, high = np.percentile(np.array(times) / off, [25, 50, 75])
        each = 1000 * np.median(times)
        print(f"{name:10}{each:9.1f} ms, ratio {middle:.3f} ({low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
