"""What Meta-World's own scripts earn in its tasks: shown the goal, and shown where goals are."""

import warnings
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from trmrl.envs.base import AbstractEnvs, keys_for
from trmrl.envs.metaworld.family import MetaWorldEnvs, scene_names, script_of
from trmrl.references._base import Earned, Earning, draw_tasks
from trmrl.types import Task, TrmrlError


def measure(envs: AbstractEnvs, num_tasks: int, seed: int) -> Earned:
    """Return what each scene's script earns on test tasks, shown the goal at every step.

    And what one earns that remembers nothing. All episodes of a trial are alike. Raises
    `TrmrlError` for worlds that are not Meta-World's.
    """
    if not isinstance(envs, MetaWorldEnvs):
        raise TrmrlError(f"scripts are known for Meta-World's worlds, not for {envs.spec.name}")
    tasks, train = draw_tasks(envs, num_tasks, seed)
    goal = goals(envs, tasks)
    known: Earned = {"script, shown the goal": play(envs, tasks, goal)}
    return known | _guess(envs, tasks, goal, train)


def measure_without_memory(envs: AbstractEnvs, num_tasks: int, seed: int) -> Earned:
    """Return what each scene's script earns on test tasks, shown the mean of its train goals.

    Of a scene without train goals it is the mean of its test goals.
    """
    tasks, train = draw_tasks(envs, num_tasks, seed)
    return _guess(envs, tasks, goals(envs, tasks), train)


def _guess(envs: AbstractEnvs, tasks: Task, goal: Float[np.ndarray, "B 3"], train: Task) -> Earned:
    scene, train_scene = np.asarray(tasks["scene"]), np.asarray(train["scene"])
    mean = mean_goals(scene, goal, train_scene, goals(envs, train))
    return {"script, shown the mean goal": play(envs, tasks, mean)}


def goals(envs: AbstractEnvs, tasks: Task) -> Float[np.ndarray, "B 3"]:
    """Return where the tasks' goals are, meters."""
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    found: Any = envs.view(env_state)
    return found["goal"]


def mean_goals(
    scene: np.ndarray, goal: np.ndarray, train_scene: np.ndarray, train_goal: np.ndarray
) -> Float[np.ndarray, "B 3"]:
    """Return the mean of the train goals of each task's scene, else of its scene's own."""
    mean = np.empty_like(goal)
    for number in np.unique(scene):
        known = train_goal[train_scene == number]
        mean[scene == number] = (known if len(known) else goal[scene == number]).mean(axis=0)
    return mean


def play(envs: AbstractEnvs, tasks: Task, goal: Float[np.ndarray, "B 3"]) -> Earning:
    """Return what scripts earn that are shown these goals, and which trials succeed."""
    scenes = [scene_names()[number] for number in np.asarray(tasks["scene"])]
    policies = [script_of(scene) for scene in scenes]
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    total, succeeded = np.zeros(len(policies)), np.zeros(len(policies), bool)
    for _ in range(envs.spec.horizon):
        shown = np.concatenate([obs[:, :-3], goal], axis=1, dtype=np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it asks for more than actions allow
            rows = zip(policies, shown, strict=True)
            action = np.stack([policy.get_action(row) for policy, row in rows])
        env_state, outcome = envs.step(env_state, np.clip(action, -1.0, 1.0))
        obs = np.asarray(outcome.next_obs)
        total += outcome.reward
        succeeded |= np.asarray(outcome.success, bool)
    return Earning(envs.spec.num_episodes * total, success=succeeded)
