"""What is replayed is what happened."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.memory import MemoryAgent
from trmrl.analyze.subject import Subject, differing_numbers, replay, sites, some_steps
from trmrl.nets.gru import GRUConfig
from trmrl.nets.readout import BeliefConfig


@pytest.mark.parametrize("core", ["window", "trial-transitions", "gtrxl", "gru"])
@pytest.mark.parametrize("host", [False, True])
def test_a_replay_gives_the_features_that_were_acted_on(subject_of, worlds, core, host):
    """The policy on the replayed feature has the very log probabilities of the trial."""
    subject = subject_of(core, worlds(host=host))
    trial = subject.roll_out(subject.tasks(4), explore=True)
    rows = trial.rows.flatten_time()
    assert not rows.valid.all()  # some episode ended early
    network = subject.model.network
    feature = replay(subject.model, trial.rows, lambda record, feature: feature)
    log_prob = network.policy(jnp.asarray(feature)).log_prob(jnp.asarray(rows.decision.action))
    np.testing.assert_allclose(
        np.asarray(log_prob)[rows.valid], rows.decision.log_prob[rows.valid], rtol=1e-4, atol=1e-5
    )


def test_sites_are_the_embedding_and_every_layer(subject_of, worlds):
    subject = subject_of("window", worlds())
    trial = subject.roll_out(subject.tasks(2))
    network = subject.model.network
    keep = lambda record, feature: (sites(network, record, feature), feature)
    found, feature = replay(subject.model, trial.rows, keep)
    assert list(found) == ["embedding", "layer 1", "layer 2"]
    np.testing.assert_array_equal(found["layer 2"], feature)


def test_a_belief_is_a_site(worlds):
    """Mean and log deviation, as the policy's readout has them (there twice: of the variance)."""
    envs = worlds()
    agent = MemoryAgent(core=GRUConfig(width=4), readout=BeliefConfig(2, "joint"))
    subject = Subject(agent, agent.init(envs.spec, key=jax.random.key(0)).model, envs)
    trial, network = subject.roll_out(subject.tasks(2)), subject.model.network
    keep = lambda record, feature: (sites(network, record, feature), feature)
    found, feature = replay(subject.model, trial.rows, keep)
    assert set(found) == {"embedding", "layer 1", "belief"}
    token = np.zeros((*feature.shape[:2], envs.spec.obs_size))
    read = np.asarray(network.readout(jnp.asarray(feature), jnp.asarray(token)))[..., -4:]
    np.testing.assert_allclose(found["belief"] * [1, 1, 2, 2], read, rtol=1e-5, atol=1e-7)


def test_numbers_of_tasks_leave_out_what_is_the_same():
    tasks = {"goal": np.array([[0.0, 1.0], [0.0, 2.0]]), "wall": np.ones(2), "x": np.arange(2)}
    found = differing_numbers(tasks)
    assert list(found) == ["goal[1]", "x"]
    np.testing.assert_array_equal(found["goal[1]"], [1.0, 2.0])


def test_some_steps_are_the_first_and_the_last():
    np.testing.assert_array_equal(some_steps(5), np.arange(5))
    steps = some_steps(400)
    assert steps[0] == 0 and steps[-1] == 399 and len(steps) < 40
    assert set(range(4)) <= set(steps.tolist())


def test_the_same_tasks_every_time(subject_of, worlds):
    subject = subject_of("gru", worlds())
    one, other = subject.tasks(3), subject.tasks(3)
    jax.tree.map(np.testing.assert_array_equal, one, other)
