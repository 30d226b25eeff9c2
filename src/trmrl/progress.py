"""How training shows its progress: bars in a terminal, and a plain line now and then elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from trmrl.launch import Event

TRAIN_SECONDS = 10.0  # between plain lines of one run
SWEEP_SECONDS = 60.0  # between plain lines of each of many runs
COMPILING = "compiling the first update"
FEW = 3  # episodes whose returns are shown one by one; of more, the sum

ShowRecord = Callable[[dict[str, Any]], None]  # is given every metrics record
Begin = Callable[[int], None]  # is given the env steps so far, before the first update
ShowEvent = Callable[["Event"], None]  # is given what happens to each run of a sweep
Clock = Callable[[], float]  # seconds since any moment


def print_line(console: Console, text: str) -> None:
    """Print a line as it is, paths and brackets included, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def show_training(
    console: Console, total: int, clock: Clock = time.monotonic
) -> Iterator[tuple[ShowRecord, Begin]]:
    """Yield functions that show a metrics record, and that training begins; `total` in env steps.

    Outside a terminal that is one line every ten seconds, and one at every evaluation.
    """
    if not console.is_terminal:
        yield _training_lines(console, total, clock)
        return
    bar = _bar(
        console, TextColumn("{task.completed:,.0f} / {task.total:,.0f} env steps"), BarColumn()
    )
    task = bar.add_task("train", total=total, status="")

    def begin(env_steps: int) -> None:
        bar.update(task, completed=env_steps, status=COMPILING)
        bar.start()

    def show(record: dict[str, Any]) -> None:
        bar.update(task, completed=record["env_steps"], status=_status(record))

    with _stopped_at_the_end(bar):
        yield show, begin


def _training_lines(console: Console, total: int, clock: Clock) -> tuple[ShowRecord, Begin]:
    printed_at = clock()

    def begin(env_steps: int) -> None:
        nonlocal printed_at
        printed_at = clock()
        print_line(console, f"{_counted(env_steps, total)}, {COMPILING}")

    def show(record: dict[str, Any]) -> None:
        nonlocal printed_at
        if "test_return" in record or clock() - printed_at >= TRAIN_SECONDS:
            printed_at = clock()
            print_line(console, f"{_counted(record['env_steps'], total)}, {_status(record)}")

    return show, begin


@contextlib.contextmanager
def show_sweep(console: Console, clock: Clock = time.monotonic) -> Iterator[ShowEvent]:
    """Yield a function that shows what happened to a run: a bar for each run that trains.

    Outside a terminal that is a line where a run starts or ends, and at most one a minute between.
    """
    if not console.is_terminal:
        yield _sweep_lines(console, clock)
        return
    bar = _bar(console, TextColumn("{task.description}"), BarColumn(bar_width=10))
    tasks: dict[Path, TaskID] = {}

    def show(event: "Event") -> None:
        path, total = event.cell.path, event.cell.config.env_steps
        if event.kind == "started":
            bar.start()
            tasks[path] = bar.add_task(path.name, total=total, status="starting")
        elif event.kind != "progressed":
            bar.remove_task(tasks.pop(path))
            print_line(console, _outcome(event))
        elif event.record:
            completed = event.record["env_steps"]
            bar.update(tasks[path], completed=completed, status=_status(event.record))
        else:
            bar.update(tasks[path], status=COMPILING)

    with _stopped_at_the_end(bar):
        yield show


def _sweep_lines(console: Console, clock: Clock) -> ShowEvent:
    printed_at: dict[Path, float] = {}

    def show(event: "Event") -> None:
        path, record = event.cell.path, event.record
        if event.kind != "progressed":
            printed_at[path] = clock()
            print_line(console, _outcome(event))
        elif record and clock() - printed_at[path] >= SWEEP_SECONDS:
            printed_at[path] = clock()
            counted = _counted(record["env_steps"], event.cell.config.env_steps)
            print_line(console, f"{path}: {counted}, {_status(record)}")

    return show


def _bar(console: Console, *columns: ProgressColumn) -> Progress:
    """Return a bar whose tasks have a field `status`: what their newest metrics are."""
    status = TextColumn("{task.fields[status]}")
    return Progress(*columns, status, TimeRemainingColumn(), console=console)


@contextlib.contextmanager
def _stopped_at_the_end(bar: Progress) -> Iterator[None]:
    """Stop a bar that was started; one that never was would otherwise leave an empty line."""
    try:
        yield
    finally:
        if bar.live.is_started:
            bar.stop()


def _outcome(event: "Event") -> str:
    reason = f": {event.complaint}" if event.complaint else ""
    return f"{event.kind} {event.cell.path}{reason}"


def _counted(env_steps: int, total: int) -> str:
    return f"env steps {env_steps:,} / {total:,}"


def _status(record: dict[str, Any]) -> str:
    status = f"{record['env_steps_per_s']:,.0f} steps/s, return {_returns(record['return'])}"
    if "test_return" in record:
        status += f", on test tasks {_returns(record['test_return'])}"
    return status


def _returns(returns: list[float]) -> str:
    shown = returns if len(returns) <= FEW else [sum(returns)]
    return " ".join(f"{value:.1f}" for value in shown)
