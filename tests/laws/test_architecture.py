"""The house keeps its shape: who imports whom, how long things are, and what they are called."""

import ast
import io
import pathlib
import re
import tokenize

import pytest

import trmrl.types

ROOT = pathlib.Path(trmrl.types.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

# Each room, and the rooms it may import from (besides itself). A dot-py name is one file.
ROOMS = {
    "types.py": (),
    "settings.py": ("types.py",),
    "envs/": ("types.py",),
    "ops/": ("types.py",),
    "nets/": ("types.py", "settings.py", "ops/"),
    "trust.py": ("types.py", "envs/imported.py"),
    "provenance.py": (),
    "run.py": ("types.py", "trust.py", "provenance.py"),
    "learners/": ("types.py", "settings.py", "nets/", "ops/"),
    "agents/base.py": ("types.py", "settings.py"),
    "agents/": ("types.py", "settings.py", "nets/", "ops/", "learners/"),
    "config.py": ("types.py", "settings.py", "agents/", "nets/"),
    "recipes/": ("types.py", "agents/", "learners/", "nets/", "envs/", "config.py"),
    "trial.py": ("types.py", "agents/base.py", "envs/base.py"),
    "metrics.py": ("types.py",),
    "evaluate.py": ("types.py", "agents/base.py", "envs/base.py", "trial.py", "ops/"),
    "train.py": (
        "types.py", "agents/", "envs/", "trial.py", "metrics.py", "evaluate.py", "run.py",
        "config.py", "recipes/", "ops/",
    ),
    "bench.py": (
        "types.py", "agents/", "envs/", "trial.py", "evaluate.py", "run.py", "config.py",
        "recipes/", "train.py",
    ),
    "pretrained/": ("types.py",),
    "controller.py": (
        "types.py", "agents/base.py", "nets/network.py", "run.py", "train.py", "trial.py",
        "pretrained/",
    ),
    "references/": ("types.py", "envs/", "ops/"),
    "check.py": ("types.py", "envs/", "ops/"),
    "report/": ("types.py", "run.py", "ops/"),
    "analyze/": (
        "types.py", "settings.py", "agents/", "envs/", "learners/", "nets/", "ops/", "run.py",
        "trial.py", "train.py", "references/", "report/",
    ),
    "watch/": (
        "types.py", "envs/", "run.py", "train.py", "controller.py", "pretrained/", "analyze/",
    ),
    "figure.py": ("types.py", "run.py", "train.py", "analyze/", "report/"),
    "export.py": ("types.py", "run.py", "train.py", "config.py", "recipes/", "report/"),
}  # fmt: skip
SHELLS = (
    "cli.py",
    "arguments.py",
    "progress.py",
    "tables.py",
    "launch.py",
    "__init__.py",
    "__main__.py",
)  # these may import any room
IN_THEIR_ROOM = {
    "mujoco": ("envs/mujoco/", "envs/metaworld/"),
    "gymnasium": ("envs/gymnasium.py",),
    "metaworld": ("envs/metaworld/",),
    "ray": ("launch.py", "envs/ray_actors.py"),
    "tyro": ("arguments.py",),
    "viser": ("watch/page.py",),
}
BANNED = {"done", "info", "hstate", "rng", "utils", "helpers", "common", "misc"}
# Metaphors, as names or in text: rollout, agent, gradient, prediction and non-finite are the words.
METAPHORS = {
    "mind", "minds", "lived", "lives", "relived", "born", "met", "told", "tells", "seen",
    "taught", "teaches", "led", "said", "cursed", "curse",
}  # fmt: skip


def is_in(file, room):
    return file == room or (room.endswith("/") and file.startswith(room))


def room_of(file):
    """The most particular room a file is in, or None for a file of no room."""
    return max((room for room in ROOMS if is_in(file, room)), key=len, default=None)


def tree_of(file):
    return ast.parse((ROOT / file).read_text())


def imported_modules(tree):
    """Dotted names of all imports, lazy ones too; `from a import b` gives a.b if it is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            whole = [f"{module}.{alias.name}" for alias in node.names]
            modules = [name for name in whole if file_of(name)]
            yield from modules
            if len(modules) < len(whole):
                yield module


def file_of(module):
    """The file of a dotted `trmrl` module, or None where the name is no module."""
    if module.split(".")[0] != "trmrl":
        return None
    path = module.removeprefix("trmrl").replace(".", "/").lstrip("/")
    for candidate in (f"{path}.py", f"{path}/__init__.py".lstrip("/")):
        if (ROOT / candidate).is_file():
            return candidate
    return None


def broken_imports(file, tree):
    """Imports that go against the one way."""
    room = room_of(file)
    for module in imported_modules(tree):
        if module.startswith("."):
            yield f"{file}: relative import {module}"
        if module.split(".")[0] == "trmrl" and room is not None:
            target = file_of(module)
            allowed = (room, *ROOMS[room])
            if target and not any(is_in(target, other) for other in allowed):
                yield f"{file} imports {module}"
        for package, rooms in IN_THEIR_ROOM.items():
            if module.split(".")[0] == package and not file.startswith(rooms):
                yield f"{file} imports {module}"


def names_in(tree):
    """Every identifier a file makes up or uses: variables, attributes it sets, arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.arg):  # keywords of calls are named by whom they call
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield from (node.asname or node.name).split(".")


def broken_manners(file, tree):
    """Banned names, calls and modules."""
    for part in pathlib.PurePath(file).with_suffix("").parts:
        if part.strip("_") in BANNED:
            yield f"{file}: a module called {part}"
    for name in sorted({name for name in names_in(tree) if name and name.strip("_") in BANNED}):
        yield f"{file}: the name {name}"
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in ("super", "hasattr"):
            yield f"{file}:{called.lineno}: {called.id}("
    for module in imported_modules(tree):
        if re.fullmatch(r"c?pickle|cloudpickle|dill|joblib|shelve", module.split(".")[0]):
            yield f"{file} imports {module}"
    for node in ast.walk(tree):
        is_keyword = isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if is_keyword and ast.unparse(node) != "allow_pickle=False":
            yield f"{file}: allow_pickle"


def metaphors_in(source, tree):
    """Metaphors among the words of names, docstrings and comments, with their lines."""
    for name in sorted({name for name in names_in(tree) if name}):
        for word in METAPHORS & set(name.strip("_").lower().split("_")):
            yield f"the name {name}: {word}"
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string
        is_docstring = token.type == tokenize.STRING and token.string.lstrip("rbf").startswith(
            '"""'
        )
        if token.type == tokenize.COMMENT or is_docstring:
            for word in re.findall(r"[a-z]+", text.lower()):
                if word in METAPHORS:
                    yield f"line {token.start[0]}: {word}"


def too_long(file, source, tree):
    if source.count("\n") > 400:
        yield f"{file}: {source.count(chr(10))} lines, at most 400"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > 80:
                yield f"{file}: {node.name} has {length} lines, at most 80"


@pytest.mark.parametrize("file", FILES)
def test_imports_flow_one_way(file):
    assert list(broken_imports(file, tree_of(file))) == []


@pytest.mark.parametrize("file", FILES)
def test_names_and_manners(file):
    assert list(broken_manners(file, tree_of(file))) == []


@pytest.mark.parametrize("file", FILES)
def test_words_are_plain(file):
    assert list(metaphors_in((ROOT / file).read_text(), tree_of(file))) == []


@pytest.mark.parametrize("file", FILES)
def test_files_and_functions_are_short(file):
    assert list(too_long(file, (ROOT / file).read_text(), tree_of(file))) == []


@pytest.mark.parametrize("file", FILES)
def test_every_module_has_a_docstring(file):
    tree = tree_of(file)
    assert ast.get_docstring(tree) or not tree.body


def test_every_file_has_a_room():
    lost = [file for file in FILES if room_of(file) is None and file not in SHELLS]
    assert lost == [], "give it a room in ROOMS, and say whom it may import"


@pytest.mark.parametrize(
    ("file", "line", "complaints"),
    [
        ("ops/gae.py", "from trmrl.nets.linear import MLP", 1),
        ("types.py", "import trmrl.ops.gae", 1),
        ("envs/bandit.py", "from trmrl.agents import memory", 1),
        ("learners/ppo.py", "from trmrl.agents.memory import MemoryAgent", 1),
        ("nets/network.py", "from trmrl.learners.ppo import PPO", 1),
        ("nets/gru.py", "from trmrl import trial", 1),
        ("nets/gru.py", "from trmrl.ops.gae import gae", 0),
        ("agents/base.py", "from trmrl.nets.linear import MLP", 1),
        ("agents/memory.py", "import mujoco.batch", 1),
        ("envs/mujoco/cheetah.py", "import mujoco", 0),
        ("references/bandit.py", "from trmrl.envs import make", 0),
        ("references/bandit.py", "from trmrl.trial import run_trial", 1),
        ("envs/bandit.py", "from . import oracle", 1),
        ("trial.py", "def f():\n    from trmrl.envs.bandit import make", 1),
    ],
)
def test_the_walk_sees_a_wrong_import(file, line, complaints):
    assert len(list(broken_imports(file, ast.parse(line)))) == complaints


@pytest.mark.parametrize(
    "line",
    ["done = 1", "def f(rng): ...", "f(allow_pickle=1)", "x.hstate = 1", "import pickle",
     "from a import utils", "class A:\n    info: int",
     "super().f()", "hasattr(a, b)", "np.load(f, allow_pickle=True)"],
)  # fmt: skip
def test_the_walk_sees_bad_manners(line):
    assert list(broken_manners("ops/gae.py", ast.parse(line)))
    assert list(broken_manners("ops/utils.py", ast.parse("")))
    assert list(broken_manners("ops/gae.py", ast.parse("d = x.info; np.load(f)"))) == []


@pytest.mark.parametrize(
    ("source", "complaints"),
    [
        ("told = 1", 1),
        ("def f(x_lived): ...", 1),
        ('def f():\n    """What the agent has seen."""', 1),
        ("x = 1  # nobody is told", 1),
        ("x = 1  # observed", 0),
        ('x = "told"', 0),
        ("relief = settled = 1", 0),
    ],
)
def test_the_walk_finds_metaphors(source, complaints):
    assert len(list(metaphors_in(source, ast.parse(source)))) == complaints


def test_the_walk_sees_length():
    body = "def f():\n" + "    x = 1\n" * 80
    assert list(too_long("a.py", body, ast.parse(body)))
    assert list(too_long("a.py", "\n" * 401, ast.parse("")))
    assert not list(too_long("a.py", body[:-10], ast.parse(body[:-10])))
