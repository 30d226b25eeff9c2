"""A report as one page: what was run, every panel and every table, readable without a network.

Beside the page stands a folder with each figure as PNG and as CSV.
"""

import html
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trmrl.ops.bootstrap import (
    improvement_interval,
    interquartile_interval,
    interquartile_mean,
    probability_of_improvement,
)
from trmrl.report.adaptation import last_evaluations
from trmrl.report.aggregate import aggregate_table
from trmrl.report.efficiency import efficiency_table
from trmrl.report.experiments import (
    Episodes,
    Experiment,
    evaluations,
    experiments,
    flatten,
    with_interval,
)
from trmrl.report.figures import Figure, analyzed, file_name
from trmrl.report.markup import Table
from trmrl.report.panels import Specs, panels, profile_panel, task_panels
from trmrl.report.table import table
from trmrl.run import Run
from trmrl.types import TrmrlError

# Eight colors that differ in any common kind of color vision (Okabe and Ito, 2008), for light and
# for dark paper.
LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000"]
DARK = ["#56b4e9", "#ff8a3d", "#2fd3a2", "#f0a6cb", "#ffc44d", "#8fd0ff", "#a6a6a6", "#ffffff"]
MOST_GRIDS = 2  # settings in which the runs of a sweep differ, laid out as a grid

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --line: #d8d8d8; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-size: .85rem; } .scroll { overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 0; } figcaption { font-weight: 600; margin: 1rem 0 .3rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(28rem, 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; } .dark { display: none; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #161616; --line: #3a3a3a; }
  .dark { display: block; } .light { display: none; }
}
@media print {
  :root { --ink: #000; --paper: #fff; } .dark { display: none; } .light { display: block; }
  figure, tr { break-inside: avoid; }
}
"""


def write_page(
    runs: list[Run],
    path: str | Path,
    episodes: Episodes | None = None,
    specs: Specs | None = None,
) -> Path:
    """Write the report of some runs to `path` (.html), its figures beside it in `NAME-figures/`.

    `specs` are what is known of their worlds. Returns the path; raises `TrmrlError` where runs hold
    nothing to report, or on what the disk refuses.
    """
    path = Path(path)
    logged = [run for run in runs if run.metrics()]
    if not logged:
        raise TrmrlError(
            f"nothing to report: {', '.join(str(r.path) for r in runs)} logged nothing"
        )
    groups = experiments(logged)
    figures = [*panels(groups, episodes, specs), *task_panels(groups), profile_panel(groups)]
    figures = [panel for panel in figures if panel.series]
    inside = [figure for run in logged for figure in analyzed(run)]
    try:
        page = _page(logged, groups, figures, inside, episodes)
        draw_beside(path.with_name(f"{path.stem}-figures"), [*figures, *inside])
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise TrmrlError(f"cannot write {path}: {error}") from error
    return path


def draw_beside(folder: Path, figures: Sequence[Figure]) -> None:
    """Write every figure into a folder, as PNG and as CSV; raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        name = file_name(figure.name)
        (folder / f"{name}.csv").write_text(figure.table().csv(), encoding="utf-8")
        (folder / f"{name}.png").write_bytes(_picture(figure, LIGHT, "png"))


def _page(
    runs: list[Run],
    groups: list[Experiment],
    figures: Sequence[Figure],
    inside: Sequence[Figure],
    episodes: Episodes | None,
) -> str:
    envs = sorted({experiment.env for experiment in groups})
    title = f"{', '.join(experiment.label for experiment in groups)} on {', '.join(envs)}"
    sections = [
        ("What was run", [_runs_table(groups), _settings_table(groups)]),
        ("Scores over seeds", [aggregate_table(runs), *_grids(groups)]),
        ("Which is better", [_improvement_table(groups)]),
        ("At equal cost", [efficiency_table(runs, episodes)]),
        ("Every evaluation", [table(runs)] if _is_evaluated(groups) else []),
    ]
    body = [f"<h1>{html.escape(title)}</h1>", _section(*sections[0])]
    body += [_gallery("Figures", figures), _gallery("Inside the agents", inside)]
    body += [_section(*section) for section in sections[1:]]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'  # or browsers ask for one, and log that there is none
        f"<style>{STYLE}</style>\n</head>\n<body>\n{''.join(body)}\n</body>\n</html>\n"
    )


def _gallery(title: str, figures: Sequence[Figure]) -> str:
    """Return a heading and the figures; nothing where there are none."""
    pictures = "\n".join(map(_figure, figures))
    return f'<h2>{title}</h2>\n<div class="figures">\n{pictures}\n</div>' if figures else ""


def _section(title: str, tables: Sequence[Table]) -> str:
    """Return a heading and the tables that have rows; nothing where none has."""
    shown = [f'<div class="scroll">{one.html()}</div>' for one in tables if one.rows]
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(shown) if shown else ""


def _is_evaluated(groups: list[Experiment]) -> bool:
    return any(evaluations(run) for experiment in groups for run in experiment.runs.values())


def _runs_table(groups: list[Experiment]) -> Table:
    """Return what each run is: its experiment, seed, and where, when and by what it was made."""
    rows = []
    for experiment in groups:
        for seed, run in experiment.runs.items():
            begun, last = run.begun(), run.metrics()[-1]
            known = [begun.get(name, "") for name in ("date", "commit", "machine", "versions")]
            seconds = f"{last['seconds']:,.0f}" if "seconds" in last else ""
            rows.append(
                [experiment.label, experiment.env, seed, last["env_steps"], seconds, *known]
            )
    header = ["experiment", "env", "seed", "env steps", "seconds"]
    return Table([*header, "begun", "commit", "machine", "versions"], rows)


def _settings_table(groups: list[Experiment]) -> Table:
    """Return the settings in which the experiments differ, one column an experiment."""
    settings = [flatten(experiment.config()) for experiment in groups]
    names = dict.fromkeys(name for one in settings for name in one if name != "seed")
    rows = [
        [name, *(str(one.get(name, "")) for one in settings)]
        for name in names
        if len({str(one.get(name)) for one in settings}) > 1
    ]
    return Table(["setting", *(experiment.label for experiment in groups)], rows)


def _scores(experiment: Experiment, split: str = "test") -> np.ndarray | None:
    """Return the last episode's returns `[S, N]`, by seed and task; None without or unlike."""
    last = last_evaluations(experiment, split)
    scores = [np.asarray(one.returns)[:, -1] for one in last]
    return np.stack(scores) if scores and len({len(row) for row in scores}) == 1 else None


def _improvement_table(groups: list[Experiment]) -> Table:
    """Return how likely each experiment scores above each other one on the same world."""
    scores = [(one, found) for one in groups if (found := _scores(one)) is not None]
    rows = []
    for (ours, x), (theirs, y) in itertools.combinations(scores, 2):
        if ours.env == theirs.env and x.shape[1] == y.shape[1]:
            value = with_interval(
                probability_of_improvement(x, y), improvement_interval(x, y), digits=2
            )
            rows.append([ours.env, ours.label, theirs.label, value])
    return Table(["env", "this", "scores above this", "with a chance of"], rows)


def _grids(groups: list[Experiment]) -> list[Table]:
    """Return, of experiments that differ in one or two settings, a grid of interquartile means."""
    differing = [row[0] for row in _settings_table(groups).rows]
    if not 1 <= len(differing) <= MOST_GRIDS or len(groups) < 3:
        return []
    down, across = differing[0], differing[-1] if len(differing) > 1 else None
    cells: dict[tuple[str, str], str] = {}
    for experiment in groups:
        scores, config = _scores(experiment), flatten(experiment.config())
        if scores is not None:
            key = str(config.get(down)), str(config.get(across)) if across else "return"
            interval = interquartile_interval(scores)
            cells[key] = with_interval(interquartile_mean(scores), interval)
    columns = list(dict.fromkeys(column for _, column in cells))
    rows = [
        [row, *(cells.get((row, column), "") for column in columns)]
        for row in dict.fromkeys(row for row, _ in cells)
    ]
    names = [f"{across} = {column}" for column in columns] if across else ["interquartile mean"]
    return [Table([down, *names], rows)]


def _figure(panel: Figure) -> str:
    """Return a figure twice, on light and on dark paper; the page's style shows one of them."""
    light, dark = (_picture(panel, colors, "svg").decode() for colors in (LIGHT, DARK))
    light, dark = (picture[picture.index("<svg") :] for picture in (light, dark))
    caption = html.escape(panel.title)
    return (
        f'<figure id="{file_name(panel.name)}"><figcaption>{caption}</figcaption>\n'
        f'<div class="light">{light}</div>\n<div class="dark">{dark}</div></figure>'
    )


def _picture(panel: Figure, colors: list[str], kind: str) -> bytes:
    """Return a panel drawn alone, as SVG without a background, or as PNG on white."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ink = "#e6e6e6" if colors is DARK else "#1c1c1c"
    style: dict[Any, Any] = {
        "text.color": ink, "axes.edgecolor": ink, "axes.labelcolor": ink, "xtick.color": ink,
        "ytick.color": ink, "svg.fonttype": "none", "svg.hashsalt": panel.name,
        "font.sans-serif": ["DejaVu Sans"],
    }  # fmt: skip
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        panel.draw(axes, colors)
        file = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(file, format=kind, dpi=120, transparent=kind == "svg", metadata=metadata)
        plt.close(figure)
    return file.getvalue()
