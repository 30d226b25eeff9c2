"""One experiment as a value, and the same value as JSON, read without running anybody's code."""

import dataclasses
import difflib
import math
import types
import typing
from collections import Counter
from typing import Any, Literal

from trmrl.agents import AGENTS
from trmrl.agents.base import AbstractAgent
from trmrl.nets import CORES
from trmrl.settings import AbstractSettings, field, limits
from trmrl.types import EnvSpec, TrmrlError

# Fields that older versions did not have, and whose default is what those versions did: a run of
# theirs is read as if they stood in its config. (Novelty's are read where it is off: its older
# networks lack moments, so a checkpoint with them is refused.)
ADDED = {
    "ELBO.task_coef",
    "MemoryAgent.readout",
    "Novelty.gain",
    "Novelty.optimizer",
    "Objectives.elbo",
    "Objectives.masked",
    "Objectives.novelty",
    "OptimizerConfig.warmup",
    "PPO.replayed",
    "TaskPlan.split",
    "TransformerConfig.position",
}


class Config(AbstractSettings):
    """Everything a training run depends on.

    The budget counts all lanes and is never exceeded: training ends when another trial might not
    fit. Evaluations and checkpoints are so many env steps apart.
    """

    env: str
    agent_name: str
    recipe: str
    agent: AbstractAgent
    env_steps: int = field(low=1)  # budget
    num_lanes: int = field(low=1)  # worlds stepped at once
    num_episodes: int = field(0, low=0)  # of a trial (0: as many as the family has)
    seed: int = field(0, low=0, high=2**32 - 1)
    eval_every: int = field(0, low=0)  # env steps between evaluations (0: only at the end)
    eval_tasks: int = field(100, low=1)  # held-out tasks of an evaluation
    save_every: int = field(250_000, low=1)  # env steps between checkpoints

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where lanes do not suit the tasks, or no trial fits the budget."""
        plan = self.agent.plan
        if self.num_lanes % plan.lanes_per_task:
            return (
                f"num_lanes is {self.num_lanes}, "
                f"expected a multiple of {plan.lanes_per_task}, a task's lanes"
            )
        if 0 < plan.num_tasks < self.num_lanes // plan.lanes_per_task:
            return (
                f"num_lanes is {self.num_lanes}, "
                f"more than the {plan.num_tasks} tasks trained on have"
            )
        trial = self.num_lanes * spec.trial_length
        if self.env_steps < trial:
            return f"env_steps is {self.env_steps}, less than one trial of {trial} on all lanes"
        return None


def check(config: Config, spec: EnvSpec) -> None:
    """Raise `TrmrlError` naming the first field whose value no run on `spec`'s worlds can have."""
    _check_record(config, spec, "")


def _check_record(record: AbstractSettings, spec: EnvSpec, prefix: str) -> None:
    for declared in dataclasses.fields(record):
        value, name = getattr(record, declared.name), f"{prefix}{declared.name}"
        if not _is(declared.type, value):
            raise TrmrlError(f"{name} is {value!r}, expected {_describe(declared.type)}")
        low, high = limits(declared)
        for entry, dotted in _entries(value, name):
            if isinstance(entry, AbstractSettings):
                _check_record(entry, spec, f"{dotted}.")
            elif isinstance(entry, int | float) and not (
                low <= entry <= high and math.isfinite(entry)
            ):
                raise TrmrlError(f"{name} is {value!r}, expected {_describe_limits(low, high)}")
    complaint = record.check(spec)
    if complaint:
        raise TrmrlError(f"{prefix}{complaint}")


def _entries(value: Any, name: str) -> list[tuple[Any, str]]:
    """Return what a field holds, each entry of a tuple with its dotted number."""
    if isinstance(value, tuple):
        return [(entry, f"{name}.{number}") for number, entry in enumerate(value)]
    return [(value, name)]


def _is(kind: Any, value: Any) -> bool:
    """Return whether a value is what a field's annotation allows (an int is a float too)."""
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(typing.get_args(kind)[0], v) for v in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"a list of {typing.get_args(kind)[0].__name__}"
    if isinstance(kind, types.UnionType):
        return " or ".join(_describe(option) for option in typing.get_args(kind))
    return kind.__name__


def _describe_limits(low: int | float, high: int | float) -> str:
    if high < math.inf:
        return f"{low:.12g} to {high:.12g}"
    return f"a finite number, {low:.12g} or more" if low > -math.inf else "a finite number"


def to_json(config: Any) -> Any:
    """Return a config as plain JSON values; each record carries its `kind`."""
    if isinstance(config, AbstractSettings):
        fields = {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"kind": type(config).__name__, **fields}
    return [to_json(entry) for entry in config] if isinstance(config, tuple) else config


def from_json(value: Any) -> Config:
    """Return the config that `to_json` wrote.

    Raises `TrmrlError` on a kind or field this program does not know, or one that is missing.
    """
    config = _read(value)
    if not isinstance(config, Config):
        raise TrmrlError(f"config is a {type(config).__name__}, expected a Config")
    return config


def kinds() -> dict[str, type[AbstractSettings]]:
    """Return every kind of setting that is imported, by its class's name.

    The menus of agents and cores import all of ours; one's own are found once imported, too. A name
    that two classes have is nobody's.
    """
    found: set[type[AbstractSettings]] = set()
    waiting: list[type[AbstractSettings]] = [AbstractSettings, *AGENTS, *CORES.values()]
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting += kind.__subclasses__()
    count = Counter(kind.__name__ for kind in found)
    return {
        kind.__name__: kind
        for kind in sorted(found, key=lambda kind: kind.__name__)
        if count[kind.__name__] == 1 and not kind.__name__.startswith("Abstract")
    }


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(item) for item in value)
    if not isinstance(value, dict):
        return value
    known = kinds()
    kind = known.get(str(value.get("kind")))
    if kind is None:
        near = difflib.get_close_matches(str(value.get("kind")), known) or sorted(known)
        raise TrmrlError(
            f"config names {value.get('kind')!r}, which this version does not know: "
            f"it knows {', '.join(near)}"
        )
    given = {name: _read(item) for name, item in value.items() if name != "kind"}
    declared = {field.name: field for field in dataclasses.fields(kind)}
    for name in sorted(set(given) - set(declared)):
        raise TrmrlError(f"config gives {kind.__name__}.{name}, which this version does not know")
    for name, one in declared.items():
        if name not in given and f"{kind.__name__}.{name}" in ADDED:
            given[name] = one.default
        elif name not in given:
            raise TrmrlError(
                f"config lacks {kind.__name__}.{name}, which this version needs: it was written by "
                "another one, which can read it"
            )
        if not _is(one.type, given[name]):
            raise TrmrlError(
                f"config gives {kind.__name__}.{name} as {value[name]!r}, "
                f"expected {_describe(one.type)}"
            )
        if one.type is float:
            given[name] = float(given[name])
    return kind(**given)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return every leaf of a config by its dotted name, as `--agent.algorithm.clip` has it."""
    if isinstance(value, AbstractSettings):
        inner = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, tuple) and any(isinstance(v, AbstractSettings) for v in value):
        inner = {str(number): entry for number, entry in enumerate(value)}
    else:
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for name, entry in inner.items():
        leaves |= flatten(entry, f"{prefix}.{name}" if prefix else name)
    return leaves


def check_field(config: Config, name: str) -> None:
    """Raise `TrmrlError` with the nearest names unless `name` is a dotted field of the config."""
    fields = list(flatten(config))
    if name not in fields:
        last = {field: field.rsplit(".", 1)[-1] for field in fields}
        tail = name.rsplit(".", 1)[-1]
        near = difflib.get_close_matches(name, fields, n=3, cutoff=0.5)
        near += [f for f in fields if f not in near and last[f] == tail]
        near = near or [f for f in fields if difflib.get_close_matches(tail, [last[f]])]
        hint = f"did you mean {', '.join(near[:3])}?" if near else "`--help` lists them all"
        raise TrmrlError(f"unknown field {name!r} of {config.agent_name}/{config.recipe}: {hint}")


def differences(ours: Any, theirs: Any) -> list[str]:
    """Return one line per leaf in which two configs differ."""
    left, right = flatten(ours), flatten(theirs)
    names = list(left) + [name for name in right if name not in left]
    missing = "(none)"
    pairs = [(name, left.get(name, missing), right.get(name, missing)) for name in names]
    return [f"{name}: {a!r} here, {b!r} there" for name, a, b in pairs if a != b]
