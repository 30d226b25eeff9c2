"""Meta-World's speed: our lanes over the package's own vector environment, in one run.

    taskset -c 1 python benchmarks/metaworld_speed.py [--tasks reach push] [--many ml10]

Prints one line for each task, and for each benchmark of many the mean over its train scenes:

ours        us of processor time per env step, observations and rewards included
shipped     the same of `gymnasium.vector.SyncVectorEnv` over the original class
physics     of ours, `mujoco.batch` alone
reset       us of a lane whose start is known

Both take the same random actions, in turns; each number is the least of the rounds. The originals
run on the MuJoCo of this machine, of which they set the welds as it wants them.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--tasks", nargs="*", default=["reach", "push", "pick-place"])
parser.add_argument("--many", nargs="*", default=["ml10"], help="ml10, ml25 or ml45")
parser.add_argument("--lanes", type=int, default=32, help="of a scene")
parser.add_argument("--shipped-lanes", type=int, default=4)
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--json", type=Path, help="also write the results here")


def patch_welds() -> None:
    from metaworld.sawyer_xyz_env import SawyerMocapBase

    def reset_mocap_welds(self: Any) -> None:
        welds = self.model.eq_type == mujoco.mjtEq.mjEQ_WELD.value  # pyright: ignore
        self.model.eq_data[welds] = 0
        self.model.eq_data[welds, :11] = [0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5]

    SawyerMocapBase.reset_mocap_welds = reset_mocap_welds


def shipped_envs(name: str, layouts: np.ndarray) -> Any:
    import gymnasium
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    def one(layout: np.ndarray) -> Callable[[], Any]:
        def make() -> Any:
            env = ALL_V3_ENVIRONMENTS[name]()
            env._set_task_called, env._freeze_rand_vec = True, True
            env._last_rand_vec = layout
            return gymnasium.wrappers.TimeLimit(env, env.max_path_length)

        return make

    return gymnasium.vector.SyncVectorEnv([one(layout) for layout in layouts])


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    from trmrl.envs.metaworld._lanes import Lanes
    from trmrl.envs.metaworld._original import load_scene

    scene, noise = load_scene(name), np.random.default_rng(0)
    layouts = np.stack([scene.draw(noise.uniform) for _ in range(options.lanes)])
    lanes = Lanes(scene, options.lanes, 1)
    envs = shipped_envs(name, layouts[: options.shipped_lanes])
    actions = noise.uniform(-1, 1, (options.steps, options.lanes, 4)).astype(np.float32)
    lanes.reset(layouts)
    state = lanes._state.copy()

    def ours() -> None:
        for action in actions:
            lanes.step(action)

    def shipped() -> None:
        for action in actions:
            envs.step(action[: options.shipped_lanes])

    def physics() -> None:
        for action in actions:
            moved = lanes._mocap_pos[:, 0] + 0.01 * action[:, :3]
            lanes._mocap_pos[:, 0] = np.clip(moved, *lanes._reach)
            lanes._ctrl[:, 0], lanes._ctrl[:, 1] = action[:, 3], -action[:, 3]
            lanes._batch.step(nstep=5)

    found: dict[str, list[float]] = {"ours": [], "shipped": [], "physics": [], "reset": []}
    for _ in range(options.rounds):
        found["reset"].append(seconds(lambda: lanes.reset(layouts)) / options.lanes)
        found["ours"].append(seconds(ours) / options.steps / options.lanes)
        lanes._state[:] = state
        found["physics"].append(seconds(physics) / options.steps / options.lanes)
        envs.reset()
        found["shipped"].append(seconds(shipped) / options.steps / options.shipped_lanes)
    envs.close()
    result = {part: round(1e6 * min(times), 1) for part, times in found.items()}
    return {**result, "ratio": round(result["shipped"] / result["ours"], 2)}


def seconds(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def main() -> None:
    from trmrl.envs.metaworld.splits import scenes_of

    options = parser.parse_args()
    warnings.simplefilter("ignore")
    patch_welds()
    results = {}
    for task in options.tasks:
        results[task] = measure(f"{task}-v3", options)
        print(f"{task:12}", results[task], flush=True)
    for name in options.many:
        rows = [measure(scene, options) for scene in scenes_of(name.upper(), "train")]
        mean = {part: round(float(np.mean([row[part] for row in rows])), 1) for part in rows[0]}
        results[name] = {**mean, "ratio": round(mean["shipped"] / mean["ours"], 2)}
        print(f"{name:12}", results[name], flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
