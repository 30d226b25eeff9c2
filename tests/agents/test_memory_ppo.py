"""What a trial teaches: whose weights move, what is counted, and the losses by hand."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents._sgd import OptimizerConfig
from trmrl.agents.memory_ppo import Rows
from trmrl.nets.distributions import Categorical
from trmrl.trial import run_trial
from trmrl.types import replace

STILL = OptimizerConfig(learning_rate=0.0)
SMALL = {"num_passes": 2, "minibatch_size": 16}


@functools.cache
def update_of(agent):
    return jax.jit(lambda *x: agent.update(*x))


@pytest.fixture(scope="module")
def teach(drift, currents):
    """`teach(agent)`: the state before, a trial with early ends, the state after, the metrics."""

    def run(agent):
        envs = drift()
        state = agent.init(envs.spec, key=jax.random.key(0))
        trial = run_trial(
            agent, state.model, envs, currents(noise=0.1), explore=True, key=jax.random.key(1)
        )
        after, metrics = update_of(agent)(state, trial)
        return state, trial, after, metrics

    return run


@pytest.fixture(scope="module")
def taught(small_agent, teach):
    return teach(small_agent("gru", **SMALL))


def arrays(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(two), strict=True))


def all_moved(one, two):
    return all(not np.array_equal(a, b) for a, b in zip(arrays(one), arrays(two), strict=True))


def test_counters_key_and_metrics(taught):
    before, trial, after, metrics = taught
    valid = np.asarray(trial.valid)
    assert 0 < valid.sum() < valid.size
    assert int(after.env_steps) == valid.sum()
    assert int(after.updates) == 1
    assert int(before.env_steps) == int(before.updates) == 0
    assert not np.array_equal(jax.random.key_data(before.key), jax.random.key_data(after.key))
    assert all(np.isfinite(x) for x in metrics.values())
    assert jax.tree.structure(before) == jax.tree.structure(after)
    old, new = jax.tree.leaves(before), jax.tree.leaves(after)
    assert all(x.aval == y.aval for x, y in zip(old, new, strict=True))


def test_a_joint_update_moves_every_weight_that_learns(taught):
    before, _, after, _ = taught
    old, new = before.model.network, after.model.network
    assert all_moved((old.core, old.policy), (new.core, new.policy))
    assert all_moved(old.critic.value, new.critic.value)


def test_an_update_is_pure(small_agent, teach, taught):
    before, trial, after, _ = taught
    agent = small_agent("gru", **SMALL)
    again, _ = update_of(agent)(before, trial)
    assert same(after, again)


def test_moments_are_those_of_what_was_seen(taught):
    before, trial, after, _ = taught
    valid = np.asarray(trial.valid)
    obs = np.asarray(trial.timestep.obs)[valid]
    moments = after.model.obs_moments
    np.testing.assert_allclose(moments.mean, obs.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moments.variance, obs.var(0), rtol=1e-3)
    assert float(moments.count) == valid.sum()
    returns = []
    reward = np.asarray(trial.outcome.reward)
    for lane in range(valid.shape[2]):
        to_go = 0.0
        for r, happened in zip(
            reward[..., lane].ravel()[::-1], valid[..., lane].ravel()[::-1], strict=True
        ):
            if happened:  # credit crosses episodes, and idle rows are not there
                to_go = r + 0.95 * to_go
                returns.append(to_go)
    np.testing.assert_allclose(after.model.return_moments.mean, np.mean(returns), rtol=1e-4)
    np.testing.assert_allclose(after.model.return_moments.variance, np.var(returns), rtol=1e-3)
    np.testing.assert_array_equal(before.model.obs_moments.mean, 0.0)


def test_acting_and_crediting_use_the_moments_of_before(small_agent, teach):
    """With no step taken, the second update on the same trial differs by its moments alone."""
    agent = small_agent("gru", **SMALL, optimizer=STILL)
    before, trial, after, metrics = teach(agent)
    assert same(before.model.network, after.model.network)
    assert abs(float(metrics["kl"])) < 1e-6  # update read what act had seen: the old moments
    _, later = update_of(agent)(after, trial)
    assert abs(float(later["kl"])) > 1e-5  # and the new ones say otherwise


def test_value_phase_on_tokens_leaves_the_policy_to_its_own_optimizer(small_agent, teach):
    agent = small_agent(
        "gru", **SMALL, value_phase="after", value_input="token", optimizer=STILL,
        value_optimizer=OptimizerConfig(learning_rate=0.1, weight_decay=0.5),
    )  # fmt: skip
    before, _, after, _ = teach(agent)
    old, new = before.model.network, after.model.network
    assert same((old.core, old.policy), (new.core, new.policy))
    assert all_moved(old.critic.value, new.critic.value)


@pytest.mark.parametrize(
    ("value_input", "value_parts"),
    [("token", ["critic"]), ("feature", ["core", "policy", "critic"])],
)
def test_phases_own_their_parts(small_agent, taught, value_input, value_parts):
    """And the critic is never the policy phase's."""
    network = taught[0].model.network
    policy, value = small_agent("gru", value_phase="after", value_input=value_input)._phases()
    for phase, parts in ((policy, ["core", "policy"]), (value, value_parts)):
        mask = phase.part(network)
        for part in ("core", "policy", "critic"):
            assert set(jax.tree.leaves(getattr(mask, part))) == {part in parts}


def test_stopping_early_works_with_a_value_phase(small_agent, teach):
    agent = small_agent(
        "gru", **SMALL, value_phase="after", value_input="token", stop_kl=1e-9,
        optimizer=OptimizerConfig(learning_rate=0.1),
        value_optimizer=OptimizerConfig(learning_rate=0.1),
    )  # fmt: skip
    before, _, after, _ = teach(agent)
    assert all_moved(before.model.network.critic.value, after.model.network.critic.value)


def test_chunks_that_do_not_divide_the_trial_are_refused(small_agent, teach):
    from trmrl.types import TrmrlError

    with pytest.raises(TrmrlError, match=r"5.*12"):
        teach(small_agent("gru", **SMALL, chunk_length=5))


@pytest.mark.parametrize("chunk_length", [1, 3, 0])
def test_chunks_cover_the_trial(small_agent, taught, chunk_length):
    """Every row of the trial is in one chunk, in its order."""
    before, trial, _, _ = taught
    agent = small_agent("gru", chunk_length=chunk_length, normalize_advantage=False)
    rows = trial.flatten_time()
    ids = jnp.arange(48, dtype=jnp.float32).reshape(12, 4)
    batch = agent._chunk(before.model, rows, ids, -ids)
    length = chunk_length or 12
    found = np.asarray(batch.advantage)
    assert found.shape == (48 // length, length)
    assert sorted(found.ravel().tolist()) == list(range(48))
    np.testing.assert_array_equal(np.diff(found, axis=1), 4.0)  # the same lane's next row
    np.testing.assert_array_equal(batch.value_target, -found)
    flat = lambda x: np.asarray(x).reshape(48, *x.shape[2:])
    order = found.astype(int)
    np.testing.assert_array_equal(batch.log_prob, flat(rows.decision.log_prob)[order])
    np.testing.assert_array_equal(batch.action, flat(rows.decision.action)[order])
    np.testing.assert_array_equal(batch.valid, flat(rows.valid)[order])


def test_advantages_are_standardized_over_what_happened(small_agent, taught):
    before, trial, _, _ = taught
    rows = trial.flatten_time()
    noise = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    batch = small_agent("gru")._chunk(before.model, rows, jnp.asarray(noise), jnp.asarray(noise))
    x = noise[np.asarray(rows.valid)]
    expected = np.sort((x - x.mean()) / x.std())
    found = np.sort(np.asarray(batch.advantage)[np.asarray(batch.valid)])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def hand_rows():
    """Three chunks of two rows; the last row of the last chunk did not happen."""
    valid = np.array([[True, True], [True, True], [True, False]])
    return Rows(
        memory0=None,
        token=jnp.zeros((3, 2, 1)),
        start=jnp.zeros((3, 2), bool),
        valid=jnp.asarray(valid),
        action=jnp.array([[0, 1], [1, 0], [0, 0]], jnp.int32),
        log_prob=jnp.log(jnp.array([[0.5, 0.25], [0.6, 0.5], [0.9, 0.01]])),
        advantage=jnp.array([[1.0, -1.0], [2.0, 0.5], [-3.0, 99.0]]),
        value_target=jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 99.0]]),
        outcome=jnp.array(
            [
                [[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]],
                [[2.0, 0.0, 0.0], [0.5, 4.0, 0.0]],
                [[-1.0, 1.0, 0.0], [99.0, 99.0, 99.0]],
            ]
        ),
    ), valid


def test_surrogate_by_hand(small_agent):
    """New policy: 0.7 and 0.3 everywhere, time first as the losses read it."""
    rows, valid = hand_rows()
    agent = small_agent("gru", clip=0.2)
    policy = Categorical(jnp.broadcast_to(jnp.log(jnp.array([0.7, 0.3])), (2, 3, 2)))
    loss, metrics = agent._surrogate(policy, rows, jnp.asarray(0.1))
    gains, kls = [], []
    ratios = [(0.7 / 0.5, 1.0), (0.3 / 0.25, -1.0), (0.3 / 0.6, 2.0), (0.7 / 0.5, 0.5),
              (0.7 / 0.9, -3.0)]  # fmt: skip
    for ratio, advantage in ratios:
        gains.append(min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage))
        kls.append(ratio - 1 - np.log(ratio))
    entropy = -(0.7 * np.log(0.7) + 0.3 * np.log(0.3))
    assert float(loss) == pytest.approx(-np.mean(gains) - 0.1 * entropy, rel=1e-5)
    assert float(metrics["policy_loss"]) == pytest.approx(-np.mean(gains), rel=1e-5)
    assert float(metrics["entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(metrics["kl"]) == pytest.approx(np.mean(kls), rel=1e-4)
    assert valid.sum() == len(ratios)
    # 1.4, 0.5, 1.4 and 0.78 lie outside; 1.2 is on the edge, where a float may fall either way.
    assert float(metrics["clip_fraction"]) in (pytest.approx(0.8), pytest.approx(1.0))


@pytest.mark.parametrize(
    ("env_steps", "expected"),
    [(0, 0.04), (1_000, 0.04), (2_000, 0.025), (3_000, 0.01), (9_000, 0.01)],
)
def test_entropy_bonus_falls_in_a_line_over_the_decay(small_agent, env_steps, expected):
    """Half way from 1,000 to 3,000 steps, half way from 0.04 to a quarter of it."""
    optimizer = OptimizerConfig(decay="exponential", decay_start=1_000, decay_end=3_000)
    agent = small_agent("gru", entropy_coef=0.04, entropy_final_factor=0.25, optimizer=optimizer)
    assert float(agent._entropy_coef(jnp.asarray(env_steps))) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["squared", "gaussian"])
def test_value_loss_by_hand(small_agent, drift, kind):
    rows, _ = hand_rows()
    agent = small_agent("gru", value_loss=kind)
    network = agent.init(drift().spec, key=jax.random.key(0)).model.network
    network = eqx.tree_at(lambda n: n.critic.log_std, network, jnp.asarray(0.7))
    value = jnp.array([[1.5, 3.0, 4.0], [0.0, 4.0, 7.0]])  # time first
    errors = np.array([0.5, -2.0, 0.0, 0.0, -1.0])
    loss, metrics = agent._value_error(network, value, rows)
    squared = np.mean(0.5 * errors**2)
    expected = {"squared": squared, "gaussian": squared * np.exp(-1.4) + 0.7}[kind]
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["value_loss"]) == pytest.approx(expected, rel=1e-5)


def test_prediction_error_by_hand(small_agent):
    """A reward and two observations, said to be 1, 0 and 1 at the first rows, then 1.5, .5, 1.5."""
    rows, _ = hand_rows()
    said = jnp.array([[1.0, 0.0, 1.0]] * 3 + [[1.5, 0.5, 1.5]] * 3).reshape((2, 3, 3))  # time first
    loss, metrics = small_agent("gru")._prediction_error(said, rows)
    errors = [(0, 0, -1), (1.5, -0.5, 0.5), (-1, 0, 1), (1, -3.5, 1.5), (2, -1, 1)]
    reward = np.mean([0.5 * e[0] ** 2 for e in errors])
    obs = np.mean([0.25 * (e[1] ** 2 + e[2] ** 2) for e in errors])
    assert float(metrics["reward_prediction_loss"]) == pytest.approx(reward, rel=1e-5)
    assert float(metrics["obs_prediction_loss"]) == pytest.approx(obs, rel=1e-5)
    assert float(loss) == pytest.approx(reward + obs, rel=1e-5)


@pytest.mark.parametrize("value_phase", ["joint", "after"])
def test_predictions_shape_the_core_and_nothing_reads_them(small_agent, teach, value_phase):
    """Where nothing else is learned they move the core and themselves, and no head."""
    agent = small_agent(
        "gru",
        prediction_coef=1.0,
        value_coef=0.0,
        normalize_advantage=False,
        value_phase=value_phase,
        value_optimizer=STILL,
        **SMALL,
    )
    before, trial, _, _ = teach(agent)
    batch = agent._chunk(before.model, trial.flatten_time(), jnp.zeros((12, 4)), jnp.zeros((12, 4)))
    loss = {"joint": agent._joint_loss, "after": agent._policy_loss}[value_phase]
    gradient = jax.grad(lambda n: loss(n, batch, jnp.zeros(()))[0])(before.model.network)
    moved = lambda part: any(np.abs(x).max() > 1e-4 for x in arrays(part))
    assert moved(gradient.core)
    assert moved(gradient.predictor)
    assert not moved(gradient.policy)
    assert not moved(gradient.critic)


def test_predictions_are_of_what_came_after(small_agent, teach):
    """Rewards by the trial's own moments; observations as the next token shows them."""
    agent = small_agent("gru", prediction_coef=1.0, chunk_length=0, **SMALL)
    before, trial, after, metrics = teach(agent)
    rows = trial.flatten_time()
    zero = jnp.zeros(rows.valid.shape)
    outcome = np.swapaxes(agent._chunk(after.model, rows, zero, zero).outcome, 0, 1)
    valid = np.asarray(rows.valid)
    reward = np.asarray(rows.outcome.reward)[valid]
    expected = (reward - reward.mean()) / reward.std()
    np.testing.assert_allclose(outcome[..., 0][valid], expected, atol=1e-4)
    token, _ = agent._tokens(after.model, rows.timestep)
    goes_on = valid[1:] & ~np.asarray(rows.timestep.episode_start)[1:]
    assert goes_on.any()
    shown = np.asarray(token)[1:, :, : outcome.shape[-1] - 1]
    np.testing.assert_allclose(outcome[:-1, :, 1:][goes_on], shown[goes_on], atol=1e-5)
    assert {"reward_prediction_loss", "obs_prediction_loss"} <= set(metrics)
    assert all_moved(before.model.network.predictor, after.model.network.predictor)


def test_joint_loss_adds_the_value_loss_times_its_coefficient(small_agent, taught):
    before, trial, _, _ = taught
    agent = small_agent("gru", value_coef=0.25)
    rows = trial.flatten_time()
    batch = agent._chunk(before.model, rows, rows.decision.value, rows.outcome.reward)
    network = before.model.network
    losses = jax.jit(
        lambda network, batch: [
            loss(network, batch, jnp.asarray(0.1))[0]
            for loss in (agent._joint_loss, agent._policy_loss, agent._value_loss)
        ]
    )
    joint, apart, value = map(float, losses(network, batch))
    assert value > 0.01
    assert joint == pytest.approx(apart + 0.25 * value, rel=1e-4, abs=1e-6)


def test_value_input_token_is_blind_to_memory(small_agent, drift):
    agent = small_agent("gru", value_input="token")
    model = agent.init(drift().spec, key=jax.random.key(0)).model
    feature, tokens = jnp.ones((2, 8)), jnp.ones((2, 6))
    value = agent._value(model.network, feature, tokens)
    np.testing.assert_array_equal(value, agent._value(model.network, 5.0 * feature, tokens))
    assert np.all(np.asarray(value != agent._value(model.network, feature, 5.0 * tokens)))


def test_explained_variance_of_the_stored_values(taught, small_agent):
    before, trial, _, metrics = taught
    agent = small_agent("gru", **SMALL)
    rows = trial.flatten_time()
    _, target, _ = agent._credit(before.model, rows)
    valid = np.asarray(rows.valid)
    target, value = np.asarray(target)[valid], np.asarray(rows.decision.value)[valid]
    expected = 1 - np.var(target - value) / np.var(target)
    assert float(metrics["explained_variance"]) == pytest.approx(expected, abs=1e-3)


def test_better_actions_become_likelier(small_agent, taught):
    """After an update on one action's praise, that action's log-probability has grown."""
    before, trial, _, _ = taught
    agent = small_agent("gru", num_passes=4, minibatch_size=48, normalize_advantage=False)
    praise = np.zeros((12, 4), np.float32)
    praise[0, 0] = 1.0
    rows = trial.flatten_time()
    batch = agent._chunk(before.model, rows, jnp.asarray(praise), rows.decision.value)

    @jax.jit
    def learn(network, batch):
        loss = lambda network: agent._policy_loss(network, batch, jnp.zeros(()))
        gradient, _ = jax.grad(loss, has_aux=True)(network)
        step = jax.tree.map(lambda p, g: p - 0.01 * g, network, gradient)
        return agent._read(step, batch)[0]

    policy = learn(before.model.network, batch)
    growth = policy.log_prob(jnp.swapaxes(batch.action, 0, 1)) - batch.log_prob.T
    assert float(growth[0, 0]) > 1e-4


def test_replace_keeps_the_rest(taught):
    before, _, _, _ = taught
    changed = replace(before, updates=jnp.asarray(7))
    assert int(changed.updates) == 7
    assert changed.model is before.model
