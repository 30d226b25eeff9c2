"""Each fault of a world is found and named; worlds without one pass."""

from typing import ClassVar

import equinox as eqx
import jax
import numpy as np
import pytest

from trmrl import check as checks
from trmrl import cli
from trmrl.envs import make
from trmrl.envs.base import HOST, AbstractEnvs, Driver, keys_for
from trmrl.types import Continuous, EnvSpec, Outcome, replace

HORIZON = 12
KEY = jax.random.key(0)


class Walk(AbstractEnvs):
    """A point on a plane, pulled by the task and by noise; beyond 3 it has terminated.

    `fault` names what is wrong with it, if anything.
    """

    driver: ClassVar[Driver] = HOST
    spec: EnvSpec = eqx.field(static=True)
    fault: str = eqx.field(static=True, default="")

    def sample_tasks(self, split, num_tasks, *, key):
        if self.fault != "accepts any split":
            if self.fault == "wrong error" and split not in self.spec.splits:
                raise KeyError(split)
            self.spec.check_split(split)
        num_tasks -= self.fault == "too few"
        noise = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        if self.fault == "no key":
            noise = np.random.default_rng(len(split))
        if self.fault == "unseeded tasks":
            noise = np.random.default_rng()
        pull = noise.uniform(-1, 1, (num_tasks, 2)).astype(np.float32)
        if self.fault in ("shared", "memorized"):
            table = np.random.default_rng(0).uniform(-1, 1, (40, 2)).astype(np.float32)
            pull = table[np.arange(num_tasks) % 40]
        if self.fault == "task not finite":
            pull[0, 0] = np.nan
        if self.fault == "one task":
            return {"pull": np.ones_like(pull)}
        if self.fault == "shared":
            return {"pull": pull[noise.permutation(num_tasks)]}
        return {"pull": pull, "kind": noise.integers(0, 4, num_tasks).astype(np.int32)}

    def reset(self, tasks, *, key):
        words = np.asarray(jax.random.key_data(key))
        noises = [np.random.default_rng(word) for word in words]
        if self.fault == "neighbor's reset":
            noises = [noises[0]] * len(noises)
        if self.fault == "unseeded reset":
            noises = [np.random.default_rng() for _ in noises]
        obs = np.stack([noise.normal(0.0, 0.1, 3) for noise in noises]).astype(np.float32)
        if self.fault == "begins alike":
            obs[:] = 0.0
        if self.fault == "leak":
            obs[:, 1] += 0.1 * np.asarray(tasks["pull"])[:, 0]
        if self.fault == "kind leaks":
            obs[:, 2] = np.asarray(tasks["kind"]) % 2
        if self.fault == "memorized":
            rows = [np.random.default_rng(word.view(np.uint32)) for word in tasks["pull"]]
            obs = np.stack([row.uniform(size=3) for row in rows]).astype(np.float32)
        return {"obs": obs, "pull": tasks["pull"], "clock": 0, "noises": noises}, obs.copy()

    def step(self, env_state, action):
        obs, noises = env_state["obs"], env_state["noises"]
        env_state["clock"] += 1
        clock = env_state["clock"]
        drawn = np.stack([noise.normal(0.0, 0.05, 3) for noise in noises])
        if self.fault == "unseeded step":
            drawn = np.random.default_rng().normal(0.0, 0.05, drawn.shape)
        obs[:, 0] += 0.2 * action[:, 0]
        obs += drawn
        obs[:, :2] += 0.5 * env_state["pull"]
        reward = -np.abs(obs).sum(axis=1)
        if self.fault == "neighbor's reward":
            reward -= reward.mean()
        terminated = (np.abs(obs) > 3.0).any(axis=1)
        last = np.full(len(obs), clock >= HORIZON - (self.fault == "cut early"))
        truncated = last if self.fault == "both ends" else last & ~terminated
        if self.fault == "goes on":
            truncated = truncated & False
        if clock == 2 and self.fault == "reward not finite":
            reward[0] = np.nan
        ended = (terminated | truncated)[:, None]
        if self.fault == "autoreset":
            first = np.stack([noise.normal(0.0, 0.1, 3) for noise in noises])
            obs[:] = np.where(ended, first, obs)
        if self.fault == "begins alike":
            obs[:] = np.where(ended, 0.0, obs)
        reward = reward.astype(np.float64 if self.fault == "double" else np.float32)
        wide = np.concatenate([obs, obs], axis=1) if self.fault == "wide" else obs.copy()
        if clock == 3 and self.fault == "obs not finite":
            wide[5, 1] = np.inf
        success = terminated if self.fault == "success" else None
        return env_state, Outcome(reward, terminated, truncated, wide, success=success)

    def view(self, env_state):
        return env_state["obs"]


def walk(fault="", **changes):
    spec = EnvSpec("walk", "own", 3, Continuous(1), HORIZON, 2, ends_early=True)
    return Walk(replace(spec, **changes), fault)


def errors(findings):
    return [finding.text for finding in findings if finding.is_error]


def one(findings, line):
    found = errors(findings)
    assert len(found) == 1 and found[0].startswith(line), found


def episode_of(envs):
    tasks = envs.sample_tasks("train", checks.NUM_LANES, key=KEY)
    keys, play = keys_for(tasks, KEY), checks.player(envs)
    actions = checks.random_actions(envs.spec, HORIZON, checks.NUM_LANES, 0)
    return checks.roll_out(play, tasks, keys, actions), (play, tasks, keys)


def test_a_world_without_faults_passes():
    findings = list(checks.check(walk()))
    assert errors(findings) == []
    texts = [finding.text for finding in findings]
    assert texts[0].startswith("visible: task kind: first observation accuracy 0.")
    assert texts[1].startswith("visible: one step nearly reveals task pull, R2 0.9")
    assert texts[2].startswith("play: random play earns -")
    assert texts[3].startswith("speed: ")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("accepts any split", "tasks: an unknown split is not refused by a TrmrlError"),
        ("wrong error", "tasks: an unknown split raises KeyError, not TrmrlError"),
        ("no key", "tasks: train is the same under every key"),
        ("unseeded tasks", "tasks: train is not the same under the same key"),
        ("one task", "tasks: train has one task"),
        ("task not finite", "tasks: train has numbers that are not finite"),
        ("too few", "tasks: train gave 511 of 512 asked for"),
    ],
)
def test_faults_of_tasks(fault, line):
    one(checks.check_splits(walk(fault, splits=("train",)), KEY), line)


@pytest.mark.parametrize(("task_size", "right"), [(0, True), (3, True), (2, False)])
def test_a_stated_size_of_tasks_is_theirs(task_size, right):
    findings = checks.check_splits(walk(splits=("train",), task_size=task_size), KEY)
    if right:
        assert errors(findings) == []
    else:
        one(findings, "tasks: train has 3 numbers, task_size is 2")


def test_shared_tasks_are_an_error_unless_they_are_declared():
    line = "tasks: 40 of 40 tasks of test are tasks of train"
    one(checks.check_splits(walk("shared"), KEY), line)
    (note,) = checks.check_splits(walk("shared", shared_splits=True), KEY)
    assert not note.is_error and note.text == line + ", by design"


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("double", "shapes: reward is float64 (32,), expected float32 (32,)"),
        ("wide", "shapes: next_obs is float32 (32, 6), expected float32 (32, 3)"),
        ("success", "shapes: success is [False"),
    ],
)
def test_faults_of_shapes_end_the_check(fault, line):
    findings = list(checks.check(walk(fault)))
    one(findings, line)
    assert not any(finding.text.startswith("speed") for finding in findings)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("unseeded reset", "keys: reset is not the same under the same keys"),
        ("unseeded step", "keys: step is not the same under the same keys and actions"),
    ],
)
def test_what_is_not_drawn_from_the_keys(fault, line):
    envs = walk(fault)
    one(checks.check_repeats(episode_of(envs)[0], episode_of(envs)[0]), line)
    assert not list(checks.check_repeats(episode_of(walk())[0], episode_of(walk())[0]))


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("neighbor's reset", "lanes: what reset gives a lane depends on the lanes beside it"),
        ("neighbor's reward", "lanes: the reward of a lane depends on the lanes beside it"),
    ],
)
def test_lanes_that_depend_on_each_other(fault, line):
    episode, rest = episode_of(walk(fault))
    one(checks.check_lanes(episode, *rest), line)
    episode, rest = episode_of(walk())
    assert not list(checks.check_lanes(episode, *rest))


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("obs not finite", "numbers: next_obs is not finite at step 3, lane 5"),
        ("reward not finite", "numbers: reward is not finite at step 2, lane 0"),
    ],
)
def test_numbers_that_are_not_finite(fault, line):
    one(checks.check_numbers(episode_of(walk(fault))[0]), line)
    assert not list(checks.check_numbers(episode_of(walk())[0]))


@pytest.mark.parametrize(
    ("fault", "changes", "line"),
    [
        ("both ends", {}, "ends: terminated and truncated at once, in "),
        ("goes on", {}, "ends: after 12 steps, the horizon, an episode goes on"),
        ("", {"ends_early": False}, "ends: an episode ended at step "),
    ],
)
def test_ends_that_the_spec_denies(fault, changes, line):
    envs = walk(fault, **changes)
    one(checks.check_ends(envs.spec, episode_of(envs)[0]), line)
    assert not list(checks.check_ends(walk().spec, episode_of(walk())[0]))


def test_an_episode_cut_off_early_is_noted():
    envs = walk("cut early")
    (note,) = checks.check_ends(envs.spec, episode_of(envs)[0])
    assert not note.is_error and note.text == "ends: an episode is cut off at step 11 of 12"


@pytest.mark.parametrize("fault", ["autoreset", "begins alike"])
def test_a_first_observation_is_no_successor(fault):
    one(checks.check_autoreset(episode_of(walk(fault))[0]), "autoreset: the successor at the end")
    assert not list(checks.check_autoreset(episode_of(walk())[0]))


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("leak", "visible: the first observation reveals task pull, R2 0."),
        ("memorized", "visible: the first observation reveals task pull, R2 1.00 (1.00 to 1.00)"),
        ("kind leaks", "visible: the first observation reveals task kind, accuracy 0."),
    ],
)
def test_leaks_are_errors_unless_they_are_declared(fault, line):
    one(checks.check_visible(walk(fault), 0), line)
    field = "kind" if fault == "kind leaks" else "pull"
    findings = list(checks.check_visible(walk(fault, observed=(field,)), 0))
    assert not errors(findings)
    assert any(finding.text.endswith(", by design") for finding in findings)


def test_one_reward_nearly_tells_the_velocity():
    notes = list(checks.check_visible(make("half-cheetah-vel"), 0))
    assert [note.text[:52] for note in notes] == [
        "visible: one step nearly reveals task velocity, R2 0.9"[:52]
    ]
    assert not notes[0].is_error


def test_the_command_prints_every_finding_and_exits_with_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["check", "bandit-n4-k2+task"])
    lines = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 2
    assert [line for line in lines if line.startswith("ERROR ")] == [lines[0]]
    assert lines[0].startswith("ERROR visible: the first observation reveals task")
    cli.main(["check", "bandit-n4-k2"])
    assert "ERROR" not in capsys.readouterr().out
