"""A world of one's own on the command line, and a run folder of it from somebody else."""

import json
import shutil
import sys

import numpy as np
import pytest

import trmrl
from trmrl import cli
from trmrl.launch import specs_of
from trmrl.run import CONFIG, Run
from trmrl.types import TrmrlError

# Two buttons, one of which pays; every import of the module leaves a mark.
WORLD = """
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp

from trmrl.envs.base import JAX, AbstractEnvs, Driver
from trmrl.types import Discrete, EnvSpec, Outcome

with open(Path(__file__).with_name("imports.txt"), "a") as marks:
    marks.write("imported\\n")


class Buttons(AbstractEnvs):
    driver: ClassVar[Driver] = JAX
    spec: EnvSpec

    def sample_tasks(self, split, num_tasks, *, key):
        self.spec.check_split(split)
        return jax.random.bernoulli(key, shape=(num_tasks,)).astype(jnp.int32)

    def reset(self, tasks, *, key):
        return tasks, jnp.zeros((tasks.shape[0], 1))

    def step(self, env_state, action):
        reward = (action == env_state).astype(jnp.float32)
        ended = jnp.ones(reward.shape, bool)
        return env_state, Outcome(reward, ended, ~ended, jnp.zeros((reward.shape[0], 1)))

    def view(self, env_state):
        return env_state


def make():
    return Buttons(EnvSpec("buttons", "bandit", 1, Discrete(2), 1, 3))
"""
ENV = "own_buttons:make"
OBS = np.zeros(1, np.float32)
TRAIN = (
    f"train {ENV} --agent rl2 --num-lanes 2 --eval-tasks 3 --agent.core.width 4 "
    "--agent.head.hidden 4 --agent.algorithm.num-passes 1 --agent.algorithm.chunk-length 0"
).split()


def work_in(path, patch):
    """Make `path` the user's machine: `work`, where they work on a world, and their state."""
    patch.setenv("XDG_STATE_HOME", str(path / "state"))
    patch.setattr(sys, "path", list(sys.path))
    (path / "work").mkdir(exist_ok=True)
    patch.chdir(path / "work")
    (path / "work" / "own_buttons.py").write_text(WORLD)
    return path / "work"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the user works in, with a world of their own."""
    folder = work_in(tmp_path, monkeypatch)
    yield folder
    forget(folder)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A user's machine after training on that world; copy it before changing it."""
    path = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        folder = work_in(path, patch)
        cli.main([*TRAIN, "--steps", "18"])
        forget(folder)
    return path


@pytest.fixture
def trained(machine, folder):
    """A finished run of that world, in its default folder; its module is not imported."""
    shutil.copytree(machine, folder.parent, dirs_exist_ok=True)
    return folder / "runs" / "own_buttons-make-rl2-default-seed0"


def forget(folder):
    sys.modules.pop("own_buttons", None)
    (folder / "imports.txt").unlink(missing_ok=True)


def is_imported(folder):
    return (folder / "imports.txt").exists()


def forge(path, change):
    """Change what stands in a run's `config.json`."""
    written = json.loads((path / CONFIG).read_text())
    change(written)
    (path / CONFIG).write_text(json.dumps(written))


def refused(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(arg) for arg in args])
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out) == (2, "")
    (line,) = printed.err.splitlines()
    return line


def test_it_is_trained_resumed_evaluated_and_reported(folder, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "log", stop_after(2))
        with pytest.raises(SystemExit, match="130"):
            cli.main([*TRAIN, "--steps", "18", "--run", "run"])
    run = Run.open("run")
    assert len(run.metrics()) == 2
    cli.main([*TRAIN, "--steps", "18", "--run", "run"])
    assert [record["env_steps"] for record in run.metrics()] == [6, 12, 18]
    assert "mean return of rl2 on 3 (2 distinct) test tasks of buttons" in flat(
        capsys.readouterr().out
    )
    cli.main(["evaluate", "run", "--num-tasks", "5"])
    assert "mean return of rl2 on 5 (2 distinct) test tasks of buttons" in flat(
        capsys.readouterr().out
    )
    cli.main(["report", "run"])
    assert "| run | test | mode | 5 (2 distinct) | 18 |" in capsys.readouterr().out
    controller = trmrl.load("run")
    assert controller.act(OBS) in (0, 1)


def stop_after(updates):
    """`Run.log`, interrupted once so many updates are logged."""
    log = Run.log

    def logged(run, record):
        if record["updates"] > updates:
            raise KeyboardInterrupt
        log(run, record)

    return logged


def flat(text):
    return " ".join(text.split())


def test_only_a_run_that_names_code_is_signed(folder, trained):
    assert len(json.loads((trained / CONFIG).read_text())["signature"]) == 64
    Run("plain").create({"env": "bandit-n3-k2"})
    assert set(json.loads((folder / "plain" / CONFIG).read_text())) == {
        "format",
        "version",
        "config",
        "begun",
    }


FORGERIES = {
    "none": lambda written: written.pop("signature"),
    "empty": lambda written: written.update(signature=""),
    "broken": lambda written: written.update(signature="0" * 64),
    "no text": lambda written: written.update(signature=[1]),
    "another config": lambda written: written["config"].update(seed=1),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_run_of_somebody_else_s_is_refused_and_nothing_imported(folder, trained, capsys, forgery):
    capsys.readouterr()
    copy = shutil.copytree(trained, folder / "copy")
    forge(copy, FORGERIES[forgery])
    line = refused(capsys, "evaluate", copy)
    assert f"{copy} is not signed by you" in line
    assert f"env '{ENV}' would import the module 'own_buttons': pass --trust" in line
    with pytest.raises(TrmrlError, match="is not signed by you"):
        trmrl.load(copy)
    assert not is_imported(folder)


def test_a_copy_of_one_s_own_run_is_one_s_own(folder, trained):
    copy = shutil.copytree(trained, folder / "copy")
    cli.main(["evaluate", str(copy)])
    assert is_imported(folder)


def test_without_this_user_s_secret_a_run_is_somebody_else_s(folder, trained, capsys):
    capsys.readouterr()
    shutil.rmtree(folder.parent / "state")
    assert "is not signed by you" in refused(capsys, "evaluate", trained)
    assert not (folder.parent / "state").exists()
    assert not is_imported(folder)


def test_who_trusts_it_evaluates_and_loads_it(folder, trained, capsys):
    forge(trained, FORGERIES["broken"])
    cli.main(["evaluate", str(trained), "--num-tasks", "5", "--trust"])
    assert "on 5 (2 distinct) test tasks of buttons" in flat(capsys.readouterr().out)
    assert is_imported(folder)
    assert trmrl.load(trained, trust=True).act(OBS) in (0, 1)


def test_who_types_its_env_goes_on_with_it(folder, trained, capsys):
    """The code is then named by the user, not by the folder."""
    forge(trained, FORGERIES["broken"])
    (trained / "evaluations" / "test.json").unlink()
    cli.main([*TRAIN, "--steps", "18"])
    assert (trained / "evaluations" / "test.json").exists()


def test_a_folder_cannot_choose_what_training_imports(folder, trained, capsys):
    """Of a run that holds other worlds than those typed, nothing is imported."""
    forge(trained, lambda written: written["config"].update(env="own_other:make"))
    (folder / "own_other.py").write_text(WORLD.replace("imports.txt", "other.txt"))
    capsys.readouterr()
    line = refused(capsys, *TRAIN, "--steps", "18")
    assert f"env: '{ENV}' here, 'own_other:make' there" in line
    assert not (folder / "other.txt").exists()


def test_a_report_of_somebody_else_s_run_imports_nothing(folder, trained, capsys):
    forge(trained, FORGERIES["broken"])
    (folder / "own_buttons.py").unlink()
    cli.main(["report", str(trained), "--out", "picture.png"])
    assert f"| {trained.name} | test | mode | 3 (2 distinct) | 18 |" in capsys.readouterr().out
    assert (folder / "picture.png").exists()


def test_what_is_known_of_a_world_is_asked_of_code_that_somebody_vouches_for(folder, trained):
    """And of an oracle's, under the name of the world itself."""
    plain = Run("plain")
    plain.create({"env": "bandit-n4-k2+task"})
    nothing = Run("nothing")
    nothing.create({"env": "bandit-n4-k"})
    runs = [Run.open(trained), plain, nothing]
    forge(trained, FORGERIES["broken"])
    assert set(specs_of(runs)) == {"bandit-n4-k2"} and not is_imported(folder)
    specs = specs_of(runs, trust=True)
    assert specs[ENV].name == "buttons" and specs["bandit-n4-k2"].floor == 0.5


def test_where_nothing_can_be_signed_a_run_is_made_all_the_same(folder, monkeypatch):
    (folder / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "file"))
    Run("run").create({"env": ENV})
    assert json.loads((folder / "run" / CONFIG).read_text())["signature"] == ""
    with pytest.raises(TrmrlError, match="is not signed by you"):
        Run("run").trusted_config()
