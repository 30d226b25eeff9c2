"""How a memory agent begins and acts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.learners.objectives import Objectives, Prediction
from trmrl.learners.ppo import Separate
from trmrl.nets.embed import token, token_size
from trmrl.ops.normalize import Moments
from trmrl.trial import run_trial
from trmrl.types import Timestep, replace

KEY = jax.random.key(0)
LANES = 4
KEYS = jax.random.split(KEY, LANES)


@pytest.fixture(scope="module")
def timestep():
    """A first row of a trial, a first row of an episode, and two others."""
    noise = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(noise.normal(size=shape), jnp.float32)
    trial_start = jnp.array([True, False, False, False])
    episode_start = jnp.array([True, True, False, False])
    return Timestep(draw(LANES, 2), draw(LANES, 2), draw(LANES), episode_start, trial_start)


@pytest.fixture(scope="module")
def shaken(small_agent, shake, drift):
    """`shaken(fields of small_agent)`: an agent, and a model with weights far from their start."""

    def build(core="gru", **fields):
        agent = small_agent(core, **fields)
        model = agent.init(drift().spec, key=KEY).model
        moments = Moments(jnp.full(2, 0.3), jnp.full(2, 0.5), jnp.asarray(10.0))
        return agent, replace(model, network=shake(model.network), obs_moments=moments)

    return build


def test_a_fresh_learner_holds_weights_moments_and_no_experience(small_agent, drift):
    learner = small_agent("gru").init(drift().spec, key=KEY)
    model = learner.model
    assert learner.store is None
    assert model.network.heads == {}
    for moments, shape in ((model.obs_moments, (2,)), (model.return_moments, ())):
        np.testing.assert_array_equal(moments.mean, np.zeros(shape))
        np.testing.assert_array_equal(moments.variance, np.ones(shape))
    assert set(learner.optimizer) == {"policy", "bonuses"}
    again = small_agent("gru").init(drift().spec, key=KEY)
    other = small_agent("gru").init(drift().spec, key=jax.random.key(1))
    weights = lambda learner: jax.tree.leaves(learner.model)
    for one, two in zip(weights(learner), weights(again), strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(
        not np.array_equal(one, two)
        for one, two in zip(weights(learner), weights(other), strict=True)
    )


def test_objectives_and_phases_shape_the_learner(small_agent, drift):
    """A head for each objective that has one, moments for each phase; nothing else changes."""
    spec, objectives = drift().spec, Objectives(prediction=Prediction(1.0))
    plain = small_agent("gru").init(spec, key=KEY)
    agent = small_agent("gru", objectives=objectives, value=Separate())
    learner = agent.init(spec, key=KEY)
    network = learner.model.network
    assert set(network.heads) == {"Prediction"}
    assert set(learner.optimizer) == {"policy", "value", "bonuses"}
    without = eqx.tree_at(lambda n: n.heads, network, {})
    assert eqx.tree_equal(without, plain.model.network)


@pytest.mark.parametrize("value_input", ["feature", "token"])
def test_the_value_reads_what_it_was_given_alone(small_agent, drift, value_input):
    """On tokens it is blind to memory; on features it takes the token from memory."""
    agent, spec = small_agent("gru", value_input=value_input), drift().spec
    network = agent.init(spec, key=KEY).model.network
    feature, tokens = jnp.ones((2, 8)), jnp.ones((2, 6))
    assert tokens.shape[1] == token_size(spec)
    value = network.value(feature, tokens)
    of_feature = np.asarray(value != network.value(5.0 * feature, tokens))
    of_token = np.asarray(value != network.value(feature, 5.0 * tokens))
    assert value.shape == (2,)
    assert np.all(of_feature) == np.any(of_feature) == (value_input == "feature")
    assert np.all(of_token) == np.any(of_token) == (value_input == "token")


@pytest.mark.parametrize("normalize_obs", [True, False])
@pytest.mark.parametrize(("scope", "first"), [("trial", [1, 0, 0, 0]), ("episode", [1, 1, 0, 0])])
def test_tokens_begin_anew_where_the_scope_does(shaken, timestep, scope, first, normalize_obs):
    _, model = shaken(memory_scope=scope, normalize_obs=normalize_obs)
    tokens, start = model.tokens(timestep)
    np.testing.assert_array_equal(start, np.array(first, bool))
    moments = model.obs_moments if normalize_obs else None
    np.testing.assert_array_equal(tokens, token(timestep, moments, start))
    obs = np.asarray(timestep.obs)
    expected = (obs - 0.3) / np.sqrt(0.5) if normalize_obs else obs
    np.testing.assert_allclose(tokens[:, :2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("core", ["gru", "window", "trial-whole"])
@pytest.mark.parametrize("value_input", ["feature", "token"])
def test_acting_steps_the_core_and_answers_from_its_feature(shaken, timestep, core, value_input):
    agent, model = shaken(core, value_input=value_input)
    memory = agent.start(model, LANES)
    assert eqx.tree_equal(memory, model.network.core.start(LANES))
    tokens, start = model.tokens(timestep)
    expected, feature = model.network.core.step(memory, tokens, start)
    policy = model.network.policy(feature)
    found = {}
    for explore in (True, False):
        after, decision = agent.act(model, memory, timestep, explore=explore, key=KEYS)
        assert eqx.tree_equal(after, expected)
        np.testing.assert_array_equal(decision.value, model.network.value(feature, tokens))
        np.testing.assert_array_equal(decision.log_prob, policy.log_prob(decision.action))
        found[explore] = decision.action
    np.testing.assert_array_equal(found[False], policy.mode())
    np.testing.assert_array_equal(found[True], policy.sample(key=KEYS))
    _, other = agent.act(model, memory, timestep, explore=True, key=KEYS[::-1])
    assert np.all(np.asarray(other.action != found[True]))


def test_an_episode_leaves_the_memory_as_it_is(shaken, drift, currents, timestep):
    agent, model = shaken()
    trial = run_trial(agent, model, drift(), currents(), explore=True, key=KEY)
    episode = jax.tree.map(lambda x: x[0], trial.rows)
    memory, _ = agent.act(model, agent.start(model, LANES), timestep, explore=True, key=KEYS)
    assert eqx.tree_equal(agent.adapt(model, memory, episode), memory)


def test_an_update_is_its_algorithms(small_agent, drift, currents):
    agent, envs = small_agent("gru", num_passes=1), drift()
    learner = agent.init(envs.spec, key=KEY)
    trial = run_trial(agent, learner.model, envs, currents(), explore=True, key=KEY)
    zero = jnp.zeros(())
    one = agent.update(learner, trial, env_steps=zero, key=KEY)
    two = agent.algorithm.update(learner, trial, env_steps=zero, key=KEY)
    assert eqx.tree_equal(one, two)
