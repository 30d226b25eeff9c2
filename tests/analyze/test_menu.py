"""`trmrl analyze`: what is written, and bad input in one line."""

import json

import numpy as np
import pytest

import trmrl
from trmrl.agents.memory import MemoryAgent
from trmrl.cli import main
from trmrl.nets.gru import GRUConfig
from trmrl.types import replace


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = trmrl.recipe("bandit-n4-k2", "rl2", env_steps=64)
    assert isinstance(config.agent, MemoryAgent)
    agent = replace(config.agent, core=GRUConfig(width=4))
    config = replace(config, agent=agent, num_lanes=16, eval_tasks=4, eval_every=0)
    return trmrl.train(config, tmp_path_factory.mktemp("runs") / "run")


def test_every_analysis_is_written_or_said(run, capsys):
    main(["analyze", str(run.path), "--num-tasks", "12", "--seed", "3"])
    said = capsys.readouterr().out
    assert "no consensus: a GRU attends to nothing" in said
    folder = run.path / "analysis"
    names = {path.stem for path in folder.glob("*.json")}
    assert names == {"latents", "attention", "interventions", "belief"}
    record = json.loads((folder / "interventions.json").read_text())
    assert record["numbers"]["at"] == 2 and record["lines"] and record["figures"]
    with np.load(folder / "latents.npz", allow_pickle=False) as arrays:
        assert arrays["task"].shape == (12, 2)
    assert (folder / "belief" / "agreement.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "belief" / "agreement.csv").read_text().startswith("line,kind,")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--only", "latent"], "unknown analysis 'latent': did you mean latents"),
        (["--only", "consensus"], "nothing to analyze in"),
        (["--num-tasks", "1"], "--num-tasks is 1, expected 2 or more"),
        (["--seed", "-1"], "--seed is -1"),
        (["--at", "4"], "--at is 4, expected a step of the trial, 0 to 3"),
    ],
)
def test_bad_input_is_one_line(run, capsys, more, said):
    with pytest.raises(SystemExit) as stopped:
        main(["analyze", str(run.path), *more])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and said in error and error.count("\n") == 1


def test_a_folder_that_is_no_run_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["analyze", str(tmp_path)])
    assert stopped.value.code == 2 and "is not a run folder" in capsys.readouterr().err
