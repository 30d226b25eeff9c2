"""One picture of runs: every panel that they have anything for (`panels.py`)."""

from pathlib import Path

from trmrl.report.experiments import Episodes, experiments
from trmrl.report.panels import panels
from trmrl.run import Run
from trmrl.types import TrmrlError

COLORS = [f"C{index}" for index in range(10)]


def draw(runs: list[Run], path: str | Path, episodes: Episodes | None = None) -> Path:
    """Draw the panels of all experiments into a picture (its ending says which kind).

    Returns the path; raises `TrmrlError` if there is nothing to draw or the picture cannot be
    written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    logged = [run for run in runs if run.metrics()]
    if not logged:
        raise TrmrlError(f"nothing to draw: {', '.join(str(r.path) for r in runs)} logged nothing")
    found = panels(experiments(logged), episodes)
    columns = min(len(found), 2)
    rows = -(-len(found) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(7 * columns, 4 * rows), layout="constrained", squeeze=False
    )
    axes = list(grid.flat)
    while len(axes) > len(found):
        axes.pop().remove()
    scales: dict[str, list] = {}
    for panel, one in zip(found, axes, strict=True):
        alike = scales.setdefault(panel.scale, [])
        if alike:
            one.sharey(alike[0])
        panel.draw(one, COLORS, legend=not alike)
        alike.append(one)
    path = Path(path)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise TrmrlError(f"cannot write {path}: {error}") from error
    finally:
        plt.close(figure)
    return path
