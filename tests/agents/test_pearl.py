"""PEARL: beliefs, what z is drawn from, what is stored, and which loss changes which weights."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.base import TaskPlan
from trmrl.agents.pearl import PEARL, Belief, _draw_tasks, _policy
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.replay import Transitions
from trmrl.ops.gaussian_product import product
from trmrl.trial import run_trial
from trmrl.types import Discrete, EnvSpec, Timestep, TrmrlError, replace

L, B, K, H, P = 3, 4, 4, 6, 8
KEY = jax.random.key(3)
MANY_KEYS = jax.random.split(KEY, 2_000)
ONCE = jnp.ones(3)  # how often the context of each of three tasks counts


def small(**fields):
    sizes = {
        "plan": TaskPlan(P), "latent": L, "encoder_hidden": (8,), "hidden": (8,),
        "capacity": 2 * K * H, "context_size": 7, "meta_batch": 3, "batch_size": 5, "num_steps": 4,
    }  # fmt: skip
    return PEARL(**(sizes | fields))


@pytest.fixture(scope="module")
def fresh(drift, shake):
    """`fresh(...)`: an agent, its learner before the first update, and worlds of K episodes."""

    def build(**fields):
        agent, envs = small(**fields), drift(num_episodes=K)
        learner = agent.init(envs.spec, key=KEY)
        return agent, replace(learner, model=shake(learner.model)), envs

    return build


@pytest.fixture(scope="module")
def rolled_out(fresh, currents):
    """A trial of tasks 0 to 3, lanes 1 and 2 ending early, with the agent and learner acting."""
    agent, learner, envs = fresh()
    trial = run_trial(
        agent, learner.model, envs, currents(), task_id=jnp.arange(B), explore=True, key=KEY
    )
    return agent, learner, jax.tree.map(jnp.asarray, trial)


@functools.cache
def compiled_update(agent):
    return jax.jit(agent.update)


def update(agent, learner, trial, env_steps=0):
    """An update, compiled, after so many environment steps."""
    return compiled_update(agent)(learner, trial, env_steps=jnp.float32(env_steps), key=KEY)


def on_tasks(trial, *task_id):
    """The trial as if rolled out on other tasks of the fixed set."""
    return replace(trial, task_id=jnp.array(task_id))


def episode_of(trial, k):
    return jax.tree.map(lambda x: x[k], trial.rows)


def factors_by_hand(model, episode):
    """Sums over the valid rows, one row at a time."""
    sums = np.zeros((2, B, L))
    for t in range(H):
        for lane in range(B):
            if not episode.valid[t, lane]:
                continue
            row = np.concatenate([
                episode.timestep.obs[t, lane], episode.decision.action[t, lane],
                [episode.outcome.reward[t, lane]],
            ])  # fmt: skip
            raw = np.asarray(model.encoder(jnp.asarray(row, jnp.float32)), np.float64)
            variance = np.maximum(np.log1p(np.exp(raw[L:])), 1e-7)
            sums[:, lane] += 1 / variance, raw[:L] / variance
    return sums


def test_a_belief_is_the_sum_of_the_factors_of_what_happened(rolled_out):
    agent, learner, trial = rolled_out
    belief, expected = agent.start(learner.model, B), np.zeros((2, B, L))
    for k in range(2):
        episode = episode_of(trial, k)
        belief = agent.adapt(learner.model, belief, episode)
        expected += factors_by_hand(learner.model, episode)
        np.testing.assert_allclose(belief.precision, expected[0], rtol=1e-4)
        np.testing.assert_allclose(belief.weighted, expected[1], rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(belief.num_episodes, k + 1)


def test_the_order_of_an_episode_does_not_matter(rolled_out):
    agent, learner, trial = rolled_out
    episode = episode_of(trial, 0)
    order = np.random.default_rng(0).permutation(H)
    shuffled = jax.tree.map(lambda x: x[order], episode)
    start = agent.start(learner.model, B)
    one, other = (agent.adapt(learner.model, start, e) for e in (episode, shuffled))
    np.testing.assert_allclose(one.precision, other.precision, rtol=1e-5)
    np.testing.assert_allclose(one.weighted, other.weighted, rtol=1e-4, atol=1e-5)


def test_rows_that_never_happened_are_not_read(rolled_out):
    agent, learner, trial = rolled_out
    episode = episode_of(trial, 0)
    assert not episode.valid.all()
    nan = jnp.where(episode.valid, episode.outcome.reward, jnp.nan)
    poisoned = replace(episode, outcome=replace(episode.outcome, reward=nan))
    start = agent.start(learner.model, B)
    one, other = (agent.adapt(learner.model, start, e) for e in (episode, poisoned))
    np.testing.assert_array_equal(one.precision, other.precision)


def timestep(trial_start=False, episode_start=True, num_lanes=2_000):
    """A timestep of many alike lanes."""
    full = lambda value: jnp.full(num_lanes, value)
    obs, nothing = jnp.zeros((num_lanes, 2)), jnp.zeros((num_lanes, 2))
    return Timestep(obs, nothing, jnp.zeros(num_lanes), full(episode_start), full(trial_start))


def near_123(num_episodes, num_lanes=2_000):
    """A belief that the task is near (1, 2, 3), with variance 1/4."""
    ones = jnp.ones((num_lanes, L))
    weighted = 4.0 * jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0]), (num_lanes, L))
    return Belief(4.0 * ones, weighted, 9.0 * ones, jnp.full(num_lanes, num_episodes, jnp.int32))


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize(
    ("num_episodes", "trial_start", "mean", "std"),
    [
        (0, False, [0, 0, 0], 1.0),  # the first episodes act on the prior, whatever was taken in
        (1, False, [0, 0, 0], 1.0),
        (2, False, [1, 2, 3], 0.5),  # the later ones on the posterior
        (7, False, [1, 2, 3], 0.5),
        (7, True, [0, 0, 0], 1.0),  # a new trial begins with nothing taken in
    ],
)
def test_what_z_is_drawn_from(fresh, explore, num_episodes, trial_start, mean, std):
    agent, learner, _ = fresh()
    memory, _ = agent.act(
        learner.model, near_123(num_episodes), timestep(trial_start), explore=explore, key=MANY_KEYS
    )
    z = np.asarray(memory.z)
    np.testing.assert_allclose(z.mean(axis=0), mean, atol=5 * std / np.sqrt(len(z)))
    np.testing.assert_allclose(z.std(axis=0), std, rtol=0.1)
    if trial_start:
        assert not memory.precision.any() and not memory.num_episodes.any()


@pytest.mark.parametrize("explore", [False, True])
def test_trials_that_training_collects_have_prior_episodes_of_their_own(fresh, explore):
    """Of an evaluation with sampled actions, the prior episodes are those of any evaluation."""
    agent, learner, _ = fresh(prior_episodes=1, collect_prior_episodes=3)
    for actor, prior_episodes in ((agent, 1), (agent.collector(), 3)):
        for num_episodes in range(5):
            memory, _ = actor.act(
                learner.model, near_123(num_episodes), timestep(), explore=explore, key=MANY_KEYS
            )
            mean = [0, 0, 0] if num_episodes < prior_episodes else [1, 2, 3]
            np.testing.assert_allclose(np.asarray(memory.z).mean(axis=0), mean, atol=0.12)
    assert agent.collector() == replace(agent, prior_episodes=3)  # nothing else is changed


def test_z_is_kept_within_an_episode(fresh):
    agent, learner, _ = fresh()
    before = near_123(5)
    memory, _ = agent.act(
        learner.model, before, timestep(episode_start=False), explore=True, key=MANY_KEYS
    )
    for one, other in zip(jax.tree.leaves(memory), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(one, other)


def test_actions_depend_on_z_and_stay_in_the_box(fresh):
    agent, learner, _ = fresh()
    memory, decision = agent.act(
        learner.model, near_123(5), timestep(), explore=False, key=MANY_KEYS
    )
    action = np.asarray(decision.action)
    assert (np.abs(action) < 1).all()
    assert (
        action.std(axis=0).min() > 1e-3
    )  # all lanes have the same observation; z is all that differs
    again = agent.act(
        learner.model, memory, timestep(episode_start=False), explore=False, key=MANY_KEYS[::-1]
    )[1]
    np.testing.assert_array_equal(action, again.action)


def test_z_and_action_are_drawn_apart(fresh):
    """Of a policy that knows nothing: z, and beside it what the tangent squashes."""
    agent, learner, _ = fresh()
    last = lambda m: (m.actor.layers[-1].weight, m.actor.layers[-1].bias)
    flat = jnp.zeros_like(last(learner.model)[0])
    blind = eqx.tree_at(last, learner.model, (flat, jnp.array([0.1, -0.2, -1.0, -0.5])))
    memory, decision = agent.act(blind, near_123(0), timestep(), explore=True, key=MANY_KEYS)
    noise = np.arctanh(np.asarray(decision.action, np.float64))
    np.testing.assert_allclose(noise.mean(axis=0), [0.1, -0.2], atol=0.07)
    np.testing.assert_allclose(noise.std(axis=0), np.exp([-1.0, -0.5]), rtol=0.1)
    correlation = np.corrcoef(np.asarray(memory.z), noise, rowvar=False)[:L, L:]
    assert np.abs(correlation).max() < 5 / np.sqrt(len(noise))


def test_the_normal_s_log_deviations_stay_within_the_published_limits(fresh):
    _, learner, _ = fresh()
    last = lambda actor: (actor.layers[-1].weight, actor.layers[-1].bias)
    flat = jnp.zeros_like(learner.model.actor.layers[-1].weight)
    actor = eqx.tree_at(last, learner.model.actor, (flat, jnp.array([3.0, -30.0, 5.0, -30.0])))
    normal = _policy(actor, jnp.zeros((1, 2)), jnp.zeros((1, L))).normal
    np.testing.assert_array_equal(normal.mean, [[3.0, -30.0]])
    np.testing.assert_array_equal(normal.log_std, [[2.0, -20.0]])


def test_a_decision_s_value_is_the_lesser_critic_s(fresh):
    agent, learner, _ = fresh()
    now = replace(timestep(num_lanes=50), obs=5.0 * jax.random.normal(KEY, (50, 2)))
    memory, decision = agent.act(
        learner.model, near_123(5, 50), now, explore=True, key=MANY_KEYS[:50]
    )
    read = jnp.concatenate([now.obs, decision.action, memory.z], axis=1)
    values = np.stack([critic(read)[:, 0] for critic in learner.model.critics])
    assert (values[0] < values[1]).any() and (values[0] > values[1]).any()
    np.testing.assert_allclose(decision.value, values.min(axis=0), rtol=1e-5)


def test_critics_begin_apart_and_their_slow_copies_as_they_are(drift):
    model = small().init(drift(num_episodes=K).spec, key=KEY).model
    slow, fast = jax.tree.leaves(model.target_critics), jax.tree.leaves(model.critics)
    assert all(np.array_equal(x, y) for x, y in zip(slow, fast, strict=True))
    one, other = (critic.layers[0].weight for critic in model.critics)
    assert not np.array_equal(one, other)


@pytest.fixture(scope="module")
def drawn(drift):
    """Context `[M, C]` and rows `[M, N]` of random transitions, and noise for z."""
    keys = iter(jax.random.split(jax.random.key(1), 20))
    normal = lambda *shape: jax.random.normal(next(keys), shape)

    def transitions(num_rows):
        action = jnp.tanh(normal(3, num_rows, 2))
        over = jax.random.bernoulli(next(keys), 0.5, (3, num_rows))
        obs, next_obs = normal(3, num_rows, 2), normal(3, num_rows, 2)
        reward, dense_reward = normal(3, num_rows), normal(3, num_rows)
        return Transitions(obs, action, reward, dense_reward, over, next_obs)

    return transitions(7), transitions(5), normal(3, L)


def test_the_divergence_is_summed_over_tasks(fresh, drawn):
    context, rows, noise = drawn

    def loss(kl_coef):
        agent, learner, _ = fresh(kl_coef=kl_coef)
        parts = learner.model.encoder, learner.model.critics
        return agent._critic_loss(parts, learner.model, context, ONCE, rows, noise, KEY)[0]

    learner, with_kl, without = fresh()[1], loss(0.3), loss(0.0)
    expected = 0.0
    for task in range(3):
        precision, weighted = np.zeros(L), np.zeros(L)
        for c in range(7):
            row = np.concatenate(
                [context.obs[task, c], context.action[task, c], [context.reward[task, c]]]
            )
            raw = np.asarray(learner.model.encoder(jnp.asarray(row, jnp.float32)), np.float64)
            variance = np.log1p(np.exp(raw[L:]))
            precision, weighted = precision + 1 / variance, weighted + raw[:L] / variance
        mean, variance = weighted / precision, 1 / precision
        expected += 0.5 * (variance + mean**2 - 1 - np.log(variance)).sum()
    assert float(with_kl - without) == pytest.approx(0.3 * expected, rel=1e-3)


def test_a_context_that_counts_twice_is_the_context_laid_out_twice(fresh, drawn):
    agent, learner, _ = fresh(kl_coef=10.0)
    context, rows, noise = drawn
    parts = learner.model.encoder, learner.model.critics
    loss = lambda *given: agent._critic_loss(parts, learner.model, *given, rows, noise, KEY)[0]
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=1), context)
    assert float(loss(context, 2 * ONCE)) == pytest.approx(float(loss(twice, ONCE)), rel=1e-5)
    assert float(loss(context, 2 * ONCE)) != pytest.approx(float(loss(context, ONCE)), rel=1e-3)


def test_contexts_are_beginnings_of_a_trial_of_any_length(fresh, rolled_out):
    """Rewards are rows' numbers here, so that they show which rows were drawn."""
    _, _, trial = rolled_out
    agent, learner, _ = fresh(context_prefix=True, context_episodes=K, context_size=400)
    rows = trial.rows
    steps = jnp.cumsum(rows.valid.reshape(K * H, B).astype(jnp.float32), axis=0) - 1.0
    rows = replace(rows, outcome=replace(rows.outcome, reward=steps.reshape(K, H, B)))
    stored = agent._store(learner.store, rows, trial.task_id)
    lane, lengths = 0, []
    for key in jax.random.split(KEY, 60):
        context, times = agent._context(stored, jnp.array([lane]), key)
        lengths.append(round(float(times[0]) * 400))
        assert set(np.asarray(context.reward[0])) == set(range(lengths[-1]))
    assert min(lengths) <= 3 and max(lengths) == rows.valid[:, :, lane].sum()


def test_published_contexts_are_the_whole_of_it_and_count_once(updated):
    agent, _, after, _ = updated
    context, times = agent._context(after.store, jnp.arange(3), KEY)
    assert context.reward.shape == (3, 7)
    np.testing.assert_array_equal(times, 1.0)


def test_the_encoder_learns_from_the_critics_and_never_from_the_actor(fresh, drawn):
    agent, learner, _ = fresh(kl_coef=0.0)
    context, rows, noise = drawn
    model = learner.model

    def actor_loss(encoder):
        parts = encoder, model.critics
        _, (z, _) = agent._critic_loss(parts, model, context, ONCE, rows, noise, KEY)
        return agent._actor_loss(model.actor, model, rows, z, KEY)[0]

    def critic_loss(encoder):
        parts = encoder, model.critics
        return agent._critic_loss(parts, model, context, ONCE, rows, noise, KEY)[0]

    size = lambda tree: sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(tree))
    assert size(jax.grad(actor_loss)(model.encoder)) == 0.0
    assert size(jax.grad(critic_loss)(model.encoder)) > 1e-3


def test_beliefs_never_read_a_dense_reward(fresh, drawn):
    agent, _, _ = fresh()
    context = drawn[0]
    other = replace(context, dense_reward=context.dense_reward + 1.0)
    np.testing.assert_array_equal(agent._encoder_input(context), agent._encoder_input(other))


@pytest.mark.parametrize("dense", [False, True])
def test_targets_are_the_slow_critics_and_nothing_beyond_an_end(fresh, drawn, dense):
    agent, learner, _ = fresh(gamma=0.9, reward_scale=5.0, dense_critics=dense)
    _, rows, noise = drawn
    z = jnp.broadcast_to(noise[:, None], (3, 5, L))
    target = agent._target(learner.model, rows, z, KEY)
    over = np.asarray(rows.terminated)
    assert over.any() and not over.all()
    np.testing.assert_allclose(
        target[over], 5.0 * (rows.dense_reward if dense else rows.reward)[over], rtol=1e-6
    )
    other = eqx.tree_at(
        lambda m: m.target_critics[0].layers[-1].bias, learner.model, replace_fn=lambda b: b - 100.0
    )
    lowered = np.asarray(agent._target(other, rows, z, KEY))
    assert (lowered[~over] < np.asarray(target)[~over] - 50.0).all()
    fast = eqx.tree_at(
        lambda m: m.critics[0].layers[-1].bias, learner.model, replace_fn=lambda b: b - 100.0
    )
    np.testing.assert_array_equal(target, agent._target(fast, rows, z, KEY))


@pytest.fixture(scope="module")
def updated(rolled_out):
    """An agent, its learner before and after an update, and the update's metrics."""
    agent, learner, trial = rolled_out
    return agent, learner, *update(agent, learner, trial)


def test_an_update_stores_its_trial_by_task(rolled_out, updated):
    agent, _, after, _ = updated
    _, _, trial = rolled_out
    valid = trial.rows.valid
    steps = np.asarray(valid.sum(axis=(0, 1)))
    assert len(set(steps.tolist())) > 1  # lanes 1 and 2 are the shorter ones
    np.testing.assert_array_equal(after.store.everything.count, [*steps, 0, 0, 0, 0])
    first = np.asarray(valid[: agent.context_episodes].sum(axis=(0, 1)))
    np.testing.assert_array_equal(after.store.context.count, [*first, 0, 0, 0, 0])
    later, _ = update(agent, after, on_tasks(trial, 7, 6, 5, 4))
    np.testing.assert_array_equal(later.store.everything.count, [*steps, *steps[::-1]])
    again, _ = update(agent, later, trial)
    np.testing.assert_array_equal(again.store.everything.count, [*(2 * steps), *steps[::-1]])
    np.testing.assert_array_equal(again.store.context.count, [*first, *first[::-1]])


def test_context_is_the_first_episodes_of_the_latest_trial(rolled_out):
    """Rewards are rows' numbers here, those of a second trial from 1,000 on."""
    agent, learner, trial = rolled_out
    numbers, stored = jnp.arange(float(K * H * B)).reshape(K, H, B), learner.store
    for first in (0.0, 1_000.0):
        rows = replace(trial.rows, outcome=replace(trial.rows.outcome, reward=first + numbers))
        stored = agent._store(stored, rows, trial.task_id)
        for lane in range(B):
            reward, valid = rows.outcome.reward[..., lane], rows.valid[..., lane]
            early, whole = (reward[:k][valid[:k]] for k in (agent.context_episodes, K))
            kept = stored.context.rows.reward[lane, : stored.context.count[lane]]
            np.testing.assert_array_equal(kept, early)
            ring = stored.everything.rows.reward[lane, : stored.everything.count[lane]]
            np.testing.assert_array_equal(ring[-len(whole) :], whole)


def test_a_trial_without_task_numbers_is_refused_with_one_line(rolled_out):
    agent, learner, trial = rolled_out
    afresh = replace(trial, task_id=None)
    with pytest.raises(TrmrlError) as refusal:
        agent.update(learner, afresh, env_steps=jnp.float32(0), key=KEY)
    assert str(refusal.value) == "PEARL stores experience by task: trials need a task_id"


@pytest.fixture(scope="module")
def two_stored(fresh, currents):
    """`two_stored(...)`: an agent, its learner with rows of tasks 2 and 5 of 8 alone, a trial."""

    def build(**fields):
        agent, learner, envs = fresh(**fields)
        trial = run_trial(
            agent, learner.model, envs, currents((0, 1)), task_id=jnp.array([2, 5]),
            explore=True, key=KEY,
        )  # fmt: skip
        stored = agent._store(learner.store, trial.rows, trial.task_id)
        np.testing.assert_array_equal(np.nonzero(stored.everything.count)[0], [2, 5])
        return agent, replace(learner, store=stored), trial

    return build


def test_tasks_with_nothing_stored_are_never_drawn(two_stored):
    _, learner, _ = two_stored()
    task, count = np.unique(_draw_tasks(learner.store, 2_000, KEY), return_counts=True)
    assert task.tolist() == [2, 5]
    assert np.abs(count / 2_000 - 0.5).max() < 5 * np.sqrt(0.25 / 2_000)


@pytest.mark.parametrize("context_prefix", [False, True])
def test_gradients_never_read_the_rings_of_tasks_with_nothing_stored(two_stored, context_prefix):
    agent, learner, trial = two_stored(context_prefix=context_prefix, meta_batch=16)

    def spoil(x, stocked):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        return jnp.where(stocked.reshape((P,) + (1,) * (x.ndim - 1)), x, jnp.nan)

    def spoil_ring(ring, kept):
        return replace(ring, rows=jax.tree.map(lambda x: spoil(x, kept), ring.rows))

    stored = learner.store
    stocked = stored.everything.count > 0
    spoilt = replace(
        stored,
        everything=spoil_ring(stored.everything, stocked),
        context=spoil_ring(stored.context, stocked),
    )
    after, metrics = update(agent, learner, trial)
    same, same_metrics = update(agent, replace(learner, store=spoilt), trial)
    assert float(metrics["critic_loss"]) > 0.0
    assert all(np.isfinite(float(x)) for x in same_metrics.values())
    for one, other in zip(jax.tree.leaves(after.model), jax.tree.leaves(same.model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_update_moves_everything_that_learns(updated):
    _, before, after, metrics = updated
    for part in ("encoder", "actor", "critics", "target_critics"):
        old, new = (jax.tree.leaves(getattr(s.model, part)) for s in (before, after))
        assert all(not np.array_equal(x, y) for x, y in zip(old, new, strict=True)), part
    assert float(after.model.log_temperature) == 0.0  # fixed unless asked for
    assert all(np.isfinite(float(x)) for x in metrics.values())


def test_every_step_of_an_update_has_draws_of_its_own(fresh, rolled_out):
    """Of steps of size 0, what is logged is the mean over what each of them logs."""
    _, learner, trial = rolled_out
    agent, _, _ = fresh(num_steps=2, tau=0.0, optimizer=OptimizerConfig(0.0, max_grad_norm=0.0))
    after, metrics = update(agent, learner, trial)
    learned, step = (learner.model, learner.optimizer), jax.jit(agent._step)
    errors = [
        float(step(learned, after.store, jnp.zeros(()), key)[1]["critic_loss"])
        for key in jax.random.split(KEY, 2)
    ]
    assert errors[0] != pytest.approx(errors[1], rel=1e-2)
    assert float(metrics["critic_loss"]) == pytest.approx(np.mean(errors), rel=1e-4)


def test_the_step_size_follows_its_schedule(fresh, rolled_out):
    """At the end of a decay to nothing, nothing moves but the slow critics.

    The trial's own steps count: the decay ends with the last of them.
    """
    _, learner, trial = rolled_out
    steps = int(trial.rows.valid.sum())
    optimizer = OptimizerConfig(
        1e-3, decay_start=steps - 1, decay_end=steps, final_factor=0.0, max_grad_norm=0.0
    )
    agent, _, _ = fresh(optimizer=optimizer)
    after, _ = update(agent, learner, trial)
    for part in ("encoder", "actor", "critics"):
        old, new = (jax.tree.leaves(getattr(s.model, part)) for s in (learner, after))
        assert all(np.array_equal(x, y) for x, y in zip(old, new, strict=True)), part


def test_warm_steps_only_store(fresh, rolled_out):
    """The second update is the first to find as many steps before it as are asked for."""
    _, learner, trial = rolled_out
    steps = int(trial.rows.valid.sum())
    agent, _, _ = fresh(warm_steps=steps)
    for env_steps in (0, steps - 1):
        after, metrics = update(agent, learner, trial, env_steps)
        old, new = ((s.model, s.optimizer) for s in (learner, after))
        for one, other in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
            np.testing.assert_array_equal(one, other)
        assert int(after.store.everything.count.sum()) == steps
        assert float(metrics["critic_loss"]) == 0.0
    later, more = update(agent, after, trial, steps)
    assert set(metrics) == set(more)
    assert float(more["critic_loss"]) > 0.0
    old, new = (jax.tree.leaves(s.model.critics) for s in (after, later))
    assert all(not np.array_equal(x, y) for x, y in zip(old, new, strict=True))


@pytest.mark.parametrize(("shift", "sign"), [(-6.0, 1.0), (-1.0, -1.0)])
def test_a_tuned_temperature_rises_while_the_policy_is_too_narrow(fresh, rolled_out, shift, sign):
    """The goal is minus one nat an action; a log deviation of -6 is below it, of -1 above."""
    _, learner, trial = rolled_out
    agent, _, _ = fresh(tune_temperature=True, num_steps=1, actor_penalty=0.0)
    bias = jnp.array([0.0, 0.0, shift, shift])
    last = lambda m: (m.actor.layers[-1].weight, m.actor.layers[-1].bias)
    flat = jnp.zeros_like(learner.model.actor.layers[-1].weight)
    model = eqx.tree_at(last, learner.model, (flat, bias))
    after, _ = update(agent, replace(learner, model=model), trial)
    assert sign * float(after.model.log_temperature) > 1e-5


def test_choices_are_refused():
    spec = EnvSpec("choosy", "test", 2, Discrete(3), H, K)
    with pytest.raises(TrmrlError, match="continuous actions"):
        small().init(spec, key=KEY)


def test_posterior_of_a_whole_trial_equals_the_product(rolled_out):
    agent, learner, trial = rolled_out
    belief = agent.start(learner.model, B)
    for k in range(K):
        belief = agent.adapt(learner.model, belief, episode_of(trial, k))
    rows = trial.rows.flatten_time()
    flat = agent.adapt(learner.model, agent.start(learner.model, B), rows)
    pair = (product(b.precision, b.weighted) for b in (belief, flat))
    for one, other in zip(*pair, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
