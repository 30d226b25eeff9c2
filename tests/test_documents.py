"""What a document says is executed."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "blocks"),
    [("journey.md", 7), ("protocol.md", 4), ("extending.md", 10), ("watch.md", 1)],
)
def test_a_page_runs(page, blocks, monkeypatch):
    """From the root of the repository, as its paths have it."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(found) >= blocks
    names: dict[str, object] = {}
    for block in found:
        exec(compile(block, f"docs/{page}", "exec"), names)


COMMANDS = {"README.md", "docs/figures.md", "docs/protocol.md", "docs/watch.md"}


@pytest.mark.parametrize("page", sorted(COMMANDS))
def test_the_options_a_page_names_exist(page):
    """Of commands set as code, with every option they show."""
    from trmrl.arguments import KINDS

    text = (ROOT / page).read_text(encoding="utf-8")
    commands = re.findall(r"^    trmrl (\w+)(.*)$", text, flags=re.MULTILINE)
    assert len(commands) >= 4
    for verb, rest in commands:
        known = {f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(KINDS[verb])}
        for option in re.findall(r"--[a-z-]+\b(?![.\w])", rest):
            assert option in known | ({"--seed", "--any"} if verb == "train" else set()), option


def test_the_readme_s_example_compiles_and_uses_public_names():
    import trmrl

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 1
    assert len(blocks[0].strip().splitlines()) <= 16
    compile(blocks[0], "README.md", "exec")
    for name in re.findall(r"trmrl\.(\w+)", blocks[0]):
        assert hasattr(trmrl, name), name


def _command(marker: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"<!-- {marker} -->\n\n    (.+)\n\n<!-- end -->", text)
    return command


def test_the_readme_s_commands_are_single_lines_that_name_real_things():
    from trmrl.envs import ENVS

    train, test = _command("train"), _command("test")
    words = shlex.split(train)
    assert words[words.index("train") + 1] in ENVS
    assert "[test]" in test and "pytest" in test


def test_continuous_integration_runs_the_readme_s_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "<!-- test -->" in script and 'eval "$test_command"' in script
