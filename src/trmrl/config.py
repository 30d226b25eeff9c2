"""One experiment as a value, and the same value as JSON.

Lives here: `Config`, what its numbers may be, and reading and writing it without running anybody's
code. Does not live here: the experiments themselves (`recipes/`).
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx

from trmrl.agents._base import AbstractAgent
from trmrl.agents._outer import OuterPPOConfig, TRPOConfig
from trmrl.agents._ppo import PPOConfig
from trmrl.agents._sgd import OptimizerConfig
from trmrl.agents.maml import MAML
from trmrl.agents.memory_ppo import MemoryPPO
from trmrl.agents.pearl import PEARL
from trmrl.nets.gru import GRUConfig
from trmrl.nets.gtrxl import GTrXLConfig
from trmrl.nets.heads import HeadConfig
from trmrl.nets.lstm import LSTMConfig
from trmrl.nets.snail import SNAILConfig
from trmrl.nets.transformer import TransformerConfig
from trmrl.types import EnvSpec, TrmrlError


class Config(eqx.Module):
    """Everything a training run depends on.

    env_steps: the budget, counted over all lanes and never exceeded: training ends when another
    trial might not fit. num_lanes: worlds a trial is lived in at once. num_episodes: of a trial
    (0: as many as the family has).
    eval_every and save_every: environment steps between evaluations on held-out tasks
    (0: only at the end) and between checkpoints.
    """

    env: str
    agent_name: str
    recipe: str
    agent: AbstractAgent
    env_steps: int
    num_lanes: int
    num_episodes: int = 0
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
        PEARL,
        MAML,
        TRPOConfig,
        OuterPPOConfig,
        OptimizerConfig,
        HeadConfig,
        TransformerConfig,
        GTrXLConfig,
        SNAILConfig,
        GRUConfig,
        LSTMConfig,
    )
}

INF = math.inf
LARGEST = 2**31 - 1  # env steps are counted in 32 bits
# The least and the greatest that a number may be, by the record's kind and the field's name;
# numbers not listed are free, but finite.
LIMITS: dict[type, dict[str, tuple[int | float, int | float]]] = {
    Config: {
        "env_steps": (1, LARGEST),
        "num_lanes": (1, INF),
        "num_episodes": (0, INF),
        "seed": (0, 2**32 - 1),
        "eval_every": (0, INF),
        "eval_tasks": (1, INF),
        "save_every": (1, INF),
    },
    PPOConfig: {
        "gamma": (0, 1),
        "gae_lambda": (0, 1),
        "clip": (0, INF),
        "num_passes": (1, INF),
        "minibatch_size": (1, INF),
        "chunk_length": (0, INF),
        "stop_kl": (0, INF),
        "value_coef": (0, INF),
        "entropy_final_factor": (0, 1),
    },
    PEARL: {
        "num_tasks": (1, INF),
        "latent": (1, INF),
        "prior_episodes": (0, INF),
        "context_episodes": (1, INF),
        "context_size": (1, INF),
        "encoder_hidden": (1, INF),
        "hidden": (1, INF),
        "capacity": (1, INF),
        "warm_updates": (0, INF),
        "num_steps": (1, INF),
        "meta_batch": (1, INF),
        "batch_size": (1, INF),
        "gamma": (0, 1),
        "tau": (0, 1),
        "kl_coef": (0, INF),
        "actor_penalty": (0, INF),
        "reward_scale": (0, INF),
    },
    MAML: {
        "lanes_per_task": (1, INF),
        "exploration_episodes": (0, INF),
        "action_scale": (1e-6, INF),
        "gamma": (0, 1),
        "gae_lambda": (0, 1),
        "inner_rate": (0, INF),
        "num_inner_steps": (1, INF),
        "exploration_coef": (0, INF),
    },
    TRPOConfig: {
        "kl_limit": (0, INF),
        "num_cg_steps": (1, INF),
        "damping": (0, INF),
        "backtrack_ratio": (0, 1),
        "max_tries": (1, INF),
    },
    OuterPPOConfig: {
        "clip": (0, INF),
        "num_passes": (1, INF),
        "kl_coef": (0, INF),
        "kl_target": (0, INF),
        "stop_kl": (0, INF),
    },
    OptimizerConfig: {
        "learning_rate": (0, INF),
        "decay_start": (0, INF),
        "decay_end": (0, INF),
        "final_factor": (0, 1),
        "weight_decay": (0, INF),
        "max_grad_norm": (0, INF),
        "target_kl": (0, INF),
    },
    HeadConfig: {"hidden": (1, INF), "init_std": (1e-6, INF)},
    TransformerConfig: {
        "window": (0, INF),
        "width": (1, INF),
        "num_heads": (1, INF),
        "num_layers": (1, INF),
        "hidden": (1, INF),
    },
    GTrXLConfig: {
        "memory": (0, INF),
        "width": (1, INF),
        "num_heads": (1, INF),
        "num_layers": (1, INF),
        "hidden": (1, INF),
    },
    SNAILConfig: {
        "width": (1, INF),
        "filters": (1, INF),
        "key_size": (1, INF),
        "value_size": (1, INF),
        "num_layers": (1, INF),
        "first_dilation": (1, INF),
    },
    GRUConfig: {"width": (1, INF)},
    LSTMConfig: {"width": (1, INF)},
}


def _check_chunks(agent: MemoryPPO, spec: EnvSpec) -> str | None:
    length, rows = agent.ppo.chunk_length, spec.horizon * spec.num_episodes
    if length and rows % length:
        return f"ppo.chunk_length is {length}, which does not divide the {rows} steps of a trial"
    return None


def _check_store(agent: PEARL, spec: EnvSpec) -> str | None:
    rows = spec.num_episodes * spec.horizon
    if agent.capacity < rows:
        return f"capacity is {agent.capacity}, less than the {rows} steps of a trial"
    if agent.context_episodes > spec.num_episodes:
        return (
            f"context_episodes is {agent.context_episodes}, "
            f"more than the {spec.num_episodes} of a trial"
        )
    return None


def _check_outer(agent: MAML, spec: EnvSpec) -> str | None:
    del agent
    if spec.num_episodes < 2:
        return (
            "outer learns from what follows an adaptation: "
            f"num_episodes is {spec.num_episodes}, expected 2 or more"
        )
    return None


def _check_lanes(config: "Config", spec: EnvSpec) -> str | None:
    per_task, ring = config.agent.lanes_per_task, config.agent.num_tasks
    if config.num_lanes % per_task:
        return f"num_lanes is {config.num_lanes}, expected a multiple of {per_task}, a task's lanes"
    if 0 < ring < config.num_lanes // per_task:
        return f"num_lanes is {config.num_lanes}, more than the {ring} tasks trained on have"
    return _check_budget(config, spec)


def _check_budget(config: "Config", spec: EnvSpec) -> str | None:
    trial = config.num_lanes * spec.num_episodes * spec.horizon
    if config.env_steps < trial:
        return f"env_steps is {config.env_steps}, less than one trial of {trial} on all lanes"
    return None


def _check_heads(core: TransformerConfig | GTrXLConfig, spec: EnvSpec) -> str | None:
    del spec
    if core.width % core.num_heads:
        return f"num_heads is {core.num_heads}, which does not divide width, {core.width}"
    return None


def _check_transformer(core: TransformerConfig, spec: EnvSpec) -> str | None:
    if core.context == "window" and core.window < 1:
        return 'window is 0, expected 1 or more in context "window"'
    return _check_heads(core, spec)


# What numbers must be to each other and to the world: a complaint that begins with the field.
RELATIONS: dict[type, Callable[[Any, EnvSpec], str | None]] = {
    Config: _check_lanes,
    MemoryPPO: _check_chunks,
    PEARL: _check_store,
    MAML: _check_outer,
    TransformerConfig: _check_transformer,
    GTrXLConfig: _check_heads,
}


def check(config: Config, spec: EnvSpec) -> None:
    """Raise `TrmrlError` naming the first field whose value no run on `spec`'s worlds can have."""
    _check_record(config, spec, "")


def _check_record(record: Any, spec: EnvSpec, prefix: str) -> None:
    limits = LIMITS.get(type(record), {})
    for field in dataclasses.fields(record):
        value, name = getattr(record, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            _check_record(value, spec, f"{name}.")
            continue
        if not _is(field.type, value):
            raise TrmrlError(f"{name} is {value!r}, expected {_say(field.type)}")
        low, high = limits.get(field.name, (-INF, INF))
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not (
                low <= number <= high and math.isfinite(number)
            ):
                raise TrmrlError(f"{name} is {value!r}, expected {_say_limits(low, high)}")
    complaint = RELATIONS.get(type(record), lambda record, spec: None)(record, spec)
    if complaint:
        raise TrmrlError(f"{prefix}{complaint}")


def _is(kind: Any, value: Any) -> bool:
    """Return whether a value is what a field's annotation says (an int is a float too)."""
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(typing.get_args(kind)[0], v) for v in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _say(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"a list of {typing.get_args(kind)[0].__name__}"
    return kind.__name__


def _say_limits(low: int | float, high: int | float) -> str:
    if high < INF:
        return f"{low:.12g} to {high:.12g}"
    return f"a finite number, {low:.12g} or more" if low > -INF else "a finite number"


def to_json(config: Any) -> Any:
    """Return a config as plain JSON values; each record carries its `kind`."""
    if dataclasses.is_dataclass(config):
        fields = {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"kind": type(config).__name__, **fields}
    return list(config) if isinstance(config, tuple) else config


def from_json(value: Any) -> Config:
    """Return the config that `to_json` wrote.

    Raises `TrmrlError` on a kind or field this program does not know, or one that is missing.
    """
    config = _read(value)
    if not isinstance(config, Config):
        raise TrmrlError(f"config is a {type(config).__name__}, expected a Config")
    return config


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(item) for item in value)
    if not isinstance(value, dict):
        return value
    kind = KINDS.get(str(value.get("kind")))
    if kind is None:
        near = difflib.get_close_matches(str(value.get("kind")), KINDS) or list(KINDS)
        raise TrmrlError(
            f"config names {value.get('kind')!r}, which this version does not know: "
            f"it knows {', '.join(near)}"
        )
    given = {name: _read(item) for name, item in value.items() if name != "kind"}
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in sorted(set(given) - set(known)):
        raise TrmrlError(f"config gives {kind.__name__}.{name}, which this version does not know")
    for name, field in known.items():
        no_default = field.default is field.default_factory is dataclasses.MISSING
        if name not in given and no_default:
            raise TrmrlError(f"config lacks {kind.__name__}.{name}")
        if name in given and not _is(field.type, given[name]):
            raise TrmrlError(
                f"config gives {kind.__name__}.{name} as {value[name]!r}, "
                f"expected {_say(field.type)}"
            )
        if name in given and field.type is float:
            given[name] = float(given[name])
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
