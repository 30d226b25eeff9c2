"""What a document says is executed."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_journey_runs():
    text = (ROOT / "docs" / "journey.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/journey.md", "exec"), names)


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
