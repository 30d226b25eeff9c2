"""Learning curves: what training returned, and what held-out tasks returned, over env steps."""

from pathlib import Path

from trmrl.run import Run
from trmrl.types import TrmrlError


def draw(runs: list[Run], path: str | Path) -> Path:
    """Draw one curve per run into a picture (its ending says which kind); returns its path.

    Lines are the trial's mean return per episode while training (actions sampled), dots the
    deterministic evaluations on held-out tasks. Raises `TrmrlError` if there is nothing to draw.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    drawn = 0
    for run in runs:
        records = run.metrics()
        if not records:
            continue
        drawn += 1
        label = "{env} {agent_name} seed {seed}".format_map(run.config())
        mean = lambda values: sum(values) / len(values)
        steps = [record["env_steps"] for record in records]
        (line,) = axes.plot(steps, [mean(r["return"]) for r in records], alpha=0.5, linewidth=1)
        tested = [(r["env_steps"], mean(r["test_return"])) for r in records if "test_return" in r]
        dots = zip(*tested, strict=True) if tested else ([], [])
        axes.plot(*dots, "o-", color=line.get_color(), label=label)
    if not drawn:
        plt.close(figure)
        raise TrmrlError(f"nothing to draw: {', '.join(str(r.path) for r in runs)} logged nothing")
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
