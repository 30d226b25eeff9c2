"""A session goes through the trials that `run_trial` does, and its task may change on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.run import Run
from trmrl.train import restore_model
from trmrl.trial import run_trial
from trmrl.types import TrmrlError
from trmrl.watch.session import Session, open_session, open_sessions


@pytest.fixture(scope="module")
def on_drift(save_run):
    return save_run("host-drift", "trial-short")


@pytest.mark.parametrize("core", ["trial-short", "gru"])
def test_its_memory_is_the_feature_at_its_last_action(save_run, currents, core):
    """As the core computes it over a whole trial's rows at once."""
    path = save_run("host-drift", core)
    config, envs, model = restore_model(Run(path))
    task = currents([0])
    rows = run_trial(config.agent, model, envs, task, explore=False, key=jax.random.key(3)).rows
    rows = jax.tree.map(jnp.asarray, rows.flatten_time())
    tokens, start = model.tokens(rows.timestep)
    feature = np.asarray(model.network.core.unroll(None, tokens, start, rows.valid)[1])[:, 0]
    session = open_session(path)
    session.new_trial(task)
    assert session.memory() is None  # nothing was taken yet
    found = [session.memory() for _ in range(12) if not session.step()]
    np.testing.assert_allclose(found, feature, atol=1e-5)
    assert np.ptp(feature, axis=0).min() > 1e-3


@pytest.mark.parametrize("lane", [0, 2])
def test_it_is_a_trial_step_by_step(on_drift, currents, lane):
    """Episodes end by the clock or early; what led to them is not forgotten."""
    config, envs, model = restore_model(Run(on_drift))
    task = currents([lane])
    trial = run_trial(config.agent, model, envs, task, explore=False, key=jax.random.key(3))
    rows = jax.tree.map(lambda x: np.asarray(x)[:, :, 0], trial.rows)
    session = open_session(on_drift)
    session.new_trial(task)
    places = []
    for k, t in zip(*np.nonzero(rows.valid), strict=True):
        assert not session.is_over
        session.step()
        assert (session.episode, session.t) == (k, t + 1)
        np.testing.assert_array_equal(session.action, rows.decision.action[k, t])
        assert len(session.views) == t + 2
        places.append(session.views[-1])
    assert session.is_over and rows.valid.sum() == (12 if lane == 0 else len(places))
    np.testing.assert_array_equal(session.rewards, rows.outcome.reward[rows.valid])
    np.testing.assert_array_equal(places, rows.outcome.next_obs[rows.valid][:, 0])
    last = rows.outcome.reward[-1][rows.valid[-1]]
    assert session.episode_return == pytest.approx(last.sum(), rel=1e-6)
    session.step()  # and once more from its beginning, with an empty memory
    assert (session.episode, session.t, len(session.rewards)) == (0, 1, 1)
    np.testing.assert_array_equal(session.action, rows.decision.action[0, 0])


def test_a_task_changes_under_way_and_the_agent_keeps_its_memory(save_run):
    session = open_session(save_run("point-robot"))
    for _ in range(3):
        session.step()
    goal = np.array([[5.0, 5.0]], np.float32)
    session.change_task(type(session.task)(goal))
    session.step()
    away = session.views[-1] - goal[0]
    assert session.rewards[-1] == pytest.approx(-np.hypot(*away), rel=1e-6)
    assert session.t == 4 and session.task_numbers() == {"goal": [5.0, 5.0]}


def test_worlds_that_cannot_change_begin_a_new_trial(on_drift, currents):
    session = open_session(on_drift)
    session.step()
    session.change_task(currents([3]))
    assert (session.t, session.rewards) == (0, [])
    assert session.views[0] == session.task.start[0] == np.float32(0.3)


def test_two_agents_begin_alike_on_the_same_task(save_run):
    one, two = open_sessions([save_run("tabular-n4"), save_run("tabular-n4+task", "gru")], seed=5)
    np.testing.assert_array_equal(one.task.reward, two.task.reward)
    assert isinstance(one, Session) and one.spec.obs_size < two.spec.obs_size


@pytest.mark.parametrize("count", [0, 3])
def test_other_numbers_of_runs_are_refused(on_drift, count):
    with pytest.raises(TrmrlError, match=f"watch {count} runs"):
        open_sessions([on_drift] * count)


def test_runs_of_different_worlds_are_refused(save_run):
    paths = [save_run("point-robot"), save_run("semicircle")]
    with pytest.raises(TrmrlError, match="point-robot and semicircle have no task in common"):
        open_sessions(paths)


def test_attention_is_over_the_steps_so_far(save_run):
    session = open_session(save_run("grid-navi", "trial-whole"))
    assert session.attention(5) == {}  # nothing was taken yet
    for t in range(1, 4):
        session.step()
        layers = session.attention(5)
        assert list(layers) == ["layer 1", "layer 2"]
        for weight in layers.values():
            assert weight[:t].sum() == pytest.approx(1.0, abs=1e-5)
            assert (weight[:t] > 0).all() and (weight[t:] == 0).all()
    session.new_trial()
    assert session.attention(5) == {}


def test_a_recurrent_agent_attends_to_nothing(save_run):
    session = open_session(save_run("tabular-n4", "gru"))
    session.step()
    assert session.attention(5) == {}


def test_an_agent_is_given_the_end_of_the_episode_before(on_drift, currents, monkeypatch):
    """Of a trial of two episodes of six steps, and of the first step of the next trial."""
    session = open_session(on_drift)
    session.new_trial(currents([0]))
    given, places, act = [], [], session._controller.act

    def listen(obs, reward, **rest):
        given.append((reward, rest["episode_start"], rest["final_obs"]))
        return act(obs, reward, **rest)

    monkeypatch.setattr(session._controller, "act", listen)
    for _ in range(12):
        session.step()
        places.append(float(session.views[-1]))
    rewards = list(session.rewards)
    session.step()
    assert [start for _, start, _ in given] == [t % 6 == 0 for t in range(13)]
    assert given[0][0] == given[12][0] == 0.0
    assert given[0][2] is None and given[12][2] is None
    assert given[6][0] == rewards[5]
    np.testing.assert_allclose(given[6][2], [places[5], 0.6], atol=1e-6)
