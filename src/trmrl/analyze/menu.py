"""The analyses, by name, and how what they find is written into a run folder."""

import io
from collections.abc import Callable, Sequence

import numpy as np

from trmrl.analyze.attention import attention
from trmrl.analyze.belief import belief
from trmrl.analyze.consensus import bayes_risk
from trmrl.analyze.decoded import decoded
from trmrl.analyze.interventions import interventions
from trmrl.analyze.latents import latents
from trmrl.analyze.subject import Findings, Subject
from trmrl.report.figures import ANALYSIS, write_figures
from trmrl.report.page import draw_beside
from trmrl.run import Run
from trmrl.types import TrmrlError

ANALYSES: dict[str, Callable[[Subject], Findings]] = {
    "latents": latents,
    "attention": attention,
    "interventions": interventions,
    "consensus": bayes_risk,
    "belief": belief,
    "decoded": decoded,
}


def analyze(
    subject: Subject, run: Run, only: Sequence[str], show: Callable[[str, list[str]], None]
) -> None:
    """Make some analyses (all of them if `only` names none), and write each into the run folder.

    `analysis/NAME.json` has its numbers and figures, `NAME.npz` its arrays, `NAME/` its figures
    as PNG and CSV. `show(name, lines)` is called with what each showed; an analysis that this
    agent or its worlds cannot have is one line. Raises `TrmrlError` if none of them could be made,
    or on what the disk refuses.
    """
    missing = []
    names = [name for name in ANALYSES if not only or name in only]
    for name in names:
        try:
            found = ANALYSES[name](subject)
        except TrmrlError as error:
            missing.append(f"no {name}: {error}")
            show(name, missing[-1:])
            continue
        _write(run, name, found)
        show(name, found.lines)
    if len(missing) == len(names):
        raise TrmrlError(f"nothing to analyze in {run.path}: {'; '.join(missing)}")


def _write(run: Run, name: str, found: Findings) -> None:
    folder = run.path / ANALYSIS
    try:
        folder.mkdir(exist_ok=True)
        file = io.BytesIO()
        np.savez_compressed(file, **found.arrays)  # pyright: ignore[reportArgumentType]
        (folder / f"{name}.npz").write_bytes(file.getvalue())
        draw_beside(folder / name, found.figures)
    except OSError as error:
        raise TrmrlError(f"cannot write {folder}: {error}") from error
    write_figures(folder / f"{name}.json", found.figures, numbers=found.numbers, lines=found.lines)
