"""The tables that the command line prints of scores."""

from collections.abc import Sequence

from rich.table import Table

from trmrl.references import Score
from trmrl.types import Evaluation, count_label


def evaluation_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return evaluations on the same tasks side by side, whatever way they chose actions.

    Of more than ten episodes the first two, the middle one and the last are shown.
    """
    first = evaluations[0]
    tasks = f"{first.tasks_label} {first.split} tasks of {first.env}"
    table = Table("episode", title=f"mean return of {first.agent} on {tasks}")
    for evaluation in evaluations:
        table.add_column("sampled" if evaluation.explore else "deterministic")
        table.add_column("95 % interval")
        if evaluation.success_per_episode:
            table.add_column("success")
    last = first.num_episodes - 1
    for k in range(last + 1) if last < 10 else (0, 1, 2, last // 2, last):
        cells = [f"{k + 1}"]
        for evaluation in evaluations:
            score, success = evaluation.return_per_episode, evaluation.success_per_episode
            cells.append(f"{score['mean'][k]:.2f}")
            cells.append(f"{score['ci95_low'][k]:.2f} to {score['ci95_high'][k]:.2f}")
            cells += [f"{success['mean'][k]:.2f}"] if success else []
        table.add_row(*cells)
    cells = ["sum"]
    for evaluation in evaluations:
        cells += [f"{sum(evaluation.return_per_episode['mean']):.2f}", ""]
        cells += [""] if evaluation.success_per_episode else []
    table.add_row(*cells)
    return table


def reference_lines(env: str, num_tasks: int, scores: Sequence[Score]) -> list[str]:
    """Return a table of what strategies earn in a world."""
    num_distinct = max(score.num_distinct for score in scores)
    tasks = count_label(num_tasks, num_distinct)
    names = [score.strategy for score in scores]
    marked = any(score.success is not None for score in scores)
    line = f"{{:{max(20, *map(len, names))}}} {{:>9}} {{:>20}} {{:>9}}{{}}  {{}}".format
    header = f"{'success':>9}" if marked else ""
    lines = [
        f"{env}: total reward of a trial, mean over {tasks} test tasks",
        "",
        line("strategy", "mean", "95 % interval", "published", header, "tuned"),
    ]
    for score in scores:
        interval = "{:.3f} to {:.3f}".format(*score.interval) if score.interval else "exact"
        published = "" if score.published is None else f"{score.published:g}"
        success = "" if score.success is None else f"{score.success:>9.2f}"
        row = score.strategy, f"{score.mean:.3f}", interval, published, success, score.tuned
        lines.append(line(*row))
    return [text.rstrip() for text in lines]


def without_memory_lines(scores: Sequence[Score]) -> list[str]:
    """Return what strategies earn that remember nothing, a line each."""
    lines = []
    for score in scores:
        success = "" if score.success is None else f", success {score.success:.2f}"
        tasks = count_label(len(score.total), score.num_distinct)
        over = f"mean over {tasks} test tasks" if score.num_distinct else "exact"
        lines.append(f"without memory, {score.strategy}: {score.mean:.4g} a trial{success}, {over}")
    return lines
