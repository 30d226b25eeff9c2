"""Named experiments: an env, an agent and every number, as one `Config`.

Recipe `paper` is the published setting, number for number; `default` is ours.
"""

import difflib
from collections.abc import Callable

from trmrl.config import Config
from trmrl.recipes import controls, gtrxl, maml, pearl, rl2, snail, trmrl, varibad
from trmrl.types import TrmrlError

Recipe = Callable[[str, int | None], Config]

AGENTS: dict[str, dict[str, Recipe]] = {
    "trmrl": {"default": trmrl.default, "paper": trmrl.paper},
    "rl2": {"default": rl2.default, "promp": rl2.promp},
    "rl2-lstm": {"default": rl2.lstm},
    "snail": {"default": snail.default},
    "gtrxl": {"default": gtrxl.default},
    "varibad": {"default": varibad.default, "paper": varibad.paper},
    "hyperx": {"default": varibad.hyperx},
    "trmrl-belief": {"default": varibad.transformer},
    "pearl": {"default": pearl.default, "paper": pearl.paper},
    "maml": {"default": maml.default, "paper": maml.paper},
    "maml-ppo": {"default": maml.ppo},
    "promp": {"default": maml.promp, "paper": maml.promp_paper},
    "pre-norm": {"default": controls.pre_norm},
    "post-norm": {"default": controls.post_norm},
    "xavier": {"default": controls.xavier},
}


def recipe(
    env: str, agent: str = "trmrl", name: str = "default", *, env_steps: int | None = None
) -> Config:
    """Return a named experiment; `env_steps` overrides its budget, and schedules follow.

    Raises `TrmrlError` on an unknown agent or recipe, with the nearest ones, and where an agent has
    no such recipe for an env.
    """
    recipes = AGENTS[_known("agent", agent, list(AGENTS))]
    return recipes[_known(f"recipe of {agent}", name, list(recipes))](env, env_steps)


def _known(what: str, name: str, menu: list[str]) -> str:
    if name not in menu:
        near = difflib.get_close_matches(name, menu, n=3, cutoff=0.3) or menu
        raise TrmrlError(f"unknown {what} {name!r}: did you mean {', '.join(near)}?")
    return name
