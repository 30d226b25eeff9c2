"""Which runs are one experiment: those whose configs differ in the seed alone.

Also how tables write a number and its interval.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass

from trmrl.run import Run
from trmrl.types import base_name

SEED = re.compile(r"[-_]s(eed)?\d+$")  # at the end of a run folder's name


@dataclass(frozen=True)
class Experiment:
    """Runs of one config, one for each training seed; `env` is the `base_name` of its world."""

    label: str
    env: str
    runs: dict[int, Run]  # by training seed


def experiments(runs: list[Run]) -> list[Experiment]:
    """Return the runs by experiment, in the order given; of two with one seed, the first counts.

    A label is the folder's name without its seed, and the folder around it where two experiments
    would share one.
    """
    groups: dict[str, dict[int, Run]] = {}
    envs: dict[str, str] = {}
    for run in runs:
        config = dict(run.config())
        seed = config.pop("seed", 0)
        key = json.dumps(config, sort_keys=True)
        groups.setdefault(key, {}).setdefault(seed, run)
        envs[key] = base_name(str(config.get("env", "")))
    folder = {key: next(iter(group.values())).path.resolve() for key, group in groups.items()}
    short = {key: SEED.sub("", path.name) for key, path in folder.items()}
    shared = Counter(short.values())
    label = lambda key: (
        short[key] if shared[short[key]] == 1 else f"{folder[key].parent.name}/{folder[key].name}"
    )
    return [Experiment(label(key), envs[key], group) for key, group in groups.items()]


def with_interval(value: float, interval: tuple[float, float] | None, digits: int = 1) -> str:
    """Return a number with its interval, as `1.5 (1.0 to 2.0)`."""
    if interval is None:
        return f"{value:.{digits}f}"
    low, high = interval
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
