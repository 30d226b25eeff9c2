"""Every example makes worlds that keep the rules, where the package it needs is installed."""

import importlib.util
import sys
from pathlib import Path

import pytest

from trmrl.check import check

EXAMPLES = Path(__file__).parents[1] / "examples"
NEEDS = {
    "gymnasium_cartpole": "gymnasium",
    "gymnax_point_robot": "gymnax",
    "xland_minigrid": "xminigrid",
}


def test_every_example_is_tried():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.filterwarnings("ignore")  # of the packages' own
def test_an_example_keeps_the_rules(name, monkeypatch):
    pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    findings = list(check(module.make()))
    assert len(findings) > 2
    assert [finding.text for finding in findings if finding.is_error] == []
