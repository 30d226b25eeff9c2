"""What runs scored on held-out tasks, as a Markdown table. Reads evaluations and nothing else."""

import json
import statistics
from pathlib import Path
from typing import Any

from trmrl.report.experiments import with_interval
from trmrl.run import EVALUATIONS, Run
from trmrl.types import TrmrlError

FEW = 3  # episodes whose returns are told with an interval each; more are summed
SEVERAL = 10  # episodes whose means are told beside their sum


def table(runs: list[Run]) -> str:
    """Return one row per evaluation stored in the run folders.

    Trials of few episodes show the mean return of each with its 95 % interval over tasks; longer
    ones the return of the whole trial, with the means of its episodes if they are ten or less.
    Raises `TrmrlError` if nothing was evaluated.
    """
    rows = [(run.path.name, record) for run in runs for record in evaluations(run)]
    if not rows:
        raise TrmrlError(f"no evaluations in {', '.join(str(run.path) for run in runs)}")
    told = lambda record: [record["split"], actions(record), record["num_tasks"]]
    return markdown(
        ["run", "split", "actions", "tasks", "env steps", "return"],
        [[name, *told(record), record["env_steps"], _returns(record)] for name, record in rows],
    )


def markdown(header: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table; whole numbers get thousands separators."""
    cell = lambda value: f"{value:,}" if isinstance(value, int) else str(value)
    line = lambda cells: f"| {' | '.join(map(cell, cells))} |"
    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, rows)])


def actions(record: dict[str, Any]) -> str:
    """Return how an evaluation chose its actions: the policy's mode, or sampled."""
    return "sampled" if record.get("explore") else "mode"


def evaluations(run: Run) -> list[dict[str, Any]]:
    """Return every evaluation stored in a run folder; raises `TrmrlError` if one is damaged."""
    paths = sorted((run.path / EVALUATIONS).glob("*.json"))
    return [_read(path) for path in paths]


def _read(path: Path) -> dict[str, Any]:
    needed = {"split", "num_tasks", "num_episodes", "env_steps", "return_per_episode", "returns"}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or needed - record.keys():
            raise ValueError("it is no evaluation")
    except (OSError, ValueError) as error:
        raise TrmrlError(f"{path} is damaged: {error}") from error
    return record


def _returns(record: dict[str, Any]) -> str:
    episodes = record["return_per_episode"]
    if record["num_episodes"] > FEW:
        whole = [sum(task) for task in record["returns"]]
        margin = 1.96 * statistics.stdev(whole) / len(whole) ** 0.5 if len(whole) > 1 else 0.0
        told = f"{statistics.fmean(whole):.3f} ± {margin:.3f} a trial"
        each = ", ".join(f"{mean:.2f}" for mean in episodes["mean"])
        return f"{told} ({each})" if record["num_episodes"] <= SEVERAL else told
    columns = zip(episodes["mean"], episodes["ci95_low"], episodes["ci95_high"], strict=True)
    return ", then ".join(with_interval(mean, (low, high)) for mean, low, high in columns)
