"""A config is a value that survives JSON, and one no run could have is refused by name."""

import copy
import dataclasses
import json
import math

import pytest

from trmrl import config as configs
from trmrl.config import Config
from trmrl.envs import make
from trmrl.learners.objectives import Prediction
from trmrl.nets.gru import GRUConfig
from trmrl.recipes import recipe
from trmrl.settings import limits
from trmrl.types import TrmrlError

SPEC = make("bandit-n4-k2").spec


@pytest.fixture
def config() -> Config:
    return recipe("bandit-n4-k2")


def changed(record, dotted, value):
    """The record with one field, named as on the command line, set to any `value` at all."""
    name, _, rest = dotted.partition(".")
    record = copy.copy(record)
    value = changed(getattr(record, name), rest, value) if rest else value
    object.__setattr__(record, name, value)  # past the type checks that only tests have
    return record


def test_every_setting_of_the_menus_is_known_by_its_name():
    known = configs.kinds()
    assert {"Config", "MemoryAgent", "PEARL", "MAML", "PPO", "Prediction", "Joint"} <= set(known)
    assert {"TransformerConfig", "GTrXLConfig", "SNAILConfig", "GRUConfig", "LSTMConfig"} <= set(
        known
    )
    assert not any(name.startswith("Abstract") for name in known)


def test_every_number_of_a_setting_has_limits_or_is_free_on_purpose():
    """A new field of a setting states its limits, or is added to those that have none."""
    free = {"Surrogate.coef", "GTrXLConfig.gate_bias", "HeadConfig.last_gain"}
    for kind in configs.kinds().values():
        if not kind.__module__.startswith("trmrl."):
            continue
        for declared in dataclasses.fields(kind):
            number = declared.type in (int, float, tuple[int, ...])
            if number and f"{kind.__name__}.{declared.name}" not in free:
                assert limits(declared)[0] > -math.inf, f"{kind.__name__}.{declared.name}"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("env_steps", 0, "1 or more"),
        ("env_steps", 1e6, "int"),
        ("num_lanes", 0, "1 or more"),
        ("num_lanes", True, "int"),
        ("seed", -1, "0 to 4294967295"),
        ("seed", 2**32, "0 to 4294967295"),
        ("eval_every", -1, "0 or more"),
        ("eval_tasks", 0, "1 or more"),
        ("save_every", 0, "1 or more"),
        ("env", None, "str"),
        ("agent", "trmrl", "AbstractAgent"),
        ("agent.memory_scope", "forever", "one of 'trial', 'episode'"),
        ("agent.normalize_obs", 1, "bool"),
        ("agent.algorithm.gamma", 1.5, "0 to 1"),
        ("agent.algorithm.gamma", math.nan, "0 to 1"),
        ("agent.algorithm.minibatch_size", 0, "1 or more"),
        ("agent.algorithm.chunk_length", -1, "0 or more"),
        ("agent.algorithm.num_passes", 0, "1 or more"),
        ("agent.algorithm.objectives.entropy.coef", math.inf, "a finite number"),
        ("agent.algorithm.objectives.prediction.coef", -1.0, "0 or more"),
        ("agent.algorithm.value", None, "Joint or Separate"),
        ("agent.algorithm.objectives.others", (3,), "a list of AbstractObjective"),
        ("agent.algorithm.optimizer.learning_rate", math.inf, "0 or more"),
        ("agent.algorithm.optimizer.final_factor", 2.0, "0 to 1"),
        ("agent.head.hidden", (64, 0), "1 or more"),
        ("agent.head.hidden", (64, 0.5), "a list of int"),
        ("agent.head.init_std", 0.0, "1e-06 or more"),
        ("agent.core.num_layers", 0, "1 or more"),
        ("agent.core", GRUConfig(width=0), "agent.core.width is 0, expected a finite number"),
    ],
)
def test_a_value_no_run_can_have_is_refused_by_name(config, field, value, expected):
    configs.check(config, SPEC)
    with pytest.raises(TrmrlError) as refused:
        configs.check(changed(config, field, value), SPEC)
    message = str(refused.value)
    assert message.startswith(field)
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("agent.algorithm.chunk_length", 3, "which does not divide the 4 steps of a trial"),
        ("agent.core.num_heads", 5, "which does not divide width, 64"),
        ("agent.core.context", "window", "expected 1 or more"),  # its window is 0
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(config, field, value, expected):
    with pytest.raises(TrmrlError, match=expected):
        configs.check(changed(config, field, value), SPEC)


@pytest.mark.parametrize(
    ("start", "end", "complaint"),
    [(0, 0, None), (5, 0, None), (5, 9, None), (5, 5, "decay_end is 5, not after")],
)
def test_a_schedule_does_not_end_before_it_begins(config, start, end, complaint):
    config = changed(config, "agent.algorithm.optimizer.decay_start", start)
    config = changed(config, "agent.algorithm.optimizer.decay_end", end)
    if complaint is None:
        configs.check(config, SPEC)
        return
    with pytest.raises(TrmrlError, match=rf"^agent\.algorithm\.optimizer\.{complaint}"):
        configs.check(config, SPEC)


def test_settings_in_a_list_survive_json_and_are_checked_by_number(config):
    others = (Prediction(0.5),)
    config = changed(config, "agent.algorithm.objectives.prediction", Prediction(0.0))
    config = changed(config, "agent.algorithm.objectives.others", others)
    assert configs.from_json(json.loads(json.dumps(configs.to_json(config)))) == config
    assert configs.flatten(config)["agent.algorithm.objectives.others.0.coef"] == 0.5
    configs.check(config, SPEC)
    config = changed(config, "agent.algorithm.objectives.others", (Prediction(-0.5),))
    with pytest.raises(TrmrlError, match=r"others\.0\.coef is -0\.5, expected"):
        configs.check(config, SPEC)


def test_chunks_that_divide_the_trial_are_welcome(config):
    for length in (0, 1, 2, 4):
        configs.check(changed(config, "agent.algorithm.chunk_length", length), SPEC)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda c: c.update(kind="Confg"), "config names 'Confg'.* it knows Config"),
        (lambda c: c["agent"].update(kind="os.system"), "names 'os.system'"),
        (lambda c: c["agent"].update(kind=["a", "list"]), "names .*list"),
        (lambda c: c["agent"].pop("kind"), "names None"),
        (lambda c: c["agent"]["algorithm"].update(horizon=3), "PPO.horizon, which this version"),
        (lambda c: c.pop("env_steps"), "lacks Config.env_steps"),
        (lambda c: c["agent"]["algorithm"].pop("clip"), "lacks PPO.clip, which this version needs"),
        (lambda c: c.update(kind="AbstractAgent"), "names 'AbstractAgent'"),
        (lambda c: c.update(env_steps="many"), "Config.env_steps as 'many', expected int"),
        (lambda c: c["agent"].update(core=3), "MemoryAgent.core as 3, expected AbstractCoreConfig"),
        (lambda c: c["agent"].update(memory_scope="x"), "MemoryAgent.memory_scope as 'x'"),
        (lambda c: c["agent"]["head"].update(hidden=["a"]), "HeadConfig.hidden as"),
    ],
)
def test_json_this_version_does_not_know_is_refused_by_name(config, spoil, expected):
    written = json.loads(json.dumps(configs.to_json(config)))
    spoil(written)
    with pytest.raises(TrmrlError, match=expected):
        configs.from_json(written)


@pytest.mark.parametrize("value", [3, "config", [], None])
def test_json_that_is_no_config_is_refused(value):
    with pytest.raises(TrmrlError, match="expected a Config"):
        configs.from_json(value)


def test_json_of_another_record_is_refused(config):
    with pytest.raises(TrmrlError, match="config is a MemoryAgent, expected a Config"):
        configs.from_json(configs.to_json(config.agent))


def test_flatten_names_every_leaf_as_the_command_line_does(config):
    leaves = configs.flatten(config)
    assert leaves["env"] == "bandit-n4-k2"
    assert leaves["agent.core.num_heads"] == 4
    assert leaves["agent.head.hidden"] == (64, 64)
    assert "agent" not in leaves


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("agent.algorithm.clp", "agent.algorithm.clip"),
        ("clip", "agent.algorithm.clip"),
        ("num_lane", "num_lanes"),
        ("agent.core.width_", "agent.core.width"),
    ],
)
def test_an_unknown_field_is_answered_with_the_nearest(config, name, near):
    with pytest.raises(TrmrlError, match=rf"unknown field '{name}' .*did you mean .*{near}"):
        configs.check_field(config, name)
    configs.check_field(config, near)


def test_differences_show_both_sides(config):
    assert configs.differences(config, config) == []
    other = changed(changed(config, "agent.algorithm.clip", 0.3), "seed", 7)
    assert configs.differences(config, other) == [
        "agent.algorithm.clip: 0.2 here, 0.3 there",
        "seed: 0 here, 7 there",
    ]
    gru = changed(config, "agent.core", GRUConfig(width=64))
    assert "agent.core.num_layers: 2 here, '(none)' there" in configs.differences(config, gru)
    assert "agent.core.num_layers: '(none)' here, 2 there" in configs.differences(gru, config)


@pytest.mark.parametrize(
    ("per_task", "ring", "num_lanes", "complaint"),
    [
        (3, 0, 8, "num_lanes is 8, expected a multiple of 3"),
        (2, 3, 8, "num_lanes is 8, more than the 3 tasks trained on have"),
        (2, 4, 8, None),
        (1, 0, 8, None),
    ],
)
def test_lanes_must_suit_the_agents_tasks(herd, per_task, ring, num_lanes, complaint):
    agent = herd(lanes_per_task=per_task, num_tasks=ring)
    config = Config("any", "herd", "default", agent, env_steps=1_000, num_lanes=num_lanes)
    if complaint is None:
        configs.check(config, SPEC)
        return
    with pytest.raises(TrmrlError, match=complaint):
        configs.check(config, SPEC)


def without_added(value):
    """A config in JSON as a version wrote it that had none of the added fields."""
    if isinstance(value, list):
        return [without_added(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {k: v for k, v in value.items() if f"{value['kind']}.{k}" not in configs.ADDED}
    return {name: without_added(item) for name, item in kept.items()}


def test_what_an_older_version_did_not_write_is_read_as_what_it_did(config):
    written = json.loads(json.dumps(configs.to_json(config)))
    older = without_added(written)
    assert older != written
    assert configs.from_json(older) == config


def test_fields_added_since_exist_and_are_off():
    """Nothing is learned from stored trials, no objective counts, and tasks are train tasks."""
    known = configs.kinds()
    defaults = {}
    for dotted in configs.ADDED:
        kind, name = dotted.split(".")
        defaults[dotted] = {f.name: f.default for f in dataclasses.fields(known[kind])}[name]
    assert defaults.pop("TaskPlan.split") == "train"
    assert defaults.pop("TransformerConfig.position") == "absolute"
    assert defaults.pop("ELBO.task_coef") == defaults.pop("OptimizerConfig.warmup") == 0
    assert type(defaults.pop("MemoryAgent.readout")).__name__ == "FeatureConfig"
    assert defaults.pop("PPO.replayed").objectives.listed() == ()
    # How novelty is computed, which is off, as the last line says.
    assert defaults.pop("Novelty.gain") and defaults.pop("Novelty.optimizer")
    assert {objective.coef for objective in defaults.values()} == {0.0}
