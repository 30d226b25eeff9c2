import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.types import (
    STEP_NUMBERS,
    Continuous,
    Decision,
    Discrete,
    EnvSpec,
    Evaluation,
    Outcome,
    Timestep,
    Trajectory,
    TrmrlError,
    base_name,
    task_numbers,
)

DATA = pathlib.Path(__file__).parents[1] / "docs" / "results" / "data"


@pytest.mark.parametrize("library", [np, jnp])
def test_actions_as_agents_are_shown_them(library):
    action = library.asarray(np.array([[2, 0], [1, 2]], np.int32))
    found = Discrete(3).encode(action)
    expected = [[[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 0, 1]]]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    torque = library.ones((2, 4), library.float32)
    assert Continuous(4).encode(torque) is torque


def test_flatten_time_lays_episodes_end_to_end():
    k, h, b = np.meshgrid(np.arange(2), np.arange(3), np.arange(4), indexing="ij")
    x = (100 * k + 10 * h + b).astype(np.float32)
    wide, flag = np.stack([x, -x], axis=-1), x > 50
    trial = Trajectory(
        Timestep(wide, wide, x, flag, flag),
        Decision(wide, x, x),
        Outcome(x, flag, flag, wide),
        flag,
    )
    flat = trial.flatten_time()
    assert flat.valid.shape == (6, 4)
    np.testing.assert_array_equal(flat.outcome.reward[:, 1], [1, 11, 21, 101, 111, 121])
    np.testing.assert_array_equal(flat.timestep.obs[4], wide[1, 1])


def test_check_split_names_what_it_has():
    spec = EnvSpec("world", "test", 1, Discrete(2), 1, 1, splits=("train", "ood"))
    spec.check_split("ood")
    with pytest.raises(TrmrlError, match="world has no split 'test': choose one of train, ood"):
        spec.check_split("test")


def test_a_trial_is_as_long_as_its_episodes_together():
    assert EnvSpec("world", "test", 1, Discrete(2), horizon=7, num_episodes=3).trial_length == 21


def test_numbers_of_tasks_stand_side_by_side_whatever_their_types():
    tasks = {"kind": np.array([3, 4], np.int32), "place": np.array([[0.5, 1], [2, 3]], np.float64)}
    found = task_numbers(tasks)
    np.testing.assert_array_equal(found, [[3, 0.5, 1], [4, 2, 3]])
    assert found.dtype == np.float32


def test_an_outcome_may_carry_success():
    flag, x = np.zeros((2, 3), bool), np.zeros((2, 3), np.float32)
    assert Outcome(x, flag, flag, x[..., None]).success is None
    assert Outcome(x, flag, flag, x[..., None], success=~flag).success.all()
    assert not EnvSpec("world", "test", 1, Discrete(2), 1, 1).has_success


@pytest.mark.parametrize("name", ["ant-dir", "ant-dir+task"])
def test_the_base_of_an_oracle_is_the_world_whose_task_it_shows(name):
    assert base_name(name) == "ant-dir"


def per_episode(*numbers):
    keys = "mean", "ci95_low", "ci95_high"
    return {key: [number] * 2 for key, number in zip(keys, numbers, strict=True)}


def old_record():
    """An evaluation with no field more than the oldest files have."""
    return {
        "env": "world", "split": "test", "num_tasks": 3, "num_episodes": 2, "env_steps": 40,
        "return_per_episode": per_episode(3, 2, 4), "returns": [[1, 2], [3, 4], [5, 6]],
    }  # fmt: skip


def full_record():
    return old_record() | {
        "agent": "rl2", "explore": True, "seed": 4, "experience": [0.0, 5.5],
        "tasks": [{"goal": 1.0}] * 3, "success": [[0.0, 1.0]] * 3,
        "success_at_end": [[0.0, 0.5]] * 3, "success_per_episode": per_episode(0.5, 0.0, 1.0),
        "success_at_end_per_episode": per_episode(0.25, 0.0, 0.5),
        "reward_per_step": dict.fromkeys(STEP_NUMBERS, [0.5, 1.0, 0.5, 2.0]),
    }  # fmt: skip


def test_what_an_older_file_lacks_has_the_documented_value():
    found = Evaluation.from_json(old_record())
    assert (found.agent, found.explore, found.seed) == ("", False, 0)
    assert (found.experience, found.tasks) == ([], [])
    assert found.success is None and found.success_at_end is None
    assert found.reward_per_step is None
    assert found.success_per_episode is None and found.success_at_end_per_episode is None
    assert found.returns == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert isinstance(found.returns[0][0], float)
    assert "success" not in found.to_json()


def test_an_evaluation_comes_back_from_json_as_it_was():
    record = full_record()
    found = Evaluation.from_json(json.loads(json.dumps(record)))
    assert found.to_json() == record
    assert Evaluation.from_json(found.to_json()) == found
    assert Evaluation.from_json(Evaluation.from_json(old_record()).to_json()).tasks == []


@pytest.mark.parametrize("name", list(old_record()))
def test_a_missing_field_is_named(name):
    record = {key: value for key, value in full_record().items() if key != name}
    with pytest.raises(TrmrlError, match=f"the field '{name}' is missing"):
        Evaluation.from_json(record)


@pytest.mark.parametrize(
    "name", ["success", "success_at_end", "success_per_episode", "success_at_end_per_episode"]
)
def test_success_comes_whole_or_not_at_all(name):
    with pytest.raises(TrmrlError, match="the field 'success.*' is missing"):
        Evaluation.from_json(old_record() | {name: full_record()[name]})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"env": 3}, "'env' is 3, expected str"),
        ({"agent": None}, "'agent' is None, expected str"),
        ({"split": ["test"]}, "'split' is .'test'., expected str"),
        ({"explore": 1}, "'explore' is 1, expected bool"),
        ({"seed": -1}, "'seed' is -1, expected 0 or more"),
        ({"seed": 0.5}, "'seed' is 0.5, expected 0 or more"),
        ({"num_tasks": 0}, "'num_tasks' is 0, expected 1 or more"),
        ({"num_episodes": True}, "'num_episodes' is True, expected 1 or more"),
        ({"env_steps": "many"}, "'env_steps' is 'many', expected 0 or more"),
        ({"experience": [0.0]}, "'experience' has a row of 1, expected 2"),
        ({"returns": "none"}, "'returns' is 'none', expected list"),
        ({"returns": [[1.0, 2.0]]}, "'returns' has 1 entries for 3 tasks"),
        ({"returns": [[1.0, 2.0], [1.0], [1.0, 2.0]]}, "'returns' has a row of 1, expected 2"),
        ({"returns": [[1.0, 2.0], [1.0, "x"], [1.0, 2.0]]}, "'returns' holds 'x', expected number"),
        ({"success": [[1.0, float("nan")]] * 3}, "'success' holds nan, expected numbers"),
        ({"success_at_end": [[True, 0.0]] * 3}, "'success_at_end' holds True, expected numbers"),
        ({"return_per_episode": {"mean": [1.0, 2.0]}}, "'return_per_episode' needs mean, ci95_low"),
        ({"success_per_episode": per_episode(1, 2, [3])}, "'success_per_episode.ci95_high' holds"),
        ({"reward_per_step": {"mean": [1.0, 2.0]}}, "'reward_per_step' needs mean, ci95_low"),
        (
            {"reward_per_step": dict.fromkeys(STEP_NUMBERS, [1.0] * 3)},
            "'reward_per_step' has 3 steps in 2 episodes",
        ),
        (
            {"reward_per_step": dict.fromkeys(STEP_NUMBERS, [1.0] * 4) | {"p50": [1.0]}},
            "'reward_per_step.p50' has a row of 1, expected 4",
        ),
        ({"tasks": [{"goal": 1.0}]}, "'tasks' has 1 entries for 3 tasks"),
    ],
)
def test_a_field_that_is_not_as_declared_is_named(changes, complaint):
    with pytest.raises(TrmrlError, match=f"the field {complaint}") as refused:
        Evaluation.from_json(full_record() | changes)
    assert "\n" not in str(refused.value)


def test_unknown_fields_and_what_is_no_object_are_refused():
    with pytest.raises(TrmrlError, match="an evaluation has no field 'colour'"):
        Evaluation.from_json(full_record() | {"colour": "red"})
    with pytest.raises(TrmrlError, match="an evaluation is a JSON object, not a list"):
        Evaluation.from_json([full_record()])


def test_every_evaluation_in_the_documents_can_be_read():
    values = [json.loads(path.read_text()) for path in sorted(DATA.rglob("*.json"))]
    records = [value for value in values if "returns" in value]
    assert len(records) > 150
    for record in records:
        found = Evaluation.from_json(record)
        assert {name: found.to_json()[name] for name in record} == record
