"""The terms of a loss by hand, and what predictions are compared with."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.objectives import (
    Chunks,
    Entropy,
    Objectives,
    Prediction,
    Surrogate,
    Value,
)
from trmrl.learners.ppo import Credit, Joint, Separate
from trmrl.nets.distributions import Categorical
from trmrl.nets.network import Reading
from trmrl.types import replace

KEY = jax.random.key(0)
SMALL = {"num_passes": 2, "minibatch_size": 16}
EVEN = np.full((2, 3, 2), 0.5, np.float32)  # a policy's probabilities, time first


def arrays(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]


def all_moved(one, two):
    return all(not np.array_equal(a, b) for a, b in zip(arrays(one), arrays(two), strict=True))


@pytest.fixture(scope="module")
def network(small_agent, drift):
    return small_agent("gru").init(drift().spec, key=jax.random.key(0)).model.network


@pytest.fixture(scope="module")
def chunks():
    """Three chunks of two rows, time first; the last row of the last chunk did not happen.

    The second row of the second chunk has no advantage: the clock cut the trial there.
    """
    by_chunk = Chunks(
        memory0=None,
        token=jnp.zeros((3, 2, 1)),
        start=jnp.zeros((3, 2), bool),
        valid=jnp.array([[True, True], [True, True], [True, False]]),
        action=jnp.array([[0, 1], [1, 0], [0, 0]], jnp.int32),
        log_prob=jnp.log(jnp.array([[0.5, 0.25], [0.6, 0.5], [0.9, 0.01]])),
        advantage=jnp.array([[1.0, -1.0], [2.0, 88.0], [-3.0, 99.0]]),
        value_target=jnp.array([[1.0, 2.0], [3.0, 88.0], [5.0, 99.0]]),
        credited=jnp.array([[True, True], [True, False], [True, False]]),
        targets={
            "Prediction": jnp.array(
                [
                    [[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]],
                    [[2.0, 0.0, 0.0], [0.5, 4.0, 0.0]],
                    [[-1.0, 1.0, 0.0], [99.0, 99.0, 99.0]],
                ]
            )
        },
    )
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), by_chunk)


def reading(probabilities=EVEN, value=None):
    value = jnp.zeros((2, 3)) if value is None else value
    return Reading(jnp.zeros((2, 3, 4)), Categorical(jnp.log(jnp.asarray(probabilities))), value)


def test_surrogate_by_hand(network, chunks):
    """New policy: 0.7 and 0.3 everywhere."""
    policy = np.broadcast_to(np.array([0.7, 0.3], np.float32), (2, 3, 2))
    loss, metrics = Surrogate(0.2).loss(network, reading(policy), chunks)
    gains, kls = [], []
    ratios = [(0.7 / 0.5, 1.0), (0.3 / 0.25, -1.0), (0.3 / 0.6, 2.0), (0.7 / 0.5, None),
              (0.7 / 0.9, -3.0)]  # fmt: skip
    for ratio, advantage in ratios:
        if advantage is not None:
            gains.append(min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage))
        kls.append(ratio - 1 - np.log(ratio))
    entropy = -(0.7 * np.log(0.7) + 0.3 * np.log(0.3))
    assert float(loss) == pytest.approx(-np.mean(gains), rel=1e-5)
    assert float(metrics["policy_loss"]) == pytest.approx(-np.mean(gains), rel=1e-5)
    assert float(metrics["entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(metrics["kl"]) == pytest.approx(np.mean(kls), rel=1e-4)
    assert chunks.valid.sum() == len(ratios)
    # 1.4, 0.5, 1.4 and 0.78 lie outside; 1.2 is on the edge, where a float may fall either way.
    assert float(metrics["clip_fraction"]) in (pytest.approx(0.8), pytest.approx(1.0))
    assert float(Surrogate(0.2).weight(jnp.asarray(0.7))) == 1.0


def test_entropy_by_hand(network, chunks):
    """The row that did not happen counts for nothing: its policy alone is sure."""
    policy = np.full((2, 3, 2), 0.5, np.float32)
    policy[0, 1] = 0.7, 0.3
    policy[1, 2] = 1 - 1e-6, 1e-6
    loss, metrics = Entropy(0.1).loss(network, reading(policy), chunks)
    one = -(0.7 * np.log(0.7) + 0.3 * np.log(0.3))
    assert float(loss) == pytest.approx(-(one + 4 * np.log(2)) / 5, rel=1e-5)
    assert metrics == {}


@pytest.mark.parametrize("decay", ["exponential", "linear"])
@pytest.mark.parametrize(
    ("env_steps", "expected"),
    [(0, 0.04), (1_000, 0.04), (2_000, 0.025), (3_000, 0.01), (9_000, 0.01)],
)
def test_entropy_bonus_falls_in_a_line_over_the_decay(env_steps, expected, decay):
    """Half way from 1,000 to 3,000 steps, half way from 0.04 to a quarter of it."""
    optimizer = OptimizerConfig(decay=decay, decay_start=1_000, decay_end=3_000)
    elapsed = optimizer.elapsed(jnp.asarray(env_steps, jnp.float32))
    assert float(Entropy(0.04, final_factor=0.25).weight(elapsed)) == pytest.approx(expected)


@pytest.mark.parametrize("env_steps", [0, 1, 2_000, 10**9])
@pytest.mark.parametrize("decay_start", [0, 1_000])
def test_without_an_end_of_the_decay_the_entropy_bonus_stays(env_steps, decay_start):
    optimizer = OptimizerConfig(decay_start=decay_start, decay_end=0)
    elapsed = optimizer.elapsed(jnp.asarray(env_steps, jnp.float32))
    assert float(Entropy(0.04, final_factor=0.0).weight(elapsed)) == np.float32(0.04)


@pytest.mark.parametrize("error", ["squared", "gaussian"])
def test_value_loss_by_hand(network, chunks, error):
    network = eqx.tree_at(lambda n: n.critic.log_std, network, jnp.asarray(0.7))
    value = jnp.array([[1.5, 3.0, 4.0], [0.0, 4.0, 7.0]])
    errors = np.array([0.5, -2.0, 0.0, -1.0])
    loss, metrics = Value(0.5, error).loss(network, reading(value=value), chunks)
    squared = np.mean(0.5 * errors**2)
    expected = {"squared": squared, "gaussian": squared * np.exp(-1.4) + 0.7}[error]
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["value_loss"]) == pytest.approx(expected, rel=1e-5)


def test_prediction_error_by_hand(network, chunks):
    """A reward and two observations, predicted 1, 0 and 1 at the first rows, then 1.5, .5, 1.5."""

    def predict(feature, action):
        np.testing.assert_array_equal(action, chunks.action)
        rows = [[1.0, 0.0, 1.0]] * 3 + [[1.5, 0.5, 1.5]] * 3
        return jnp.array(rows).reshape((2, 3, 3))

    network = replace(network, heads={"Prediction": predict})
    loss, metrics = Prediction(2.0).loss(network, reading(), chunks)
    errors = [(0, 0, -1), (1.5, -0.5, 0.5), (-1, 0, 1), (1, -3.5, 1.5), (2, -1, 1)]
    reward = np.mean([0.5 * e[0] ** 2 for e in errors])
    obs = np.mean([0.25 * (e[1] ** 2 + e[2] ** 2) for e in errors])
    assert float(metrics["reward_prediction_loss"]) == pytest.approx(reward, rel=1e-5)
    assert float(metrics["obs_prediction_loss"]) == pytest.approx(obs, rel=1e-5)
    assert float(loss) == pytest.approx(reward + obs, rel=1e-5)
    assert Prediction(2.0).weight(jnp.asarray(0.5)) == 2.0


@pytest.mark.parametrize("value", [Joint(0.0), Separate()])
def test_predictions_shape_the_core_and_nothing_reads_them(small_agent, first_trial, value):
    """Where nothing else is learned they move the core and themselves, and no other head."""
    agent = small_agent(
        "gru",
        objectives=Objectives(prediction=Prediction(1.0)),
        value=value,
        normalize_advantage=False,
        **SMALL,
    )
    learner, trial = first_trial(agent)
    rows, zeros = trial.rows.flatten_time(), jnp.zeros((12, 4))
    credit = Credit(zeros, zeros, zeros, rows.valid)
    chunks = agent.algorithm.chunk(learner.model, rows, credit, key=KEY)
    network = learner.model.network
    phase = agent.algorithm.phases(network)[0]
    gradient = jax.grad(lambda n: phase.loss(n, chunks, jnp.zeros(()))[0])(network)
    moved = lambda part: any(np.abs(x).max() > 1e-4 for x in arrays(part))
    assert moved(gradient.core)
    assert moved(gradient.heads["Prediction"])
    assert not moved(gradient.policy)
    assert not moved(gradient.critic)


@pytest.mark.parametrize("normalize_obs", [True, False])
def test_predictions_are_of_what_came_after(small_agent, update_once, normalize_obs):
    """Rewards by the trial's own moments; observations as the next token shows them."""
    objectives = Objectives(prediction=Prediction(1.0))
    agent = small_agent(
        "gru", objectives=objectives, chunk_length=0, normalize_obs=normalize_obs, **SMALL
    )
    once = update_once(agent)
    rows, model = once.rows, once.after.model
    chunks = agent.algorithm.chunk(model, rows, agent.algorithm.credit(model, rows), key=KEY)
    outcome = np.swapaxes(chunks.targets["Prediction"], 0, 1)
    np.testing.assert_array_equal(outcome, objectives.prediction.targets(model, rows, key=KEY))
    valid = np.asarray(rows.valid)
    reward = np.asarray(rows.outcome.reward)[valid]
    expected = (reward - reward.mean()) / reward.std()
    np.testing.assert_allclose(outcome[..., 0][valid], expected, atol=1e-4)
    token, _ = model.tokens(rows.timestep)
    goes_on = valid[1:] & ~np.asarray(rows.timestep.episode_start)[1:]
    assert goes_on.any()
    shown = np.asarray(token)[1:, :, : outcome.shape[-1] - 1]
    np.testing.assert_allclose(outcome[:-1, :, 1:][goes_on], shown[goes_on], atol=1e-5)
    assert {"reward_prediction_loss", "obs_prediction_loss"} <= set(once.metrics)
    assert all_moved(once.before.model.network.heads, model.network.heads)


def test_the_menu_lists_what_counts_in_its_order():
    own = Value(0.3)
    entropy, prediction = Entropy(0.1), Prediction(2.0)
    assert Objectives().listed() == ()
    assert Objectives(entropy, prediction, others=(own,)).listed() == (entropy, prediction, own)
    assert Objectives(prediction=prediction).listed() == (prediction,)
    assert Objectives(entropy, Prediction(0.0), others=(Value(0.0), own)).listed() == (entropy, own)
