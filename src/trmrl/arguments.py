"""What the command line reads: the options of every verb, and the fields of an experiment.

Lives here: tyro, and turning what it cannot read into one line. Does not live here: what the verbs
then do (`cli.py`).
"""

import contextlib
import dataclasses
import difflib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from trmrl.types import TrmrlError, replace

Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
Names = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="ENV...")]
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
class Sweep:
    """Train agents x seeds x envs side by side, one process and one core for each run.

    Any field of the experiments can be given by its dotted name: `--agent.ppo.clip 0.1`.
    """

    envs: Names  # worlds of `trmrl envs`
    agents: tuple[str, ...] = ("trmrl",)
    seeds: tuple[int, ...] = (0, 1, 2)
    recipe: str = "default"
    steps: int | None = None  # budget of a run in env steps; schedules follow
    out: Path = Path("runs")  # of the run folders, ENV-AGENT-RECIPE-seedN each
    jobs: int | None = None  # processes at once; default one per usable core


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
    """Draw the learning curves of runs, and print what they scored as Markdown tables.

    Runs that differ in the seed alone are one experiment, reported over its seeds too.
    """

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


BUDGET = {"env_steps": "--steps N"}  # said so, schedules follow
KINDS = {
    "train": Train,
    "sweep": Sweep,
    "evaluate": Evaluate,
    "report": Report,
    "reference": Reference,
    "envs": Envs,
    "bench": Bench,
}


def parse(kind: Any, args: list[str], name: str, **options: Any) -> Any:
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


def read_train(args: list[str]) -> tuple[Train, Any]:
    """Return `train`'s options and the experiment they and the dotted fields name."""
    options, fields = parse(Train, args, "train", return_unknown_args=True)
    config = _recipe(options.env, options.agent, options)
    cell = "trmrl train ENV --agent NAME"
    return options, _read_fields(config, fields, {"env": cell, "agent_name": cell} | BUDGET)


def read_sweep(args: list[str]) -> tuple[Sweep, list[Any]]:
    """Return `sweep`'s options and its experiments: envs, then agents, then seeds."""
    options, fields = parse(Sweep, args, "sweep", return_unknown_args=True)
    for name in ("envs", "agents", "seeds"):
        given = getattr(options, name)
        if not given:
            raise TrmrlError(f"sweep over no {name}? expected one or more")
        twice = sorted({str(value) for value in given if given.count(value) > 1})
        if twice:
            raise TrmrlError(f"{name} has {', '.join(twice)} more than once")
    if options.jobs is not None and options.jobs < 1:
        raise TrmrlError(f"--jobs is {options.jobs}, expected 1 or more")
    cells = "trmrl sweep ENV... --agents NAME..."
    taken = {"env": cells, "agent_name": cells, "seed": "--seeds N..."} | BUDGET
    configs = [
        _read_fields(_recipe(env, agent, options), fields, taken)
        for env in options.envs
        for agent in options.agents
    ]
    return options, [replace(config, seed=seed) for config in configs for seed in options.seeds]


def _recipe(env: str, agent: str, options: Train | Sweep) -> Any:
    """Return the experiment that a verb's own options name."""
    from trmrl.recipes import recipe

    if options.steps is not None and options.steps < 1:
        raise TrmrlError(f"--steps is {options.steps}, expected 1 or more")
    return recipe(env, agent, options.recipe, env_steps=options.steps)


def _read_fields(config: Any, args: list[str], taken: dict[str, str]) -> Any:
    """Return the experiment with the fields given by their dotted names; `taken` are said else."""
    from trmrl import config as configs

    for flag in args:
        if flag.startswith("--"):
            name = flag[2:].split("=")[0].replace("-", "_")
            configs.check_field(config, name)
            if name in taken:
                raise TrmrlError(f"{flag} is no option: say {taken[name]}")
    return parse(type(config), args, "train", default=config, config=FIELDS)


def help_train(args: list[str]) -> bool:
    """Print what `train` takes and, if an env is given, every field; returns if one was."""
    with contextlib.suppress(SystemExit):
        parse(Train, ["--help"], "train")
    if args:
        options, _ = parse(Train, args, "train", return_unknown_args=True)
        config = _recipe(options.env, options.agent, options)
        parse(type(config), ["--help"], "train ENV", default=config, config=FIELDS)
    return bool(args)
