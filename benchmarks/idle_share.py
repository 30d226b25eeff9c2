"""How much of a slot-aligned trial is idle, and what doing nothing or acting at random scores.

    python benchmarks/idle_share.py [ENV...]

Two policies that learn nothing, on 100 test tasks, two episodes each; by default in the locomotion
worlds whose episodes may end early. Runs of trained agents log `idle_share` themselves.
"""

import sys

import jax
import numpy as np

from trmrl.envs import ENVS, make
from trmrl.envs.base import AbstractEnvs, keys_for

LANES, EPISODES, DEVIATION = 100, 2, 0.5


def play(envs: AbstractEnvs, deviation: float) -> tuple[float, float]:
    """Return the mean return of an episode, and the share of rows after an early end."""
    spec, noise = envs.spec, np.random.default_rng(0)
    tasks = envs.sample_tasks("test", LANES, key=jax.random.key(0))
    total, num_valid = 0.0, 0
    for episode in range(EPISODES):
        env_state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(episode)))
        valid = np.ones(LANES, bool)
        for _ in range(spec.horizon):
            action = deviation * noise.normal(size=(LANES, spec.action_space.size))
            env_state, outcome = envs.step(env_state, action)
            total += float(outcome.reward[valid].sum())
            num_valid += int(valid.sum())
            valid &= ~(outcome.terminated | outcome.truncated)
    rows = LANES * EPISODES * spec.horizon
    return total / (LANES * EPISODES), 1.0 - num_valid / rows


def early_ends() -> list[str]:
    specs = [make(name).spec for name in ENVS]
    return [spec.name for spec in specs if spec.family == "locomotion" and spec.ends_early]


def main() -> None:
    print("| family | policy | return of an episode | idle share |\n|---|---|---|---|")
    for name in sys.argv[1:] or early_ends():
        for policy, deviation in (("nothing", 0.0), ("noise", DEVIATION)):
            score, idle = play(make(name), deviation)
            print(f"| {name} | {policy} | {score:.1f} | {idle:.1%} |", flush=True)


if __name__ == "__main__":
    main()
