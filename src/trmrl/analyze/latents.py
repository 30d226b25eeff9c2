"""Where the hidden task is in an agent's memory: projections colored by it, and probes of it."""

import jax
import numpy as np
from jaxtyping import Float

from trmrl.analyze.subject import (
    Findings,
    Subject,
    panel,
    replay,
    sites,
    some_steps,
    task_numbers,
)
from trmrl.ops.probe import predictions, r_squared
from trmrl.report.figures import Figure, Points
from trmrl.report.panels import Panel, Series
from trmrl.types import TrmrlError, number_distinct

FEWEST_TASKS = 10  # distinct ones, below which a cross-validated probe says nothing


def pca(
    rows: Float[np.ndarray, "N D"], num_components: int = 2
) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, " C"]]:
    """Return rows in their principal components, and the share of variance each explains.

    By singular values of the centered rows; each component's sign makes its largest entry positive.
    """
    u, s, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    scores = (u * s)[:, :num_components]
    largest = scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])]
    variance = s**2
    share = variance / max(variance.sum(), np.finfo(float).tiny)
    return scores * np.where(largest < 0, -1.0, 1.0), share[:num_components]


def umap(rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N 2"] | None:
    """Return rows embedded in the plane by UMAP (McInnes et al., 2018); None if not installed."""
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return np.asarray(UMAP(min(15, len(rows) - 1), random_state=0, n_jobs=1).fit_transform(rows))


def latents(subject: Subject) -> Findings:
    """Return projections of what each layer remembers at the end of a trial, and probes by step.

    One deterministic trial on each distinct task. A probe is a cross-validated ridge regression of
    the task's numbers on the memory at one step, over tasks.
    """
    drawn = subject.tasks(subject.num_tasks)
    numbers = task_numbers(drawn)
    rows = list(zip(*numbers.values(), strict=True))
    distinct = np.unique(number_distinct(rows))
    if len(distinct) < FEWEST_TASKS:
        raise TrmrlError(f"{len(distinct)} distinct tasks, a probe needs {FEWEST_TASKS} or more")
    lanes = subject.agent.plan.lanes_per_task
    tasks = jax.tree.map(lambda x: np.asarray(x)[distinct], drawn)
    trial = subject.roll_out(tasks)
    kept = replay(subject.network, trial.rows, lambda record, feature: sites(record))
    kept = {name: x[:, ::lanes].astype(np.float64) for name, x in kept.items()}
    number = np.stack([values[distinct] for values in numbers.values()], axis=1)
    steps = some_steps(len(next(iter(kept.values()))))
    found = {name: _probes(x, number, steps) for name, x in kept.items()}
    figures: list[Figure] = [_probe_panel(found, steps)]
    first, label = number[:, 0], next(iter(numbers))
    best = max(found, key=lambda name: found[name][0][-1])
    for name, x in kept.items():
        scores, share = pca(x[-1])
        if scores.shape[1] == 2:
            title = f"Memories of {len(number)} tasks at the last step: {name}, PCA"
            axes = [f"component {i} ({part:.0%} of variance)" for i, part in enumerate(share, 1)]
            figures.append(_points(f"pca-{name}", title, axes, scores, first, label))
    lines = [
        f"the task's numbers are read best from {best} at the last step: "
        f"R² {found[best][0][-1]:.2f}, and {found['embedding'][0][-1]:.2f} from the token alone"
    ]
    plane = umap(kept[best][-1])
    if plane is None:
        lines.append("no UMAP: it needs the package umap-learn")
    else:
        title = f"Memories of {len(number)} tasks at the last step: {best}, UMAP"
        axes = ["first axis", "second axis"]
        figures.append(_points(f"umap-{best}", title, axes, plane, first, label))
    probes = {
        name: {"mean": mean.tolist(), "ci95_low": low.tolist(), "ci95_high": high.tolist()}
        for name, (mean, low, high) in found.items()
    }
    numbers_found = {"num_tasks": len(number), "steps": steps.tolist(), "r_squared": probes}
    arrays = {f"memory/{name}": x[steps] for name, x in kept.items()}
    return Findings(numbers_found, arrays | {"task": number, "steps": steps}, figures, lines)


def _probes(memory: np.ndarray, number: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return R² at each step, averaged over the task's numbers, and its interval: `[3, S]`."""
    found = []
    for step in steps:
        ridge = predictions(memory[step], number)[0]
        found.append([part.mean() for part in r_squared(np.stack([ridge, ridge]), number)])
    return np.asarray(found).T


def _probe_panel(found: dict[str, np.ndarray], steps: np.ndarray) -> Panel:
    series = [
        Series(name, "mean", i, steps.astype(float), np.maximum(mean, -0.1), low, high)
        for i, (name, (mean, low, high)) in enumerate(found.items())
    ]
    title = "How well the task can be read from memory"
    return panel("probes", title, "R² of the task's numbers", series, limits=(-0.15, 1.02))


def _points(
    name: str, title: str, axes: list[str], plane: np.ndarray, value: np.ndarray, label: str
) -> Points:
    return Points(name, title, axes[0], axes[1], plane[:, 0], plane[:, 1], value, label)
