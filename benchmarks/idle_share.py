"""How much of a slot-aligned trial is idle, and what doing nothing or acting at random scores.

    python benchmarks/idle_share.py ant-dir humanoid-dir walker-rand-params hopper-rand-params

Lives here: two policies without a mind, on 100 test tasks of a host family, two episodes each.
Does not live here: trained agents, whose runs log `idle_share` themselves.
"""

import sys

import jax
import numpy as np

from trmrl.envs import make
from trmrl.envs._base import AbstractEnvs

LANES, EPISODES, DEVIATION = 100, 2, 0.5


def play(envs: AbstractEnvs, deviation: float) -> tuple[float, float]:
    """Return the mean return of an episode, and the share of rows after an early end."""
    spec, noise = envs.spec, np.random.default_rng(0)
    tasks = envs.sample_tasks("test", LANES, key=jax.random.key(0))
    total, lived = 0.0, 0
    for episode in range(EPISODES):
        env_state, _ = envs.reset(tasks, key=jax.random.key(episode))
        valid = np.ones(LANES, bool)
        for _ in range(spec.horizon):
            action = deviation * noise.normal(size=(LANES, spec.action_space.size))
            env_state, outcome = envs.step(env_state, action)
            total += float(outcome.reward[valid].sum())
            lived += int(valid.sum())
            valid &= ~(outcome.terminated | outcome.truncated)
    rows = LANES * EPISODES * spec.horizon
    return total / (LANES * EPISODES), 1.0 - lived / rows


def main() -> None:
    print("| family | policy | return of an episode | idle share |\n|---|---|---|---|")
    for name in sys.argv[1:]:
        for policy, deviation in (("nothing", 0.0), ("noise", DEVIATION)):
            score, idle = play(make(name), deviation)
            print(f"| {name} | {policy} | {score:.1f} | {idle:.1%} |", flush=True)


if __name__ == "__main__":
    main()
