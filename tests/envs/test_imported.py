"""Worlds of one's own, found by import path; whatever fails there is one line."""

import sys

import jax
import pytest

from trmrl.envs import make
from trmrl.envs.base import keys_for
from trmrl.envs.imported import import_envs, is_import_path
from trmrl.types import TrmrlError

WORLDS = """
from trmrl.envs.bandit import make as bandit

def make():
    return bandit("bandit-n4-k2")

ready = make()

class Menu:
    small = ready

number = 3

def wrong():
    return "worlds"

def fails():
    raise ValueError("no room\\nfor it")

def needs(what):
    return ready
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with some modules; what a test imports from it is forgotten after it."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_worlds.py").write_text(WORLDS)
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "worlds.py").write_text(WORLDS)
    (tmp_path / "own_broken.py").write_text("1 / 0")
    (tmp_path / "own_lacking.py").write_text("import own_absent")
    (tmp_path / "own_garbled.py").write_text("def (")
    (tmp_path / "own_exit.py").write_text("raise SystemExit(3)")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    "name",
    ["own_worlds:make", "own_worlds:ready", "own_worlds:Menu.small", "own_package.worlds:make"],
)
def test_worlds_are_imported_from_the_current_folder(folder, name):
    envs = make(name)
    assert (envs.spec.name, envs.spec.num_episodes) == ("bandit-n4-k2", 4)
    assert sys.path[0] == str(folder)


def test_a_suffix_and_a_number_of_episodes_work_as_for_any_world(folder):
    envs = make("own_worlds:make+task", 7)
    assert (envs.spec.name, envs.spec.num_episodes) == ("bandit-n4-k2+task", 7)
    tasks = envs.sample_tasks("train", 3, key=jax.random.key(0))
    assert envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))[1].shape == (3, 1 + 2)
    with pytest.raises(TrmrlError, match=r"unknown env 'own_worlds:make\+goal'"):
        make("own_worlds:make+goal")


def test_the_folder_is_put_first_once(folder):
    import_envs("own_worlds:ready")
    import_envs("own_worlds:ready")
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("own_absent:make", r"there is no module 'own_absent' in .* or where Python looks"),
        ("own_package.absent:make", r"there is no module 'own_package.absent'"),
        ("own_worlds.deeper:make", r"there is no module 'own_worlds.deeper'"),
        ("own_worlds:maker", r"module own_worlds has no 'maker'"),
        ("own_worlds:number", r"is 'int', expected an AbstractEnvs or a function"),
        ("own_worlds:wrong", r"is 'str', expected an AbstractEnvs or a function"),
        ("own_worlds:fails", r"fails\(\) raised ValueError: no room for it"),
        ("own_worlds:needs", r"needs\(\) raised TypeError: .*'what'"),
        ("own_broken:make", r"importing own_broken raised ZeroDivisionError"),
        ("own_lacking:make", r"importing own_lacking raised ModuleNotFoundError.*'own_absent'"),
        ("own_garbled:make", r"importing own_garbled raised SyntaxError"),
        ("own_exit:make", r"importing own_exit raised SystemExit: 3"),
        (":make", r"':make' is no import path: expected package.module:attribute"),
        ("own_worlds:", r"is no import path"),
        ("../own_worlds:make", r"is no import path"),
        ("own_worlds:make()", r"is no import path"),
        ("own_worlds:make:make", r"is no import path"),
    ],
)
def test_what_fails_is_one_line_that_names_the_path(folder, name, expected):
    with pytest.raises(TrmrlError, match=expected) as refused:
        make(name)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_only_a_colon_makes_an_import_path():
    assert is_import_path("a.b:c") and is_import_path(":")
    assert not is_import_path("bandit-n4-k2+task") and not is_import_path("a.b.c")
