"""The command line: bad input is one line and exit code 2, and nothing on disk is harmed."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import trmrl.launch
from trmrl import cli, references
from trmrl.arguments import fields_of
from trmrl.envs import ENVS
from trmrl.recipes import recipe
from trmrl.references import Score
from trmrl.run import CHECKPOINT, CONFIG, Run
from trmrl.types import replace

TINY = (
    "--agent rl2 --num-lanes 2 --steps 16 --eval-tasks 3 --save-every 8 "
    "--agent.core.width 4 --agent.head.hidden 4 --agent.algorithm.num-passes 1"
).split()


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run folder; copy it before changing it."""
    path = tmp_path_factory.mktemp("runs") / "run"
    cli.main(["train", "bandit-n4-k2", *TINY, "--run", str(path)])
    return path


def contents(path):
    return {p: p.read_bytes() for p in sorted(Path(path).rglob("*")) if p.is_file()}


def refused(capsys, *args):
    """The one line with which a command is refused."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(arg) for arg in args])
    printed = capsys.readouterr()
    assert stopped.value.code == 2
    assert printed.out == ""  # not even a progress bar
    (line,) = printed.err.splitlines()
    assert line.startswith("trmrl: ")
    return line.removeprefix("trmrl: ")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("trian", r"unknown command 'trian': did you mean train"),
        ("x", r"unknown command 'x': did you mean train, sweep, evaluate, report"),
        ("train bandit-n10-k", r"'bandit-n10-k' is no bandit: expected bandit-nN-kK"),
        ("train half-cheeta-vel", r"unknown env 'half-cheeta-vel': did you mean half-cheetah-vel"),
        ("train bandit-n4-k2+goal", r"unknown env 'bandit-n4-k2\+goal'"),
        ("train bandit-n4-k2 --agent rl", r"unknown agent 'rl': did you mean .*rl2"),
        ("train bandit-n4-k2 --recipe defualt", r"unknown recipe .*did you mean default"),
        ("train bandit-n4-k2 --recipe paper", r"trmrl/paper has no setting for bandit-n4-k2"),
        (
            "train bandit-n4-k2 --agent.algorithm.clp 1",
            r"unknown field .*did you mean agent.algorithm.clip",
        ),
        ("train bandit-n4-k2 --env x", r"--env is no option: use trmrl train ENV"),
        ("train bandit-n4-k2 --agent_name=x", r"--agent_name=x is no option: use --agent NAME"),
        ("train bandit-n4-k2 --env-steps 9", r"--env-steps is no option: use --steps N"),
        (
            "train bandit-n4-k2 --agent.algorithm.gamma 2",
            r"agent.algorithm.gamma is 2.0, expected 0 to 1",
        ),
        ("train bandit-n4-k2 --num-lanes 0", r"num_lanes is 0, expected .*1 or more"),
        ("train bandit-n4-k2 --seed -1", r"seed is -1, expected 0 to"),
        ("train bandit-n4-k2 --steps 0", r"--steps is 0, expected 1 or more"),
        ("train bandit-n4-k2 --steps -5", r"--steps is -5, expected 1 or more"),
        ("train bandit-n4-k2 --agent.algorithm.chunk-length 3", r"does not divide the 4 steps"),
        (
            "train bandit-n4-k2 --agent varibad --agent.algorithm.objectives.elbo.coef 1",
            r"agent.algorithm.objectives has ELBO, which replayed has too",
        ),
        (
            "train bandit-n4-k2 --agent varibad --agent.algorithm.objectives.elbo.coef 1 "
            "--agent.algorithm.replayed.objectives.elbo.coef 0 --agent.algorithm.chunk-length 2",
            r"agent.algorithm.chunk_length is 2, expected 0 for ELBO",
        ),
        (
            "train bandit-n4-k2 --agent.algorithm.optimizer.learning-rate inf",
            r"learning_rate is inf",
        ),
        ("evaluate nowhere", r"nowhere is not a run folder: it has no config.json"),
        ("report", r"report of what\?"),
        ("report nowhere", r"nowhere is not a run folder"),
        ("figure latent x", r"unknown figure 'latent': did you mean latents"),
        ("figure latents", r"latents of what\? expected one run folder or more"),
        ("figure latents nowhere", r"nowhere is not a run folder"),
        ("figure latents x --num-tasks 0", r"--num-tasks is 0, expected 1 or more"),
        ("figure latents x --num-episodes 0", r"--num-episodes is 0, expected 1 or more"),
        ("figure latents x --seed -1", r"--seed is -1, expected 0 to"),
        ("watch", r"watch 0 runs\? expected one or two"),
        ("watch nowhere", r"nowhere is neither a run folder nor an agent that comes with trmrl"),
        ("record nowhere", r"nowhere is neither a run folder nor an agent"),
        ("export nowhere --out x", r"nowhere is not a run folder: it has no config.json"),
        ("reference grid-nav", r"unknown env 'grid-nav': did you mean grid-navi"),
        ("reference tabular-n0", r"'tabular-n0' is no tabular MDP: expected tabular-nN"),
        ("reference half-cheetah-vel", r"there are no references for 'half-cheetah-vel', only"),
        ("reference bandit-n4-k2+task", r"there are no references for 'bandit-n4-k2\+task'"),
        ("reference bandit-n4-k2 --num-tasks 1", r"--num-tasks is 1, expected 2 or more"),
        ("reference bandit-n4-k2 --seed -1", r"--seed is -1, expected 0 to"),
        ("reference bandit-n4-k2 --json no/x.json", r"cannot write no/x.json: there is no folder"),
        ("sweep", r"sweep over no envs\? expected one or more"),
        ("sweep bandit-n4-k2 --seeds", r"sweep over no seeds\?"),
        ("sweep bandit-n4-k2 --seeds 1 2 1", r"seeds has 1 more than once"),
        ("sweep bandit-n4-k2 --seeds -1", r"seed is -1, expected 0 to"),
        ("sweep bandit-n4-k2 --jobs 0", r"--jobs is 0, expected 1 or more"),
        ("sweep bandit-n4-k2 --steps 0", r"--steps is 0, expected 1 or more"),
        ("sweep bandit-n4-k2 --agents trmrl rl", r"unknown agent 'rl': did you mean .*rl2"),
        ("sweep bandit-n4-k2 banditt", r"unknown env 'banditt'"),
        ("sweep bandit-n4-k2 --seed 1", r"--seed is no option: use --seeds N"),
        ("sweep bandit-n4-k2 --env x", r"--env is no option: use trmrl sweep ENV"),
        (
            "sweep bandit-n4-k2 --agents rl2 --agent.core.window 1",
            r"unknown field .*of rl2/default",
        ),
        (
            "sweep bandit-n4-k2 --agent.algorithm.gamma 2",
            r"agent.algorithm.gamma is 2.0, expected 0 to 1",
        ),
    ],
)
def test_bad_arguments_are_one_line_and_make_nothing(capsys, tmp_path, monkeypatch, args, expected):
    monkeypatch.chdir(tmp_path)
    assert re.search(expected, refused(capsys, *args.split()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("train", ["Required options", "ENV"]),
        ("train bandit-n4-k2 more", ["Unrecognized options", "more"]),
        ("train bandit-n4-k2 --agent.algorithm.clip", ["Missing value", "--agent.algorithm.clip"]),
        ("train bandit-n4-k2 --agent.algorithm.clip abc", ["--agent.algorithm.clip", "'abc'"]),
        ("train bandit-n4-k2 --agent.memory-scope x", ["--agent.memory-scope", "episode"]),
        ("train bandit-n4-k2 --agent.normalize-obs 2", ["--agent.normalize-obs", "True"]),
        ("train bandit-n4-k2 --steps many", ["--steps", "'many'"]),
        ("sweep bandit-n4-k2 --agent.algorithm.clip abc", ["--agent.algorithm.clip", "'abc'"]),
        ("evaluate", ["Required options", "RUN"]),
        ("evaluate nowhere --num-tasks", ["Missing value", "--num-tasks"]),
        (
            "evaluate nowhere --num-task 3",
            ["Unrecognized options", "--num-task", "--num-tasks INT"],
        ),
        ("export nowhere", ["Required options", "--out"]),
        ("record nowhere --size 480", ["--size"]),
        ("reference", ["Required options", "ENV"]),
        ("envs --all", ["Unrecognized options", "--all"]),
    ],
)
def test_unreadable_arguments_are_explained_on_stderr(
    capsys, tmp_path, monkeypatch, args, expected
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main(args.split())
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out) == (2, "")
    assert all(text in printed.err for text in expected), printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--split ood", r"bandit-n4-k2 has no split 'ood': choose one of train, test"),
        ("--num-tasks 0", r"--num-tasks is 0, expected 1 or more"),
        ("--num-episodes 0", r"--num-episodes is 0, expected 1 or more"),
        ("--num-episodes -2", r"--num-episodes is -2, expected 1 or more"),
        ("--json nowhere/x.json", r"cannot write nowhere/x.json: there is no folder nowhere"),
    ],
)
def test_a_bad_evaluation_is_one_line(capsys, trained, tmp_path, monkeypatch, args, expected):
    monkeypatch.chdir(tmp_path)
    before = contents(trained)
    assert re.search(expected, refused(capsys, "evaluate", trained, *args.split()))
    assert contents(trained) == before
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def rewrite(path, change):
    written = json.loads((path / CONFIG).read_text())
    change(written)
    (path / CONFIG).write_text(json.dumps(written))


DAMAGE = {
    "no json": (lambda p: (p / CONFIG).write_text("{"), r"config.json is damaged"),
    "newer": (
        lambda p: rewrite(p, lambda w: w.update(format=99)),
        r"has format 99, this version reads 2",
    ),
    "kind": (
        lambda p: rewrite(p, lambda w: w["config"]["agent"].update(kind="Robot")),
        r"names 'Robot', which this version does not know",
    ),
    "field": (
        lambda p: rewrite(p, lambda w: w["config"].update(color="red")),
        r"gives Config.color, which this version does not know",
    ),
    "env": (
        lambda p: rewrite(p, lambda w: w["config"].update(env="bandit-n4-k")),
        r"'bandit-n4-k' is no bandit",
    ),
    "truncated": (
        lambda p: (p / CHECKPOINT).write_bytes((p / CHECKPOINT).read_bytes()[:1000]),
        r"checkpoint.npz is damaged or no checkpoint",
    ),
    "foreign": (lambda p: np.savez(p / CHECKPOINT, x=np.zeros(3)), r"lacks .*env_steps"),
    "absent": (lambda p: (p / CHECKPOINT).unlink(), r"copy has no checkpoint yet"),
    # One arm more: the world's action no longer fits what was learned.
    "action size": (
        lambda p: rewrite(p, lambda w: w["config"].update(env="bandit-n4-k3")),
        r"does not fit its config: \S*weight is float32\[5, 4\], expected float32\[6, 4\]",
    ),
    # The task in sight: the observation no longer fits.
    "obs size": (
        lambda p: rewrite(p, lambda w: w["config"].update(env="bandit-n4-k2+task")),
        r"does not fit its config: \S*weight is float32\[5, 4\], expected float32\[7, 4\]",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_refused_by_name_and_left_alone(capsys, copy, damage):
    spoil, expected = DAMAGE[damage]
    spoil(copy)
    before = contents(copy)
    assert re.search(expected, refused(capsys, "evaluate", copy))
    assert contents(copy) == before


def test_another_experiment_is_refused_with_the_differences(capsys, copy):
    before = contents(copy)
    line = refused(
        capsys,
        "train",
        "bandit-n4-k2",
        *TINY,
        "--run",
        copy,
        "--seed",
        4,
        "--agent.algorithm.clip",
        0.3,
    )
    assert line == (
        f"{copy} holds another experiment: "
        "agent.algorithm.clip: 0.3 here, 0.2 there; seed: 4 here, 0 there"
    )
    assert contents(copy) == before


def test_train_leaves_what_is_no_run_folder_alone(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    train = ["train", "bandit-n4-k2", *TINY, "--run"]
    assert "is not empty and not a run folder" in refused(capsys, *train, tmp_path)
    assert "is a file" in refused(capsys, *train, tmp_path / "thesis.tex")
    assert {p.name: c for p, c in contents(tmp_path).items()} == {"thesis.tex": b"years"}


def test_a_path_with_brackets_is_printed_as_it_is(capsys, tmp_path, trained):
    assert f"{tmp_path}/[bold]x is not" in refused(capsys, "evaluate", tmp_path / "[bold]x")
    picture = tmp_path / "[red].png"
    cli.main(["report", str(trained), "--out", str(picture)])
    assert capsys.readouterr().out.endswith(f"\nwrote {picture}\n")


def test_a_finished_run_has_all_that_a_reader_needs(trained):
    assert {p.name for p in trained.iterdir() if "events" not in p.name} == {
        "checkpoint.npz", "config.json", "curve.png", "evaluations", "lock", "metrics.jsonl"
    }  # fmt: skip
    held_out = {"test.json", "test-sampled.json"}
    assert {p.name for p in (trained / "evaluations").iterdir()} == held_out
    assert list(trained.glob("events.out.*"))
    assert not list(trained.rglob("*.partial"))


def test_train_on_a_finished_run_concludes_again(capsys, copy):
    cli.main(["train", "bandit-n4-k2", *TINY, "--run", str(copy)])
    printed = capsys.readouterr().out
    assert "rl2 on 3 test tasks" in " ".join(printed.split())
    assert f"run folder {copy}, learning curve {copy / 'curve.png'}\n" in printed
    assert "env steps" not in printed  # there was no progress to show


def test_evaluate_prints_and_stores(capsys, copy):
    cli.main(["evaluate", str(copy), "--num-tasks", "5", "--num-episodes", "3", "--seed", "2"])
    assert "mean return" in capsys.readouterr().out
    stored = json.loads((copy / "evaluations" / "test-5x3-seed2.json").read_text())
    assert (stored["num_tasks"], stored["num_episodes"], stored["seed"]) == (5, 3, 2)
    assert np.shape(stored["returns"]) == (5, 3)
    assert stored["env_steps"] == 16


def test_evaluate_to_a_file_leaves_the_run_alone(copy, tmp_path):
    before, path = contents(copy), tmp_path / "score.json"
    cli.main(["evaluate", str(copy), "--num-tasks", "3", "--explore", "--json", str(path)])
    record = json.loads(path.read_text())
    assert set(record["return_per_episode"]) == {"mean", "ci95_low", "ci95_high"}
    assert (record["agent"], record["split"], record["explore"]) == ("rl2", "test", True)
    assert contents(copy) == before


def test_evaluations_come_with_what_needs_no_memory(copy, capsys, monkeypatch):
    asked = []

    def found(env, *, num_tasks=100, seed=0):
        asked.append(env)
        return [Score("stand still", np.array([1.0, 2.0]), success=0.5)]

    monkeypatch.setattr(references, "without_memory", found)
    cli.main(["evaluate", str(copy), "--num-tasks", "2"])
    line = "without memory, stand still: 1.5 a trial, success 0.50, mean over 2 test tasks"
    assert line in capsys.readouterr().out.splitlines()
    assert asked == [Run.open(copy).config()["env"]]


def test_report_draws_runs(capsys, trained, tmp_path):
    out = tmp_path / "curves.svg"
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        cli.main(["report", str(trained), str(trained), "--out", str(out)])
    assert ">floor</text>" in out.read_text()
    header, _, *rows, wrote = capsys.readouterr().out.splitlines()
    assert header.startswith("| run | split |")
    each, over_seeds = rows[: rows.index("")], rows[rows.index("") + 3 :]
    assert [row.split(" | ")[1:5] for row in each] == [
        ["test", "sampled", "3", "16"], ["test", "mode", "3", "16"]
    ] * 2  # fmt: skip
    assert [row.split(" | ")[:7] for row in over_seeds] == [
        ["| run", "test", actions, "16", "return", episode, "1"]
        for actions in ("sampled", "mode")
        for episode in ("1", "2", "3", "4", "sum of 4")
    ]
    assert wrote == f"wrote {out}"


def test_a_report_as_a_page_has_the_bounds_of_the_world(trained, tmp_path):
    cli.main(["report", str(trained), "--out", str(tmp_path / "x.html")])
    assert ">floor</text>" in (tmp_path / "x.html").read_text()


def test_a_figure_is_written_with_its_numbers_and_the_table_of_ablations(capsys, copy, tmp_path):
    out = tmp_path / "x.svg"
    shape = "--num-tasks 3 --num-episodes 2 --seed 5".split()
    cli.main(["figure", "fast-adaptation", str(copy), "--out", str(out), *shape])
    assert "<svg" in out.read_text() and out.with_suffix(".csv").is_file()
    assert (copy / "evaluations" / "test-3x2-seed5.json").is_file()
    assert capsys.readouterr().out == f"wrote {out}\n"
    cli.main(["figure", "ablations", str(copy), "--out", str(out)])
    header, _, row, _, wrote = capsys.readouterr().out.splitlines()
    assert header.startswith("| on | change |") and wrote == f"wrote {out}"
    assert row.startswith("| bandit-n4-k2, test tasks | base | 1 |")


def test_record_and_export_write_what_they_name(capsys, trained, tmp_path):
    video, folder = tmp_path / "a.gif", tmp_path / "my-agent"
    cli.main(
        ["record", str(trained), "--out", str(video), "--tasks", *"0.9 0.1 0.1 0.9".split()]
        + ["--size", "96", "64"]
    )
    assert video.read_bytes().startswith(b"GIF89a")
    cli.main(["export", str(trained), "--out", str(folder), "--limits", "None known."])
    assert "- None known." in (folder / "card.md").read_text()
    assert capsys.readouterr().out == f"wrote {video}\nwrote {folder}\n"
    cli.main(["record", str(folder), "--out", str(video), "--steps", "2"])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--tasks 0.5", r"--tasks has 1 numbers, expected 2 for each task"),
        ("--out a.avi", r"a.avi: expected a name in .gif or .mp4"),
        ("--steps 0", r"a video of 0 steps, expected 1 or more"),
    ],
)
def test_a_bad_recording_is_one_line(capsys, trained, tmp_path, monkeypatch, args, expected):
    monkeypatch.chdir(tmp_path)
    assert re.search(expected, refused(capsys, "record", trained, *args.split()))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_early_is_no_error_to_talk_about():
    """As `trmrl envs | head -1` does."""
    code = "from trmrl.cli import main; main(['envs'])"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=closed, stderr=subprocess.PIPE, timeout=120
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    path = tmp_path / "run"

    def interrupt(config, path, show, begin):
        raise KeyboardInterrupt

    monkeypatch.setattr(trmrl.launch, "train", interrupt)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "bandit-n4-k2", *TINY, "--run", str(path)])
    assert stopped.value.code == 130
    assert f"goes on from {path}\n" in capsys.readouterr().out


def test_envs_fits_80_columns_and_lists_the_menu(capsys):
    cli.main(["envs"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert {line.split()[0] for line in lines if line and not line.startswith(" ")} >= set(ENVS)
    assert any(line.startswith("multi-stage-rooms") and line.endswith(" 3376") for line in lines)
    (cheetah,) = [line for line in lines if line.startswith("half-cheetah-vel ")]
    assert cheetah.split() == ["half-cheetah-vel", "2", "x", "200", "20", "6", "continuous"] + [
        "train,test,ood", "-300", "-15"
    ]  # fmt: skip


def test_reference_prints_a_line_per_strategy_beside_what_was_published(capsys, tmp_path):
    path = tmp_path / "reference.json"
    args = ["bandit-n10-k5", "--num-tasks", "50", "--seed", "3", "--json", str(path)]
    cli.main(["reference", *args])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (gittins,) = [line.split() for line in lines if line.startswith("gittins")]
    record = json.loads(path.read_text())
    (stored,) = [score for score in record["scores"] if score["strategy"] == "gittins"]
    assert (record["env"], record["num_tasks"], record["seed"]) == ("bandit-n10-k5", 50, 3)
    assert gittins[:2] == ["gittins", f"{stored['mean']:.3f}"]
    assert gittins[2:5] == [f"{stored['ci95_low']:.3f}", "to", f"{stored['ci95_high']:.3f}"]
    assert gittins[5] == "6.6" and stored["published"] == 6.6
    assert 5.5 < stored["mean"] < 7.5
    assert 0.3 < stored["mean"] - stored["ci95_low"] < 1.0
    assert 0.3 < stored["ci95_high"] - stored["mean"] < 1.0


def help_of(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*args])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_help_names_commands_options_and_fields(capsys):
    cli.main([])
    printed = capsys.readouterr().out
    assert all(name in printed for name in cli.COMMANDS)
    assert "--agent.algorithm.clip FLOAT" not in help_of(capsys, "train", "--help")
    printed = help_of(capsys, "train", "bandit-n4-k2", "--agent", "rl2", "--help")
    order = [
        "ENV   ",
        "--recipe STR",
        "--steps {",
        "--seed INT",
        "--agent.core.width INT",
        "--agent.algorithm.clip FLOAT",
    ]
    places = [printed.index(text) for text in order]
    assert places == sorted(places)
    assert printed.count("show this help message") == 1
    printed = help_of(capsys, "sweep", "bandit-n4-k2", "--agents", "rl2", "-h")
    assert "--jobs" in printed and "--agent.core.width" in printed


def test_help_lists_no_field_that_is_refused(capsys):
    """An option says it instead: `--seeds` for a sweep's `--seed`."""
    for verb, refused_there in (("train", []), ("sweep", ["--seed"])):
        printed = help_of(capsys, verb, "bandit-n4-k2", "--help")
        options = re.findall(r"(?<![\w-])--[\w.-]+", printed)
        assert not {"--env", "--agent-name", "--env-steps", *refused_there} & set(options)
        assert len(re.findall(r"--recipe STR", printed)) == 1


def test_fields_are_the_experiment_s_own_with_its_comments():
    config = recipe("bandit-n4-k2", "rl2", env_steps=64)
    fields = fields_of(config, ("env", "agent_name", "recipe"))
    given = vars(fields())
    assert replace(config, **given) == config
    assert set(vars(config)) - set(given) == {"env", "agent_name", "recipe"}
    assert inspect.getsource(fields) == inspect.getsource(type(config))
    assert not issubclass(fields, type(config))


def test_a_run_folder_s_name_is_safe_for_any_file_system():
    config = recipe("bandit-n4-k2+task", "rl2")
    assert cli._label(config) == "bandit-n4-k2+task-rl2-default-seed0"
    own = replace(config, env="my.worlds:make+task")
    assert cli._label(own) == "my-worlds-make+task-rl2-default-seed0"


def test_the_installed_program_exits_with_2(tmp_path):
    program = Path(sys.executable).with_name("trmrl")
    finished = subprocess.run(
        [program, "evaluate", "nowhere"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
    )
    assert (finished.returncode, finished.stdout) == (2, "")
    line = "trmrl: nowhere is not a run folder: it has no config.json\n"
    assert finished.stderr == line
