"""Tables as data, and the three ways in which they are written."""

import csv
import html
import io
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """A header and rows of cells; whole numbers are written with thousands separators."""

    header: list[str]
    rows: list[list[Any]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return it as Markdown."""
        line = lambda cells: f"| {' | '.join(map(_cell, cells))} |"
        return "\n".join(
            [line(self.header), "|" + "---|" * len(self.header), *map(line, self.rows)]
        )

    def html(self) -> str:
        """Return it as HTML; cells that are numbers are aligned on the right."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.header)
        body = "\n".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in self.rows)
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"

    def csv(self) -> str:
        """Return it as CSV, numbers as they are."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _html_cell(value: Any) -> str:
    shown = _cell(value)
    kind = ' class="number"' if shown[:1].isdigit() or shown[:2].lstrip("-")[:1].isdigit() else ""
    return f"<td{kind}>{html.escape(shown)}</td>"
