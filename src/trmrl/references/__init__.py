"""What classical and exact strategies earn in a world, on its test tasks.

Nothing here learns across tasks. This file is the menu; the strategies are in a file per family.
"""

from collections.abc import Callable

from trmrl.envs import ENVS, make
from trmrl.envs.base import AbstractEnvs, task_rows
from trmrl.envs.metaworld.family import MetaWorldEnvs
from trmrl.references import bandit, manipulation, navigation, tabular
from trmrl.references._base import Earned, Score, draw_tasks
from trmrl.references.published import PUBLISHED
from trmrl.types import EnvSpec, TrmrlError, number_distinct

Measure = Callable[[AbstractEnvs, int, int], Earned]  # envs, num_tasks, seed

# By family, or by name where a world has references that the rest of its family lacks.
REFERENCES: dict[str, Measure] = {
    "bandit": bandit.measure,
    "tabular": tabular.measure,
    "grid": navigation.measure_room,
    "grid-navi": navigation.measure_grid_navi,
    "multi-stage-rooms": navigation.measure_rooms,
    "point": navigation.measure_point,
    "treasure-hunt": navigation.measure_treasure,
    "manipulation": manipulation.measure,
}

# What an agent can earn that remembers nothing, beside random play; by the kind of worlds.
WITHOUT_MEMORY: dict[type, Measure] = {MetaWorldEnvs: manipulation.measure_without_memory}


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
    measure = _measure_of(envs.spec)
    base, plus, _ = env.partition("+")
    if measure is None or plus:  # with the task observed, there is nothing to find out
        known = [base] if measure else [name for name in ENVS if _measure_of(make(name).spec)]
        raise TrmrlError(f"there are no references for {env!r}, only for {', '.join(known)}")
    return _scores(env, envs, measure, num_tasks, seed)


def without_memory(env: str, *, num_tasks: int = 100, seed: int = 0) -> list[Score]:
    """Return what strategies earn that remember nothing; none where only random play is known."""
    envs = make(env)
    measure = WITHOUT_MEMORY.get(type(envs))
    return _scores(env, envs, measure, num_tasks, seed) if measure else []


def _scores(
    env: str, envs: AbstractEnvs, measure: Measure, num_tasks: int, seed: int
) -> list[Score]:
    published = PUBLISHED.get(env, {})
    tasks, _ = draw_tasks(envs, num_tasks, seed)
    distinct = number_distinct(task_rows(tasks))
    scores = []
    for name, (total, tuned, success) in measure(envs, num_tasks, seed).items():
        share = None if success is None else float(success.mean())
        clusters = distinct if len(total) > 1 else None
        scores.append(Score(name, total, tuned, published.get(name), share, clusters))
    return scores


def _measure_of(spec: EnvSpec) -> Measure | None:
    return REFERENCES.get(spec.name) or REFERENCES.get(spec.family)
