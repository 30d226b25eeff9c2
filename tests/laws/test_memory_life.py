"""A memory is cleared exactly at its scope's start, frozen while idle, and its lane's alone."""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents._base import AbstractAgent
from trmrl.trial import run_trial
from trmrl.types import replace

NAMES = [
    "window", "window-transitions", "trial-whole", "trial-short", "trial-transitions",
    "gtrxl", "snail", "gru", "lstm",
]  # fmt: skip
K, H, B, WINDOW = 3, 6, 4, 3


class Spy(AbstractAgent):
    """An agent that tells its memory before and after every step."""

    lanes_per_task: ClassVar[int] = 1
    num_tasks: ClassVar[int] = 0

    inner: AbstractAgent

    def init(self, spec, *, key):
        return self.inner.init(spec, key=key)

    def start(self, model, num_lanes):
        return self.inner.start(model, num_lanes)

    def act(self, model, memory, timestep, *, explore, key):
        after, decision = self.inner.act(model, memory, timestep, explore=explore, key=key)
        leaves = {"before": jax.tree.leaves(memory), "after": jax.tree.leaves(after)}
        return after, replace(decision, extras=leaves)

    def adapt(self, model, memory, episode, *, key):
        return self.inner.adapt(model, memory, episode, key=key)

    def update(self, train_state, trial):
        raise NotImplementedError


@pytest.fixture(scope="module")
def live(small_agent, shake, drift, currents):
    """`live(core, scope, fate, host=..., explore=...)`: agent, model and `[T, B]` rows."""

    @functools.cache
    def model_of(agent):
        model = agent.init(drift(num_episodes=K).spec, key=jax.random.key(0)).model
        return replace(model, network=shake(model.network))

    fates = {
        "usual": currents(),
        "other": currents(drift=[0.0, -0.1, 0.6, 0.05], wall=[9.0, 0.3, 9.0, 9.0]),
        "alone": currents(lanes=[2]),
    }

    @functools.cache
    def run(core, scope, fate="usual", host=True, explore=True):
        agent = Spy(small_agent(core, memory_scope=scope, normalize_obs=False))
        model, envs = model_of(agent), drift(host=host, num_episodes=K)
        tasks = fates[fate]
        trial = run_trial(agent, model, envs, tasks, explore=explore, key=jax.random.key(3))
        return agent, model, jax.tree.map(np.asarray, trial.flatten_time())

    return run


def starts_of(rows, scope):
    """Where memory must be cleared, from the slots alone: row 0, or every H-th row."""
    start = np.zeros((K * H, B), bool)
    start[:: H if scope == "episode" else K * H] = True
    return start


def test_flags_mark_the_slots(live):
    _, _, rows = live("window", "trial")
    np.testing.assert_array_equal(rows.timestep.trial_start, starts_of(rows, "trial"))
    np.testing.assert_array_equal(rows.timestep.episode_start, starts_of(rows, "episode"))
    ended_early = ~rows.valid.reshape(K, H, B).all(axis=1)
    assert ended_early[:, [1, 2]].all()
    assert not ended_early[:, [0, 3]].any()
    assert rows.valid.reshape(K, H, B)[:, 0].all()


@pytest.mark.parametrize("scope", ["trial", "episode"])
def test_a_window_holds_the_last_tokens_of_its_scope_and_no_other(live, scope):
    _, _, rows = live("window", scope)
    seen, start = rows.timestep, starts_of(rows, scope)
    tokens, lengths = rows.decision.extras["after"]
    for lane in range(B):
        held = []
        for t in range(K * H):
            if not rows.valid[t, lane]:
                continue
            clear = start[t, lane]
            past = [
                *seen.prev_action[t, lane],
                seen.prev_reward[t, lane],
                float(seen.episode_start[t, lane]),
            ]
            token = np.array([*seen.obs[t, lane], *(np.zeros(4) if clear else past)], np.float32)
            held = [token] if clear else [*held, token][-WINDOW:]
            window = np.zeros((WINDOW, len(token)), np.float32)
            window[: len(held)] = held
            assert lengths[t, lane] == len(held)
            np.testing.assert_array_equal(tokens[t, lane], window)


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_memory_moves_on_valid_rows_only(live, name, host):
    """Row t + 1 begins with what row t left, or with what it found where row t was idle."""
    _, _, rows = live(name, "trial", host=host)
    before, after = rows.decision.extras["before"], rows.decision.extras["after"]
    for was, left in zip(before, after, strict=True):
        lane = rows.valid.reshape(rows.valid.shape + (1,) * (was.ndim - 2))
        np.testing.assert_array_equal(was[1:], np.where(lane, left, was)[:-1])
        assert not np.array_equal(was[1:], left[:-1])  # idle rows did say something else


@pytest.mark.parametrize("scope", ["trial", "episode"])
@pytest.mark.parametrize("name", NAMES)
def test_a_scope_starts_as_a_fresh_mind(live, name, scope):
    """The first decision of a scope is a new agent's; inside a scope it is not."""
    agent, model, rows = live(name, scope, explore=False)
    act = jax.jit(lambda *x: agent.inner.act(*x, explore=False, key=jax.random.key(0)))
    start = starts_of(rows, scope)
    nobody = jnp.zeros((B, 2)), jnp.zeros(B)
    yes = jnp.ones(B, bool)
    for t in range(0, K * H, H):
        timestep = jax.tree.map(lambda x, t=t: jnp.asarray(x[t]), rows.timestep)
        timestep = replace(timestep, prev_action=nobody[0], prev_reward=nobody[1], trial_start=yes)
        _, fresh = act(model, agent.start(model, B), timestep)
        off = np.abs(np.asarray(fresh.action) - rows.decision.action[t]).max(-1)
        assert np.all(off < 1e-5) if start[t].all() else np.all(off > 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_another_lanes_fate_changes_no_bit_of_mine(live, name):
    _, _, rows = live(name, "trial")
    _, _, again = live(name, "trial", "other")
    assert not np.array_equal(rows.valid, again.valid)
    for one, two in zip(jax.tree.leaves(rows), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one[:, [0, 3]], two[:, [0, 3]])


@pytest.mark.parametrize("name", NAMES)
def test_a_lane_alone_lives_as_it_does_among_others(live, name):
    """Lane 2, which ends early, while other lanes live on."""
    _, _, rows = live(name, "trial", explore=False)
    _, _, alone = live(name, "trial", "alone", explore=False)
    np.testing.assert_array_equal(alone.valid[:, 0], rows.valid[:, 2])
    happened = alone.valid[:, 0]
    for field in ("action", "log_prob", "value"):
        mine = getattr(alone.decision, field)[:, 0][happened]
        ours = getattr(rows.decision, field)[:, 2][happened]
        np.testing.assert_allclose(mine, ours, atol=1e-5)
