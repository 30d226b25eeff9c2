"""A trained agent to give away: its model and config, and a card that says what it is.

Every number of the card is read from the run folder.
"""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trmrl import config as configs
from trmrl.config import Config
from trmrl.recipes import recipe
from trmrl.report.markup import Table
from trmrl.report.table import table
from trmrl.run import CONFIG, MODEL, Run
from trmrl.train import restore
from trmrl.types import EnvSpec, TrmrlError

CARD = "card.md"


def export(run: Run, out: str | Path, *, limits: str = "", trust: bool = False) -> Path:
    """Write a run's trained agent to the new folder `out`; returns it.

    It holds the run's `config.json`, `model.npz` (no optimizer, no stored experience) and
    `card.md`, under "Limits" `limits` too, in the caller's words. `trmrl.load` reads it. Raises
    `TrmrlError` where the run has no checkpoint or no evaluation, and where `out` holds something.
    """
    config, envs, train_state = restore(run, trust=trust)
    scored = table([run])  # its first column, the run folder's name, stays behind
    scores = Table(scored.header[1:], [row[1:] for row in scored.rows])
    out = Path(out)
    model = train_state.learner.model
    num_weights = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(model))
    facts = {
        "world": f"`{envs.spec.name}`: {envs.spec.summary}",
        "agent": f"{config.agent_name}, recipe {config.recipe}, {num_weights:,} numbers",
        "trained": _training(run, config, int(train_state.env_steps)),
        "command": f"`{_command(config)}`",
        **run.begun(),
    }
    card = _card(out.name, facts, scores.markdown(), _limits(envs.spec, config, limits))
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise TrmrlError(f"{out} exists and is not empty: choose another name")
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.path / CONFIG, out / CONFIG)
        (out / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise TrmrlError(f"cannot write {out}: {error.strerror or error}") from error
    Run(out).save(model, MODEL)
    return out


def _training(run: Run, config: Config, env_steps: int) -> str:
    """Return how long training took, in env steps and on the clock, and its seed."""
    seconds = (run.latest() or {}).get("seconds")
    clock = "" if seconds is None else f", {seconds / 60:,.0f} minutes"
    return f"{env_steps:,} env steps{clock}, seed {config.seed}"


def _command(config: Config) -> str:
    """Return the command that trains such an agent: what differs from its recipe is an option."""
    base = recipe(config.env, config.agent_name, config.recipe, env_steps=config.env_steps)
    ours, theirs = configs.flatten(config), configs.flatten(base)
    words = ["trmrl train", config.env, "--agent", config.agent_name]
    words += ["--recipe", config.recipe, "--steps", config.env_steps]
    for name in ours:
        if name == "seed" or ours[name] != theirs.get(name):
            value = ours[name]
            words += [f"--{name}", *(value if isinstance(value, tuple) else [value])]
    return " ".join(map(str, words))


def _limits(spec: EnvSpec, config: Config, words: str) -> list[str]:
    """Return the limits that hold for any agent, and those in the caller's words."""
    plan: Any = config.agent.plan
    bounds = [
        f"{name} {value:g}"
        for name, value in (("floor", spec.floor), ("ceiling", spec.ceiling))
        if value is not None
    ]
    yardsticks = f" For one episode: {', '.join(bounds)}." if bounds else ""
    return [
        f"It is of use in `{spec.name}` alone, on tasks like those of the split `{plan.split}` "
        "it was trained on. A row of another split says what it does beyond.",
        "It is one training seed: intervals are over tasks, and say nothing of other seeds."
        + yardsticks,
        *([words] if words else []),
    ]


def _card(name: str, facts: dict[str, str], scores: str, limits: list[str]) -> str:
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    return f"""# {name}

A trained agent. `trmrl watch {name}` shows it, `trmrl.load("{name}")` returns it to act; of a copy
that does not come with the library, give the path of this folder.

| | |
|---|---|
{rows}

## Scores

Mean return of an episode, or of a trial where it has many, with its 95 % interval over distinct
tasks.

{scores}

## Limits

{chr(10).join(f"- {limit}" for limit in limits)}
"""
