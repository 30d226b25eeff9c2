"""A hidden task as a row of numbers that a person can set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from trmrl.envs.base import AbstractEnvs
from trmrl.types import Task, TrmrlError

NUM_SAMPLES = 500  # tasks of a split, from which the limits of a number are taken


@dataclass(frozen=True)
class Number:
    """One number of a task: its name, and the least and greatest value that any split drew."""

    name: str
    low: float
    high: float
    is_whole: bool


def read_numbers(task: Task) -> list[float]:
    """Return the numbers of a task `[1, ...]`, leaf by leaf."""
    return [float(value) for leaf in jax.tree.leaves(task) for value in np.ravel(leaf)]


def write_numbers(task: Task, numbers: list[float]) -> Task:
    """Return the task `[1, ...]` with other numbers, in the order of `read_numbers`.

    Raises `TrmrlError` unless there are as many as it has, all finite.
    """
    leaves, treedef = jax.tree.flatten(task)
    size = sum(np.size(leaf) for leaf in leaves)
    if len(numbers) != size or not np.isfinite(numbers).all():
        raise TrmrlError(f"the task is {numbers}, expected {size} finite numbers")
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    parts = np.split(np.asarray(numbers, np.float64), ends)
    written: list[Any] = [
        part.reshape(np.shape(leaf)).astype(np.asarray(leaf).dtype)
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return treedef.unflatten(written)


def read_tasks(task: Task, numbers: Sequence[float]) -> list[Task]:
    """Return tasks like `task`, given one after the other; raises `TrmrlError` on a rest."""
    size = len(read_numbers(task))
    if len(numbers) % size:
        raise TrmrlError(f"--tasks has {len(numbers)} numbers, expected {size} for each task")
    starts = range(0, len(numbers), size)
    return [write_numbers(task, list(numbers[start : start + size])) for start in starts]


def describe_numbers(envs: AbstractEnvs) -> list[Number]:
    """Return the numbers of these worlds' tasks, their limits sampled from every split."""
    key = jax.random.key(0)
    drawn = [envs.sample_tasks(split, NUM_SAMPLES, key=key) for split in envs.spec.splits]
    named = [jax.tree_util.tree_flatten_with_path(tasks)[0] for tasks in drawn]
    found = []
    for leaf in zip(*named, strict=True):
        name = jax.tree_util.keystr(leaf[0][0], simple=True, separator=".")
        values = np.concatenate([np.reshape(rows, (NUM_SAMPLES, -1)) for _, rows in leaf])
        is_whole = np.issubdtype(values.dtype, np.integer)
        for i, column in enumerate(values.T.astype(float)):
            label = name if values.shape[1] == 1 else f"{name} {i + 1}"
            found.append(Number(label, float(column.min()), float(column.max()), is_whole))
    return found
