"""Many runs at once: what becomes of each, when one fails and when the user interrupts."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import trmrl.launch
from trmrl import cli
from trmrl.arguments import read_sweep
from trmrl.launch import Cell, core_numbers, run_experiment, sweep
from trmrl.run import METRICS, Run
from trmrl.train import restore, train
from trmrl.types import TrmrlError

HAS_RAY = importlib.util.find_spec("ray") is not None


def needs_ray(test):
    """Ray takes most of a minute to start, work and stop: too long for every run."""
    skip = pytest.mark.skipif(not HAS_RAY, reason="Ray (trmrl[sweep]) is not installed")
    return pytest.mark.full(skip(test))


PROGRAM = "from trmrl.cli import main; main()"
TINY = """bandit-n4-k2 --agents rl2 --num-lanes 2 --eval-every 16 --eval-tasks 3
    --agent.core.width 4 --agent.head.hidden 4 --agent.algorithm.num-passes 1""".split()
SHORT = [*TINY, "--steps", "32"]


def start(*args):
    """A sweep as a user starts it; Ctrl-C reaches its whole process group."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "sweep", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "COLUMNS": "200"},
    )


def folder(out, seed):
    return out / f"bandit-n4-k2-rl2-default-seed{seed}"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Three runs on two slots: one was interrupted after 2 of 4 updates, one has no room."""
    out = tmp_path_factory.mktemp("sweep")
    _, (config, *_) = read_sweep([*SHORT, "--seeds", "0"])

    def stop(record):
        if record["updates"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, folder(out, 0), stop)
    begun = (folder(out, 0) / METRICS).read_bytes()
    folder(out, 1).mkdir()
    (folder(out, 1) / "thesis.tex").write_text("years")
    with start(*SHORT, "--seeds", 0, 1, 2, "--out", out, "--jobs", 2) as process:
        printed, complaint = process.communicate()
    return out, begun, printed, complaint, process.returncode


@needs_ray
def test_a_run_that_fails_is_one_line_and_stops_no_other(swept):
    out, _, printed, complaint, code = swept
    lines = printed.splitlines()
    (failed,) = [line for line in lines if line.startswith("failed")]
    name = folder(out, 1)
    assert failed == f"failed {name}: {name} is not empty and not a run folder: choose another name"
    assert {line for line in lines if line.startswith("finished")} == {
        f"finished {folder(out, 0)}", f"finished {folder(out, 2)}"
    }  # fmt: skip
    assert code == 2
    assert complaint == f"trmrl: 1 of 3 runs failed: {name.name}\n"
    assert [path.name for path in name.iterdir()] == ["thesis.tex"]


@needs_ray
def test_runs_go_on_where_they_stopped_and_end_like_any_other(swept):
    out, begun, printed, _, _ = swept
    assert (folder(out, 0) / METRICS).read_bytes().startswith(begun)
    for seed in (0, 2):
        run = Run.open(folder(out, seed))
        assert [record["updates"] for record in run.metrics()] == [1, 2, 3, 4]
        assert restore(run)[0].seed == seed
        assert {path.name for path in run.path.iterdir() if "events" not in path.name} == {
            "checkpoint.npz", "config.json", "curve.png", "evaluations", "lock", "metrics.jsonl"
        }  # fmt: skip
        assert f"| {run.path.name} | test | mode | 3 | 32 |" in printed
    assert "| bandit-n4-k2-rl2-default | test | mode | 32 | sum of 4 | 2 |" in printed
    assert f"wrote {out / 'curve.png'}" in printed


@needs_ray
def test_what_is_finished_is_not_run_again(swept, capsys, monkeypatch):
    out, *_ = swept
    monkeypatch.setattr(trmrl.launch, "_start_ray", lambda num_slots: pytest.fail("Ray started"))
    before = {path: path.read_bytes() for path in out.rglob("*.jsonl")}
    cli.main(["sweep", *SHORT, "--seeds", "0", "2", "--out", str(out)])
    printed = capsys.readouterr().out
    assert printed.startswith("2 of 2 runs are finished already\n")
    assert "| bandit-n4-k2-rl2-default | test | mode | 32 | sum of 4 | 2 |" in printed
    assert {path: path.read_bytes() for path in out.rglob("*.jsonl")} == before


@needs_ray
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_saves_its_runs_and_says_how_to_go_on(tmp_path, how):
    """Ctrl-C reaches the whole group; a scheduler ends the one process that it started."""
    log = folder(tmp_path, 0) / METRICS
    with start(*TINY, "--steps", 2**31 - 1, "--seeds", 0, "--out", tmp_path) as process:
        while process.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.1)
        if how is signal.SIGINT:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        printed, complaint = process.communicate()
    assert (process.returncode, complaint) == (130, "")
    assert f"saved; the same command goes on with the runs in {tmp_path}\n" in printed
    run = Run.open(folder(tmp_path, 0))
    with run.lock():  # nobody trains it any more
        # The last update may be logged and not yet kept; going on, the run logs it anew.
        assert run.metrics()[-1]["updates"] - int(restore(run)[2].updates) in (0, 1)


def test_without_ray_a_sweep_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    _, (config, *_) = read_sweep(SHORT)
    with pytest.raises(TrmrlError, match=r"sweep needs Ray: pip install 'trmrl\[sweep\]'"):
        sweep([Cell(config, tmp_path / "run")], lambda event: None)
    assert list(tmp_path.iterdir()) == []


def test_cells_are_envs_by_agents_by_seeds():
    _, experiments = read_sweep(
        "bandit-n4-k2 bandit-n3-k2 --agents rl2 trmrl --seeds 3 5 "
        "--agent.algorithm.clip 0.3".split()
    )
    assert [(c.env, c.agent_name, c.seed) for c in experiments] == [
        (env, agent, seed)
        for env in ("bandit-n4-k2", "bandit-n3-k2")
        for agent in ("rl2", "trmrl")
        for seed in (3, 5)
    ]
    assert {c.agent.algorithm.clip for c in experiments} == {0.3}


def test_a_worker_keeps_to_one_core_and_one_thread(monkeypatch, tmp_path):
    """Before its run, which here complains."""
    kept = []

    def complain(config, path, show, begin):
        raise TrmrlError(f"{config.env} on {kept} in {path}")

    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: kept.append((pid, cores)))
    monkeypatch.setattr(trmrl.launch, "train", complain)
    _, (config, *_) = read_sweep(SHORT)
    written = trmrl.config.to_json(config)
    monkeypatch.chdir("/")
    complaint = trmrl.launch._run_cell(written, "x", 7, str(tmp_path))
    assert complaint == "bandit-n4-k2 on [(0, {7})] in x"
    assert os.getcwd() == str(tmp_path)  # where the user's own worlds are found
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    environment = trmrl.launch._environment()
    assert environment["XLA_FLAGS"] == "--mine --xla_cpu_multi_thread_eigen=false"
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "1"


def test_an_experiment_is_trained_evaluated_and_drawn(tmp_path, monkeypatch):
    _, (config, *_) = read_sweep(SHORT)
    begun, shown = [], []
    run, evaluations = run_experiment(
        config, tmp_path / "run", show=shown.append, begin=begun.append
    )
    assert begun == [0]
    assert [record["env_steps"] for record in shown] == [8, 16, 24, 32]
    assert [(e.split, e.explore) for e in evaluations] == [("test", False), ("test", True)]
    stored = json.loads((run.path / "evaluations" / "test-sampled.json").read_text())
    assert stored == evaluations[1].to_json()
    assert (run.path / "curve.png").read_bytes().startswith(b"\x89PNG")
    drawn = {}
    monkeypatch.setattr(trmrl.launch, "draw", lambda runs, path, **fields: drawn.update(fields))
    again, same = run_experiment(config, run.path, begin=begun.append)
    assert drawn["specs"]["bandit-n4-k2"].ceiling == 2 / 3
    assert (again.path, begun) == (run.path, [0])  # nothing was left to train
    assert [e.to_json() for e in same] == [e.to_json() for e in evaluations]


def test_cores_are_named_by_their_numbers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 2})
    assert core_numbers() == [2, 5]
