"""One trial with early ends, and one update on it: what several tests of learners start from."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from trmrl.trial import run_trial


@functools.cache
def compiled_update(agent):
    return jax.jit(
        lambda learner, trial, env_steps, key: agent.update(
            learner, trial, env_steps=env_steps, key=key
        )
    )


@pytest.fixture(scope="session")
def update():
    """`update(agent, learner, trial, env_steps=0.0, seed=2)`: the next learner, and metrics."""

    def run(agent, learner, trial, env_steps=0.0, seed=2):
        steps = jnp.asarray(env_steps, jnp.float32)
        return compiled_update(agent)(learner, trial, steps, jax.random.key(seed))

    return run


@pytest.fixture(scope="session")
def first_trial(drift, currents):
    """`first_trial(agent)`: a fresh learner, and a trial of it with early ends."""

    def run(agent):
        envs = drift()
        learner = agent.init(envs.spec, key=jax.random.key(0))
        tasks, key = currents(noise=0.1), jax.random.key(1)
        return learner, run_trial(agent, learner.model, envs, tasks, explore=True, key=key)

    return run


@pytest.fixture(scope="session")
def update_once(first_trial, update):
    """`update_once(agent)`: the learner `before`, the `trial`, the learner `after`, `metrics`.

    `rows` are those of the trial, `[T, B]`.
    """

    def run(agent):
        before, trial = first_trial(agent)
        after, metrics = update(agent, before, trial)
        rows = trial.rows.flatten_time()
        return SimpleNamespace(before=before, trial=trial, rows=rows, after=after, metrics=metrics)

    return run
