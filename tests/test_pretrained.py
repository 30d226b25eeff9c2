"""Agents that come with the library: found by name, small, with a card, and able to act."""

import numpy as np
import pytest

import trmrl
from trmrl import pretrained
from trmrl.pretrained import ROOT, find_agent, shipped_agents
from trmrl.types import TrmrlError

MOST_BYTES = 1_000_000


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A place of its own, with one agent in it."""
    monkeypatch.setattr(pretrained, "ROOT", tmp_path)
    folder = tmp_path / "half-cheetah-vel"
    folder.mkdir()
    (folder / "model.npz").write_bytes(b"")
    return folder


def test_it_is_found_by_name(shipped):
    assert shipped_agents() == ["half-cheetah-vel"]
    assert find_agent("half-cheetah-vel") == shipped


def test_a_folder_of_that_name_comes_first(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_agent("half-cheetah-vel").resolve() == shipped  # this one is the folder, too
    assert find_agent(tmp_path) == tmp_path


def test_an_unknown_name_is_refused_with_the_nearest(shipped):
    with pytest.raises(TrmrlError, match="half-cheeta is neither a run folder nor an agent that"):
        find_agent("half-cheeta")
    with pytest.raises(TrmrlError, match="of these there are half-cheetah-vel$"):
        trmrl.load("half-cheetah-dir")


def named(name):
    """A shipped agent, which of Meta-World can act only where that is installed."""
    return pytest.param(name, marks=[pytest.mark.metaworld] * name.startswith("ml1-"))


@pytest.mark.parametrize("name", [named(name) for name in shipped_agents()])
def test_every_shipped_agent_is_small_states_its_card_and_acts(name):
    folder = ROOT / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    for part in ("| trained |", "| command |", "| commit |", "| date |", "## Scores", "## Limits"):
        assert part in card
    controller = trmrl.load(name)
    action = controller.act(np.zeros(controller.spec.obs_size))
    assert np.isfinite(action).all()
