"""Which runs are one experiment (their configs differ in the seed alone), and how they compare.

Of two trials only the same episodes compare. Also how tables write a number and its interval, what
evaluations a run holds, and which of its settings are whose.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float

from trmrl.run import EVALUATIONS, Run
from trmrl.types import Evaluation, TrmrlError, base_name

SEED = re.compile(r"[-_]s(eed)?\d+$")  # at the end of a run folder's name


@dataclass(frozen=True)
class Experiment:
    """Runs of one config, one for each training seed; `env` is the `base_name` of its world."""

    label: str
    env: str
    runs: dict[int, Run]  # by training seed

    def config(self) -> dict[str, Any]:
        """Return the config that its runs share, as JSON; the seed is that of one of them."""
        return next(iter(self.runs.values())).config()


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


@dataclass(frozen=True)
class Episodes:
    """The episodes of a trial, counted from 1, whose mean is compared.

    A trial that is shorter stands with its last one. Raises `TrmrlError` unless
    `1 <= first <= last`.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise TrmrlError(
                f"--episodes is {self.first} {self.last}, expected the first and the last, from 1"
            )

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"

    def within(self, num_episodes: int) -> "Episodes":
        """Return those that a trial of so many has."""
        last = min(self.last, num_episodes)
        return Episodes(min(self.first, last), last)

    def mean(self, scores: Sequence[float] | Float[np.ndarray, " K"]) -> float:
        """Return the mean score `[K]` of the episodes that the trial has."""
        has = self.within(len(scores))
        return fmean(scores[has.first - 1 : has.last])


def common_episodes(lengths: Iterable[int]) -> Episodes:
    """Return what trials of such numbers of episodes are compared by.

    The whole trial, if all are of one length. Else the last episode that all of them have: a mean
    over a longer trial would hold episodes that know more of their task.
    """
    shortest, longest = min(lengths := list(lengths)), max(lengths)
    return Episodes(1 if shortest == longest else shortest, shortest)


def with_interval(value: float, interval: tuple[float, float] | None, digits: int = 1) -> str:
    """Return a number with its interval, as `1.5 (1.0 to 2.0)`."""
    if interval is None:
        return f"{value:.{digits}f}"
    low, high = interval
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return every leaf of a config as JSON, by its dotted name."""
    if not isinstance(value, dict):
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for name, entry in value.items():
        leaves |= flatten(entry, f"{prefix}.{name}" if prefix else name)
    return leaves


def evaluations(run: Run) -> list[Evaluation]:
    """Return every evaluation stored in a run folder; raises `TrmrlError` if one is damaged."""
    return list(stored_evaluations(run).values())


def stored_evaluations(run: Run) -> dict[str, Evaluation]:
    """Return every evaluation by the name it is stored under, in their order; raises likewise."""
    return {path.stem: _read(path) for path in sorted((run.path / EVALUATIONS).glob("*.json"))}


def _read(path: Path) -> Evaluation:
    try:
        return Evaluation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, TrmrlError) as error:
        raise TrmrlError(f"{path} is damaged: {error}") from error
