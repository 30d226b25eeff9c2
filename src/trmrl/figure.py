"""The figures of the TrMRL paper, of one's own runs: what they need is made, then they are drawn.

Evaluations of 6 episodes or analyses that a run folder lacks are made and stored there.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from trmrl.analyze.menu import analyze
from trmrl.analyze.subject import restore_subject
from trmrl.report.ablations import Ablations
from trmrl.report.adaptation import Shape, last_evaluation
from trmrl.report.curve import draw_figures
from trmrl.report.experiments import experiments
from trmrl.report.figures import analyzed, file_name
from trmrl.report.panels import Specs
from trmrl.report.paper import FIGURES, PaperFigure, Part
from trmrl.run import Run
from trmrl.train import evaluate_run
from trmrl.types import TrmrlError

HEIGHT = 4.0  # of a panel, in inches
KINDS = ".png", ".svg", ".pdf"


def write_figure(
    name: str,
    runs: list[Run],
    path: Path,
    shape: Shape,
    specs: Specs,
    show: Callable[[str], None],
    *,
    trust: bool = False,
) -> list[Part]:
    """Write a figure of the menu (`report/paper.py`) to `path`, and each of its parts as CSV.

    Runs that lack what it needs are evaluated or analyzed first, and what is found is stored in
    their folders; `show` is called with a line for each run where that cannot be done, and the
    others are drawn. Returns its parts; raises `TrmrlError` if there are none, or on what the disk
    refuses.
    """
    if path.suffix not in KINDS:
        raise TrmrlError(f"cannot write {path}: expected a name in {', '.join(KINDS)}")
    if not path.parent.is_dir():
        raise TrmrlError(f"cannot write {path}: there is no folder {path.parent}")
    figure, ready, missing = FIGURES[name], [], []
    for run in runs:
        try:
            _complete(run, figure, shape, trust)
            ready.append(run)
        except TrmrlError as error:
            missing.append(f"{run.path}: {error}")
    parts = figure.draw(experiments(ready), shape, specs) if ready else []
    if not parts:
        raise TrmrlError(f"no {name} to draw: {'; '.join(missing) or 'there is nothing to show'}")
    for complaint in missing:
        show(f"without {complaint}")
    height = max((one.height for one in parts if isinstance(one, Ablations)), default=HEIGHT)
    draw_figures(parts, path, spacious=True, height=height)
    for part in parts:
        stem = path.stem if len(parts) == 1 else f"{path.stem}-{file_name(part.name)}"
        try:
            path.with_name(f"{stem}.csv").write_text(part.table().csv(), encoding="utf-8")
        except OSError as error:
            raise TrmrlError(f"cannot write {stem}.csv: {error}") from error
    return parts


def _complete(run: Run, figure: PaperFigure, shape: Shape, trust: bool) -> None:
    """Make what a run lacks for a figure; raises `TrmrlError` where that cannot be done."""
    lacking = figure.lacks(run)
    if lacking:
        raise TrmrlError(lacking)
    if figure.split is not None:
        stored = last_evaluation(run, figure.split, shape)
        newest = (run.latest() or {}).get("env_steps", 0)
        if stored is None or stored.env_steps < newest:  # it has been trained on since
            evaluate_run(run, trust=trust, split=figure.split, **dataclasses.asdict(shape))
    if figure.analysis is not None and not analyzed(run, figure.analysis):
        subject = restore_subject(run, trust=trust)
        analyze(subject, run, [figure.analysis], lambda name, lines: None)
