"""What classical and exact strategies earn in a world, on its test tasks.

Lives here: the menu, by the beginning of a world's name. Does not live here: the strategies, and
anything that learns across tasks. Imports types and envs only.
"""

import difflib
from collections.abc import Callable

from trmrl.envs import make
from trmrl.envs._base import AbstractEnvs
from trmrl.references import bandit, navigation, tabular
from trmrl.references._base import Earned, Score
from trmrl.references.published import PUBLISHED
from trmrl.types import TrmrlError

REFERENCES: dict[str, Callable[[AbstractEnvs, int, int], Earned]] = {
    "bandit-": bandit.measure,
    "tabular-": tabular.measure,
    "grid-navi": navigation.measure_grid_navi,
    "dark-": navigation.measure_room,
    "point-robot": navigation.measure_point,
    "semicircle": navigation.measure_point,
    "navigation-2d": navigation.measure_point,
}


def reference(env: str, *, num_tasks: int = 1000, seed: int = 0) -> list[Score]:
    """Return what each strategy that we have for a world earns on `num_tasks` test tasks.

    Totals are undiscounted, over a whole trial. Raises `TrmrlError` on an unknown world, on one
    without references, and on counts that make no sense.
    """
    if num_tasks < 2:
        raise TrmrlError(f"--num-tasks is {num_tasks}, expected 2 or more")
    if not 0 <= seed < 2**32:
        raise TrmrlError(f"--seed is {seed}, expected 0 to 2**32 - 1")
    envs = make(env)
    measures = [measure for start, measure in REFERENCES.items() if env.startswith(start)]
    if not measures or "+" in env:
        menu = [f"{start}..." if start.endswith("-") else start for start in REFERENCES]
        near = difflib.get_close_matches(env, menu, n=3, cutoff=0.6) or menu
        raise TrmrlError(f"there are no references for {env!r}, only for {', '.join(near)}")
    published = PUBLISHED.get(env, {})
    return [
        Score(name, total, tuned, published.get(name))
        for name, (total, tuned) in measures[0](envs, num_tasks, seed).items()
    ]
