"""What a decoder says of cells, by hand; and of an agent that is as unsure of all of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.memory import MemoryAgent
from trmrl.analyze.decoded import (
    ENTERED,
    OTHERS,
    _by_step,
    _entropy,
    cell_probabilities,
    decoded,
    ways_in,
)
from trmrl.analyze.subject import Subject
from trmrl.envs import make
from trmrl.learners.objectives import ELBO, Objectives
from trmrl.learners.ppo import PPO
from trmrl.learners.stored import Replayed
from trmrl.nets.gru import GRUConfig
from trmrl.nets.readout import BeliefConfig
from trmrl.types import Decision, Outcome, Timestep, Trajectory, TrmrlError, replace


def with_decoder(subject, decoder):
    model = subject.model
    return replace(model, network=replace(model.network, heads={"ELBO": decoder}))


def rows_of(obs, action):
    """An episode `[1, T, B]` of which these are known."""
    obs, action = obs[None], action[None]
    shape = action.shape
    zeros, never = np.zeros(shape, np.float32), np.zeros(shape, bool)
    return Trajectory(
        Timestep(obs, np.zeros((*shape, 5), np.float32), zeros, never, never),
        Decision(action, zeros, zeros),
        Outcome(zeros, never, never, obs),
        ~never,
    )


NOBODY = rows_of(np.zeros((1, 1, 2), np.float32), np.full((1, 1), 4))
EVENLY = ways_in(NOBODY, np.zeros((1, 1), bool))


def test_cells_are_decoded_as_entered(untrained):
    """The logit is the latent plus x + 10 y of the cell that a step ends in."""

    def decoder(latent, obs, action, next_obs):
        assert latent.shape == (1, 2, 1) and obs.shape == next_obs.shape == (125, 2, 2)
        assert action.shape == (125, 2)
        place = next_obs[..., 0] + 10.0 * next_obs[..., 1]
        latent = jnp.broadcast_to(latent[:, None, :, 0], (1, 125, 2))
        return (latent + place[None])[..., None]

    mean = np.array([[[0.0], [-20.0]]])  # one step, two lanes
    found = cell_probabilities(with_decoder(untrained, decoder), mean, EVENLY)
    assert found.shape == (1, 2, 25)
    sigmoid = lambda x: 1.0 / (1.0 + np.exp(-x))
    assert found[0, 0, 0] == pytest.approx(0.5)  # cell (0, 0)
    assert found[0, 1, 5 * 3 + 2] == pytest.approx(sigmoid(3.0))  # cell (3, 2)


def test_ways_count_as_often_as_they_are_gone(untrained):
    """Into the corner (0, 0): 3 times from (1, 0), once by staying, once when nobody searched."""
    obs = np.array([[1, 0], [1, 0], [1, 0], [0, 0], [0, 0]], np.float32)[:, None]
    action = np.array([3, 3, 3, 4, 2])[:, None]
    ways = ways_in(rows_of(obs, action), np.array([1, 1, 1, 1, 0], bool)[:, None])
    assert ways.shape == (125, 25)
    np.testing.assert_allclose(ways.sum(axis=0), 1.0)
    assert ways[25 + 3, 0] == 0.75 and ways[4, 0] == 0.25
    # Nobody goes into (2, 2): the four steps from beside it count alike.
    assert sorted(ways[:, 12][ways[:, 12] > 0]) == [0.25] * 4 and ways[12 * 5 + 4, 12] == 0

    def decoder(latent, obs, action, next_obs):
        inside = (obs == next_obs).all(axis=-1)
        return jnp.where(inside, 50.0, -50.0)[None, ..., None]

    found = cell_probabilities(with_decoder(untrained, decoder), np.zeros((1, 1, 1)), ways)
    np.testing.assert_allclose(found[0, 0, [0, 12]], [0.25, 0.0], atol=1e-9)


def test_steps_with_too_few_trials_are_left_out():
    chosen = np.ones((2, 5, 3), bool)
    chosen[0, 0] = chosen[1, :, 1:] = False
    values = np.arange(30.0).reshape(2, 5, 3)
    steps, mean = _by_step(values, chosen)
    assert steps.tolist() == [1]
    np.testing.assert_allclose(mean, [np.mean([15, 18, 21, 24, 27])])
    np.testing.assert_allclose(_entropy(np.array([0.5, 1.0])), [np.log(2), 0.0], atol=1e-10)


def agent_of(kind):
    bound = Objectives(elbo=ELBO(coef=1.0, reward_kind=kind, hidden=(4,)))
    return MemoryAgent(
        core=GRUConfig(width=4),
        readout=BeliefConfig(2),
        normalize_obs=False,
        algorithm=PPO(chunk_length=0, replayed=Replayed(bound)),
    )


@pytest.fixture(scope="module")
def untrained():
    envs, agent = make("grid-navi"), agent_of("bernoulli")
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    return Subject(agent, model, envs, num_tasks=21)


def test_a_decoder_that_ignores_the_belief(untrained):
    """Its last weights are zero: every cell pays with a chance of one half, at every step."""
    decoder = untrained.model.network.heads["ELBO"]
    zeros = jax.tree.map(jnp.zeros_like, decoder.rest)
    decoder = eqx.tree_at(lambda d: d.rest, decoder, zeros)
    found = decoded(replace(untrained, model=with_decoder(untrained, decoder)))
    for name in (ENTERED, OTHERS):
        np.testing.assert_allclose(found.numbers[name]["mean"], np.log(2), rtol=1e-5)
    exact = found.numbers[f"{OTHERS}, exact posterior"]["mean"]
    coin = 1 / 21
    assert exact[0] == pytest.approx(-coin * np.log(coin) - (1 - coin) * np.log(1 - coin))
    entered = found.numbers[f"{ENTERED}, exact posterior"]["mean"]
    np.testing.assert_allclose(entered, 0.0, atol=1e-9)
    assert [figure.name for figure in found.figures] == ["decoded", "decoded-rooms"]
    assert found.arrays["probability"].shape == (60, 21, 25)


def test_what_cannot_be_decoded_is_one_line(untrained, subject_of, worlds):
    with pytest.raises(TrmrlError, match="only rooms of grid-navi are decoded, not drift"):
        decoded(subject_of("gru", worlds()))
    with pytest.raises(TrmrlError, match="no belief that decodes the signs of rewards"):
        decoded(replace(untrained, agent=agent_of("gaussian")))
