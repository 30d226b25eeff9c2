"""Where Meta-World's tasks come from: goals of the benchmark, and goals that it does not have."""

import functools

import numpy as np
from jaxtyping import Float

from trmrl.envs.metaworld import _install
from trmrl.envs.metaworld._original import load_scene

NUM_GOALS = 50  # of each scene in a split
# `ML1(seed=s).test_tasks` equals `ML1(seed=s + 1).train_tasks`: were it the seed of a training, one
# run would be tested on what another was trained on.
TASK_SEED = 0

Layouts = Float[np.ndarray, "G V"]


def num_numbers(names: tuple[str, ...]) -> int:
    """Return how many numbers hold a layout of any of some scenes."""
    return max(len(load_scene(name).low) for name in names)


def scenes_of(benchmark: str, split: str) -> tuple[str, ...]:
    """Return the scenes of a split ("train", "test") of "ML10", "ML25" or "ML45", by name."""
    return tuple(getattr(_install.load(), f"{benchmark}_V3")[split])


@functools.lru_cache(maxsize=64)
def draw_goals(names: tuple[str, ...], seed: int) -> dict[str, Layouts]:
    """Return the layouts that the benchmark draws for some scenes with a seed."""
    uniform = np.random.RandomState(seed).uniform  # as the benchmark seeds NumPy's own
    goals = {}
    for name in names:
        scene = load_scene(name)
        goals[name] = np.stack([scene.draw(uniform) for _ in range(NUM_GOALS)])
    return goals


@functools.lru_cache(maxsize=64)
def swap_goals(name: str, seed: int) -> Layouts:
    """Return a scene's layouts with their goals moved on from object to object.

    Of the ways to move them all by as many rows, the first that the original refuses least; what
    it refuses is left out. None are returned where layouts have no goal apart from an object.
    """
    scene = load_scene(name)
    varies = scene.high > scene.low
    if len(varies) != 6 or not varies[:3].any() or not varies[3:].any():
        return np.zeros((0, len(varies)))
    goals = draw_goals((name,), seed)[name]
    best = goals[:0]
    for shift in range(1, len(goals)):
        moved = np.concatenate([goals[:, :3], np.roll(goals[:, 3:], shift, axis=0)], axis=1)
        taken = moved[[scene.takes(layout) for layout in moved]]
        best = max(best, taken, key=len)
        if len(best) == len(goals):
            break
    return best
