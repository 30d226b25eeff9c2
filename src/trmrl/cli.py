"""The command line: `trmrl train | sweep | evaluate | report | ...`.

The verbs, their tables, and the exit codes: 2 where the user can mend it. Nothing here that a
Python program could not also call.
"""

import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from trmrl.arguments import (
    KINDS,
    Analyze,
    Bench,
    Check,
    Envs,
    Evaluate,
    Export,
    Figure,
    Record,
    Reference,
    Report,
    Watch,
    parse,
    read_sweep,
    read_train,
)
from trmrl.progress import print_line, show_sweep, show_training
from trmrl.types import Evaluation, TrmrlError

CONSOLE = Console()


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 and one line on what the user can mend."""
    try:
        _dispatch(list(sys.argv[1:] if args is None else args))
        sys.stdout.flush()
    except TrmrlError as error:
        print("trmrl:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has left (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(1)


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
    _print("usage: trmrl COMMAND ...   (`trmrl COMMAND --help` shows its options)\n")
    for name, kind in KINDS.items():
        _print(f"  {name:10}{(kind.__doc__ or '').splitlines()[0]}")


def _print(text: str) -> None:
    print_line(CONSOLE, text)


def _train(args: list[str]) -> None:
    options, config = read_train(args)
    from trmrl import config as configs
    from trmrl.envs import make
    from trmrl.launch import CURVE, run_experiment

    configs.check(config, make(config.env, config.num_episodes).spec)
    path = options.run or Path("runs") / _label(config)
    try:
        with show_training(CONSOLE, config.env_steps) as (show, begin):
            run, evaluations = run_experiment(config, path, show=show, begin=begin)
    except KeyboardInterrupt:
        _print(f"\nsaved; the same command goes on from {path}")
        raise
    _print_scores(config.env, evaluations)
    _print(f"run folder {run.path}, learning curve {run.path / CURVE}")


def _label(config: Any) -> str:
    """Return the name of an experiment's run folder, safe for any file system."""
    name = f"{config.env}-{config.agent_name}-{config.recipe}-seed{config.seed}"
    return re.sub(r"[^\w+-]", "-", name)


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
        _print(f"{len(cells) - len(left)} of {len(cells)} runs are finished already")
    try:
        with show_sweep(CONSOLE) as show:
            failures = sweep(left, show, jobs=options.jobs) if left else []
    except KeyboardInterrupt:
        _print(f"\nsaved; the same command goes on with the runs in {options.out}")
        raise
    runs = [Run.open(cell.path) for cell in cells if finished(cell)]
    if runs:
        _print_report(runs, options.out / "curve.png")
    if failures:
        names = ", ".join(event.cell.path.name for event in failures)
        raise TrmrlError(f"{len(failures)} of {len(cells)} runs failed: {names}")


def _print_scores(env: str, evaluations: Sequence[Evaluation]) -> None:
    """Print evaluations, those of a split side by side, and what an agent needs no memory for."""
    from trmrl.tables import evaluation_table

    for split in dict.fromkeys(evaluation.split for evaluation in evaluations):
        CONSOLE.print(evaluation_table([one for one in evaluations if one.split == split]))
    _print_without_memory(env)


def _print_without_memory(env: str, seed: int = 0) -> None:
    from trmrl.references import without_memory
    from trmrl.tables import without_memory_lines

    for line in without_memory_lines(without_memory(env, seed=seed)):
        _print(line)


def _evaluate(args: list[str]) -> None:
    options = parse(Evaluate, args, "evaluate")
    from trmrl.run import Run, write_json
    from trmrl.train import evaluation_name, restore, score

    run = Run.open(options.run)
    config, envs, train_state = restore(run, trust=options.trust)
    wanted = dataclasses.asdict(options)
    del wanted["run"], wanted["json"], wanted["trust"]
    for count in ("num_tasks", "num_episodes"):
        _check_count(options, count)
    envs.spec.check_split(options.split)
    if options.json and not options.json.parent.is_dir():
        raise TrmrlError(f"cannot write {options.json}: there is no folder {options.json.parent}")
    evaluation = score(config, envs, train_state, **wanted)
    record = evaluation.to_json()
    if options.json:
        write_json(options.json, record)
    else:
        run.write_evaluation(evaluation_name(record), record)
    _print_scores(config.env, [evaluation])


def _report(args: list[str]) -> None:
    options = parse(Report, args, "report")
    from trmrl.run import Run

    if not options.runs:
        raise TrmrlError("report of what? expected one run folder or more")
    from trmrl.launch import specs_of
    from trmrl.report.experiments import Episodes
    from trmrl.report.page import write_page

    episodes = None if options.episodes is None else Episodes(*options.episodes)
    runs = [Run.open(path) for path in options.runs]
    if options.out.suffix == ".html":
        _print(f"wrote {write_page(runs, options.out, episodes, specs_of(runs))}")
    else:
        _print_report(runs, options.out, episodes)


def _print_report(runs: list[Any], out: Path, episodes: Any = None) -> None:
    """Print what runs scored: each, over seeds, and for equal cost; and draw their curves."""
    from trmrl.launch import specs_of
    from trmrl.report.aggregate import aggregate_table
    from trmrl.report.curve import draw
    from trmrl.report.efficiency import efficiency_table
    from trmrl.report.table import table

    tables = table(runs), aggregate_table(runs), efficiency_table(runs, episodes)
    picture = draw(runs, out, episodes, specs_of(runs))
    print("\n\n".join(one.markdown() for one in tables if one.rows))
    _print(f"wrote {picture}")


def _figure(args: list[str]) -> None:
    options = parse(Figure, args, "figure")
    from trmrl.figure import write_figure
    from trmrl.launch import specs_of
    from trmrl.report.ablations import Ablations
    from trmrl.report.adaptation import Shape
    from trmrl.report.paper import FIGURES
    from trmrl.run import Run

    if options.name not in FIGURES:
        near = difflib.get_close_matches(options.name, FIGURES, n=2) or list(FIGURES)
        raise TrmrlError(f"unknown figure {options.name!r}: did you mean {', '.join(near)}?")
    if not options.runs:
        raise TrmrlError(f"{options.name} of what? expected one run folder or more")
    for count in ("num_tasks", "num_episodes"):
        _check_count(options, count)
    if not 0 <= options.seed < 2**32:
        raise TrmrlError(f"--seed is {options.seed}, expected 0 to 2**32 - 1")
    runs = [Run.open(path) for path in options.runs]
    path = options.out or Path(f"{options.name}.png")
    shape = Shape(options.num_tasks, options.num_episodes, options.seed)
    specs, trust = specs_of(runs, trust=options.trust), options.trust
    parts = write_figure(options.name, runs, path, shape, specs, _print, trust=trust)
    for part in parts:
        if isinstance(part, Ablations):
            print(f"{part.summary().markdown()}\n")
    _print(f"wrote {path}")


def _check_count(options: Any, name: str) -> None:
    """Raise `TrmrlError` on an option that is less than one."""
    value = getattr(options, name)
    if value is not None and value < 1:
        raise TrmrlError(f"--{name.replace('_', '-')} is {value}, expected 1 or more")


def _analyze(args: list[str]) -> None:
    options = parse(Analyze, args, "analyze")
    from trmrl.analyze.menu import ANALYSES, analyze
    from trmrl.analyze.subject import restore_subject
    from trmrl.report.figures import ANALYSIS
    from trmrl.run import Run

    for name in options.only:
        if name not in ANALYSES:
            near = difflib.get_close_matches(name, ANALYSES, n=2) or list(ANALYSES)
            raise TrmrlError(f"unknown analysis {name!r}: did you mean {', '.join(near)}?")
    if options.num_tasks < 2:
        raise TrmrlError(f"--num-tasks is {options.num_tasks}, expected 2 or more")
    if not 0 <= options.seed < 2**32:
        raise TrmrlError(f"--seed is {options.seed}, expected 0 to 2**32 - 1")
    run = Run.open(options.run)
    fields = {"num_tasks": options.num_tasks, "seed": options.seed, "at": options.at}
    subject = restore_subject(run, trust=options.trust, **fields)
    last = subject.envs.spec.trial_length - 1
    if options.at is not None and not 0 <= options.at <= last:
        raise TrmrlError(f"--at is {options.at}, expected a step of the trial, 0 to {last}")

    def show(name: str, lines: list[str]) -> None:
        _print("\n".join([name, *(f"  {line}" for line in lines)]))

    analyze(subject, run, options.only, show)
    _print(f"wrote {run.path / ANALYSIS}")


def _watch(args: list[str]) -> None:
    options = parse(Watch, args, "watch")
    from trmrl.watch.page import serve
    from trmrl.watch.session import open_sessions

    sessions = open_sessions(options.runs, seed=options.seed, trust=options.trust)
    try:
        serve(sessions, options.port, lambda url: _print(f"{url} shows it; Ctrl-C ends it"))
    except KeyboardInterrupt:
        _print("")


def _record(args: list[str]) -> None:
    options = parse(Record, args, "record")
    from trmrl.watch.record import record
    from trmrl.watch.session import open_session
    from trmrl.watch.tasks import read_tasks

    session = open_session(options.run, seed=options.seed, trust=options.trust)
    tasks = read_tasks(session.task, options.tasks)
    path = record(session, options.out, tasks=tasks, num_steps=options.steps, size=options.size)
    _print(f"wrote {path}")


def _export(args: list[str]) -> None:
    options = parse(Export, args, "export")
    from trmrl.export import export
    from trmrl.run import Run

    run = Run.open(options.run)
    _print(f"wrote {export(run, options.out, limits=options.limits, trust=options.trust)}")


def _reference(args: list[str]) -> None:
    options = parse(Reference, args, "reference")
    from trmrl.references import reference
    from trmrl.run import write_json
    from trmrl.tables import reference_lines

    if options.json and not options.json.parent.is_dir():
        raise TrmrlError(f"cannot write {options.json}: there is no folder {options.json.parent}")
    scores = reference(options.env, num_tasks=options.num_tasks, seed=options.seed)
    wanted = {"env": options.env, "num_tasks": options.num_tasks, "seed": options.seed}
    if options.json:
        write_json(options.json, wanted | {"scores": [score.to_json() for score in scores]})
    for line in reference_lines(options.env, options.num_tasks, scores):
        _print(line)


def _check(args: list[str]) -> None:
    options = parse(Check, args, "check")
    from trmrl.check import check
    from trmrl.envs import make

    findings = []
    for finding in check(make(options.env), seed=options.seed):
        _print(("ERROR " if finding.is_error else "") + " ".join(finding.text.split()))
        findings.append(finding)
    _print_without_memory(options.env, options.seed)
    if any(finding.is_error for finding in findings):
        sys.exit(2)


def _envs(args: list[str]) -> None:
    parse(Envs, args, "envs")
    from trmrl.envs import ENVS, make

    line = "{:24} {:>7} {:>3} {:13} {:14} {:>6} {:>7}".format
    _print(line("env", "K x H", "obs", "action", "splits", "floor", "ceiling"))
    number = lambda value: "" if value is None else f"{round(value, 3):g}"
    for name in ENVS:
        spec = make(name).spec
        space = f"{spec.action_space.size} {type(spec.action_space).__name__.lower()}"
        trial = f"{spec.num_episodes} x {spec.horizon}"
        splits = ",".join(spec.splits)
        bounds = number(spec.floor), number(spec.ceiling)
        _print(line(name, trial, spec.obs_size, space, splits, *bounds).rstrip())
        _print(f"    {spec.summary}")
    _print("\nA trial is K episodes of H steps. floor and ceiling: returns of one episode.")
    _print("bandit-nN-kK: any N pulls of K arms. tabular-nN: any N episodes.")
    _print("ml1-TASK, ml10, ml25, ml45: Meta-World, if installed; -hN: episodes of N steps.")
    _print("ENV+task: the task is shown (the oracle).")
    _print("package.module:attribute: worlds of your own, imported from there.")


def _bench(args: list[str]) -> None:
    options = parse(Bench, args, "bench")
    from trmrl.bench import bench

    for line in bench(options.env, options.agent, options.recipe, options.num_lanes):
        _print(line)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "sweep": _sweep,
    "evaluate": _evaluate,
    "report": _report,
    "figure": _figure,
    "analyze": _analyze,
    "watch": _watch,
    "record": _record,
    "export": _export,
    "reference": _reference,
    "check": _check,
    "envs": _envs,
    "bench": _bench,
}
