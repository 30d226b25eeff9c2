"""Every agent of the menu acts and learns in every world of the menu.

A default run takes one agent to a world of each kind and every agent to one world; `pytest -m full`
takes every pair. (Every world is rolled out by `test_lanes_are_independent.py`.)
"""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import ENVS, make
from trmrl.metrics import describe
from trmrl.recipes import AGENTS, recipe
from trmrl.train import draw_tasks
from trmrl.trial import run_trial
from trmrl.types import Discrete, TrmrlError, replace

B = 2
OF_EACH_KIND = {  # families, early ends, choices, a host world, a wrapper
    "bandit-n10-k5", "tabular-n10", "dark-key-to-door", "point-robot-sparse", "navigation-2d",
    "half-cheetah-vel-delayed", "walker-rand-params",
}  # fmt: skip
SMALL = {  # whatever a recipe's records call these, they are made this small
    "width": 8,
    "num_heads": 2,
    "num_layers": 1,
    "hidden": 8,
    "filters": 2,
    "key_size": 4,
    "value_size": 4,
    "num_passes": 1,
    "chunk_length": 5,
    "encoder_hidden": 8,
    "num_steps": 2,
    "meta_batch": 2,
    "batch_size": 4,
    "context_size": 5,
    "capacity": 120,
    "lanes_per_task": B,
    "warm_steps": 0,
}


def shrink(record):
    """The record with every size in it small, whoever's it is."""
    changes = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = shrink(value)
        elif field.name in SMALL:
            small = SMALL[field.name]
            changes[field.name] = (small,) if isinstance(value, tuple) else min(value, small)
    return replace(record, **changes)


def shorten(envs):
    """The worlds, and those they wrap, with episodes of at most 20 steps."""
    changes = {"spec": replace(envs.spec, horizon=min(envs.spec.horizon, 20))}
    if "inner" in [field.name for field in dataclasses.fields(envs)]:
        changes["inner"] = shorten(envs.inner)
    return replace(envs, **changes)


def finite(tree):
    leaves = [x for x in jax.tree.leaves(tree) if eqx.is_inexact_array_like(x)]
    assert leaves
    return all(bool(jnp.isfinite(jnp.asarray(x)).all()) for x in leaves)


def pairs():
    """Every pair of agent and world, all marked `full` but those of a default run."""
    for agent_name, env in itertools.product(AGENTS, ENVS):
        try:
            recipe(env, agent_name)
        except TrmrlError as refusal:
            assert "has choices" in str(refusal)
            continue
        usual = (agent_name == "rl2" and env in OF_EACH_KIND) or env == "half-cheetah-dir"
        yield pytest.param(agent_name, env, marks=() if usual else pytest.mark.full)


@pytest.mark.parametrize(("agent_name", "env"), list(pairs()))
def test_one_iteration(agent_name, env):
    agent, envs = shrink(recipe(env, agent_name).agent), shorten(make(env))
    spec = envs.spec
    key = jax.random.key(0)
    learner = agent.init(spec, key=key)

    def roll_out(model, key):
        task, task_id = draw_tasks(agent, envs, B, jnp.int32(0), key=key)
        return run_trial(agent, model, envs, task, task_id=task_id, explore=True, key=key)

    trial = envs.driver.jit(roll_out)(learner.model, key)
    check_rows(spec, trial.rows)
    assert int(describe(trial)["trial_steps"]) == int(np.asarray(trial.rows.valid).sum())
    updated, metrics = jax.jit(agent.update)(learner, trial, env_steps=jnp.float32(0), key=key)
    assert metrics and finite(metrics) and finite(updated)
    assert jax.tree.structure(updated) == jax.tree.structure(learner)
    shapes = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
    assert shapes(updated) == shapes(learner)
    moved = zip(jax.tree.leaves(learner.model), jax.tree.leaves(updated.model), strict=True)
    # Where nobody was paid or no step was better, an agent may stay as it is if it says so.
    stayed = 0.0 in (metrics.get("grad_norm"), metrics.get("line_search_accepted"))
    assert stayed or any(not np.array_equal(old, new) for old, new in moved)


def check_rows(spec, rows):
    """Shapes and flags of the rows `[K, H, B]` of a trial are what its spec says."""
    shape = spec.num_episodes, spec.horizon, B
    timestep, outcome, valid = rows.timestep, rows.outcome, np.asarray(rows.valid)
    assert timestep.obs.shape == outcome.next_obs.shape == (*shape, spec.obs_size)
    assert timestep.prev_action.shape == (*shape, spec.action_space.size)
    discrete = isinstance(spec.action_space, Discrete)
    assert rows.decision.action.shape == (shape if discrete else (*shape, spec.action_space.size))
    if discrete:
        assert np.asarray(rows.decision.action).min() >= 0
        assert np.asarray(rows.decision.action).max() < spec.action_space.size
    for leaf in (timestep.prev_reward, outcome.reward, rows.decision.value, rows.decision.log_prob):
        assert leaf.shape == shape
    assert finite(rows)
    assert np.asarray(timestep.episode_start)[:, 0].all()
    assert not np.asarray(timestep.episode_start)[:, 1:].any()
    assert np.asarray(timestep.trial_start).sum() == B
    terminated, truncated = np.asarray(outcome.terminated), np.asarray(outcome.truncated)
    assert not (terminated & truncated)[valid].any()
    assert not (truncated & valid)[:, :-1].any()  # the clock strikes at H and never before
    to_the_end = valid[:, -1]
    assert (terminated | truncated)[:, -1][to_the_end].all()
    assert valid[:, 0].all()
    ended_before = np.cumsum(terminated & valid, axis=1) - (terminated & valid) > 0
    np.testing.assert_array_equal(valid, ~ended_before)
