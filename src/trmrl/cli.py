"""The command line: `trmrl train | sweep | evaluate | report | reference | envs | bench`.

Lives here: the verbs, progress bars, tables, and exit codes (2: the user can mend it, in one
line). Does not live here: what the verbs read (`arguments.py`), or anything a Python program could
not also call.
"""

import contextlib
import dataclasses
import difflib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from trmrl.arguments import (
    KINDS,
    Bench,
    Envs,
    Evaluate,
    Reference,
    Report,
    help_train,
    parse,
    read_sweep,
    read_train,
)
from trmrl.types import TrmrlError

CONSOLE = Console()


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 and one line on what the user can mend."""
    try:
        _dispatch(list(sys.argv[1:] if args is None else args))
    except TrmrlError as error:
        print("trmrl:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _dispatch(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        _print_help()
        return
    name, *rest = args
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=2) or list(COMMANDS)
        raise TrmrlError(f"unknown command {name!r}: did you mean {', '.join(near)}?")
    COMMANDS[name](rest)


def _print_help() -> None:
    _say("usage: trmrl COMMAND ...   (`trmrl COMMAND --help` tells more)\n")
    for name, kind in KINDS.items():
        _say(f"  {name:10}{(kind.__doc__ or '').splitlines()[0]}")


def _say(text: str) -> None:
    """Print a line as it is, paths and brackets included, however long."""
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)


def _train(args: list[str]) -> None:
    if "-h" in args or "--help" in args:
        if not help_train([arg for arg in args if arg not in ("-h", "--help")]):
            _say("`trmrl train ENV --help` lists the fields of its experiment, with their values.")
        return
    options, config = read_train(args)
    from trmrl import config as configs
    from trmrl.envs import make
    from trmrl.train import train

    configs.check(config, make(config.env, config.num_episodes).spec)
    path = options.run or Path("runs") / _label(config)
    try:
        with _progress(config.env_steps) as (show, begin):
            run = train(config, path, show, begin)
    except KeyboardInterrupt:
        _say(f"\nsaved; the same command goes on from {path}")
        raise
    _conclude(run.path)


def _label(config: Any) -> str:
    """Return the name of an experiment's run folder."""
    return f"{config.env}-{config.agent_name}-{config.recipe}-seed{config.seed}"


def _sweep(args: list[str]) -> None:
    options, experiments = read_sweep(args)
    from trmrl import config as configs
    from trmrl.envs import make
    from trmrl.launch import Cell, sweep
    from trmrl.run import Run
    from trmrl.train import is_concluded

    for config in experiments:
        configs.check(config, make(config.env, config.num_episodes).spec)
    cells = [Cell(config, options.out / _label(config)) for config in experiments]
    finished = lambda cell: is_concluded(cell.config, Run(cell.path))
    left = [cell for cell in cells if not finished(cell)]
    if len(left) < len(cells):
        _say(f"{len(cells) - len(left)} of {len(cells)} runs are finished already")
    try:
        with _sweep_progress() as show:
            failures = sweep(left, show, jobs=options.jobs) if left else []
    except KeyboardInterrupt:
        _say(f"\nsaved; the same command goes on with the runs in {options.out}")
        raise
    runs = [Run.open(cell.path) for cell in cells if finished(cell)]
    if runs:
        _tell(runs, options.out / "curve.png")
    if failures:
        names = ", ".join(event.cell.path.name for event in failures)
        raise TrmrlError(f"{len(failures)} of {len(cells)} runs failed: {names}")


def _conclude(path: Path) -> None:
    """Print how the finished run adapts to held-out tasks, and draw its curve."""
    from trmrl.report.curve import draw
    from trmrl.run import Run
    from trmrl.train import conclude

    run = Run.open(path)
    records = [evaluation.to_json() for evaluation in conclude(run)]
    for split in dict.fromkeys(record["split"] for record in records):
        _print_evaluations([record for record in records if record["split"] == split])
    picture = draw([run], run.path / "curve.png")
    _say(f"run folder {run.path}, learning curve {picture}")


def _bar(*columns: ProgressColumn) -> Progress:
    """Return a bar whose tasks have a field `told`: what to say of their newest metrics."""
    return Progress(
        *columns, TextColumn("{task.fields[told]}"), TimeRemainingColumn(), console=CONSOLE
    )


def _told(record: dict[str, Any]) -> str:
    shown = record["return"] if len(record["return"]) <= 3 else [sum(record["return"])]
    returns = " ".join(f"{value:.1f}" for value in shown)
    return f"{record['env_steps_per_s']:,.0f} steps/s, return {returns}"


@contextlib.contextmanager
def _progress(
    total: int,
) -> Iterator[tuple[Callable[[dict[str, Any]], None], Callable[[int], None]]]:
    """Yield functions that show a metrics record, and that training begins, with the bar."""
    bar = _bar(TextColumn("{task.completed:,.0f} / {task.total:,.0f} env steps"), BarColumn())
    task = bar.add_task("train", total=total, told="")

    def begin(env_steps: int) -> None:
        bar.update(task, completed=env_steps, told="compiling the first update")
        bar.start()

    def show(record: dict[str, Any]) -> None:
        bar.update(task, completed=record["env_steps"], told=_told(record))

    try:
        yield show, begin
    finally:
        if bar.live.is_started:
            bar.stop()


@contextlib.contextmanager
def _sweep_progress() -> Iterator[Callable[[Any], None]]:
    """Yield a function that shows what happened to a run: a live line each, while it runs."""
    bar = _bar(TextColumn("{task.description}"), BarColumn(bar_width=10))
    lines: dict[Path, TaskID] = {}

    def show(event: Any) -> None:
        path, total = event.cell.path, event.cell.config.env_steps
        if event.kind == "began":
            bar.start()
            lines[path] = bar.add_task(path.name, total=total, told="starting")
        elif event.kind == "lived" and event.record:
            told = _told(event.record)
            bar.update(lines[path], completed=event.record["env_steps"], told=told)
        elif event.kind == "lived":
            bar.update(lines[path], told="compiling the first update")
        else:
            bar.remove_task(lines.pop(path))
            _say(f"{event.kind} {path}" + (f": {event.complaint}" if event.complaint else ""))

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def _print_evaluations(records: list[dict[str, Any]]) -> None:
    """Print evaluations on the same tasks side by side, whatever way they chose actions."""
    told = records[0]
    tasks = f"{told['num_tasks']} {told['split']} tasks of {told['env']}"
    table = Table("episode", title=f"mean return of {told['agent']} on {tasks}")
    for record in records:
        table.add_column("sampled" if record["explore"] else "deterministic")
        table.add_column("95 % interval")
    episodes = [record["return_per_episode"] for record in records]
    last = told["num_episodes"] - 1
    for k in range(last + 1) if last < 10 else (0, 1, 2, last // 2, last):
        cells = [
            (f"{e['mean'][k]:.2f}", f"{e['ci95_low'][k]:.2f} to {e['ci95_high'][k]:.2f}")
            for e in episodes
        ]
        table.add_row(f"{k + 1}", *itertools.chain(*cells))
    sums = [(f"{sum(e['mean']):.2f}", "") for e in episodes]
    table.add_row("sum", *itertools.chain(*sums))
    CONSOLE.print(table)


def _evaluate(args: list[str]) -> None:
    options = parse(Evaluate, args, "evaluate")
    from trmrl.run import Run, write_json
    from trmrl.train import restore, score

    run = Run.open(options.run)
    config, envs, train_state = restore(run)
    wanted = dataclasses.asdict(options)
    del wanted["run"], wanted["json"]
    for count in ("num_tasks", "num_episodes"):
        if wanted[count] is not None and wanted[count] < 1:
            raise TrmrlError(f"--{count.replace('_', '-')} is {wanted[count]}, expected 1 or more")
    envs.spec.check_split(options.split)
    if options.json and not options.json.parent.is_dir():
        raise TrmrlError(f"cannot write {options.json}: there is no folder {options.json.parent}")
    record = score(config, envs, train_state, **wanted).to_json()
    if options.json:
        write_json(options.json, record)
    else:
        run.write_evaluation(_evaluation_name(record), record)
    _print_evaluations([record])


def _evaluation_name(record: dict[str, Any]) -> str:
    """Return the name of an evaluation on request; unlike ones have unlike names."""
    name = "{split}-{num_tasks}x{num_episodes}-seed{seed}".format_map(record)
    return name + ("-sampled" if record["explore"] else "")


def _report(args: list[str]) -> None:
    options = parse(Report, args, "report")
    from trmrl.run import Run

    if not options.runs:
        raise TrmrlError("report of what? expected one run folder or more")
    _tell([Run.open(path) for path in options.runs], options.out)


def _tell(runs: list[Any], out: Path) -> None:
    """Print what runs scored: each, over seeds, and for equal cost; and draw their curves."""
    from trmrl.report.aggregate import aggregate_table
    from trmrl.report.curve import draw
    from trmrl.report.efficiency import efficiency_table
    from trmrl.report.table import table

    tables = table(runs), aggregate_table(runs), efficiency_table(runs)
    picture = draw(runs, out)
    print("\n\n".join(text for text in tables if text))
    _say(f"wrote {picture}")


def _reference(args: list[str]) -> None:
    options = parse(Reference, args, "reference")
    from trmrl.references import reference
    from trmrl.run import write_json

    if options.json and not options.json.parent.is_dir():
        raise TrmrlError(f"cannot write {options.json}: there is no folder {options.json.parent}")
    scores = reference(options.env, num_tasks=options.num_tasks, seed=options.seed)
    wanted = {"env": options.env, "num_tasks": options.num_tasks, "seed": options.seed}
    if options.json:
        write_json(options.json, wanted | {"scores": [score.to_json() for score in scores]})
    _say(f"{options.env}: total reward of a trial, mean over {options.num_tasks} test tasks\n")
    line = "{:20} {:>10} {:>9}  {:>9}  {}".format
    _say(line("strategy", "mean", "95 %", "published", "tuned").rstrip())
    for score in scores:
        interval = f"± {score.half_width:.3g}" if len(score.total) > 1 else "exact"
        published = "" if score.published is None else f"{score.published:g}"
        _say(line(score.strategy, f"{score.mean:.3f}", interval, published, score.tuned).rstrip())


def _envs(args: list[str]) -> None:
    parse(Envs, args, "envs")
    from trmrl.envs import ENVS, make

    line = "{:24} {:>7} {:>3} {:13} {:14} {:>6} {:>7}".format
    _say(line("env", "K x H", "obs", "action", "splits", "floor", "ceiling"))
    number = lambda value: "" if value is None else f"{value:.3g}"
    for name in ENVS:
        spec = make(name).spec
        space = f"{spec.action_space.size} {type(spec.action_space).__name__.lower()}"
        trial = f"{spec.num_episodes} x {spec.horizon}"
        splits = ",".join(spec.splits)
        bounds = number(spec.floor), number(spec.ceiling)
        _say(line(name, trial, spec.obs_size, space, splits, *bounds).rstrip())
        _say(f"    {spec.summary}")
    _say("\nA trial is K episodes of H steps. floor and ceiling: returns of one episode.")
    _say("bandit-nN-kK: any N pulls of K arms. tabular-nN: any N episodes.")
    _say("ENV+task: the task is shown (the oracle).")


def _bench(args: list[str]) -> None:
    options = parse(Bench, args, "bench")
    from trmrl.bench import bench

    for line in bench(options.env, options.agent, options.recipe, options.num_lanes):
        _say(line)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "sweep": _sweep,
    "evaluate": _evaluate,
    "report": _report,
    "reference": _reference,
    "envs": _envs,
    "bench": _bench,
}
