"""Experiments that differ from a base in one setting each (or in two): what each change does."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from trmrl.ops.bootstrap import interquartile_interval, interquartile_mean, mean_interval
from trmrl.report.adaptation import last_evaluations
from trmrl.report.experiments import Experiment, flatten, with_interval
from trmrl.report.markup import Table

MOST_CHANGES = 2  # settings; an experiment that differs in more goes by its own name
BASE = "base"
OTHER = "other"
SCORE = "mean return of an episode"


@dataclass(frozen=True)
class Change:
    """What sets an experiment apart from the base, and what it scored."""

    label: str  # as `window = 1`
    group: str  # the settings changed; changes of one group stand together, in one color
    experiment: str
    scores: Float[np.ndarray, "S N"]  # by seed and task, the mean over the episodes of a trial
    numbers: tuple[float, ...] = ()  # those among the values, by which a group is ordered

    @property
    def of_seeds(self) -> Float[np.ndarray, " S"]:
        """The mean score of each seed."""
        return self.scores.mean(axis=1)


@dataclass(frozen=True)
class Ablations:
    """The scores of changes on one split of one world, the base first."""

    name: str  # of its files
    title: str
    split: str
    base: str  # its values of the settings that are changed
    changes: list[Change]

    @property
    def height(self) -> float:
        """How many inches high a picture of it must be."""
        return max(4.0, 1.6 + 0.3 * len(self.changes))

    def draw(self, axes: Any, colors: Sequence[str]) -> None:
        """Draw a row for each change: its mean over seeds, its interval, and a dot for each seed.

        A vertical line is at the mean of the base.
        """
        groups = list(dict.fromkeys(change.group for change in self.changes))
        for row, change in enumerate(self.changes):
            index = groups.index(change.group)
            color = "0.2" if change.group == BASE else colors[(index - 1) % len(colors)]
            of_seeds = change.of_seeds
            interval = mean_interval(of_seeds)
            if interval is not None:
                axes.plot(interval, [row, row], color=color, linewidth=2, alpha=0.5)
            axes.plot(of_seeds, [row] * len(of_seeds), "o", color=color, markersize=3, alpha=0.5)
            axes.plot([of_seeds.mean()], [row], "D", color=color, markersize=6)
            if change.group == BASE:
                axes.axvline(of_seeds.mean(), color=color, linewidth=1, linestyle=":")
            if row and change.group != self.changes[row - 1].group:
                axes.axhline(row - 0.5, color="0.85", linewidth=0.8)
        axes.set_yticks(range(len(self.changes)), [change.label for change in self.changes])
        axes.set_ylim(len(self.changes) - 0.5, -0.5)
        base = textwrap.fill(f"{BASE}: {self.base}", 48) if self.base else ""
        axes.set(xlabel="\n".join([SCORE, base]).rstrip())
        axes.grid(alpha=0.3, axis="x")

    def table(self) -> Table:
        """Return every number, a row for each change."""
        rows = []
        for change in self.changes:
            middle = interquartile_mean(change.scores)
            numbers = [float(change.of_seeds.mean()), *(mean_interval(change.of_seeds) or ("", ""))]
            numbers += [middle, *(interquartile_interval(change.scores) or ("", ""))]
            each = " ".join(f"{score:.6g}" for score in change.of_seeds)
            seeds = len(change.scores)
            rows.append([self.split, change.label, change.experiment, seeds, *numbers, each])
        ends = "ci95_low", "ci95_high"
        header = ["split", "change", "experiment", "seeds", "mean", *ends, "iqm"]
        return Table([*header, *(f"iqm_{end}" for end in ends), "each seed"], rows)

    def summary(self) -> Table:
        """Return the same for readers: intervals in brackets, and how far each is from the base."""
        rows = []
        base = [change.of_seeds.mean() for change in self.changes if change.group == BASE]
        for change in self.changes:
            mean = float(change.of_seeds.mean())
            cells = [with_interval(mean, mean_interval(change.of_seeds), 2)]
            cells += [f"{mean - base[0]:+.2f}" if base and change.group != BASE else ""]
            middle = interquartile_interval(change.scores)
            cells += [with_interval(interquartile_mean(change.scores), middle, 2)]
            cells += [", ".join(f"{score:.2f}" for score in change.of_seeds)]
            rows.append([self.title, change.label, len(change.scores), *cells])
        header = ["on", "change", "seeds", SCORE, "beyond the base", "IQM over seeds and tasks"]
        return Table([*header, "each seed"], rows)


def ablations(groups: list[Experiment], splits: Sequence[str]) -> list[Ablations]:
    """Return the scores of every world's experiments, for each split on which any was evaluated.

    A score is the mean return over the episodes of the last standard evaluation. The base of a
    world is the experiment from which all others together differ in the fewest values of its
    config; of several, the first.
    """
    found = []
    for env in dict.fromkeys(group.env for group in groups):
        among = [group for group in groups if group.env == env]
        base, changed = _changes(among)
        names = _short({name for one in changed for name in one})
        at_base = _settings(among[base])
        values = ", ".join(f"{names[name]} = {_shown(at_base.get(name))}" for name in names)
        for split in splits:
            rows = [
                _change(one, settings, names, scores)
                for one, settings in zip(among, changed, strict=True)
                if (scores := _scores(one, split)) is not None
            ]
            if rows:
                name, title = f"{env}-{split}", f"{env}, {split} tasks"
                found.append(Ablations(name, title, split, values, _sorted(rows)))
    return found


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return the dotted names of the settings in which two configs (by leaf) differ.

    Where a record is of another kind, its whole is one setting, by the name of the record.
    """
    names = [name for name in dict.fromkeys([*ours, *theirs]) if name != "seed"]
    differ = [name for name in names if ours.get(name) != theirs.get(name)]
    replaced = [name.removesuffix("kind") for name in differ if name.endswith(".kind")]
    within = lambda name: next((one for one in replaced if name.startswith(one)), None)
    return list(dict.fromkeys((within(name) or f"{name}.")[:-1] for name in differ))


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment's leaves, and the kind of each record under the record's own name."""
    leaves = flatten(experiment.config())
    kinds = {name: value for name, value in leaves.items() if name.endswith(".kind")}
    return {name.removesuffix(".kind"): kind for name, kind in kinds.items()} | leaves


def _changes(among: list[Experiment]) -> tuple[int, list[dict[str, Any]]]:
    """Return which experiment is the base, and what each has changed: values by dotted name."""
    leaves = [flatten(one.config()) for one in among]
    # By leaves, not by `differing`: a record of another kind is far from every experiment.
    apart = [sum(_num_leaves_apart(ours, theirs) for theirs in leaves) for ours in leaves]
    base = apart.index(min(apart))
    changed = []
    for experiment, one in zip(among, leaves, strict=True):
        settings = _settings(experiment)
        values = {name: settings.get(name) for name in differing(one, leaves[base])}
        changed.append(values if len(values) <= MOST_CHANGES else {OTHER: None})
    return base, changed


def _num_leaves_apart(ours: dict[str, Any], theirs: dict[str, Any]) -> int:
    return sum(ours.get(name) != theirs.get(name) for name in {*ours, *theirs} - {"seed"})


def _short(names: set[str]) -> dict[str, str]:
    """Return the last part of each dotted name, or as many more as no other one shares."""
    short = {}
    for name in sorted(names - {OTHER}):
        parts = name.split(".")
        for size in range(1, len(parts) + 1):
            short[name] = ".".join(parts[-size:])
            ends = [other for other in names if f".{other}".endswith(f".{short[name]}")]
            if len(ends) == 1:
                break
    return short


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _change(
    experiment: Experiment, settings: dict[str, Any], names: dict[str, str], scores: np.ndarray
) -> Change:
    if OTHER in settings:
        return Change(experiment.label, OTHER, experiment.label, scores)
    pairs = [f"{names[name]} = {_shown(value)}" for name, value in settings.items()]
    group = ", ".join(sorted(settings)) or BASE
    numbers = tuple(float(x) for x in settings.values() if isinstance(x, int | float))
    return Change(", ".join(pairs) or BASE, group, experiment.label, scores, numbers)


def _sorted(rows: list[Change]) -> list[Change]:
    """Return the base, then changes of one setting, of two, and others; a group by its numbers."""
    groups = list(dict.fromkeys(row.group for row in rows))

    def key(row: Change) -> tuple:
        rank = {BASE: 0, OTHER: MOST_CHANGES + 1}.get(row.group, 1 + row.group.count(", "))
        return rank, groups.index(row.group), row.numbers

    return sorted(rows, key=key)


def _scores(experiment: Experiment, split: str) -> Float[np.ndarray, "S N"] | None:
    """Return the mean return of an episode by seed and task; None without or of unlike tasks."""
    found = [np.mean(one.returns, axis=1) for one in last_evaluations(experiment, split)]
    return np.stack(found) if found and len({len(row) for row in found}) == 1 else None
