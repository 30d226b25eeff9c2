"""Interventions do what they say, from their step on, and nothing before."""

import jax
import numpy as np
import pytest

from trmrl.analyze.interventions import (
    Erased,
    Frozen,
    Misinformed,
    Swapped,
    interventions,
    middle,
    steps_to_recover,
)
from trmrl.types import Continuous, EnvSpec, Timestep, replace

AT, H = 4, 3  # the second step of the second episode of three


def act(agent, model, rows, first=0, last=9):
    """The values of an agent's decisions on given timesteps, `[T, B]`, by acting step by step."""
    memory, values = agent.start(model, rows.valid.shape[1]), []
    one = jax.jit(
        lambda *x: agent.act(*x, explore=False, key=jax.random.split(jax.random.key(0), 4))
    )
    for t in range(first, last):
        memory, decision = one(model, memory, jax.tree.map(lambda x, t=t: x[t], rows.timestep))
        values.append(np.asarray(decision.value))
    return np.stack(values)


@pytest.fixture(scope="module")
def case(subject_of, worlds, currents):
    """An untouched trial of an agent with a long memory, and what it decided."""
    subject = subject_of("gru", worlds(horizon=H, num_episodes=3), num_tasks=4)
    tasks = currents(wall=[9.0] * 4)
    rows = subject.roll_out(tasks).rows.flatten_time()
    assert rows.valid.all()
    return subject, rows, act(subject.agent, subject.model, rows)


def test_an_erased_memory_is_a_fresh_start(case):
    subject, rows, untouched = case
    found = act(Erased(subject.agent, AT, H), subject.model, rows)
    np.testing.assert_allclose(found[:AT], untouched[:AT], rtol=1e-5)
    fresh = act(subject.agent, subject.model, rows, first=AT)
    np.testing.assert_allclose(found[AT:], fresh, rtol=1e-5)
    assert np.abs(found[AT:] - untouched[AT:]).max() > 1e-2


def test_a_frozen_memory_is_of_before_and_now_alone(case):
    subject, rows, untouched = case
    found = act(Frozen(subject.agent, AT, H), subject.model, rows)
    np.testing.assert_allclose(found[: AT + 1], untouched[: AT + 1], rtol=1e-5)
    skipped = jax.tree.map(lambda x: np.concatenate([x[:AT], x[7:8]]), rows)
    expected = act(subject.agent, subject.model, skipped, last=AT + 1)[-1]
    np.testing.assert_allclose(found[7], expected, rtol=1e-5)
    assert np.abs(found[7] - untouched[7]).max() > 1e-3


def test_another_task_s_rewards_are_those_of_the_lane_beside(case):
    subject, rows, untouched = case
    found = act(Misinformed(subject.agent, AT, H), subject.model, rows)
    reward = rows.timestep.prev_reward.copy()
    reward[AT:] = np.roll(reward[AT:], 1, axis=1)
    given = Timestep(**{**vars(rows.timestep), "prev_reward": reward})
    expected = act(subject.agent, subject.model, type(rows)(given, *list(vars(rows).values())[1:]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.abs(found[AT:] - untouched[AT:]).max() > 1e-2


@pytest.mark.parametrize(("host", "at_once"), [(False, True), (True, True), (True, False)])
def test_swapped_worlds_are_the_other_task_s_from_then_on(subject_of, worlds, host, at_once):
    """Points drift by the other current, from the next episode on where it cannot change at once.

    Before the step nothing differs, at all.
    """
    envs = worlds(host=host, horizon=H, num_episodes=3)

    class Changing(type(envs)):
        def change_task(self, env_state, tasks):
            return replace(env_state, tasks=tasks)

    envs = Changing(**vars(envs)) if at_once else envs
    first = AT if at_once else 6
    subject = subject_of("gru", envs, num_tasks=4)
    tasks = subject.tasks(4)
    other = jax.tree.map(lambda x: np.asarray(x)[::-1].copy(), tasks)
    untouched = subject.roll_out(tasks).rows.flatten_time()
    swapped = Swapped(inner=envs, spec=envs.spec, other=other, at=AT)
    rows = subject.roll_out(tasks, envs=swapped).rows.flatten_time()
    np.testing.assert_allclose(
        rows.outcome.reward[:first], untouched.outcome.reward[:first], rtol=1e-4, atol=1e-5
    )
    for t in range(9):
        x, after = rows.timestep.obs[t, :, 0], rows.outcome.next_obs[t, :, 0]
        push = np.array([0.04, -0.02], np.float32)
        drift = np.asarray((other if t >= first else tasks).drift)
        np.testing.assert_allclose(after, x + drift + rows.decision.action[t] @ push, atol=1e-4)
    assert np.abs(rows.timestep.obs[6, :, 0] - untouched.timestep.obs[6, :, 0]).max() > 1e-2


def test_the_middle_is_within_an_episode():
    spec = lambda horizon, episodes: EnvSpec("x", "x", 1, Continuous(1), horizon, episodes)
    given = [(200, 2), (15, 4), (1, 10), (200, 1)]
    assert [middle(spec(*one)) for one in given] == [100, 23, 5, 100]


def test_recovered_where_the_interval_reaches_zero():
    """Forty-step episodes: means of two steps. Two tasks whose interval is both of them."""
    difference = np.array([[-4.0, -2.0], [-4.0, -2.0], [-4.0, 1.0], [-1.0, 3.0], [0.0, 0.0]])
    assert steps_to_recover(difference, 40) == 2  # of tasks -2.5 and 2; before -4 and -0.5
    assert steps_to_recover(difference[:2], 40) is None
    pause = np.array([[-4.0, -4.0], [0.0, 0.0], [0.0, 0.0], [-4.0, -4.0], [-4.0, -4.0]])
    assert steps_to_recover(pause, 40) is None  # where nothing was to be earned
    assert steps_to_recover(np.zeros((3, 2)), 40) == 0


@pytest.mark.parametrize("core", ["gru", "window"])
def test_curves_agree_before_the_step(subject_of, worlds, core):
    subject = subject_of(core, worlds(horizon=H, num_episodes=2), at=2)
    found = interventions(subject)
    curves = found.arrays
    assert list(curves) == [
        "untouched", "memory erased", "memory frozen", "another task's rewards", "task swapped"
    ]  # fmt: skip
    for curve in curves.values():
        assert curve.shape == (6, 6)
        np.testing.assert_allclose(curve[:2], curves["untouched"][:2], rtol=1e-4, atol=1e-5)
    numbers = found.numbers["memory erased"]
    lost = (curves["untouched"] - curves["memory erased"])[2:].sum(axis=0)
    assert numbers["lost"] == pytest.approx(lost.mean(), abs=1e-5)
    assert numbers["ci95_low"] <= numbers["lost"] <= numbers["ci95_high"]
