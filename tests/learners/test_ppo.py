"""What an update of PPO changes: credit, chunks, phases, weights and moments."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.objectives import ELBO, Entropy, Objectives, Prediction, Surrogate, Value
from trmrl.learners.ppo import Credit, Joint, Separate
from trmrl.learners.stored import Replayed
from trmrl.types import TrmrlError, replace

KEY = jax.random.key(0)
STILL = OptimizerConfig(learning_rate=0.0)
SMALL = {"num_passes": 2, "minibatch_size": 16}
PARTS = "core", "policy", "critic", "heads"


@pytest.fixture(scope="module")
def updated(small_agent, update_once):
    return update_once(small_agent("gru", **SMALL))


def arrays(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(two), strict=True))


def all_moved(one, two):
    return all(not np.array_equal(a, b) for a, b in zip(arrays(one), arrays(two), strict=True))


def time_first(chunks):
    rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), replace(chunks, memory0=None))
    return replace(rows, memory0=chunks.memory0)


def read(network, chunks):
    """The reading of chunks `[M, C]`, and the chunks as objectives read them."""
    rows = time_first(chunks)
    return network.read(rows.memory0, rows.token, rows.start, rows.valid), rows


def test_the_learner_keeps_its_structure_and_metrics_are_finite(updated):
    valid = np.asarray(updated.trial.rows.valid)
    assert 0 < valid.sum() < valid.size
    before, after = updated.before, updated.after
    assert jax.tree.structure(before) == jax.tree.structure(after)
    old, new = jax.tree.leaves(before), jax.tree.leaves(after)
    assert all(x.aval == y.aval for x, y in zip(old, new, strict=True))
    assert set(updated.metrics) == {
        "policy_loss", "entropy", "kl", "clip_fraction", "value_loss", "grad_norm", "step_size",
        "explained_variance",
    }  # fmt: skip
    assert all(np.isfinite(x) for x in updated.metrics.values())


def test_a_joint_update_moves_every_weight_that_learns(updated):
    old, new = updated.before.model.network, updated.after.model.network
    assert all_moved((old.core, old.policy), (new.core, new.policy))
    assert all_moved(old.critic.value, new.critic.value)


def test_an_update_is_pure(small_agent, update, updated):
    agent = small_agent("gru", **SMALL)
    again, _ = update(agent, updated.before, updated.trial)
    assert same(updated.after, again)
    other, _ = update(agent, updated.before, updated.trial, seed=3)  # other minibatches
    assert not same(updated.after.model.network, other.model.network)


def test_moments_are_those_of_the_rows_that_happened(updated):
    valid = np.asarray(updated.trial.rows.valid)
    obs = np.asarray(updated.trial.rows.timestep.obs)[valid]
    moments = updated.after.model.obs_moments
    np.testing.assert_allclose(moments.mean, obs.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moments.variance, obs.var(0), rtol=1e-3)
    assert float(moments.count) == valid.sum()
    returns = []
    reward = np.asarray(updated.trial.rows.outcome.reward)
    for lane in range(valid.shape[2]):
        to_go = 0.0
        for r, happened in zip(
            reward[..., lane].ravel()[::-1], valid[..., lane].ravel()[::-1], strict=True
        ):
            to_go = 0.95 * to_go + (r if happened else 0.0)  # credit crosses episodes, time passes
            if happened:
                returns.append(to_go)
    return_moments = updated.after.model.return_moments
    np.testing.assert_allclose(return_moments.mean, np.mean(returns), rtol=1e-4)
    np.testing.assert_allclose(return_moments.variance, np.var(returns), rtol=1e-3)
    np.testing.assert_array_equal(updated.before.model.obs_moments.mean, 0.0)


def test_acting_and_crediting_use_the_moments_of_before(small_agent, update, update_once):
    """With no step taken, the second update on the same trial differs by its moments alone."""
    agent = small_agent("gru", **SMALL, optimizer=STILL)
    first = update_once(agent)
    assert same(first.before.model.network, first.after.model.network)
    assert abs(float(first.metrics["kl"])) < 1e-6  # update read what act had: the old moments
    _, later = update(agent, first.after, first.trial)
    assert abs(float(later["kl"])) > 1e-5  # and the new ones give another policy


def test_a_value_phase_on_tokens_leaves_the_policy_to_its_own_optimizer(small_agent, update_once):
    value = Separate(OptimizerConfig(learning_rate=0.1, weight_decay=0.5))
    agent = small_agent("gru", **SMALL, value=value, value_input="token", optimizer=STILL)
    once = update_once(agent)
    old, new = once.before.model.network, once.after.model.network
    assert same((old.core, old.policy), (new.core, new.policy))
    assert all_moved(old.critic.value, new.critic.value)


@pytest.mark.parametrize(
    ("value", "value_input", "expected"),
    [
        (Joint(), "token", [PARTS]),
        (Joint(), "feature", [PARTS]),
        (Separate(), "token", [("core", "policy", "heads"), ("critic",)]),
        (Separate(), "feature", [("core", "policy", "heads"), PARTS]),
    ],
)
def test_phases_own_their_parts(small_agent, drift, value, value_input, expected):
    """And a critic apart is never the policy phase's."""
    objectives = Objectives(prediction=Prediction(1.0))
    agent = small_agent("gru", value=value, value_input=value_input, objectives=objectives)
    spec = drift().spec
    fresh = lambda key: agent.init(spec, key=key).model.network
    network = jax.eval_shape(fresh, jax.random.key(0))
    phases = agent.algorithm.phases(network)
    assert [phase.name for phase in phases] == ["policy", "value"][: len(expected)]
    for phase, parts in zip(phases, expected, strict=True):
        mask = phase.part(network)
        assert jax.tree.structure(mask) == jax.tree.structure(network)
        for part in PARTS:
            assert set(jax.tree.leaves(getattr(mask, part))) == {part in parts}


def test_phases_hold_the_terms_that_were_asked_for(small_agent, updated):
    objectives = Objectives(entropy=Entropy(0.1, final_factor=0.5), prediction=Prediction(2.0))
    network, fields = updated.before.model.network, {"clip": 0.3, "objectives": objectives}
    menu = Surrogate(0.3), Entropy(0.1, final_factor=0.5), Prediction(2.0)
    (joint,) = small_agent("gru", value=Joint(0.7), **fields).algorithm.phases(network)
    assert joint.terms == (*menu, Value(0.7))
    apart = small_agent("gru", value=Separate(STILL), value_error="gaussian", **fields)
    policy, value = apart.algorithm.phases(network)
    assert policy.terms == menu
    assert value.terms == (Value(1.0, "gaussian"),)
    assert (policy.optimizer, value.optimizer) == (OptimizerConfig(), STILL)
    (plain,) = small_agent("gru").algorithm.phases(network)
    assert plain.terms == (Surrogate(), Value())


def test_stopping_early_works_with_a_value_phase(small_agent, update_once):
    fast = OptimizerConfig(learning_rate=0.1)
    once = update_once(
        small_agent(
            "gru", **SMALL, value=Separate(fast), value_input="token", stop_kl=1e-9, optimizer=fast
        )
    )
    assert all_moved(once.before.model.network.critic.value, once.after.model.network.critic.value)


def test_passes_stop_at_the_divergence_that_was_asked_for(small_agent, update_once):
    """Beyond `stop_kl` no minibatch moves a weight; the first has not diverged yet."""
    fast = {"optimizer": OptimizerConfig(learning_rate=0.1)}
    whole = {"num_passes": 3, "minibatch_size": 100}
    stopped = update_once(small_agent("gru", **whole, **fast, stop_kl=1e-9))
    single = update_once(small_agent("gru", **{**whole, "num_passes": 1}, **fast))
    network = lambda once: once.after.model.network
    for one, two in zip(arrays(network(stopped)), arrays(network(single)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    assert not same(network(stopped), network(update_once(small_agent("gru", **whole, **fast))))


@pytest.mark.parametrize(("target_kl", "scale"), [(0.0, 1.0), (1e-6, 1 / 1.5), (1e6, 1.0)])
def test_the_step_size_follows_the_target(small_agent, update_once, target_kl, scale):
    """A divergence beyond the target shrinks the policy's later steps; the value's have none."""
    fast = OptimizerConfig(learning_rate=0.01)
    agent = small_agent("gru", **SMALL, value=Separate(), optimizer=fast, target_kl=target_kl)
    once = update_once(agent)
    assert float(once.metrics["kl"]) > 1e-5
    assert float(once.after.optimizer["policy"].step_scale) == pytest.approx(scale)
    assert float(once.after.optimizer["value"].step_scale) == 1.0


@pytest.mark.parametrize(("decay_end", "decays"), [(0, False), (20_000, True)])
@pytest.mark.parametrize(
    "fields",
    [
        {"final_factor": 0.1},
        {"final_factor": 0.1, "decay": "exponential"},
        {"entropy": Entropy(0.5, final_factor=0.1)},
    ],
    ids=["linear", "exponential", "entropy"],
)
def test_without_an_end_of_the_decay_nothing_ever_decays(
    small_agent, update, updated, fields, decay_end, decays
):
    """An update 10,000 steps into training equals the first, step size and entropy bonus too."""
    fields = {**fields}
    objectives = Objectives(entropy=fields.pop("entropy", Entropy()))
    optimizer = OptimizerConfig(**fields, decay_end=decay_end)
    agent = small_agent("gru", **SMALL, optimizer=optimizer, objectives=objectives)
    first, _ = update(agent, updated.before, updated.trial, env_steps=0.0)
    later, metrics = update(agent, updated.before, updated.trial, env_steps=10_000.0)
    assert same(first, later) == (not decays)
    if not decays:
        assert float(metrics["step_size"]) == np.float32(1e-3)


def test_chunks_that_do_not_divide_the_trial_are_refused(small_agent, first_trial, update):
    agent = small_agent("gru", **SMALL, chunk_length=5)
    learner, trial = first_trial(agent)
    with pytest.raises(TrmrlError, match=r"5.*12"):
        update(agent, learner, trial)


@pytest.mark.parametrize(("chunk_length", "right"), [(5, False), (24, False), (0, True), (4, True)])
def test_chunks_that_do_not_divide_the_trial_are_a_complaint(
    small_agent, drift, chunk_length, right
):
    complaint = small_agent("gru", chunk_length=chunk_length).algorithm.check(drift().spec)
    assert (complaint is None) == right
    if not right:
        assert complaint.startswith(f"chunk_length is {chunk_length}, ")
        assert "12" in complaint


class Whole(Entropy):
    """An objective of one's own that compares rows of a trial."""

    whole_trials: ClassVar[bool] = True


@pytest.mark.parametrize(
    ("chunk_length", "objective", "where", "right"),
    [
        (4, ELBO(1.0), "objectives", False),
        (1, Whole(1.0), "objectives", False),
        (4, ELBO(0.0), "objectives", True),  # a coefficient of 0 leaves it out
        (4, Prediction(1.0), "objectives", True),
        (0, ELBO(1.0), "objectives", True),
        (12, Whole(1.0), "objectives", True),  # the trial's own length
        (4, Whole(1.0), "replayed", True),
    ],
)
def test_what_needs_whole_trials_is_refused_shorter_chunks(
    small_agent, drift, chunk_length, objective, where, right
):
    """By what an objective says of itself; stored trials are whole, whatever the chunks."""
    menu = Objectives(others=(objective,))
    fields = {"objectives": {"objectives": menu}, "replayed": {"replayed": Replayed(menu)}}[where]
    ppo = small_agent("gru", chunk_length=chunk_length, **fields).algorithm
    complaint = ppo.check(drift().spec)
    name = type(objective).__name__
    expected = (
        f"chunk_length is {chunk_length}, expected 0 for {name} among objectives, "
        "which needs whole trials (those of replayed are whole)"
    )
    assert complaint == (None if right else expected)


def test_one_kind_of_objective_on_both_kinds_of_trials_is_refused(small_agent, drift):
    """Both would learn one head, with two optimizers."""
    check = lambda here, there: small_agent(
        "gru", chunk_length=0, objectives=here, replayed=Replayed(there)
    ).algorithm.check(drift().spec)
    one, two = Objectives(prediction=Prediction(1.0)), Objectives(others=(Prediction(0.5),))
    expected = "objectives has Prediction, which replayed has too: they would share a head"
    assert check(one, one) == check(one, two) == check(two, one) == expected
    assert check(one, Objectives(elbo=ELBO(1.0))) is None
    assert check(one, Objectives(prediction=Prediction(0.0))) is None


@pytest.mark.parametrize("chunk_length", [1, 3, 0])
def test_chunks_cover_the_trial(small_agent, updated, chunk_length):
    """Every row of the trial is in one chunk, in its order."""
    ppo = small_agent("gru", chunk_length=chunk_length, normalize_advantage=False).algorithm
    rows, model = updated.rows, updated.before.model
    ids = jnp.arange(48, dtype=jnp.float32).reshape(12, 4)
    credited = rows.valid & (ids > 7)
    chunks = ppo.chunk(model, rows, Credit(ids, -ids, ids, credited), key=KEY)
    length = chunk_length or 12
    found = np.asarray(chunks.advantage)
    assert found.shape == (48 // length, length)
    assert sorted(found.ravel().tolist()) == list(range(48))
    np.testing.assert_array_equal(np.diff(found, axis=1), 4.0)  # the same lane's next row
    np.testing.assert_array_equal(chunks.value_target, -found)
    flat = lambda x: np.asarray(x).reshape(48, *x.shape[2:])
    order = found.astype(int)
    tokens, start = model.tokens(rows.timestep)
    np.testing.assert_array_equal(chunks.log_prob, flat(rows.decision.log_prob)[order])
    np.testing.assert_array_equal(chunks.action, flat(rows.decision.action)[order])
    np.testing.assert_array_equal(chunks.valid, flat(rows.valid)[order])
    np.testing.assert_array_equal(chunks.credited, flat(credited)[order])
    np.testing.assert_array_equal(chunks.token, flat(tokens)[order])
    np.testing.assert_array_equal(chunks.start, flat(start)[order])
    assert (chunks.memory0 is None) == (chunk_length == 0)
    for leaf in jax.tree.leaves(chunks.memory0):
        assert leaf.shape[0] == 48 // length


def test_advantages_are_standardized_over_the_rows_that_have_one(small_agent, updated):
    rows, model = updated.rows, updated.before.model
    noise = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    credited = rows.valid & (jnp.cumsum(rows.valid, axis=0) > 1)
    credit = Credit(jnp.asarray(noise), jnp.asarray(noise), rows.valid, credited)
    chunks = small_agent("gru").algorithm.chunk(model, rows, credit, key=KEY)
    x = noise[np.asarray(credited)]
    expected = np.sort((x - x.mean()) / x.std())
    found = np.sort(np.asarray(chunks.advantage)[np.asarray(chunks.credited)])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_joint_loss_adds_the_value_loss_times_its_coefficient(small_agent, updated):
    rows, network = updated.rows, updated.before.model.network
    fields = {"objectives": Objectives(entropy=Entropy(0.1))}
    joint = small_agent("gru", value=Joint(0.25), **fields).algorithm
    apart = small_agent("gru", value=Separate(), **fields).algorithm
    chunks = joint.chunk(
        updated.before.model, rows, joint.credit(updated.before.model, rows), key=KEY
    )
    phases = *joint.phases(network), *apart.phases(network)
    losses = jax.jit(
        lambda network, chunks: [phase.loss(network, chunks, jnp.zeros(()))[0] for phase in phases]
    )
    both, policy, value = map(float, losses(network, chunks))
    assert value > 0.01
    assert both == pytest.approx(policy + 0.25 * value, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("elapsed", [0.0, 0.5])
def test_a_phase_adds_its_terms_by_their_weights(small_agent, first_trial, elapsed):
    objectives = Objectives(entropy=Entropy(0.3, final_factor=0.2), prediction=Prediction(2.0))
    agent = small_agent("gru", value=Joint(0.25), objectives=objectives, chunk_length=3)
    learner, trial = first_trial(agent)
    rows, network = trial.rows.flatten_time(), learner.model.network
    credit = agent.algorithm.credit(learner.model, rows)
    chunks = agent.algorithm.chunk(learner.model, rows, credit, key=KEY)
    (phase,) = agent.algorithm.phases(network)
    loss, metrics = phase.loss(network, chunks, jnp.asarray(elapsed))
    reading, first = read(network, chunks)
    terms = [term.loss(network, reading, first) for term in phase.terms]
    weights = [1.0, 0.3 * (1 - 0.8 * elapsed), 2.0, 0.25]
    expected = sum(w * float(x) for w, (x, _) in zip(weights, terms, strict=True))
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert all(abs(float(x)) > 1e-3 for x, _ in terms[1:])
    for _, term_metrics in terms:
        for name, x in term_metrics.items():
            np.testing.assert_allclose(metrics[name], x, rtol=1e-5)


def test_explained_variance_of_the_stored_values(small_agent, updated):
    rows = updated.rows
    credit = small_agent("gru", **SMALL).algorithm.credit(updated.before.model, rows)
    target, valid = credit.value_target, np.asarray(credit.credited)
    assert valid.sum() < np.asarray(rows.valid).sum()
    target, value = np.asarray(target)[valid], np.asarray(rows.decision.value)[valid]
    expected = 1 - np.var(target - value) / np.var(target)
    assert float(updated.metrics["explained_variance"]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("value_target", ["lambda", "return"])
@pytest.mark.parametrize("normalize_reward", [False, True])
def test_credit_is_in_scaled_reward(small_agent, updated, normalize_reward, value_target):
    """Twice the rewards double credit; by their own deviation they do not."""
    ppo = small_agent(
        "gru", normalize_reward=normalize_reward, value_target=value_target, bootstrap=False
    ).algorithm
    rows = updated.rows
    nothing = replace(rows.decision, value=jnp.zeros_like(rows.decision.value))
    rows = replace(rows, decision=nothing)
    double = replace(rows, outcome=replace(rows.outcome, reward=2.0 * rows.outcome.reward))
    model = updated.after.model
    moments = replace(model.return_moments, variance=4.0 * model.return_moments.variance)
    twice = replace(model, return_moments=moments)
    factor = 1.0 if normalize_reward else 2.0
    for one, two in zip(ppo.credit(model, rows)[:2], ppo.credit(twice, double)[:2], strict=True):
        np.testing.assert_allclose(two, factor * one, rtol=1e-4, atol=1e-5)
        assert np.abs(one).max() > 0.1


def test_better_actions_become_likelier(small_agent, updated):
    """After a step on one action's advantage, that action's log-probability has grown."""
    model, rows = updated.before.model, updated.rows
    ppo = small_agent("gru", normalize_advantage=False, value=Separate()).algorithm
    advantage = np.zeros((12, 4), np.float32)
    advantage[0, 0] = 1.0
    credit = ppo.credit(model, rows)._replace(advantage=jnp.asarray(advantage))
    chunks = ppo.chunk(model, rows, credit, key=KEY)
    policy_phase, _ = ppo.phases(model.network)

    @jax.jit
    def learn(network, chunks):
        loss = lambda network: policy_phase.loss(network, chunks, jnp.zeros(()))
        gradient, _ = jax.grad(loss, has_aux=True)(network)
        step = jax.tree.map(lambda p, g: p - 0.01 * g, network, gradient)
        return read(step, chunks)[0].policy

    policy = learn(model.network, chunks)
    growth = policy.log_prob(jnp.swapaxes(chunks.action, 0, 1)) - chunks.log_prob.T
    assert float(growth[0, 0]) > 1e-4


def test_replace_keeps_the_rest(updated):
    changed = replace(updated.before, store=jnp.asarray(7))
    assert int(changed.store) == 7
    assert updated.before.store is None
    assert changed.model is updated.before.model
