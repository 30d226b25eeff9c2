import importlib.metadata

import pytest

from trmrl.envs import make
from trmrl.envs.metaworld import _install
from trmrl.types import TrmrlError


@pytest.fixture
def version(monkeypatch):
    """`version(found)`: the version that is installed; None: nothing is."""

    def install(found):
        def look_up(package):
            if found is None:
                raise importlib.metadata.PackageNotFoundError(package)
            return found

        monkeypatch.setattr(importlib.metadata, "version", look_up)

    _install.load.cache_clear()
    yield install
    _install.load.cache_clear()


@pytest.mark.parametrize(
    ("found", "complaint"),
    [(None, "metaworld 3.1.1 is not installed"), ("3.0.0", "metaworld is 3.0.0, expected 3.1.1")],
)
@pytest.mark.parametrize("name", ["ml10", "ml45-h200"])
def test_a_missing_or_wrong_package_is_one_line_with_the_command(version, name, found, complaint):
    version(found)
    with pytest.raises(TrmrlError) as refusal:
        make(name)
    assert str(refusal.value).startswith(complaint)
    assert _install.COMMAND in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_it_needs_is_named(version):
    version(_install.VERSION)
    with pytest.raises(TrmrlError, match=r"cannot be imported \(No module named 'no_such_module'"):
        _install.load("no_such_module")


def test_the_command_keeps_our_mujoco():
    assert _install.COMMAND.endswith(f"pip install --no-deps metaworld=={_install.VERSION}")
