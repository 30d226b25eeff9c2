"""Trained agents that come with the library, in a folder each, by the name of their world.

Each is what `trmrl export` wrote: `config.json`, `model.npz` and `card.md`, which says how it was
trained, what it scores and where that ends.
"""

import difflib
from pathlib import Path

from trmrl.types import TrmrlError

ROOT = Path(__file__).parent


def shipped_agents() -> list[str]:
    """Return the names of the agents that come with the library."""
    return sorted(path.parent.name for path in ROOT.glob("*/model.npz"))


def find_agent(name: str | Path) -> Path:
    """Return the folder of an agent: the run or export at that path, else the shipped one.

    Raises `TrmrlError` with the nearest names where there is neither.
    """
    path = Path(name)
    if path.is_dir():
        return path
    shipped = shipped_agents()
    if str(name) in shipped:
        return ROOT / str(name)
    near = difflib.get_close_matches(str(name), shipped, n=3, cutoff=0.4) or shipped
    hint = f": of these there are {', '.join(near)}" if near else ""
    raise TrmrlError(f"{name} is neither a run folder nor an agent that comes with trmrl{hint}")
