"""The command line: `trmrl train | evaluate | report | envs | bench`.

Lives here: arguments, the progress bar, tables, and exit codes (2: the user can mend it, in one
line). Does not live here: anything a Python program could not also call.
"""

import contextlib
import dataclasses
import difflib
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trmrl.types import TrmrlError

CONSOLE = Console()
Name = tyro.conf.Positional[str]


@dataclass(frozen=True)
class Train:
    """Meta-train an agent, or go on where a run stopped.

    Any field of the experiment can be given by its dotted name: `--agent.ppo.clip 0.1`.
    """

    env: Name  # a world of `trmrl envs`
    agent: str = "trmrl"
    recipe: str = "default"
    steps: int | None = None  # budget in env steps; schedules follow
    run: Path | None = None  # folder; default runs/ENV-AGENT-RECIPE-seedN


@dataclass(frozen=True)
class Evaluate:
    """Let a trained agent adapt to held-out tasks, and report every episode."""

    run: tyro.conf.Positional[Path]
    split: str = "test"
    num_tasks: int = 100
    num_episodes: int | None = None  # of a trial; default as trained
    seed: int = 0  # of tasks and worlds
    explore: bool = False  # sample actions instead of the policy's mode
    json: Path | None = None  # also write the evaluation here


@dataclass(frozen=True)
class Report:
    """Draw the learning curves of runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("curve.png")


@dataclass(frozen=True)
class Envs:
    """List the worlds."""


@dataclass(frozen=True)
class Bench:
    """Measure learning and collecting against this machine's own limits."""

    env: Name
    agent: str = "trmrl"
    recipe: str = "default"
    num_lanes: int = 64


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 and one line on what the user can mend."""
    try:
        _dispatch(list(sys.argv[1:] if args is None else args))
    except TrmrlError as error:
        print(f"trmrl: {error}", file=sys.stderr)
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
    CONSOLE.print("usage: trmrl COMMAND ...   (`trmrl COMMAND --help` tells more)\n")
    kinds = {"train": Train, "evaluate": Evaluate, "report": Report, "envs": Envs, "bench": Bench}
    for name, kind in kinds.items():
        CONSOLE.print(f"  {name:10}{(kind.__doc__ or '').splitlines()[0]}")


def _parse(kind: Any, args: list[str], name: str, **options: Any) -> Any:
    """Return `tyro`'s reading of the arguments; what it cannot read becomes one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=args, prog=f"trmrl {name}", **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = (line.strip(" │─╭╮╰╯") for line in said.getvalue().splitlines())
        told = " ".join(line for line in lines if line).removeprefix("Parsing error")
        raise TrmrlError(told.strip() or "unreadable arguments") from None


def _train(args: list[str]) -> None:
    if "-h" in args or "--help" in args:
        _parse(Train, ["--help"], "train")
    options, fields = _parse(Train, args, "train", return_unknown_args=True)
    from trmrl import config as configs
    from trmrl.recipes import recipe
    from trmrl.train import train

    config = recipe(options.env, options.agent, options.recipe, env_steps=options.steps)
    for flag in fields:
        if flag.startswith("--"):
            configs.check_field(config, flag[2:].split("=")[0].replace("-", "_"))
    markers = (tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed)
    config = _parse(type(config), fields, "train", default=config, config=markers)
    label = f"{config.env}-{config.agent_name}-{config.recipe}-seed{config.seed}"
    path = options.run or Path("runs") / label
    with _progress(config.env_steps) as show:
        try:
            run = train(config, path, show)
        except KeyboardInterrupt:
            CONSOLE.print(f"\nsaved; the same command goes on from [bold]{path}[/bold]")
            raise
    _conclude(run.path)


def _conclude(path: Path) -> None:
    """Print how the finished run adapts to held-out tasks, and draw its curve."""
    from trmrl.report.curve import draw
    from trmrl.run import Run
    from trmrl.train import restore, score

    run = Run.open(path)
    config, envs, train_state = restore(run)
    for split in envs.spec.splits:
        evaluation = score(config, envs, train_state, split=split)
        run.write_evaluation(split, evaluation.to_json())
        _print_evaluation(evaluation.to_json())
    picture = draw([run], run.path / "curve.png")
    CONSOLE.print(f"run folder {run.path}, learning curve {picture}")


@contextlib.contextmanager
def _progress(total: int) -> Any:
    columns = (
        TextColumn("{task.completed:,.0f} / {task.total:,.0f} env steps"),
        BarColumn(),
        TextColumn("{task.fields[speed]} steps/s, return {task.fields[returns]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=CONSOLE) as bar:
        task = bar.add_task("train", total=total, speed="...", returns="...")

        def show(record: dict[str, Any]) -> None:
            shown = record["return"] if len(record["return"]) <= 3 else [sum(record["return"])]
            bar.update(
                task,
                completed=record["env_steps"],
                speed=f"{record['env_steps_per_s']:,.0f}",
                returns=" ".join(f"{value:.1f}" for value in shown),
            )

        yield show


def _print_evaluation(record: dict[str, Any]) -> None:
    episodes = record["return_per_episode"]
    manner = "sampled" if record["explore"] else "deterministic"
    title = f"{record['agent']} on {record['num_tasks']} {record['split']} tasks of {record['env']}"
    table = Table("episode", "mean return", "95 % interval", title=f"{title}, {manner}")
    rows = list(zip(episodes["mean"], episodes["ci95_low"], episodes["ci95_high"], strict=True))
    shown = range(len(rows)) if len(rows) <= 10 else [0, 1, 2, len(rows) // 2, len(rows) - 1]
    for k in shown:
        mean, low, high = rows[k]
        table.add_row(f"{k + 1}", f"{mean:.2f}", f"{low:.2f} to {high:.2f}")
    table.add_row("sum", f"{sum(episodes['mean']):.2f}", "")
    CONSOLE.print(table)


def _evaluate(args: list[str]) -> None:
    options = _parse(Evaluate, args, "evaluate")
    from trmrl.run import Run
    from trmrl.train import restore, score

    run = Run.open(options.run)
    config, envs, train_state = restore(run)
    wanted = dataclasses.asdict(options)
    del wanted["run"], wanted["json"]
    for count in ("num_tasks", "num_episodes"):
        if wanted[count] is not None and wanted[count] < 1:
            raise TrmrlError(f"--{count.replace('_', '-')} is {wanted[count]}, expected 1 or more")
    record = score(config, envs, train_state, **wanted).to_json()
    if options.json:
        try:
            options.json.write_text(json.dumps(record), encoding="utf-8")
        except OSError as error:
            raise TrmrlError(f"cannot write {options.json}: {error.strerror}") from error
    else:
        run.write_evaluation(f"{options.split}-{options.num_episodes or 'K'}", record)
    _print_evaluation(record)


def _report(args: list[str]) -> None:
    options = _parse(Report, args, "report")
    from trmrl.report.curve import draw
    from trmrl.run import Run

    picture = draw([Run.open(path) for path in options.runs], options.out)
    CONSOLE.print(f"wrote {picture}")


def _envs(args: list[str]) -> None:
    _parse(Envs, args, "envs")
    from trmrl.envs import ENVS, make

    table = Table("env", "K x H", "obs", "action", "splits", "floor", "ceiling", "what")
    number = lambda value: "" if value is None else f"{value:g}"
    for name in ENVS:
        spec = make(name).spec
        space = f"{spec.action_space.size} {type(spec.action_space).__name__.lower()}"
        table.add_row(
            name, f"{spec.num_episodes} x {spec.horizon}", str(spec.obs_size), space,
            ", ".join(spec.splits), number(spec.floor), number(spec.ceiling), spec.summary,
        )
    CONSOLE.print(table)
    CONSOLE.print("bandit-nN-kK: any N pulls of K arms. ENV+task: the task is shown (the oracle).")


def _bench(args: list[str]) -> None:
    options = _parse(Bench, args, "bench")
    from trmrl.bench import bench

    for line in bench(options.env, options.agent, options.recipe, options.num_lanes):
        CONSOLE.print(line)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "report": _report,
    "envs": _envs,
    "bench": _bench,
}
