"""After its first iteration an agent compiles nothing again: shapes and types stay as they were."""

import jax
import jax.monitoring
import numpy as np
import pytest

from trmrl.agents.base import TaskPlan
from trmrl.agents.maml import MAML
from trmrl.agents.pearl import PEARL
from trmrl.envs import make
from trmrl.learners.objectives import ELBO, MaskedSteps, Objectives
from trmrl.learners.stored import Replayed
from trmrl.nets.readout import BeliefConfig
from trmrl.train import build_iteration
from trmrl.types import TrainState

LOWERED = []
PEARLISH = PEARL(
    encoder_hidden=(8,), hidden=(8,), capacity=400, num_steps=2, meta_batch=2, batch_size=4
)


# Fires for every program traced and lowered, whether or not its compilation is cached. Listeners
# cannot be taken back, so there is one for the whole module.
def note(event: str, duration_secs: float, **kwargs: str | int) -> None:
    if "jaxpr_to_mlir_module" in event:
        LOWERED.append((event, duration_secs, kwargs))


jax.monitoring.register_event_duration_secs_listener(note)


@pytest.mark.parametrize(
    ("env", "core", "chunk_length"),
    [
        ("bandit-n4-k2", "trial-whole", 0),
        ("half-cheetah-vel", "window", 1),
    ],
)
def test_nothing_compiles_after_the_first_iteration(small_agent, env, core, chunk_length):
    check_compiles_once(small_agent(core, chunk_length=chunk_length, num_passes=1), env, 2)


def test_nor_does_learning_from_stored_trials(small_agent):
    """Their ring fills, and comes around, within the iterations that are counted."""
    objectives = Objectives(elbo=ELBO(1.0, task_coef=0.5), masked=MaskedSteps(1.0))
    replayed = Replayed(objectives, capacity=3, num_updates=1, num_trials=2)
    agent = small_agent("gru", chunk_length=0, readout=BeliefConfig(2), replayed=replayed)
    check_compiles_once(agent, "bandit-n4-k2", 2)


@pytest.mark.parametrize(
    "agent", [PEARLISH, MAML(plan=TaskPlan(lanes_per_task=2))], ids=["pearl", "maml"]
)
@pytest.mark.parametrize("env", ["point-robot", "half-cheetah-vel"])
def test_nor_do_agents_that_adapt_between_episodes(agent, env):
    check_compiles_once(agent, env, 4)


def check_compiles_once(agent, env, num_lanes):
    envs, zero = make(env), np.zeros((), np.int64)
    learner = agent.init(envs.spec, key=jax.random.key(0))
    train_state = TrainState(learner, jax.random.key(1), zero, zero)
    iterate = build_iteration(agent, envs, num_lanes)
    before = len(LOWERED)
    train_state, metrics = iterate(train_state)
    steps = int(metrics["trial_steps"])
    first = len(LOWERED)
    assert first > before  # the counter counts
    for _ in range(2):
        train_state, metrics = iterate(train_state)
        steps += int(jax.device_get(metrics)["trial_steps"])
    assert len(LOWERED) == first
    assert (int(train_state.updates), int(train_state.env_steps)) == (3, steps)
    counters = train_state.updates, train_state.env_steps
    assert all(isinstance(x, np.ndarray) and x.dtype == np.int64 for x in counters)
