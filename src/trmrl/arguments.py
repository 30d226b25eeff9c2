"""What the command line reads: the options of every verb, and the fields of an experiment.

What tyro cannot read it explains itself, on stderr, and exits with 2. What the verbs then do is in
`cli.py`.
"""

import dataclasses
from collections.abc import Container
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from trmrl.types import TrmrlError, replace

Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
Names = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="ENV...")]
FigureName = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
RunPath = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
# How tyro reads the fields of an experiment: as they stand in the recipe, each with its value.
FIELDS = tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed, tyro.conf.FlagConversionOff


@dataclass(frozen=True)
class Train:
    """Meta-train an agent, or go on where a run stopped.

    Any field of the experiment can be given by its dotted name: `--agent.algorithm.clip 0.1`.
    `trmrl train ENV --help` lists them, with their values.
    """

    env: Name  # a world of `trmrl envs`, or your own: package.module:attribute
    agent: str = "trmrl"
    recipe: str = "default"
    steps: int | None = None  # budget in env steps; schedules follow
    run: Path | None = None  # folder; default runs/ENV-AGENT-RECIPE-seedN


@dataclass(frozen=True)
class Sweep:
    """Train agents x seeds x envs side by side, one process and one core for each run.

    Any field of the experiments can be given by its dotted name: `--agent.algorithm.clip 0.1`.
    `trmrl sweep ENV --help` lists them, with their values.
    """

    envs: Names  # worlds of `trmrl envs`, or your own: package.module:attribute
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
    trust: bool = False  # import the code that somebody else's run names as its world


@dataclass(frozen=True)
class Report:
    """Draw the learning curves of runs, and print what they scored as Markdown tables.

    Runs that differ in the seed alone are one experiment, reported over its seeds too.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("curve.png")  # a picture; a name in .html: a page with all of it
    # First and last episode of a trial whose mean is compared (by default the whole trial, or
    # where trials differ in length the last episode that all have).
    episodes: tuple[int, int] | None = None


@dataclass(frozen=True)
class Figure:
    """Draw a figure of the TrMRL paper from one's own runs.

    NAME is meta-training, online-adaptation, fast-adaptation, out-of-distribution, latents,
    attention or ablations. Every number drawn is written as CSV beside the picture. What a figure
    needs and a run folder lacks (evaluations, an analysis) is made first, and stored there.
    """

    name: FigureName
    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    out: Path | None = None  # a name in .png, .svg or .pdf; default NAME.png
    num_tasks: int = 20  # of the evaluations that both adaptations and out-of-distribution need
    num_episodes: int = 6  # of their trials
    seed: int = 1  # of their tasks and worlds
    trust: bool = False  # import the code that somebody else's run names as its world


@dataclass(frozen=True)
class Analyze:
    """Look inside a trained agent: memories, attention, interventions, consensus, belief.

    What is found is written into the run folder, and shown in its report.
    """

    run: RunPath
    only: tuple[str, ...] = ()  # of the analyses; default all of them
    num_tasks: int = 200
    at: int | None = None  # step of the trial at which interventions begin; default near its middle
    seed: int = 0  # of tasks and worlds
    trust: bool = False  # import the code that somebody else's run names as its world


@dataclass(frozen=True)
class Watch:
    """Watch a trained agent find out its task, in a page of this machine's browser.

    One run, or two side by side on the same task; or an agent that comes with trmrl, by its name.
    The hidden task can be changed while it runs.
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    port: int = 8080  # of 127.0.0.1; 0: any that is free
    seed: int = 0  # of the first task and of the worlds
    trust: bool = False  # import the code that somebody else's run names as its world


@dataclass(frozen=True)
class Record:
    """Record a trained agent as a video, drawn without a graphics card."""

    run: RunPath
    out: Path = Path("adapt.gif")  # or a name in .mp4
    # Hidden tasks that follow each other in equal parts of the video: the numbers of each, as
    # `1.0 2.5 0.5` for three target velocities. Default one task, drawn with the seed.
    tasks: tuple[float, ...] = ()
    steps: int | None = None  # default one trial
    size: tuple[int, int] = (480, 320)  # pixels
    seed: int = 0  # of the first task and of the worlds
    trust: bool = False  # import the code that somebody else's run names as its world


@dataclass(frozen=True)
class Export:
    """Write a run's trained agent to a folder to give away: model, config and a card."""

    run: RunPath
    out: Path  # a new folder, whose name the card bears
    limits: str = ""  # what the card is to say of its limits, besides what holds for any agent
    trust: bool = False  # import the code that somebody else's run names as its world


@dataclass(frozen=True)
class Reference:
    """Measure what classical and exact strategies earn in a world."""

    env: Name
    num_tasks: int = 1000
    seed: int = 0  # of tasks and worlds
    json: Path | None = None  # also write the scores to this file


@dataclass(frozen=True)
class Check:
    """Check that worlds keep the rules, and how early their hidden task can be known.

    Prints a line for each finding, and exits with 2 if one of them is an error.
    """

    env: Name
    seed: int = 0  # of tasks, worlds and actions


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


KINDS = {
    "train": Train,
    "sweep": Sweep,
    "evaluate": Evaluate,
    "report": Report,
    "figure": Figure,
    "analyze": Analyze,
    "watch": Watch,
    "record": Record,
    "export": Export,
    "reference": Reference,
    "check": Check,
    "envs": Envs,
    "bench": Bench,
}


HELP = {"-h", "--help"}


def parse(kind: Any, args: list[str], verb: str, **options: Any) -> Any:
    """Return tyro's reading of a verb's arguments; what it cannot read exits with 2."""
    return tyro.cli(kind, args=args, prog=f"trmrl {verb}", **options)


def read_train(args: list[str]) -> tuple[Train, Any]:
    """Return `train`'s options and the experiment they and the dotted fields name."""
    options, rest = _read_options(Train, args, "train")
    config = _recipe(options.env, options.agent, options)
    taken = {
        "env": "trmrl train ENV",
        "agent_name": "--agent NAME",
        "recipe": "--recipe NAME",
        "env_steps": "--steps N",  # schedules follow
    }
    _check_fields(config, rest, taken)
    return options, _read_fields(Train, config, args, "train", taken)


def read_sweep(args: list[str]) -> tuple[Sweep, list[Any]]:
    """Return `sweep`'s options and its experiments: envs, then agents, then seeds."""
    options, rest = _read_options(Sweep, args, "sweep")
    for name in ("envs", "agents", "seeds"):
        given = getattr(options, name)
        if not given:
            raise TrmrlError(f"sweep over no {name}? expected one or more")
        twice = sorted({str(value) for value in given if given.count(value) > 1})
        if twice:
            raise TrmrlError(f"{name} has {', '.join(twice)} more than once")
    if options.jobs is not None and options.jobs < 1:
        raise TrmrlError(f"--jobs is {options.jobs}, expected 1 or more")
    taken = {
        "env": "trmrl sweep ENV...",
        "agent_name": "--agents NAME...",
        "recipe": "--recipe NAME",
        "env_steps": "--steps N",
        "seed": "--seeds N...",
    }
    configs = []
    for env in options.envs:
        for agent in options.agents:
            config = _recipe(env, agent, options)
            _check_fields(config, rest, taken)
            configs.append(_read_fields(Sweep, config, args, "sweep", taken))
    return options, [replace(config, seed=seed) for config in configs for seed in options.seeds]


def _read_options(kind: Any, args: list[str], verb: str) -> tuple[Any, list[str]]:
    """Return a verb's own options, and the arguments that are none of them.

    `--help` is among the latter where a world comes first; it then waits for the fields.
    """
    if args and args[0].startswith("-") and not HELP.isdisjoint(args):
        parse(kind, ["--help"], verb)
    return parse(kind, args, verb, return_unknown_args=True, add_help=False)


def _recipe(env: str, agent: str, options: Train | Sweep) -> Any:
    """Return the experiment that a verb's own options name."""
    from trmrl.recipes import recipe

    if options.steps is not None and options.steps < 1:
        raise TrmrlError(f"--steps is {options.steps}, expected 1 or more")
    return recipe(env, agent, options.recipe, env_steps=options.steps)


def _check_fields(config: Any, args: list[str], taken: dict[str, str]) -> None:
    """Raise `TrmrlError` on a flag that is no field, or a field that an option is for (`taken`)."""
    from trmrl import config as configs

    for flag in args:
        if flag.startswith("--") and flag not in HELP:
            name = flag[2:].split("=")[0].replace("-", "_")
            configs.check_field(config, name)
            if name in taken:
                raise TrmrlError(f"{flag} is no option: use {taken[name]}")


def _read_fields(kind: Any, config: Any, args: list[str], verb: str, taken: dict[str, str]) -> Any:
    """Return the experiment with the fields given by their dotted names.

    Options and fields are read as one, so that `--help` shows both.
    """
    fields = fields_of(config, taken)
    unprefixed = tyro.conf.arg(name="")
    both = dataclasses.make_dataclass(
        kind.__name__,
        [
            ("options", Annotated[kind, unprefixed]),
            ("fields", Annotated[fields, unprefixed], dataclasses.field(default_factory=fields)),
        ],
    )
    both.__doc__ = kind.__doc__
    asked = args if HELP.isdisjoint(args) else ["--help"]
    given = parse(both, asked, verb, config=FIELDS).fields
    return replace(config, **{f.name: getattr(given, f.name) for f in dataclasses.fields(given)})


def fields_of(config: Any, taken: Container[str]) -> type:
    """Return a dataclass of the fields of `config` that are not `taken`, as they stand in it.

    It is no subclass: settings are found among the subclasses of their base.
    """
    kind = type(config)
    fields: Any = dataclasses.make_dataclass(
        kind.__name__,
        [
            (f.name, f.type, dataclasses.field(default_factory=partial(getattr, config, f.name)))
            for f in dataclasses.fields(kind)
            if f.name not in taken
        ],
    )
    # Where tyro finds the comments behind the fields, which are their help.
    fields.__doc__, fields.__module__ = kind.__doc__, kind.__module__
    fields.__qualname__ = kind.__qualname__
    if "__firstlineno__" in vars(kind):  # Python 3.13 looks there instead
        fields.__firstlineno__ = kind.__firstlineno__
    return fields
