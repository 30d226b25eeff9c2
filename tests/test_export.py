"""An exported agent: its folder, that it acts as before, and whose numbers its card has."""

import json

import jax
import numpy as np
import pytest

import trmrl
from trmrl import config as configs
from trmrl.export import export
from trmrl.nets.gru import GRUConfig
from trmrl.recipes import recipe
from trmrl.run import Run
from trmrl.train import fresh_state, restore, restore_model
from trmrl.types import Evaluation, TrmrlError, replace


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of an untrained agent, evaluated by hand."""
    config = recipe("bandit-n4-k2", "rl2", env_steps=5_000)
    agent = replace(config.agent, core=GRUConfig(width=4))
    config = replace(config, agent=agent, seed=7, num_lanes=8)
    run = Run(tmp_path_factory.mktemp("runs") / "some-run")
    run.create(configs.to_json(config))
    spec = trmrl.make("bandit-n4-k2").spec
    run.save(replace(fresh_state(agent, spec, seed=7), env_steps=np.asarray(4_992, np.int64)))
    run.log({"updates": 1, "env_steps": 4_992, "seconds": 90.0})
    run.close()
    per_episode = {name: [0.5] * 4 for name in ("mean", "ci95_low", "ci95_high")}
    evaluation = Evaluation(
        env="bandit-n4-k2", split="test", num_tasks=3, num_episodes=4, env_steps=4_992,
        return_per_episode=per_episode, returns=[[1.0, 0.0, 1.0, 1.0]] * 3,
    )  # fmt: skip
    run.write_evaluation("test", evaluation.to_json())
    return run


@pytest.fixture
def folder(run, tmp_path):
    return export(run, tmp_path / "my-bandit", limits="Do not pull twice.")


def test_it_holds_a_model_and_no_more(run, folder):
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.npz", "card.md"}
    assert (folder / "config.json").read_bytes() == (run.path / "config.json").read_bytes()
    model = restore(run)[2].learner.model
    with np.load(folder / "model.npz", allow_pickle=False) as arrays:
        assert sum(arrays[name].size for name in arrays.files) == sum(
            leaf.size for leaf in jax.tree.leaves(model)
        )
    again = restore_model(Run(folder))[2]
    assert jax.tree.structure(again) == jax.tree.structure(model)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_acts_as_the_run_does(run, folder):
    actions = []
    for path in (run.path, folder):
        controller = trmrl.load(path, explore=True, seed=1)
        pull = lambda reward, act=controller.act: int(act(np.zeros(1), reward, episode_start=True))
        actions.append([pull(reward) for reward in [0.0, 1.0] * 8])
    assert actions[0] == actions[1] and len(set(actions[0])) == 2


def test_its_card_has_the_run_s_own_numbers(run, folder):
    card = (folder / "card.md").read_text()
    assert card.startswith("# my-bandit\n")
    assert "| trained | 4,992 env steps, 2 minutes, seed 7 |" in card
    assert (
        "`trmrl train bandit-n4-k2 --agent rl2 --recipe default --steps 5000 "
        "--agent.core.width 4 --num_lanes 8 --seed 7`"
    ) in card
    assert "| test | mode | 3 | 4,992 | 3.000 (3.000 to 3.000) a trial" in card
    assert card.endswith("- Do not pull twice.\n")
    for name, value in run.begun().items():
        assert f"| {name} | {value} |" in card


def test_its_command_is_the_very_experiment(run, folder):
    from trmrl.arguments import read_train

    card = (folder / "card.md").read_text()
    (command,) = [line for line in card.splitlines() if line.startswith("| command")]
    words = command.split("`")[1].split()
    _, config = read_train(words[2:])
    assert configs.differences(config, configs.from_json(run.config())) == []


def test_it_is_no_run_to_go_on_with(folder):
    with pytest.raises(TrmrlError, match="my-bandit has no checkpoint yet"):
        restore(Run(folder))


def test_a_folder_with_something_in_it_is_left_alone(run, folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TrmrlError, match="exists and is not empty"):
        export(run, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_was_not_evaluated_is_refused(run, tmp_path):
    bare = Run(tmp_path / "bare")
    bare.create(run.config())
    bare.save(restore(run)[2])
    with pytest.raises(TrmrlError, match="no evaluations in"):
        export(bare, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_is_one_line(folder):
    (folder / "model.npz").write_bytes(b"no archive")
    with pytest.raises(TrmrlError, match=r"model.npz is damaged"):
        trmrl.load(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["env"] == "bandit-n4-k2"
