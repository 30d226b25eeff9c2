"""A memory is cleared exactly at its scope's start, frozen while idle, and its lane's alone."""

import functools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.trial import run_trial
from trmrl.types import replace

NAMES = [
    "window", "window-transitions", "trial-whole", "trial-short", "trial-transitions",
    "trial-rotary", "window-rotary",
    "gtrxl", "snail", "gru", "lstm",
]  # fmt: skip
K, H, B, WINDOW = 3, 6, 4, 3


class Recorder(AbstractAgent):
    """An agent that hands its memory before and after every step to `record`."""

    inner: AbstractAgent
    record: Any
    plan: TaskPlan = TaskPlan()

    def init(self, spec, *, key):
        return self.inner.init(spec, key=key)

    def start(self, model, num_lanes):
        return self.inner.start(model, num_lanes)

    def act(self, model, memory, timestep, *, explore, key):
        after, decision = self.inner.act(model, memory, timestep, explore=explore, key=key)
        leaves = jax.tree.leaves(memory), jax.tree.leaves(after)
        jax.debug.callback(self.record, *leaves, ordered=True)
        return after, decision

    def adapt(self, model, memory, episode):
        return self.inner.adapt(model, memory, episode)

    def update(self, learner, trial, *, env_steps, key):
        raise NotImplementedError


@pytest.fixture(scope="module")
def roll_out(small_agent, shake, drift, currents):
    """`roll_out(core, scope, fate, host=..., explore=...)`: a trial, and what was recorded of it.

    `agent` and `model`; `rows` are `[T, B]`, and so are `before` and `after`: the leaves of the
    memory that each step began with, and of the one that the agent returned.
    """

    @functools.cache
    def model_of(agent):
        model = agent.init(drift(num_episodes=K).spec, key=jax.random.key(0)).model
        return replace(model, network=shake(model.network))

    @functools.cache
    def recorder_of(agent):
        steps = []
        return Recorder(agent, lambda *x: steps.append(jax.tree.map(np.array, x))), steps

    fates = {
        "usual": currents(),
        "other": currents(drift=[0.0, -0.1, 0.6, 0.05], wall=[9.0, 0.3, 9.0, 9.0]),
        "alone": currents(lanes=[2]),
    }

    @functools.cache
    def run(core, scope, fate="usual", host=True, explore=True):
        agent = small_agent(core, memory_scope=scope, normalize_obs=False)
        recorder, steps = recorder_of(agent)
        steps.clear()
        model, envs = model_of(agent), drift(host=host, num_episodes=K)
        key = jax.random.key(3)
        trial = run_trial(recorder, model, envs, fates[fate], explore=explore, key=key)
        rows = jax.tree.map(np.asarray, trial.rows.flatten_time())
        jax.effects_barrier()
        assert len(steps) == K * H
        before, after = jax.tree.map(lambda *x: np.stack(x), *steps)
        return SimpleNamespace(agent=agent, model=model, rows=rows, before=before, after=after)

    return run


def starts_of(rows, scope):
    """Where memory must be cleared, from the slots alone: row 0, or every H-th row."""
    start = np.zeros((K * H, B), bool)
    start[:: H if scope == "episode" else K * H] = True
    return start


def test_flags_mark_the_slots(roll_out):
    rows = roll_out("window", "trial").rows
    np.testing.assert_array_equal(rows.timestep.trial_start, starts_of(rows, "trial"))
    np.testing.assert_array_equal(rows.timestep.episode_start, starts_of(rows, "episode"))
    ended_early = ~rows.valid.reshape(K, H, B).all(axis=1)
    assert ended_early[:, [1, 2]].all()
    assert not ended_early[:, [0, 3]].any()
    assert rows.valid.reshape(K, H, B)[:, 0].all()


@pytest.mark.parametrize("scope", ["trial", "episode"])
def test_a_window_holds_the_last_tokens_of_its_scope_and_no_other(roll_out, scope):
    recorded = roll_out("window", scope)
    rows, timestep = recorded.rows, recorded.rows.timestep
    start = starts_of(rows, scope)
    tokens, lengths = recorded.after
    for lane in range(B):
        held = []
        for t in range(K * H):
            if not rows.valid[t, lane]:
                continue
            clear = start[t, lane]
            past = [
                *timestep.prev_action[t, lane],
                timestep.prev_reward[t, lane],
                float(timestep.episode_start[t, lane]),
            ]
            token = np.array(
                [*timestep.obs[t, lane], *(np.zeros(4) if clear else past)], np.float32
            )
            held = [token] if clear else [*held, token][-WINDOW:]
            window = np.zeros((WINDOW, len(token)), np.float32)
            window[: len(held)] = held
            assert lengths[t, lane] == len(held)
            np.testing.assert_array_equal(tokens[t, lane], window)


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_memory_moves_on_valid_rows_only(roll_out, name, host):
    """Row t + 1 begins with what row t left, or with what it found where row t was idle."""
    recorded = roll_out(name, "trial", host=host)
    rows = recorded.rows
    for was, left in zip(recorded.before, recorded.after, strict=True):
        lane = rows.valid.reshape(rows.valid.shape + (1,) * (was.ndim - 2))
        np.testing.assert_array_equal(was[1:], np.where(lane, left, was)[:-1])
        assert not np.array_equal(was[1:], left[:-1])  # idle rows did return another


@pytest.mark.parametrize("scope", ["trial", "episode"])
@pytest.mark.parametrize("name", NAMES)
def test_a_scope_starts_with_a_fresh_memory(roll_out, name, scope):
    """The first decision of a scope is a new agent's; inside a scope it is not."""
    recorded = roll_out(name, scope, explore=False)
    agent, model, rows = recorded.agent, recorded.model, recorded.rows
    keys = jax.random.split(jax.random.key(0), B)
    act = jax.jit(lambda *x: agent.act(*x, explore=False, key=keys))
    start = starts_of(rows, scope)
    first = {
        "prev_action": jnp.zeros((B, 2)),
        "prev_reward": jnp.zeros(B),
        "trial_start": jnp.ones(B, bool),
    }
    for t in range(0, K * H, H):
        timestep = jax.tree.map(lambda x, t=t: jnp.asarray(x[t]), rows.timestep)
        timestep = replace(timestep, **first)
        _, fresh = act(model, agent.start(model, B), timestep)
        off = np.abs(np.asarray(fresh.action) - rows.decision.action[t]).max(-1)
        assert np.all(off < 1e-5) if start[t].all() else np.all(off > 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_another_lanes_fate_changes_no_bit_of_mine(roll_out, name):
    usual, other = roll_out(name, "trial"), roll_out(name, "trial", "other")
    assert not np.array_equal(usual.rows.valid, other.rows.valid)
    leaves = lambda x: jax.tree.leaves((x.rows, x.before, x.after))
    for one, two in zip(leaves(usual), leaves(other), strict=True):
        np.testing.assert_array_equal(one[:, [0, 3]], two[:, [0, 3]])


@pytest.mark.parametrize("name", NAMES)
def test_a_lane_alone_acts_as_it_does_among_others(roll_out, name):
    """Lane 2, which ends early, while other lanes go on."""
    rows = roll_out(name, "trial", explore=False).rows
    alone = roll_out(name, "trial", "alone", explore=False).rows
    np.testing.assert_array_equal(alone.valid[:, 0], rows.valid[:, 2])
    happened = alone.valid[:, 0]
    for field in ("action", "log_prob", "value"):
        mine = getattr(alone.decision, field)[:, 0][happened]
        ours = getattr(rows.decision, field)[:, 2][happened]
        np.testing.assert_allclose(mine, ours, atol=1e-5)
