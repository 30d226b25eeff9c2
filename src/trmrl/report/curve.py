"""One picture of runs: every panel that they have anything for (`panels.py`), or other figures."""

from collections.abc import Sequence
from pathlib import Path

from trmrl.report.ablations import Ablations
from trmrl.report.experiments import Episodes, experiments
from trmrl.report.figures import Figure
from trmrl.report.panels import Panel, Specs, panels
from trmrl.run import Run
from trmrl.types import TrmrlError

COLORS = [f"C{index}" for index in range(10)]


def draw(
    runs: list[Run],
    path: str | Path,
    episodes: Episodes | None = None,
    specs: Specs | None = None,
) -> Path:
    """Draw the panels of all experiments into a picture (its ending says which kind).

    `specs` are what is known of their worlds. Returns the path; raises `TrmrlError` if there is
    nothing to draw or the picture cannot be written.
    """
    logged = [run for run in runs if run.metrics()]
    if not logged:
        raise TrmrlError(f"nothing to draw: {', '.join(str(r.path) for r in runs)} logged nothing")
    return draw_figures(panels(experiments(logged), episodes, specs), path)


def draw_figures(
    found: Sequence[Figure | Ablations],
    path: str | Path,
    *,
    spacious: bool = False,
    height: float = 4.0,
) -> Path:
    """Draw figures into one picture, two in a row, each `height` inches high.

    Panels of one scale share their vertical axis, and the legend of the first. If `spacious` there
    are titles above, and legends below. Returns the path; raises `TrmrlError` if the picture cannot
    be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(len(found), 2)
    rows = -(-len(found) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(7 * columns, height * rows), layout="constrained", squeeze=False
    )
    axes = list(grid.flat)
    while len(axes) > len(found):
        axes.pop().remove()
    scales: dict[str, list] = {}
    for one, place in zip(found, axes, strict=True):
        if isinstance(one, Panel):
            alike = scales.setdefault(one.scale, [])
            if alike:
                place.sharey(alike[0])
            one.draw(place, COLORS, legend=not alike, below=spacious)
            alike.append(place)
        else:
            one.draw(place, COLORS)
        if spacious:
            place.set_title(one.title, fontsize="medium")
    path = Path(path)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise TrmrlError(f"cannot write {path}: {error}") from error
    finally:
        plt.close(figure)
    return path
