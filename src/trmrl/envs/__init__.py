"""The menu of worlds: a name is one MDP. Their modules are imported when they are asked for."""

import difflib
import importlib
from collections.abc import Callable

from trmrl.envs.base import AbstractEnvs
from trmrl.envs.imported import import_envs, is_import_path
from trmrl.types import TrmrlError, replace


def _lazily(module: str, maker: str, *args: str) -> Callable[..., AbstractEnvs]:
    """Return a maker that imports its module when it is called."""
    imported = lambda: importlib.import_module(f"trmrl.envs.{module}")
    return lambda *more: getattr(imported(), maker)(*args, *more)


ENVS: dict[str, Callable[[], AbstractEnvs]] = {
    "bandit-n10-k5": _lazily("bandit", "make", "bandit-n10-k5"),
    "bandit-n100-k10": _lazily("bandit", "make", "bandit-n100-k10"),
    "tabular-n10": _lazily("tabular", "make", "tabular-n10"),
    "grid-navi": _lazily("grid", "grid_navi"),
    "dark-room": _lazily("grid", "dark_room"),
    "dark-key-to-door": _lazily("grid", "dark_key_to_door"),
    "multi-stage-rooms": _lazily("grid", "multi_stage_rooms"),
    "recipe-room": _lazily("recipe_room", "recipe_room"),
    "point-robot": _lazily("point", "point_robot"),
    "point-robot-sparse": _lazily("point", "point_robot_sparse"),
    "semicircle": _lazily("point", "semicircle"),
    "navigation-2d": _lazily("point", "navigation_2d"),
    "treasure-hunt": _lazily("treasure", "treasure_hunt"),
    "half-cheetah-vel": _lazily("mujoco.cheetah", "half_cheetah_vel"),
    "half-cheetah-dir": _lazily("mujoco.cheetah", "half_cheetah_dir"),
    "half-cheetah-dir-sparse": _lazily("mujoco.cheetah", "half_cheetah_dir_sparse"),
    "half-cheetah-vel-delayed": _lazily("mujoco.cheetah", "half_cheetah_vel_delayed"),
    "half-cheetah-crippled": _lazily("mujoco.cheetah", "half_cheetah_crippled"),
    "half-cheetah-payload": _lazily("mujoco.cheetah", "half_cheetah_payload"),
    "ant-dir": _lazily("mujoco.ant", "ant_dir"),
    "ant-dir-radian": _lazily("mujoco.ant", "ant_dir_radian"),
    "ant-goal": _lazily("mujoco.ant", "ant_goal"),
    "ant-goal-sparse": _lazily("mujoco.ant", "ant_goal_sparse"),
    "humanoid-dir": _lazily("mujoco.humanoid", "humanoid_dir"),
    "walker-rand-params": _lazily("mujoco.rand_params", "walker_rand_params"),
    "hopper-rand-params": _lazily("mujoco.rand_params", "hopper_rand_params"),
}
# Worlds whose names carry numbers, by the beginning of the name.
PATTERNS: dict[str, Callable[[str], AbstractEnvs]] = {
    "bandit-": _lazily("bandit", "make"),
    "tabular-": _lazily("tabular", "make"),
    "ml1-": _lazily("metaworld.family", "make"),
    "ml10": _lazily("metaworld.family", "make"),
    "ml25": _lazily("metaworld.family", "make"),
    "ml45": _lazily("metaworld.family", "make"),
}


def make(name: str, num_episodes: int = 0) -> AbstractEnvs:
    """Return worlds by name; in `name+task`, agents observe the task itself (the oracle).

    A name with a colon is an import path, `package.module:attribute`. A trial has `num_episodes`,
    or the worlds' own number (0). Raises `TrmrlError` on an unknown
    name, with the nearest ones.
    """
    base, plus, suffix = name.partition("+")
    makers = [make for start, make in PATTERNS.items() if base.startswith(start)]
    makers += [import_envs] * is_import_path(base)
    if (base not in ENVS and not makers) or (plus and suffix != "task"):
        near = difflib.get_close_matches(base, ENVS, n=3, cutoff=0.4) or list(ENVS)
        raise TrmrlError(f"unknown env {name!r}: did you mean {', '.join(near)}?")
    envs = ENVS[base]() if base in ENVS else makers[0](base)
    if num_episodes:
        envs = replace(envs, spec=replace(envs.spec, num_episodes=num_episodes))
    if not plus:
        return envs
    from trmrl.envs.oracle import show_task

    return show_task(envs)
