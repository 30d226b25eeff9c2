"""The loop: what it refuses, what it logs, and what it keeps when a number stops being one."""

import dataclasses
import json
import re
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl import cli
from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.config import Config
from trmrl.envs import ENVS
from trmrl.envs.base import HOST, JAX, AbstractEnvs, Driver
from trmrl.evaluate import evaluate
from trmrl.learners.descent import OptimizerConfig
from trmrl.run import CHECKPOINT, CONFIG, LOCK, METRICS, Run
from trmrl.train import build_iteration, conclude, draw_tasks, is_concluded, restore, train
from trmrl.types import (
    Continuous,
    Decision,
    EnvSpec,
    Learner,
    Outcome,
    TrainState,
    TrmrlError,
    replace,
)


class Cursed(AbstractEnvs):
    """A clock that nobody's action moves; where its curse exceeds 0.85, it gives NaN.

    `where` is what is cursed; driven by `HOST`, it is the same world in NumPy.
    """

    driver: Driver = eqx.field(static=True)
    spec: EnvSpec = eqx.field(static=True)
    where: str = eqx.field(static=True)

    @property
    def _library(self) -> Any:
        return np if self.driver is HOST else jnp

    def sample_tasks(self, split, num_tasks, *, key):
        return {"curse": self._library.asarray(jax.random.uniform(key, (num_tasks,)))}

    def reset(self, tasks, *, key):
        x = self._library.zeros_like(tasks["curse"])
        return (tasks, x, 0 * x), x[:, None]

    def step(self, env_state, action):
        library = self._library
        tasks, x, clock = env_state
        x, clock = x + 1, clock + 1
        nan = library.where(tasks["curse"] > 0.85, library.nan, x)
        obs = nan if "observations" in self.where else x
        reward = nan if "rewards" in self.where else x
        over = clock >= self.spec.horizon
        outcome = Outcome(
            reward.astype(np.float32), over & ~over, over, obs.astype(np.float32)[:, None]
        )
        return (tasks, x, clock), outcome

    def view(self, env_state):
        return env_state[1]


def cursed(where, host):
    spec = EnvSpec("cursed", "test", 1, Continuous(1), 2, 2)
    return Cursed(HOST if host else JAX, spec, where)


@pytest.fixture
def config(small_agent) -> Config:
    """8 steps an update, 5 updates."""
    agent = small_agent("gru", chunk_length=0, num_passes=2, normalize_obs=False)
    return Config("bandit-n4-k2", "rl2", "default", agent, env_steps=40, num_lanes=2, eval_tasks=3)


def finite(tree):
    leaves = [x for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]
    return all(bool(jnp.isfinite(x).all()) for x in leaves)


# --- what is refused before anything is made


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"env": "bandit-n4-k1"}, "is no bandit"),
        ({"env": "banditt"}, "unknown env 'banditt': did you mean"),
        ({"env_steps": 0}, "env_steps is 0"),
        ({"env_steps": -8}, "env_steps is -8"),
        ({"num_lanes": 0}, "num_lanes is 0"),
        ({"num_lanes": -1}, "num_lanes is -1"),
        ({"minibatch_size": 0}, "agent.algorithm.minibatch_size is 0"),
        (
            {"chunk_length": 3},
            "agent.algorithm.chunk_length is 3, which does not divide the 4 steps",
        ),
        (
            {"chunk_length": 8},
            "agent.algorithm.chunk_length is 8, which does not divide the 4 steps",
        ),
        ({"num_passes": 0}, "agent.algorithm.num_passes is 0"),
    ],
)
def test_an_impossible_run_is_refused_before_anything_is_made(
    config, small_agent, tmp_path, change, expected
):
    fields = {f.name for f in dataclasses.fields(Config)}
    if set(change) <= fields:
        config = replace(config, **change)
    else:
        config = replace(config, agent=small_agent("gru", **change))
    with pytest.raises(TrmrlError, match=expected) as refused:
        train(config, tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_another_experiments_folder_is_refused_and_left_alone(config, tmp_path):
    path = tmp_path / "run"
    train(replace(config, env_steps=8), path)
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    other = replace(config, env_steps=8, seed=9, agent=replace(config.agent, normalize_obs=True))
    with pytest.raises(TrmrlError) as refused:
        train(other, path)
    assert str(refused.value) == (
        f"{path} holds another experiment: "
        "agent.normalize_obs: True here, False there; seed: 9 here, 0 there"
    )
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before


@pytest.mark.parametrize("litter", ["file", "folder"])
def test_what_is_no_run_folder_is_left_alone(config, tmp_path, litter):
    path = tmp_path / "mine"
    if litter == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    with pytest.raises(TrmrlError, match="mine is (a file|not empty)"):
        train(config, path)
    kept = path if litter == "file" else path / "mine.txt"
    assert kept.read_text() == "mine"
    assert len(list(tmp_path.rglob("*"))) == (1 if litter == "file" else 2)


# --- what is kept


@pytest.fixture
def finished(config, tmp_path):
    shown = []
    return train(config, tmp_path / "run", shown.append), shown


def test_a_run_logs_every_update_and_ends_at_its_budget(finished, config):
    run, shown = finished
    records = run.metrics()
    assert records == shown
    assert [r["updates"] for r in records] == [1, 2, 3, 4, 5]
    assert [r["env_steps"] for r in records] == [8, 16, 24, 32, 40]
    assert all(len(r["return"]) == 4 for r in records)
    assert all(r["idle_share"] == 0.0 for r in records)
    lists = "return", "test_return", "test_experience"
    numbers = [v for r in records for k, v in r.items() if k not in lists]
    assert np.isfinite(numbers).all()
    again, _, train_state = restore(run)
    assert again == config
    assert (int(train_state.updates), int(train_state.env_steps)) == (5, 40)
    assert sorted(p.name for p in run.path.iterdir() if "events" not in p.name) == [
        CHECKPOINT, CONFIG, LOCK, METRICS
    ]  # fmt: skip
    assert len(list(run.path.glob("events.out.*"))) == 1


def test_a_finished_run_has_nothing_left_to_do(finished, config):
    run, _ = finished
    lines = (run.path / METRICS).read_bytes()
    again, begun = [], []
    train(config, run.path, again.append, begun.append)
    assert again == begun == []
    assert (run.path / METRICS).read_bytes() == lines


def test_a_first_run_that_was_killed_before_it_saved_begins_anew(finished, config):
    run, shown = finished
    (run.path / CHECKPOINT).unlink()
    again = []
    train(config, run.path, again.append)
    timeless = lambda records: [r | {"env_steps_per_s": 0, "seconds": 0} for r in records]
    assert timeless(again) == timeless(shown) == timeless(run.metrics())


def test_checkpoints_are_as_often_as_asked(config, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Run, "save", lambda run, state: saved.append(int(state.env_steps)))
    train(replace(config, save_every=16), tmp_path / "run")
    assert saved == [16, 32, 40]


def test_evaluations_are_as_often_as_asked(config, tmp_path):
    run = train(replace(config, eval_every=16), tmp_path / "run")
    tested = [r["env_steps"] for r in run.metrics() if "test_return" in r]
    assert tested == [16, 32, 40]


def test_without_a_rhythm_there_is_one_evaluation_at_the_end(config, tmp_path):
    run = train(config, tmp_path / "run")
    assert [r["env_steps"] for r in run.metrics() if "test_return" in r] == [40]


class Reached(AbstractEnvs):
    """The points of `inner`, a `Drift`, which succeed while within 0.2 of the origin."""

    inner: AbstractEnvs
    spec: EnvSpec = eqx.field(static=True)
    driver: ClassVar[Driver] = JAX

    def sample_tasks(self, split, num_tasks, *, key):
        return self.inner.sample_tasks(split, num_tasks, key=key)

    def reset(self, tasks, *, key):
        return self.inner.reset(tasks, key=key)

    def step(self, env_state, action):
        env_state, outcome = self.inner.step(env_state, action)
        return env_state, replace(outcome, success=abs(env_state.x) < 0.2)

    def view(self, env_state):
        return self.inner.view(env_state)


def test_success_is_logged_beside_the_return(config, drift, tmp_path, monkeypatch):
    inner = drift()
    spec = replace(inner.spec, name="reached", has_success=True)
    monkeypatch.setitem(ENVS, "reached", lambda: Reached(inner, spec))
    run = train(replace(config, env="reached", env_steps=24), tmp_path / "run")
    (anytime,) = [r["test_success"] for r in run.metrics() if "test_return" in r]
    (evaluation, _) = conclude(run)
    assert evaluation.success_per_episode is not None
    assert anytime == evaluation.success_per_episode["mean"] != [0.0, 0.0]
    assert len(anytime) == 2
    in_training = np.asarray([r["success"] for r in run.metrics()])
    assert in_training.shape == (1, 2)  # updates, episodes
    assert in_training.max() > 0.0


def test_worlds_without_success_log_none(finished):
    assert not [name for record in finished[0].metrics() for name in record if "success" in name]


def test_what_begins_is_told_where_it_goes_on(config, tmp_path):
    begun = []

    def stop(record):
        if record["updates"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", stop, begun.append)
    train(config, tmp_path / "run", begin=begun.append)
    assert begun == [0, 16]


def test_the_clock_counts_training_only_and_goes_on_where_it_stopped(config, tmp_path, monkeypatch):
    """A clock that jumps: an update takes 1 s, an evaluation 100 s, a break is not seen."""
    clock = SimpleNamespace(now=0.0)
    module = sys.modules["trmrl.train"]
    build, evaluate = module.build_iteration, module.score

    def building(*args):
        iterate = build(*args)

        def updating(train_state):
            clock.now += 1
            return iterate(train_state)

        return updating

    def scoring(*args, **options):
        clock.now += 100
        return evaluate(*args, **options)

    monkeypatch.setattr(module, "build_iteration", building)
    monkeypatch.setattr(module, "score", scoring)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    config = replace(config, eval_every=16)

    def stop(record):
        if record["updates"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", stop)
    clock.now = 5_000.0
    run = train(config, tmp_path / "run")
    assert [r["seconds"] for r in run.metrics()] == [1, 2, 3, 4, 5]
    assert [r["env_steps_per_s"] for r in run.metrics()] == [8] * 5


def test_a_run_folder_in_use_is_refused_and_left_alone(config, tmp_path):
    run = train(replace(config, env_steps=8), tmp_path / "run")
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    with run.lock(), pytest.raises(TrmrlError, match="run is in use: another process trains it"):
        train(replace(config, env_steps=8), run.path)
    assert {p.name: p.read_bytes() for p in run.path.iterdir()} == before


def test_a_conclusion_evaluates_every_held_out_split_both_ways(finished, config):
    run, _ = finished
    assert not is_concluded(config, run)
    evaluations = conclude(run)
    assert [(e.split, e.explore, e.num_tasks, e.env_steps) for e in evaluations] == [
        ("test", False, 3, 40), ("test", True, 3, 40)
    ]  # fmt: skip
    for name, evaluation in zip(("test", "test-sampled"), evaluations, strict=True):
        stored = json.loads((run.path / "evaluations" / f"{name}.json").read_text())
        assert stored == evaluation.to_json()
    assert evaluations[0].tasks == evaluations[1].tasks
    assert is_concluded(config, run)
    assert not is_concluded(replace(config, seed=1), run)


# --- a number that stops being one


@pytest.mark.parametrize("host", [False, True], ids=["jax", "host"])
@pytest.mark.parametrize("where", ["observations", "rewards", "observations and rewards"])
def test_a_curse_stops_training_and_the_last_good_state_is_kept(
    config, tmp_path, monkeypatch, where, host
):
    monkeypatch.setitem(ENVS, "cursed", lambda: cursed(where, host))
    config = replace(config, env="cursed", env_steps=10_000, save_every=8)
    with pytest.raises(TrmrlError) as stopped:
        train(config, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    good = len(run.metrics())
    assert good >= 1  # this seed's first tasks carry no curse
    assert str(stopped.value) == (
        f"cursed gave {where} that are not finite at update {good + 1}; "
        "the last good checkpoint is kept"
    )
    _, _, train_state = restore(run)
    assert int(train_state.updates) == good
    assert finite(train_state)


def test_a_loss_that_explodes_stops_training_and_says_whose(config, tmp_path):
    agent: Any = config.agent
    algorithm = replace(agent.algorithm, optimizer=OptimizerConfig(learning_rate=1e30))
    agent = replace(agent, algorithm=algorithm)
    with pytest.raises(TrmrlError, match=r"\w+ of rl2 is not finite at update 1; the last good"):
        train(replace(config, agent=agent), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.metrics() == []
    _, _, train_state = restore(run)
    assert int(train_state.updates) == 0
    assert finite(train_state)


def test_on_the_command_line_a_curse_exits_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ENVS, "cursed", lambda: cursed("rewards", host=True))
    path = tmp_path / "run"
    flags = f"""train cursed --agent rl2 --run {path} --num-lanes 8 --agent.core.width 4
        --agent.head.hidden 4 --agent.algorithm.num-passes 1""".split()
    with pytest.raises(SystemExit) as stopped:
        cli.main(flags)
    told = capsys.readouterr()
    assert stopped.value.code == 2
    expected = (
        r"trmrl: cursed gave rewards that are not finite at update \d+; the last good .* kept"
    )
    assert re.fullmatch(expected, told.err.rstrip("\n"))
    assert (path / CHECKPOINT).exists()


@pytest.mark.parametrize("host", [False, True])
def test_agents_with_tasks_of_their_own_meet_them_in_a_ring(drift, herd, host):
    """Five tasks of two lanes each, six lanes a trial: three tasks, then two and the first."""
    envs = drift(host)
    agent = herd(lanes_per_task=2, num_tasks=5)
    draw = lambda updates, seed: jax.tree.map(
        np.asarray,
        draw_tasks(agent, envs, 6, jnp.asarray(updates), key=jax.random.key(seed)),
    )
    drawn = [draw(updates, seed=updates) for updates in range(6)]
    ring, numbers = [tasks for tasks, _ in drawn], [number for _, number in drawn]
    np.testing.assert_array_equal(np.concatenate(numbers), np.resize(np.arange(10) // 2, 36))
    lanes = np.concatenate([tasks.start for tasks in ring]).reshape((-1, 2))
    np.testing.assert_array_equal(lanes[:, 0], lanes[:, 1])
    assert len(set(lanes[:5, 0].tolist())) == 5
    np.testing.assert_array_equal(lanes[:, 0], np.resize(lanes[:5, 0], 18))
    np.testing.assert_array_equal(draw(2, seed=9)[0].drift, ring[2].drift)


def test_agents_without_meet_fresh_ones(drift, herd):
    agent = herd(lanes_per_task=1, num_tasks=0)
    drawn = [
        draw_tasks(agent, drift(), 4, jnp.asarray(0), key=jax.random.key(seed)) for seed in (0, 1)
    ]
    assert [number for _, number in drawn] == [None, None]
    draw = lambda seed: drawn[seed][0].start
    assert len({*np.asarray(draw(0)).tolist(), *np.asarray(draw(1)).tolist()}) == 8


class Witness(AbstractAgent):
    """It acts at random, changes nothing, and refuses to be trained on its mode."""

    plan: TaskPlan

    def init(self, spec, *, key):
        return Learner(jnp.zeros(()), None)

    def start(self, model, num_lanes):
        return jnp.zeros(num_lanes)

    def act(self, model, memory, timestep, *, explore, key):
        assert explore
        action = jax.vmap(lambda k: jax.random.normal(k, (2,)))(key)
        return memory, Decision(action, memory, memory)

    def adapt(self, model, memory, episode):
        return memory

    def update(self, learner, trial, *, env_steps, key):
        return learner, {"env_steps_before": env_steps, "noise": jax.random.uniform(key)}


class Asked(AbstractEnvs):
    """The points of `inner`, which note the split that tasks were asked of."""

    inner: AbstractEnvs
    spec: EnvSpec = eqx.field(static=True)
    splits: list = eqx.field(static=True)
    driver: ClassVar[Driver] = JAX

    def sample_tasks(self, split, num_tasks, *, key):
        self.splits.append(split)
        return self.inner.sample_tasks(split, num_tasks, key=key)

    def reset(self, tasks, *, key):
        return self.inner.reset(tasks, key=key)

    def step(self, env_state, action):
        return self.inner.step(env_state, action)

    def view(self, env_state):
        return self.inner.view(env_state)


@pytest.mark.parametrize(
    "plan",
    [TaskPlan(), TaskPlan(num_tasks=5), TaskPlan(split="test")],
    ids=["fresh", "fixed", "split"],
)
def test_an_iteration_trains_on_tasks_of_its_split_with_sampled_actions(drift, plan):
    splits = []
    envs = Asked(drift(), drift().spec, splits)
    iterate, agent = build_iteration(Witness(plan), envs, 4), Witness(plan)
    zero = np.zeros((), np.int64)
    state = TrainState(agent.init(envs.spec, key=None), jax.random.key(0), zero, zero)
    noise = []
    for update in range(3):
        before = int(state.env_steps)
        state, metrics = iterate(state)
        assert int(metrics["env_steps_before"]) == before
        assert int(state.env_steps) - before == int(metrics["trial_steps"]) > 0
        assert (int(state.updates), state.updates.dtype) == (update + 1, np.int64)
        noise.append(float(metrics["noise"]))
    assert set(splits) == {plan.split}
    assert len(set(noise)) == 3  # every update has a key of its own


class Twofold(AbstractAgent):
    """It always does the same, and in trials that training collects something else."""

    action: float = 0.0
    plan: TaskPlan = TaskPlan()

    def collector(self):
        return replace(self, action=5.0)

    def init(self, spec, *, key):
        return Learner(jnp.zeros(()), None)

    def start(self, model, num_lanes):
        return jnp.zeros(num_lanes)

    def act(self, model, memory, timestep, *, explore, key):
        return memory, Decision(jnp.full((len(memory), 2), self.action), memory, memory)

    def adapt(self, model, memory, episode):
        return memory

    def update(self, learner, trial, *, env_steps, key):
        return learner, {"mine": self.action, "collected": trial.rows.decision.action.mean()}


def test_training_s_trials_are_the_collector_s_and_evaluations_the_agent_s(drift):
    agent, envs, zero = Twofold(), drift(), np.zeros((), np.int64)
    state = TrainState(agent.init(envs.spec, key=None), jax.random.key(0), zero, zero)
    _, metrics = build_iteration(agent, envs, 2)(state)
    assert (float(metrics["mine"]), float(metrics["collected"])) == (0.0, 5.0)
    score = lambda agent, explore: (
        evaluate(agent, jnp.zeros(()), envs, num_tasks=3, explore=explore).returns
    )
    assert score(agent, True) == score(agent, False)
    assert score(agent, True) != score(agent.collector(), True)


def test_counters_hold_more_than_32_bits(drift):
    iterate = build_iteration(Witness(TaskPlan()), drift(), 2)
    many = np.asarray(2**40, np.int64)
    state = TrainState(
        Learner(jnp.zeros(()), None), jax.random.key(0), many, np.zeros((), np.int64)
    )
    state, metrics = iterate(state)
    assert int(state.env_steps) == 2**40 + int(metrics["trial_steps"])
