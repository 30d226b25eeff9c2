"""Speed as ratios measured in one run, on the machine at hand.

    python benchmarks/speed.py            (the torch row needs `pip install trmrl[bench]`)

Prints one line per ratio, and the same as JSON with --json FILE:

learner      FLOP/s of one update over bare matrix products of the same shapes
collect      env steps/s of a trial at 64 lanes over `mj_step` alone, same threads
end to end   env steps/s of recipe `paper` over a PyTorch rendering of the published arithmetic

Run it on an idle machine: each ratio takes its two halves in turns, and reports medians.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--rounds", type=int, default=3, help="how often each ratio is measured")
parser.add_argument("--fraction", type=float, default=0.1, help="of the PyTorch epoch to run")
parser.add_argument("--json", type=Path, help="also write the results here")
parser.add_argument("--no-torch", action="store_true", help="leave the PyTorch row out")


def learner(rounds: int) -> dict[str, float]:
    import jax

    from trmrl import make, recipe, run_trial
    from trmrl.bench import learner_rates

    config = recipe("half-cheetah-vel", name="paper")
    envs, agent = make(config.env), config.agent
    learner = agent.init(envs.spec, key=jax.random.key(0))
    tasks = envs.sample_tasks("train", config.num_lanes, key=jax.random.key(1))
    trial = run_trial(agent, learner.model, envs, tasks, explore=True, key=jax.random.key(2))
    rates = [learner_rates(agent, learner, trial) for _ in range(rounds)]
    return {
        "gflops": statistics.median(rate for rate, _ in rates) / 1e9,
        "gemm_gflops": statistics.median(peak for _, peak in rates) / 1e9,
        "ratio": statistics.median(rate / peak for rate, peak in rates),
    }


def collection(rounds: int, num_lanes: int = 64) -> dict[str, float]:
    import jax

    from trmrl import make, recipe, run_trial
    from trmrl.envs.mujoco._batch import Lanes, usable_cores

    config = recipe("half-cheetah-vel")
    envs, agent = make(config.env), config.agent
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    tasks = envs.sample_tasks("train", num_lanes, key=jax.random.key(1))
    steps = envs.spec.trial_length
    lanes = Lanes("physics", "half_cheetah.xml", num_lanes, frame_skip=5)
    draw = np.random.default_rng(0)
    actions = draw.uniform(-1, 1, (steps, num_lanes, 6))

    def physics() -> None:
        lanes.reset(np.zeros((num_lanes, 9)), np.zeros((num_lanes, 9)))
        for action in actions:
            lanes._ctrl[:] = action
            lanes._batch.step(nstep=5)

    def trial() -> None:
        run_trial(agent, model, envs, tasks, explore=True, key=jax.random.key(2))

    trial()
    seconds = [(_seconds(physics), _seconds(trial)) for _ in range(rounds)]
    count = steps * num_lanes
    return {
        "threads": usable_cores(),
        "env_steps_per_s": count / statistics.median(whole for _, whole in seconds),
        "physics_per_s": count / statistics.median(alone for alone, _ in seconds),
        "ratio": statistics.median(alone / whole for alone, whole in seconds),
    }


def end_to_end(rounds: int, fraction: float) -> dict[str, float]:
    import jax

    from trmrl import make, recipe
    from trmrl.train import build_iteration, fresh_state

    sys.path.insert(0, str(Path(__file__).parent))
    from torch_rendering import measure

    config = recipe("half-cheetah-vel", name="paper")
    envs = make(config.env)
    train_state = fresh_state(config.agent, envs.spec, seed=0)
    iterate = build_iteration(config.agent, envs, config.num_lanes)
    train_state, _ = jax.block_until_ready(iterate(train_state))
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(measure(threads=os.cpu_count() or 1, fraction=fraction)["env_steps_per_s"])
        ours.append(8_000 / _seconds(lambda: jax.block_until_ready(iterate(train_state))))
    return {
        "env_steps_per_s": statistics.median(ours),
        "torch_env_steps_per_s": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
    }


def _seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    options = parser.parse_args()
    results: dict[str, object] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    results["learner"] = learner(options.rounds)
    print("learner   ", results["learner"], flush=True)
    results["collect"] = collection(options.rounds)
    print("collect   ", results["collect"], flush=True)
    if not options.no_torch:
        results["end_to_end"] = end_to_end(options.rounds, options.fraction)
        print("end to end", results["end_to_end"], flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
