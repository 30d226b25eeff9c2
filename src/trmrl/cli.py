"""The command line: `trmrl train | evaluate | report | reference | envs | bench`.

Lives here: arguments, the progress bar, tables, and exit codes (2: the user can mend it, in one
line). Does not live here: anything a Python program could not also call.
"""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trmrl.types import TrmrlError

CONSOLE = Console()
Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
RunPath = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
# How tyro reads the fields of an experiment: as they stand in the recipe, each with its value.
FIELDS = tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed, tyro.conf.FlagConversionOff


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

    run: RunPath
    split: str = "test"
    num_tasks: int = 100
    num_episodes: int | None = None  # of a trial; default as trained
    seed: int = 0  # of tasks and worlds
    explore: bool = False  # sample actions instead of the policy's mode
    json: Path | None = None  # write the evaluation to this file, not into the run folder


@dataclass(frozen=True)
class Report:
    """Draw the learning curves of runs, and print what they scored as a Markdown table."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("curve.png")


@dataclass(frozen=True)
class Reference:
    """Measure what classical and exact strategies earn in a world."""

    env: Name
    num_tasks: int = 1000
    seed: int = 0  # of tasks and worlds
    json: Path | None = None  # also write the scores to this file


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
    kinds = {
        "train": Train,
        "evaluate": Evaluate,
        "report": Report,
        "reference": Reference,
        "envs": Envs,
        "bench": Bench,
    }
    for name, kind in kinds.items():
        _say(f"  {name:10}{(kind.__doc__ or '').splitlines()[0]}")


def _say(text: str) -> None:
    """Print a line as it is, paths and brackets included, however long."""
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)


def _parse(kind: Any, args: list[str], name: str, **options: Any) -> Any:
    """Return `tyro`'s reading of the arguments; what it cannot read becomes one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=args, prog=f"trmrl {name}", **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        frame = r"[│─╭╮╰╯|]|\+?-{3,}\+?|\+-|-\+"
        told = " ".join(re.sub(frame, " ", said.getvalue()).split())
        told = re.split(r" Argument helptext:| For full helptext| Perhaps you meant", told)[0]
        told = re.sub(r"^(Parsing error|Value error|Missing argument|Invalid choice) ", "", told)
        told = re.sub(r"^(\w+ options) .*?: ", r"\1: ", told)
        told = told[:1].lower() + told[1:] or "unreadable arguments"
        raise TrmrlError(told + _nearest(kind, told)) from None


def _nearest(kind: Any, told: str) -> str:
    """Return a hint at the options most like the one a complaint calls unrecognized."""
    flag = re.match(r"unrecognized options: (--[^ ,]+)", told)
    if not flag:
        return ""
    names = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(kind)]
    near = difflib.get_close_matches(flag[1], names, cutoff=0.5) or names
    return f": did you mean {', '.join(near)}?"


def _train(args: list[str]) -> None:
    if "-h" in args or "--help" in args:
        _help_train([arg for arg in args if arg not in ("-h", "--help")])
        return
    options, fields = _parse(Train, args, "train", return_unknown_args=True)
    from trmrl import config as configs
    from trmrl.envs import make
    from trmrl.train import train

    config = _read_fields(_recipe(options), fields)
    configs.check(config, make(config.env).spec)
    label = f"{config.env}-{config.agent_name}-{config.recipe}-seed{config.seed}"
    path = options.run or Path("runs") / label
    try:
        with _progress(config.env_steps) as show:
            run = train(config, path, show)
    except KeyboardInterrupt:
        _say(f"\nsaved; the same command goes on from {path}")
        raise
    _conclude(run.path)


def _recipe(options: Train) -> Any:
    """Return the experiment that `train`'s own options name."""
    from trmrl.recipes import recipe

    if options.steps is not None and options.steps < 1:
        raise TrmrlError(f"--steps is {options.steps}, expected 1 or more")
    return recipe(options.env, options.agent, options.recipe, env_steps=options.steps)


def _read_fields(config: Any, args: list[str]) -> Any:
    """Return the experiment with the fields given by their dotted names."""
    from trmrl import config as configs

    for flag in args:
        if flag.startswith("--"):
            name = flag[2:].split("=")[0].replace("-", "_")
            configs.check_field(config, name)
            if name in ("env", "agent_name"):
                raise TrmrlError(f"{flag} is no option: say trmrl train ENV --agent NAME")
    return _parse(type(config), args, "train", default=config, config=FIELDS)


def _help_train(args: list[str]) -> None:
    """Print what `train` takes and, if an env is given, every field of its experiment."""
    with contextlib.suppress(SystemExit):
        _parse(Train, ["--help"], "train")
    if args:
        options, _ = _parse(Train, args, "train", return_unknown_args=True)
        config = _recipe(options)
        _parse(type(config), ["--help"], "train ENV", default=config, config=FIELDS)
    else:
        _say("`trmrl train ENV --help` lists the fields of its experiment, with their values.")


def _conclude(path: Path) -> None:
    """Print how the finished run adapts to held-out tasks, and draw its curve."""
    from trmrl.report.curve import draw
    from trmrl.run import Run
    from trmrl.train import restore, score

    run = Run.open(path)
    config, envs, train_state = restore(run)
    for split in envs.spec.splits:
        if split == "train":
            continue
        evaluation = score(config, envs, train_state, split=split)
        run.write_evaluation(split, evaluation.to_json())
        _print_evaluation(evaluation.to_json())
    picture = draw([run], run.path / "curve.png")
    _say(f"run folder {run.path}, learning curve {picture}")


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that shows a metrics record; the bar appears with the first one."""
    columns = (
        TextColumn("{task.completed:,.0f} / {task.total:,.0f} env steps"),
        BarColumn(),
        TextColumn("{task.fields[speed]} steps/s, return {task.fields[returns]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=CONSOLE)
    task = bar.add_task("train", total=total, speed="...", returns="...")

    def show(record: dict[str, Any]) -> None:
        shown = record["return"] if len(record["return"]) <= 3 else [sum(record["return"])]
        bar.update(
            task,
            completed=record["env_steps"],
            speed=f"{record['env_steps_per_s']:,.0f}",
            returns=" ".join(f"{value:.1f}" for value in shown),
        )
        bar.start()

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


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
    _print_evaluation(record)


def _evaluation_name(record: dict[str, Any]) -> str:
    """Return the name of an evaluation on request; unlike ones have unlike names."""
    name = "{split}-{num_tasks}x{num_episodes}-seed{seed}".format_map(record)
    return name + ("-sampled" if record["explore"] else "")


def _report(args: list[str]) -> None:
    options = _parse(Report, args, "report")
    from trmrl.report.curve import draw
    from trmrl.report.table import table
    from trmrl.run import Run

    if not options.runs:
        raise TrmrlError("report of what? expected one run folder or more")
    runs = [Run.open(path) for path in options.runs]
    scores = table(runs)
    picture = draw(runs, options.out)
    print(scores)
    _say(f"wrote {picture}")


def _reference(args: list[str]) -> None:
    options = _parse(Reference, args, "reference")
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
    _parse(Envs, args, "envs")
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
    options = _parse(Bench, args, "bench")
    from trmrl.bench import bench

    for line in bench(options.env, options.agent, options.recipe, options.num_lanes):
        _say(line)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "report": _report,
    "reference": _reference,
    "envs": _envs,
    "bench": _bench,
}
