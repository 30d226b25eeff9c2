"""Bonuses by hand: of novelty, of a belief's error, and what becomes of them in credit."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.objectives import ELBO, Novelty, Objectives
from trmrl.learners.stored import Replayed
from trmrl.nets.embed import token_size
from trmrl.nets.gru import GRUConfig
from trmrl.nets.heads import HeadConfig
from trmrl.nets.readout import BeliefConfig, FeatureReadout
from trmrl.trial import run_trial
from trmrl.types import Trial, replace

T, B = 6, 3
KEY = jax.random.key(0)
DECAY = OptimizerConfig(decay_end=1_000)


@pytest.fixture(scope="module")
def begun(small_agent, shake):
    """An agent with both bonuses, its learner, and three trials of six rows on a grid."""
    envs = make("grid-navi")
    envs = replace(envs, spec=replace(envs.spec, horizon=3, num_episodes=2))
    paid = Objectives(
        elbo=ELBO(1.0, bonus_coef=2.0), novelty=Novelty(1.0, 3.0, obs=(1,), hidden=(4,), size=2)
    )
    agent = small_agent(
        "gru",
        readout=BeliefConfig(2),
        chunk_length=0,
        gamma=0.9,
        optimizer=DECAY,
        replayed=Replayed(paid, capacity=4, num_updates=1, num_trials=2),
    )
    learner = agent.init(envs.spec, key=KEY)
    network = shake(learner.model.network)
    where = lambda n: [getattr(n.heads["Novelty"], x) for x in ("mean", "variance", "count")]
    network = eqx.tree_at(where, network, where(learner.model.network))
    learner = replace(learner, model=replace(learner.model, network=network))
    tasks = envs.sample_tasks("train", B, key=KEY)
    trial = run_trial(agent, learner.model, envs, tasks, explore=True, key=KEY)
    rows = trial.rows.flatten_time()
    rows = replace(rows, valid=rows.valid.at[2, 0].set(False).at[4:, 1].set(False))
    return agent, learner, rows


def read(agent, learner, rows):
    """The whole trial as objectives read it."""
    ppo, model = agent.algorithm, learner.model
    whole = replace(ppo, objectives=ppo.replayed.objectives)
    chunks = whole.chunk(model, rows, ppo.credit(model, rows), key=KEY)
    chunks = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), chunks)
    return model.network, model.network.read(None, chunks.token, chunks.start, chunks.valid), chunks


def mlp(net, x):
    (w1, b1), (w2, b2) = (
        (np.asarray(layer.weight), np.asarray(layer.bias)) for layer in net.layers
    )
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


def test_novelty_is_the_distance_of_two_networks(begun):
    """On the observation's chosen number and on what policy and value read."""
    network, reading, chunks = read(*begun)
    found = Novelty(1.0, obs=(1,)).bonus(network, reading, chunks)
    heads, read_there = network.heads["Novelty"], network.readout(reading.feature, chunks.token)
    inputs = np.concatenate([chunks.token[..., 1:2], read_there], axis=-1)
    expected = ((mlp(heads.predictor, inputs) - mlp(heads.random, inputs)) ** 2).sum(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    loss, metrics = Novelty(1.0, obs=(1,)).loss(network, reading, chunks)
    mean = expected[np.asarray(chunks.valid)].mean()
    assert float(loss) == float(metrics["novelty"]) == pytest.approx(mean, rel=1e-3)


def test_the_random_network_and_the_agent_are_not_trained_by_it(begun):
    network, reading, chunks = read(*begun)

    def loss(network):
        reading = network.read(None, chunks.token, chunks.start, chunks.valid)
        return Novelty(1.0).loss(network, reading, chunks)[0]

    gradient = jax.grad(loss)(network)
    touched = lambda tree: any(np.any(np.asarray(x) != 0) for x in jax.tree.leaves(tree))
    assert touched(gradient.heads["Novelty"].predictor)
    assert not touched(gradient.heads["Novelty"].random)
    assert not touched((gradient.core, gradient.readout, gradient.policy, gradient.critic))


def test_a_beliefs_error_is_of_the_step_it_has_just_taken_in(begun):
    """Row by row: the reward decoded from the mean of the next belief that happened."""
    network, reading, chunks = read(*begun)
    elbo = ELBO(1.0, bonus_coef=2.0)
    found = np.asarray(elbo.bonus(network, reading, chunks))
    mean, valid = network.readout.belief(reading.feature).mean, np.asarray(chunks.valid)
    shown = chunks.targets["ELBO"]
    for b in range(B):
        happened = np.flatnonzero(valid[:, b])
        for t, after in zip(happened, [*happened[1:], happened[-1]], strict=True):
            at = lambda x, t=t, b=b: jnp.asarray(x)[t, b][None, None]
            decoded = network.heads["ELBO"](
                mean[after, b][None, None],
                at(shown["obs"]),
                at(chunks.action),
                at(shown["next_obs"]),
            )
            expected = 0.5 * (float(decoded[0, 0, 0, 0]) - float(shown["reward"][t, b])) ** 2
            assert found[t, b] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_hyper_states_are_normalized_by_the_rows_paid_so_far(begun):
    """Paying rows adds them to the moments that both networks read the next ones by."""
    agent, learner, rows = begun
    network, reading, chunks = read(*begun)
    moments, elapsed = learner.optimizer["bonuses"], jnp.asarray(0.0)
    _, _, model = agent.algorithm.bonus(learner.model, rows, moments, elapsed, key=KEY)
    before, after = network.heads["Novelty"], model.network.heads["Novelty"]
    read_there = network.readout(reading.feature, chunks.token)
    inputs = np.concatenate([chunks.token[..., 1:2], read_there], axis=-1)
    seen = inputs[np.asarray(rows.valid)]
    np.testing.assert_allclose(after.mean, seen.mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(after.variance, seen.var(0), rtol=1e-3, atol=1e-6)
    shown = np.clip((inputs - seen.mean(0)) / np.sqrt(np.maximum(seen.var(0), 1) + 1e-8), -10, 10)
    expected = ((mlp(after.predictor, shown) - mlp(after.random, shown)) ** 2).sum(axis=-1)
    found = Novelty(1.0, obs=(1,)).bonus(model.network, reading, chunks)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-5)
    for one, other in ((before.random, after.random), (before.predictor, after.predictor)):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_random_network_is_larger_and_bends_where_the_predictor_does_not_yet():
    """Its weights and biases are `gain` times those of an ordinary network."""
    spec, readout = make("grid-navi").spec, FeatureReadout(3)
    core = GRUConfig(3).build(token_size(spec), spec.trial_length, key=KEY)
    build = functools.partial(
        Novelty.build, core=core, readout=readout, spec=spec, head=HeadConfig(), key=KEY
    )
    head = lambda gain: build(Novelty(1.0, gain=gain))
    one, five = head(1.0), head(5.0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(5 * a, b, rtol=1e-5), one.random, five.random
    )
    jax.tree.map(np.testing.assert_array_equal, one.predictor, five.predictor)
    for layer in one.random.layers:
        limit = layer.weight.shape[0] ** -0.5
        assert np.all(np.abs(layer.bias) <= limit)
        assert np.std(layer.bias) == pytest.approx(limit / 3**0.5, rel=0.5)


@pytest.mark.parametrize("elapsed", [0.0, 0.25, 1.0])
def test_bonuses_are_scaled_weighted_and_fall_to_zero(begun, elapsed):
    """Each over the deviation of its own discounted sum, by plain loops."""
    agent, learner, rows = begun
    ppo = agent.algorithm
    moments = learner.optimizer["bonuses"]
    assert set(moments) == {"ELBO", "Novelty"}
    total, after, _ = ppo.bonus(learner.model, rows, moments, jnp.asarray(elapsed), key=KEY)
    network, reading, chunks = read(*begun)
    valid, expected = np.asarray(rows.valid), np.zeros((T, B))
    for term, coef in ((ELBO(1.0), 2.0), (Novelty(1.0, obs=(1,)), 3.0)):
        paid = np.where(valid, np.asarray(term.bonus(network, reading, chunks)), 0.0)
        sums = []
        for b in range(B):
            rest = 0.0
            for t in np.flatnonzero(valid[:, b])[::-1]:
                rest = paid[t, b] + 0.9 * rest
                sums.append(rest)
        assert float(after[type(term).__name__].variance) == pytest.approx(np.var(sums), rel=1e-3)
        expected += (1 - elapsed) * coef * paid / np.std(sums)
    np.testing.assert_allclose(total, expected, rtol=2e-3, atol=1e-6)


def test_a_bonus_is_in_credit_and_in_nothing_an_agent_or_a_decoder_reads(begun):
    agent, learner, rows = begun
    ppo, model = agent.algorithm, learner.model
    bonus = jnp.ones(rows.valid.shape)
    plain, paid = ppo.credit(model, rows), ppo.credit(model, rows, bonus)
    assert np.all(
        np.asarray(paid.value_target - plain.value_target)[np.asarray(plain.credited)] > 0
    )
    whole = replace(ppo, objectives=ppo.replayed.objectives)
    one, two = (whole.chunk(model, rows, credit, key=KEY) for credit in (plain, paid))
    for name in ("token", "action", "log_prob"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    jax.tree.map(np.testing.assert_array_equal, one.targets, two.targets)
    np.testing.assert_array_equal(one.targets["ELBO"]["reward"][0], rows.outcome.reward[:, 0])


def test_without_bonuses_nothing_is_paid(small_agent, begun):
    _, learner, rows = begun
    total, moments, _ = small_agent("gru").algorithm.bonus(
        learner.model, rows, {}, jnp.asarray(0.0), key=KEY
    )
    assert moments == {}
    assert not np.any(np.asarray(total))


def test_the_predictor_takes_steps_of_its_own_on_stored_trials(begun):
    """Without a step size it stands still, and the belief moves as it would without novelty."""
    agent, learner, rows = begun

    def after(novelty):
        replayed = replace(
            agent.algorithm.replayed, objectives=Objectives(elbo=ELBO(1.0), novelty=novelty)
        )
        ppo = replace(agent.algorithm, replayed=replayed)
        start = replace(ppo.start(learner.model, make("grid-navi").spec), store=learner.store)
        tasks = make("grid-navi").sample_tasks("train", B, key=KEY)
        trial = Trial(jax.tree.map(lambda x: x[None], rows), tasks)
        update = jax.jit(functools.partial(ppo.update, env_steps=jnp.zeros(()), key=KEY))
        return update(start, trial)[0].model.network

    small = {"obs": (1,), "hidden": (4,), "size": 2}
    still = after(Novelty(1.0, 0.0, optimizer=OptimizerConfig(0.0), **small))
    moved = after(Novelty(1.0, 0.0, optimizer=OptimizerConfig(1e-2), **small))
    same = lambda one, two: all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    )
    before = learner.model.network
    assert same(still.heads["Novelty"], before.heads["Novelty"])
    assert not same(moved.heads["Novelty"].predictor, before.heads["Novelty"].predictor)
    for part in ("core", "readout"):
        assert same(getattr(still, part), getattr(moved, part))
        assert not same(getattr(still, part), getattr(before, part))
    assert same(still.heads["ELBO"], moved.heads["ELBO"])
