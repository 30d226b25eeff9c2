"""A run that was stopped and gone on with is, bit for bit, the run that never stopped."""

import functools
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.base import TaskPlan
from trmrl.agents.pearl import PEARL
from trmrl.config import Config
from trmrl.learners.objectives import ELBO, MaskedSteps, Objectives
from trmrl.learners.stored import Replayed
from trmrl.nets.readout import BeliefConfig
from trmrl.run import METRICS, Run
from trmrl.train import restore, train
from trmrl.types import replace

STEPS = {"bandit-n4-k2": 8, "half-cheetah-vel": 800, "point-robot": 80}  # of an update on two lanes

STORING = PEARL(  # an agent whose state is mostly stored experience, and not all of it full
    plan=TaskPlan(6), encoder_hidden=(8,), hidden=(8,), capacity=70, num_steps=3, meta_batch=2,
    batch_size=4, context_size=5,
)  # fmt: skip

BELIEVING = {  # one that goes on learning from stored trials, whose ring comes around
    "chunk_length": 0,
    "readout": BeliefConfig(2),
    "replayed": Replayed(
        Objectives(elbo=ELBO(1.0, task_coef=0.5), masked=MaskedSteps(1.0)),
        capacity=5,
        num_updates=2,
        num_trials=3,
    ),
}


def bits(train_state):
    """Every leaf of a training state by name, as its type and bytes."""
    leaves = jax.tree_util.tree_flatten_with_path(train_state)[0]
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    plain = lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x)
    return {
        jax.tree_util.keystr(path): (plain(leaf).dtype, plain(leaf).tobytes())
        for path, leaf in leaves
    }


def left_by(path):
    """What a run leaves behind, the pace aside; its clock never goes back."""
    run = Run.open(path)
    pace = "env_steps_per_s", "seconds"
    clock = [record["seconds"] for record in run.metrics()]
    assert clock[0] > 0.0 and clock == sorted(clock)
    lines = [
        {name: value for name, value in record.items() if name not in pace}
        for record in run.metrics()
    ]
    return SimpleNamespace(state=bits(restore(run)[2]), lines=lines)


@pytest.fixture(scope="module")
def config_of(small_agent):
    def build(env, updates, **fields):
        agent = {
            "bandit-n4-k2": lambda: small_agent("gru", num_passes=2, **BELIEVING),
            "half-cheetah-vel": lambda: small_agent("window", chunk_length=1, num_passes=1),
            "point-robot": lambda: STORING,
        }[env]()
        budget = updates * STEPS[env]
        fields = {"eval_tasks": 3, "save_every": 2 * STEPS[env]} | fields
        return Config(env, "some", "default", agent, env_steps=budget, num_lanes=2, **fields)

    return build


@pytest.fixture(scope="module")
def unbroken(config_of, tmp_path_factory):
    """`unbroken(env, updates, ...)`: what a run leaves that was never stopped."""

    @functools.cache
    def run(env, updates, **fields):
        path = tmp_path_factory.mktemp("unbroken") / "run"
        train(config_of(env, updates, **fields), path)
        return left_by(path)

    return run


def stop_at(updates, error):
    def show(record):
        if record["updates"] == updates:
            raise error

    return show


@pytest.mark.parametrize(
    ("env", "updates", "stops"),
    [
        ("bandit-n4-k2", 6, (1, 4)),
        ("bandit-n4-k2", 6, (6,)),
        ("half-cheetah-vel", 2, (1,)),
        ("point-robot", 5, (1, 3)),
    ],
)
def test_an_interrupted_run_goes_on_as_if_it_never_stopped(
    config_of, unbroken, tmp_path, env, updates, stops
):
    config, path = config_of(env, updates), tmp_path / "run"
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            train(config, path, stop_at(stop, KeyboardInterrupt()))
        assert int(restore(Run.open(path))[2].updates) == stop  # Ctrl-C saves
        assert len(Run.open(path).metrics()) == stop
    train(config, path)
    straight, broken = unbroken(env, updates), left_by(path)
    assert [line["updates"] for line in straight.lines] == list(range(1, updates + 1))
    assert broken.lines == straight.lines
    assert broken.state == straight.state


@pytest.mark.parametrize(("stop", "saved"), [(1, None), (3, 2), (4, 4), (5, 4)])
def test_a_killed_run_does_again_what_it_had_not_saved(
    config_of, unbroken, tmp_path, monkeypatch, stop, saved
):
    """A killed process saves nothing, and may tear the line it was writing."""
    config, path = config_of("bandit-n4-k2", 6), tmp_path / "run"
    save = Run.save

    def die(record):
        if record["updates"] == stop:
            monkeypatch.setattr(Run, "save", lambda run, state: None)
            raise SystemExit

    if stop == 4:  # it died after saving
        die = lambda record: stop_at(5, SystemExit())(record)
        monkeypatch.setattr(
            Run, "save", lambda run, s: save(run, s) if int(s.updates) <= stop else None
        )
    with pytest.raises(SystemExit):
        train(config, path, die)
    monkeypatch.undo()
    run = Run.open(path)
    assert run.has_checkpoint() == (saved is not None)
    assert saved is None or int(restore(run)[2].updates) == saved
    with open(path / METRICS, "a") as file:
        file.write('{"updates": 9, "env_st')
    train(config, path)
    assert left_by(path) == unbroken("bandit-n4-k2", 6)


def test_a_resumed_run_keeps_the_rhythm_of_its_evaluations(config_of, unbroken, tmp_path):
    fields = {"eval_every": 16}
    config, path = config_of("bandit-n4-k2", 6, **fields), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(config, path, stop_at(3, KeyboardInterrupt()))
    train(config, path)
    assert left_by(path) == unbroken("bandit-n4-k2", 6, **fields)


def test_an_interrupt_during_an_evaluation_loses_no_line(
    config_of, unbroken, tmp_path, monkeypatch
):
    fields = {"eval_every": 16}
    config, path = config_of("bandit-n4-k2", 6, **fields), tmp_path / "run"

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sys.modules["trmrl.train"], "score", interrupted)
        train(config, path)
    train(config, path)
    assert left_by(path) == unbroken("bandit-n4-k2", 6, **fields)


def test_another_seed_is_another_run(config_of, unbroken, tmp_path):
    """The comparison above can fail: another seed's run is another run."""
    path = tmp_path / "run"
    train(replace(config_of("bandit-n4-k2", 6), seed=1), path)
    other, straight = left_by(path), unbroken("bandit-n4-k2", 6)
    assert other.lines != straight.lines
    assert other.state != straight.state
