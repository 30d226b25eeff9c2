"""Figures found by analyses, kept in a run folder as data and drawn again by its report.

Lines (`panels.Panel`), points colored by a number, and maps. Every one is also a table.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trmrl.report.markup import Table
from trmrl.report.panels import Panel, Series
from trmrl.run import Run, write_json
from trmrl.types import TrmrlError, replace

ANALYSIS = "analysis"  # folder of a run


@dataclass(frozen=True)
class Points:
    """Points in the plane, colored by a number."""

    name: str  # of its files
    title: str
    xlabel: str
    ylabel: str
    x: np.ndarray  # [N]
    y: np.ndarray  # [N]
    value: np.ndarray  # [N]
    label: str  # of the value

    def draw(self, axes: Any, colors: Sequence[str]) -> None:
        """Draw them, with a bar of colors; `colors` is not used."""
        del colors
        drawn = axes.scatter(self.x, self.y, c=self.value, s=14, cmap="viridis")
        axes.figure.colorbar(drawn, ax=axes, label=self.label)
        axes.set(xlabel=self.xlabel, ylabel=self.ylabel)

    def table(self) -> Table:
        """Return every point."""
        rows = zip(self.x.tolist(), self.y.tolist(), self.value.tolist(), strict=True)
        return Table([self.xlabel, self.ylabel, self.label], [list(row) for row in rows])


@dataclass(frozen=True)
class Map:
    """A number over two axes that count from `first`; NaN where there is none."""

    name: str  # of its files
    title: str
    xlabel: str
    ylabel: str
    values: np.ndarray  # [Y, X]
    label: str  # of the values
    first: tuple[float, float] = (0.0, 0.0)  # x and y of the first value

    def draw(self, axes: Any, colors: Sequence[str]) -> None:
        """Draw it, with a bar of colors; `colors` is not used."""
        del colors
        (height, width), (x, y) = self.values.shape, self.first
        extent = (x - 0.5, x + width - 0.5, y - 0.5, y + height - 0.5)
        drawn = axes.imshow(
            self.values, origin="lower", aspect="auto", extent=extent, interpolation="nearest"
        )
        axes.figure.colorbar(drawn, ax=axes, label=self.label)
        axes.set(xlabel=self.xlabel, ylabel=self.ylabel)

    def table(self) -> Table:
        """Return every number."""
        rows = [
            [x + self.first[0], y + self.first[1], float(self.values[y, x])]
            for y, x in np.ndindex(*self.values.shape)
            if np.isfinite(self.values[y, x])
        ]
        return Table([self.xlabel, self.ylabel, self.label], rows)


Figure = Panel | Points | Map
KINDS = {kind.__name__: kind for kind in (Panel, Points, Map)}


def write_figures(path: Path, figures: Sequence[Figure], **more: Any) -> None:
    """Write figures to a JSON file, beside whatever `more` is; raises `TrmrlError`."""
    written = [{"kind": type(one).__name__} | dataclasses.asdict(one) for one in figures]
    write_json(path, more | {"figures": _plain(written)})


def analyzed(run: Run, only: str = "*") -> list[Figure]:
    """Return what `trmrl analyze` drew of a run (of one analysis), under the run's name."""
    name = run.path.resolve().name
    return [
        replace(figure, name=f"{name}-{figure.name}", title=f"{name}: {figure.title}")
        for figure in read_figures(run.path / ANALYSIS, only)
    ]


def file_name(name: str) -> str:
    """Return a figure's name as its files have it: letters, digits and hyphens."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def read_figures(folder: Path, only: str = "*") -> list[Figure]:
    """Return the figures of a run's folder of analyses, all or one; none without a folder."""
    found = []
    for path in sorted(folder.glob(f"{only}.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            found += [_figure(dict(one)) for one in record["figures"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise TrmrlError(f"{path} is damaged: {error}") from error
    return found


def _plain(value: Any) -> Any:
    """Return a value with its arrays as lists, in six digits; None for what is not finite."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def _figure(fields: dict[str, Any]) -> Figure:
    kind = KINDS[fields.pop("kind")]
    for name in {"limits", "first"} & set(fields):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    if kind is Panel:
        fields["series"] = [Series(**_arrays(one)) for one in fields["series"]]
        fields["legend"] = [tuple(entry) for entry in fields["legend"]]
        return Panel(**fields)
    return kind(**_arrays(fields))


def _arrays(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with lists of numbers as arrays, NaN for None."""
    arrays = {"x", "y", "low", "high", "value", "values"}
    return {
        name: np.asarray(entry, np.float64) if name in arrays and entry is not None else entry
        for name, entry in fields.items()
    }
