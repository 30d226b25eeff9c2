"""Where the hidden task is in an agent's memory: projections colored by it, and probes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from trmrl.analyze.subject import (
    Findings,
    Subject,
    differing_numbers,
    panel,
    replay,
    sites,
    some_steps,
)
from trmrl.nets.core import Record
from trmrl.ops.probe import predictions, r_squared
from trmrl.report.figures import Figure, Points
from trmrl.report.panels import Panel, Series
from trmrl.types import Array, Task, TrmrlError, number_distinct

FEWEST_TASKS = 10  # distinct ones, below which a cross-validated probe says nothing
FEWEST_MAPPED = 2  # distinct ones, between which a memory can be nearer to one


def pca(
    rows: Float[np.ndarray, "N D"], num_components: int = 2
) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, " C"]]:
    """Return rows in their principal components, and the share of variance each explains."""
    axes, share = principal_axes(rows, num_components)
    return (rows - rows.mean(axis=0)) @ axes, share


def principal_axes(
    rows: Float[np.ndarray, "N D"], num_components: int
) -> tuple[Float[np.ndarray, "D C"], Float[np.ndarray, " C"]]:
    """Return the directions of the rows' greatest variance, and the share each explains.

    By singular values of the centered rows; each direction's sign makes the largest component of
    a row along it positive.
    """
    u, s, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    scores = (u * s)[:, :num_components]
    largest = scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])]
    variance = s**2
    share = variance / max(variance.sum(), np.finfo(float).tiny)
    return (axes[:num_components].T) * np.where(largest < 0, -1.0, 1.0), share[:num_components]


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
    tasks, numbers = _distinct_tasks(subject, FEWEST_TASKS)
    kept, _ = _remembered(subject, tasks, partial(sites, subject.network.network))
    number = np.stack(list(numbers.values()), axis=1)
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


@dataclass(frozen=True)
class MemoryMap:
    """What an agent remembers of some tasks once it has adapted, and the plane they lie in.

    A memory is the core's feature, which the policy is read from; one of a task here is its mean
    over the last episode, for a single moment's also says where in its motion the agent was.
    """

    tasks: Task  # leading axis N
    memory: Float[np.ndarray, "N D"]
    axes: Float[np.ndarray, "D 2"]  # of the plane, through the mean of all

    def place(self, memory: Float[np.ndarray, "*rows D"]) -> Float[np.ndarray, "*rows 2"]:
        """Return where memories are in the plane of the first two principal components."""
        return (memory - self.memory.mean(axis=0)) @ self.axes

    def nearest(self, memory: Float[np.ndarray, " D"], num_tasks: int) -> Int[np.ndarray, " M"]:
        """Return the tasks whose memories are nearest to one, nearest first: their numbers.

        By Euclidean distance in the whole space, not in the plane.
        """
        distance = np.square(self.memory - memory).sum(axis=1)
        return distance.argsort(kind="stable")[:num_tasks]


def map_memories(subject: Subject) -> MemoryMap:
    """Return a map of the distinct ones of the subject's tasks, one deterministic trial on each.

    Raises `TrmrlError` for agents without a memory core, and on less than `FEWEST_MAPPED` tasks.
    """
    _ = subject.network  # agents without one are refused before anything is played
    tasks, _ = _distinct_tasks(subject, FEWEST_MAPPED)
    feature, valid = _remembered(subject, tasks, lambda record, feature: feature)
    last = slice(len(valid) - subject.envs.spec.horizon, None)
    share = valid[last, :, None] / valid[last].sum(axis=0)[:, None]
    memory = (feature[last] * share).sum(axis=0)
    return MemoryMap(tasks, memory, principal_axes(memory, 2)[0])


def _distinct_tasks(subject: Subject, fewest: int) -> tuple[Task, dict[str, np.ndarray]]:
    """Return the distinct ones of the subject's tasks, and their numbers (`differing_numbers`)."""
    drawn = subject.tasks(subject.num_tasks)
    numbers = differing_numbers(drawn)
    rows = list(zip(*numbers.values(), strict=True))
    distinct = np.unique(number_distinct(rows))
    if len(distinct) < fewest:
        raise TrmrlError(f"{len(distinct)} distinct tasks, expected {fewest} or more")
    tasks = jax.tree.map(lambda x: np.asarray(x)[distinct], drawn)
    return tasks, {name: values[distinct] for name, values in numbers.items()}


def _remembered(
    subject: Subject, tasks: Task, keep: Callable[[Record, Array], PyTree]
) -> tuple[PyTree, Bool[np.ndarray, "T N"]]:
    """Return what `keep` gives (`replay`) along a deterministic trial on each task, float64.

    And which rows happened. Of a task that several lanes share, it is the first one's.
    """
    lanes = subject.agent.plan.lanes_per_task
    rows = subject.roll_out(tasks).rows
    kept = replay(subject.network, rows, keep)
    kept = jax.tree.map(lambda x: x[:, ::lanes].astype(np.float64), kept)
    return kept, rows.flatten_time().valid[:, ::lanes]


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
