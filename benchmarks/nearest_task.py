"""How near the task whose memory is nearest to an agent's is to the hidden one, by step of a trial.

    python benchmarks/nearest_task.py RUN [NUM_MAPPED]

Of 16 other tasks: the mean distance, in the task's first number, of the nearest of the mapped ones
(64), with means over the last episode on the map, and with memories of the last step instead.
"""

import sys

import jax
import numpy as np

from trmrl.analyze.latents import map_memories
from trmrl.analyze.subject import Subject, differing_numbers, replay
from trmrl.pretrained import find_agent
from trmrl.run import Run
from trmrl.train import restore_model

NUM_HIDDEN = 16


def main() -> None:
    config, envs, model = restore_model(Run.open(find_agent(sys.argv[1])), trust=False)
    num_mapped = int(sys.argv[2]) if len(sys.argv) > 2 else 64

    def play(tasks, subject):
        rows = subject.roll_out(tasks).rows
        return replay(subject.network, rows, lambda record, feature: feature).astype(float)

    mapped = Subject(config.agent, model, envs, num_mapped)
    hidden = Subject(config.agent, model, envs, NUM_HIDDEN, seed=1)
    tasks = hidden.tasks(NUM_HIDDEN)
    found = map_memories(mapped)
    joined = jax.tree.map(lambda x, y: np.concatenate([x, y]), found.tasks, tasks)
    number = next(iter(differing_numbers(joined).values()))
    known, wanted = number[:-NUM_HIDDEN], number[-NUM_HIDDEN:]
    feature = play(tasks, hidden)
    maps = {"means": found.memory, "last step": play(found.tasks, mapped)[-1]}
    horizon = envs.spec.horizon
    steps = [1, horizon // 10, horizon // 2, horizon, horizon + horizon // 10, 2 * horizon]
    print("steps taken  " + "  ".join(f"{name:>9}" for name in maps))
    for step in [step for step in steps if step <= len(feature)]:
        off = []
        for memory in maps.values():
            distance = np.square(feature[step - 1][:, None] - memory).sum(axis=-1)
            off.append(np.abs(known[distance.argmin(axis=1)] - wanted).mean())
        print(f"{step:11}  " + "  ".join(f"{one:9.2f}" for one in off), flush=True)


if __name__ == "__main__":
    main()
