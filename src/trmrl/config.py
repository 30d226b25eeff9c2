"""One experiment as a value, and the same value as JSON.

Lives here: `Config`, and reading and writing it without running anybody's code. Does not live
here: the experiments themselves (`recipes/`).
"""

import dataclasses
import difflib
from typing import Any

import equinox as eqx

from trmrl.agents._base import AbstractAgent
from trmrl.agents._sgd import OptimizerConfig
from trmrl.agents.memory_ppo import MemoryPPO, PPOConfig
from trmrl.nets.gru import GRUConfig
from trmrl.nets.heads import HeadConfig
from trmrl.nets.transformer import TransformerConfig
from trmrl.types import TrmrlError

FORMAT = 1  # of config.json; raised when an older program could no longer read it


class Config(eqx.Module):
    """Everything a training run depends on.

    env_steps: the budget, counted over all lanes; num_lanes: tasks a trial is lived on at once.
    eval_every and save_every: environment steps between evaluations on held-out tasks
    (0: only at the end) and between checkpoints.
    """

    env: str
    agent_name: str
    recipe: str
    agent: AbstractAgent
    env_steps: int
    num_lanes: int
    seed: int = 0
    eval_every: int = 0
    eval_tasks: int = 100
    save_every: int = 250_000


KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Config,
        MemoryPPO,
        PPOConfig,
        OptimizerConfig,
        HeadConfig,
        TransformerConfig,
        GRUConfig,
    )
}


def to_json(config: Any) -> Any:
    """Return a config as plain JSON values; each record carries its `kind`."""
    if dataclasses.is_dataclass(config):
        fields = {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"kind": type(config).__name__, **fields}
    return list(config) if isinstance(config, tuple) else config


def from_json(value: Any) -> Any:
    """Return the config that `to_json` wrote.

    Raises `TrmrlError` on a kind or field this program does not know.
    """
    if isinstance(value, list):
        return tuple(from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    kind = KINDS.get(value.get("kind", ""))
    if kind is None:
        raise TrmrlError(f"config names {value.get('kind')!r}, which this version does not know")
    given = {name: from_json(item) for name, item in value.items() if name != "kind"}
    unknown = set(given) - {field.name for field in dataclasses.fields(kind)}
    if unknown:
        name = sorted(unknown)[0]
        raise TrmrlError(f"config gives {kind.__name__}.{name}, which this version does not know")
    return kind(**given)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return every leaf of a config by its dotted name, as `--agent.ppo.clip` has it."""
    if not dataclasses.is_dataclass(value):
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        dotted = f"{prefix}.{field.name}" if prefix else field.name
        leaves |= flatten(getattr(value, field.name), dotted)
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
