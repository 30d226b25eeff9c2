"""Learning curves: what training returned, and what held-out tasks returned, over env steps."""

import re
from pathlib import Path

from trmrl.run import Run
from trmrl.types import TrmrlError

SEED = re.compile(r"[-_]s(eed)?\d+$")  # at the end of a run folder's name


def draw(runs: list[Run], path: str | Path) -> Path:
    """Draw one curve per run into a picture (its ending says which kind); returns its path.

    Runs whose folders' names differ in the seed alone share a color and a label.
    Lines are the trial's mean return per episode while training (actions sampled), dots the
    deterministic evaluations on held-out tasks. Raises `TrmrlError` if there is nothing to draw.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    colors: dict[str, str] = {}
    for run in runs:
        records = run.metrics()
        if not records:
            continue
        label = SEED.sub("", run.path.name)
        color = colors.setdefault(label, f"C{len(colors) % 10}")
        mean = lambda values: sum(values) / len(values)
        steps = [record["env_steps"] for record in records]
        lived = [mean(r["return"]) for r in records]
        axes.plot(steps, lived, alpha=0.4, linewidth=1, color=color)
        tested = [(r["env_steps"], mean(r["test_return"])) for r in records if "test_return" in r]
        dots = zip(*tested, strict=True) if tested else ([], [])
        axes.plot(*dots, "o-", markersize=4, color=color)
    if not colors:
        plt.close(figure)
        raise TrmrlError(f"nothing to draw: {', '.join(str(r.path) for r in runs)} logged nothing")
    for label, color in colors.items():
        axes.plot([], [], "o-", color=color, label=label)
    axes.set(xlabel="env steps", ylabel="return per episode")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    path = Path(path)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise TrmrlError(f"cannot write {path}: {error}") from error
    finally:
        plt.close(figure)
    return path
