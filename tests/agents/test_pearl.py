"""PEARL: what is believed, what z is drawn from, and which loss teaches whom."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents._replay import Transitions
from trmrl.agents._sgd import OptimizerConfig
from trmrl.agents.pearl import PEARL, Belief
from trmrl.ops.gaussian_product import product
from trmrl.trial import run_trial
from trmrl.types import Discrete, EnvSpec, Timestep, TrmrlError, replace

L, B, K, H = 3, 4, 4, 6
KEY = jax.random.key(3)
ONCE = jnp.ones(3)  # how often the context of each of three tasks counts


def small(**fields):
    sizes = {
        "num_tasks": 8, "latent": L, "encoder_hidden": (8,), "hidden": (8,), "capacity": 2 * K * H,
        "context_size": 7, "meta_batch": 3, "batch_size": 5, "num_steps": 4,
    }  # fmt: skip
    return PEARL(**(sizes | fields))


@pytest.fixture(scope="module")
def fresh(drift, shake):
    """`fresh(...)`: an agent, its state before the first update, and worlds of K episodes."""

    def build(**fields):
        agent, envs = small(**fields), drift(num_episodes=K)
        state = agent.init(envs.spec, key=KEY)
        return agent, replace(state, model=shake(state.model)), envs

    return build


@pytest.fixture(scope="module")
def lived(fresh, currents):
    """A trial `[K, H, B]`, lanes 1 and 2 ending early, and the agent and state that lived it."""
    agent, state, envs = fresh()
    trial = run_trial(agent, state.model, envs, currents(), explore=True, key=KEY)
    return agent, state, jax.tree.map(jnp.asarray, trial)


def episode_of(trial, k):
    return jax.tree.map(lambda x: x[k], trial)


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


def test_a_belief_is_the_sum_of_the_factors_of_what_happened(lived):
    agent, state, trial = lived
    belief, expected = agent.start(state.model, B), np.zeros((2, B, L))
    for k in range(2):
        episode = episode_of(trial, k)
        belief = agent.adapt(state.model, belief, episode, key=KEY)
        expected += factors_by_hand(state.model, episode)
        np.testing.assert_allclose(belief.precision, expected[0], rtol=1e-4)
        np.testing.assert_allclose(belief.weighted, expected[1], rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(belief.num_episodes, k + 1)


def test_the_order_of_an_episode_does_not_matter(lived):
    agent, state, trial = lived
    episode = episode_of(trial, 0)
    order = np.random.default_rng(0).permutation(H)
    shuffled = jax.tree.map(lambda x: x[order], episode)
    start = agent.start(state.model, B)
    one, other = (agent.adapt(state.model, start, e, key=KEY) for e in (episode, shuffled))
    np.testing.assert_allclose(one.precision, other.precision, rtol=1e-5)
    np.testing.assert_allclose(one.weighted, other.weighted, rtol=1e-4, atol=1e-5)


def test_rows_that_never_happened_are_not_read(lived):
    agent, state, trial = lived
    episode = episode_of(trial, 0)
    assert not episode.valid.all()
    nan = jnp.where(episode.valid, episode.outcome.reward, jnp.nan)
    poisoned = replace(episode, outcome=replace(episode.outcome, reward=nan))
    start = agent.start(state.model, B)
    one, other = (agent.adapt(state.model, start, e, key=KEY) for e in (episode, poisoned))
    np.testing.assert_array_equal(one.precision, other.precision)


def begins(trial_start=False, episode_start=True, num_lanes=2_000):
    """A timestep of many alike lanes."""
    full = lambda value: jnp.full(num_lanes, value)
    obs, nothing = jnp.zeros((num_lanes, 2)), jnp.zeros((num_lanes, 2))
    return Timestep(obs, nothing, jnp.zeros(num_lanes), full(episode_start), full(trial_start))


def convinced(num_episodes, num_lanes=2_000):
    """A belief that the task is near (1, 2, 3), with variance 1/4."""
    ones = jnp.ones((num_lanes, L))
    told = 4.0 * jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0]), (num_lanes, L))
    return Belief(4.0 * ones, told, 9.0 * ones, jnp.full(num_lanes, num_episodes, jnp.int32))


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize(
    ("num_episodes", "trial_start", "mean", "std"),
    [
        (0, False, [0, 0, 0], 1.0),  # the first episodes act on the prior, whatever is known
        (1, False, [0, 0, 0], 1.0),
        (2, False, [1, 2, 3], 0.5),  # the later ones on the posterior
        (7, False, [1, 2, 3], 0.5),
        (7, True, [0, 0, 0], 1.0),  # a new trial knows nothing
    ],
)
def test_what_z_is_drawn_from(fresh, explore, num_episodes, trial_start, mean, std):
    agent, state, _ = fresh()
    memory, _ = agent.act(
        state.model, convinced(num_episodes), begins(trial_start), explore=explore, key=KEY
    )
    z = np.asarray(memory.z)
    np.testing.assert_allclose(z.mean(axis=0), mean, atol=5 * std / np.sqrt(len(z)))
    np.testing.assert_allclose(z.std(axis=0), std, rtol=0.1)
    if trial_start:
        assert not memory.precision.any() and not memory.num_episodes.any()


def test_z_is_kept_within_an_episode(fresh):
    agent, state, _ = fresh()
    believed = convinced(5)
    memory, _ = agent.act(state.model, believed, begins(episode_start=False), explore=True, key=KEY)
    for one, other in zip(jax.tree.leaves(memory), jax.tree.leaves(believed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_actions_depend_on_z_and_stay_in_the_box(fresh):
    agent, state, _ = fresh()
    memory, decision = agent.act(state.model, convinced(5), begins(), explore=False, key=KEY)
    action = np.asarray(decision.action)
    assert (np.abs(action) < 1).all()
    assert action.std(axis=0).min() > 1e-3  # all lanes see the same; z is all that differs
    again = agent.act(
        state.model, memory, begins(episode_start=False), explore=False, key=jax.random.key(9)
    )[1]
    np.testing.assert_array_equal(action, again.action)


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
        agent, state, _ = fresh(kl_coef=kl_coef)
        taught = state.model.encoder, state.model.critics
        return (
            agent,
            state,
            agent._critic_loss(taught, state.model, context, ONCE, rows, noise, KEY)[0],
        )

    agent, state, with_kl = loss(0.3)
    _, _, without = loss(0.0)
    expected = 0.0
    for task in range(3):
        precision, weighted = np.zeros(L), np.zeros(L)
        for c in range(7):
            row = np.concatenate(
                [context.obs[task, c], context.action[task, c], [context.reward[task, c]]]
            )
            raw = np.asarray(state.model.encoder(jnp.asarray(row, jnp.float32)), np.float64)
            variance = np.log1p(np.exp(raw[L:]))
            precision, weighted = precision + 1 / variance, weighted + raw[:L] / variance
        mean, variance = weighted / precision, 1 / precision
        expected += 0.5 * (variance + mean**2 - 1 - np.log(variance)).sum()
    assert float(with_kl - without) == pytest.approx(0.3 * expected, rel=1e-3)


def test_a_context_that_counts_twice_is_the_context_laid_out_twice(fresh, drawn):
    agent, state, _ = fresh(kl_coef=10.0)
    context, rows, noise = drawn
    taught = state.model.encoder, state.model.critics
    loss = lambda *seen: agent._critic_loss(taught, state.model, *seen, rows, noise, KEY)[0]
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=1), context)
    assert float(loss(context, 2 * ONCE)) == pytest.approx(float(loss(twice, ONCE)), rel=1e-5)
    assert float(loss(context, 2 * ONCE)) != pytest.approx(float(loss(context, ONCE)), rel=1e-3)


def test_contexts_are_beginnings_of_a_trial_of_any_length(fresh, lived):
    """Rewards are rows' numbers here, so what was drawn tells where from."""
    _, state, trial = lived
    agent, _, _ = fresh(context_prefix=True, context_episodes=K, context_size=400)
    stored = agent.init(fresh()[2].spec, key=KEY).replay
    steps = jnp.cumsum(trial.valid.reshape(K * H, B).astype(jnp.float32), axis=0) - 1.0
    trial = replace(trial, outcome=replace(trial.outcome, reward=steps.reshape(K, H, B)))
    stored, _ = agent._store(replace(state, replay=stored), trial)
    lane, lengths = 0, []
    for key in jax.random.split(KEY, 60):
        context, times = agent._context(stored, jnp.array([lane]), key)
        lengths.append(round(float(times[0]) * 400))
        assert set(np.asarray(context.reward[0])) == set(range(lengths[-1]))
    assert min(lengths) <= 3 and max(lengths) == trial.valid[:, :, lane].sum()


def test_published_contexts_are_the_whole_of_it_and_count_once(fresh, lived, taught):
    agent, _, after, _ = taught
    context, times = agent._context(after.replay, jnp.arange(3), KEY)
    assert context.reward.shape == (3, 7)
    np.testing.assert_array_equal(times, 1.0)


def test_the_encoder_learns_from_the_critics_and_never_from_the_actor(fresh, drawn):
    agent, state, _ = fresh(kl_coef=0.0)
    context, rows, noise = drawn
    model = state.model

    def actor_loss(encoder):
        taught = encoder, model.critics
        _, (z, _) = agent._critic_loss(taught, model, context, ONCE, rows, noise, KEY)
        return agent._actor_loss(model.actor, model, rows, z, KEY)[0]

    def critic_loss(encoder):
        return agent._critic_loss((encoder, model.critics), model, context, ONCE, rows, noise, KEY)[
            0
        ]

    size = lambda tree: sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(tree))
    assert size(jax.grad(actor_loss)(model.encoder)) == 0.0
    assert size(jax.grad(critic_loss)(model.encoder)) > 1e-3


def test_beliefs_never_read_a_dense_reward(fresh, drawn):
    agent, _, _ = fresh()
    context = drawn[0]
    other = replace(context, dense_reward=context.dense_reward + 1.0)
    np.testing.assert_array_equal(agent._seen(context), agent._seen(other))


@pytest.mark.parametrize("dense", [False, True])
def test_critics_pursue_the_slow_ones_and_nothing_beyond_an_end(fresh, drawn, dense):
    agent, state, _ = fresh(gamma=0.9, reward_scale=5.0, dense_critics=dense)
    _, rows, noise = drawn
    z = jnp.broadcast_to(noise[:, None], (3, 5, L))
    target = agent._target(state.model, rows, z, KEY)
    over = np.asarray(rows.terminated)
    assert over.any() and not over.all()
    np.testing.assert_allclose(
        target[over], 5.0 * (rows.dense_reward if dense else rows.reward)[over], rtol=1e-6
    )
    other = eqx.tree_at(
        lambda m: m.target_critics[0].layers[-1].bias, state.model, replace_fn=lambda b: b - 100.0
    )
    lowered = np.asarray(agent._target(other, rows, z, KEY))
    assert (lowered[~over] < np.asarray(target)[~over] - 50.0).all()
    fast = eqx.tree_at(
        lambda m: m.critics[0].layers[-1].bias, state.model, replace_fn=lambda b: b - 100.0
    )
    np.testing.assert_array_equal(target, agent._target(fast, rows, z, KEY))


@pytest.fixture(scope="module")
def taught(lived):
    agent, state, trial = lived
    return agent, state, *jax.jit(agent.update)(state, trial)


def test_an_update_stores_its_trial_by_task(lived, taught):
    agent, _, after, _ = taught
    _, _, trial = lived
    steps = np.asarray(trial.valid.sum(axis=(0, 1)))
    np.testing.assert_array_equal(after.replay.everything.count, [*steps, 0, 0, 0, 0])
    first = np.asarray(trial.valid[: agent.context_episodes].sum(axis=(0, 1)))
    np.testing.assert_array_equal(after.replay.context.count, [*first, 0, 0, 0, 0])
    assert int(after.env_steps) == int(steps.sum())
    later, _ = jax.jit(agent.update)(after, trial)
    np.testing.assert_array_equal(later.replay.everything.count, [*steps, *steps])
    again, _ = jax.jit(agent.update)(later, trial)  # the ring of tasks has come around
    np.testing.assert_array_equal(again.replay.everything.count, [*(2 * steps), *steps])
    np.testing.assert_array_equal(again.replay.context.count, [*first, *first])


def test_an_update_moves_everything_that_learns(taught):
    _, before, after, metrics = taught
    for part in ("encoder", "actor", "critics", "target_critics"):
        old, new = (jax.tree.leaves(getattr(s.model, part)) for s in (before, after))
        assert all(not np.array_equal(x, y) for x, y in zip(old, new, strict=True)), part
    assert float(after.model.log_temperature) == 0.0  # fixed unless asked for
    assert all(np.isfinite(float(x)) for x in metrics.values())


def test_the_step_size_follows_its_schedule(fresh, lived):
    """At the end of a decay to nothing, nothing moves but the slow critics."""
    _, state, trial = lived
    optimizer = OptimizerConfig(1e-3, decay_end=1, final_factor=0.0, max_grad_norm=0.0)
    agent, _, _ = fresh(optimizer=optimizer)
    after, _ = agent.update(state, trial)
    for part in ("encoder", "actor", "critics"):
        old, new = (jax.tree.leaves(getattr(s.model, part)) for s in (state, after))
        assert all(np.array_equal(x, y) for x, y in zip(old, new, strict=True)), part


def test_slow_critics_follow_by_tau(fresh, lived):
    _, state, trial = lived
    agent, _, _ = fresh(num_steps=1, tau=0.25)
    after, _ = agent.update(state, trial)
    old, new, slow = (
        jax.tree.leaves(x)
        for x in (state.model.target_critics, after.model.critics, after.model.target_critics)
    )
    for before, fast, found in zip(old, new, slow, strict=True):
        np.testing.assert_allclose(found, 0.75 * before + 0.25 * fast, rtol=1e-5, atol=1e-6)


def test_warm_updates_only_store(fresh, lived):
    _, state, trial = lived
    agent, _, _ = fresh(warm_updates=1)
    update = jax.jit(agent.update)
    after, metrics = update(state, trial)
    for one, other in zip(jax.tree.leaves(state.model), jax.tree.leaves(after.model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(after.replay.everything.count.sum()) == int(trial.valid.sum())
    later, more = update(after, trial)
    assert set(metrics) == set(more)
    assert float(metrics["critic_loss"]) == 0.0 < float(more["critic_loss"])
    old, new = (jax.tree.leaves(s.model.critics) for s in (after, later))
    assert all(not np.array_equal(x, y) for x, y in zip(old, new, strict=True))


@pytest.mark.parametrize(("shift", "sign"), [(-6.0, 1.0), (-1.0, -1.0)])
def test_a_tuned_temperature_rises_while_the_policy_is_too_narrow(fresh, lived, shift, sign):
    """The goal is minus one nat an action; a log deviation of -6 is below it, of -1 above."""
    _, state, trial = lived
    agent, _, _ = fresh(tune_temperature=True, num_steps=1, actor_penalty=0.0)
    bias = jnp.array([0.0, 0.0, shift, shift])
    last = lambda m: (m.actor.layers[-1].weight, m.actor.layers[-1].bias)
    flat = jnp.zeros_like(state.model.actor.layers[-1].weight)
    model = eqx.tree_at(last, state.model, (flat, bias))
    after, _ = agent.update(replace(state, model=model), trial)
    assert sign * float(after.model.log_temperature) > 1e-5


def test_choices_are_refused():
    spec = EnvSpec("choosy", 2, Discrete(3), H, K)
    with pytest.raises(TrmrlError, match="continuous actions"):
        small().init(spec, key=KEY)


def test_posterior_of_a_whole_trial_equals_the_product(lived):
    agent, state, trial = lived
    belief = agent.start(state.model, B)
    for k in range(K):
        belief = agent.adapt(state.model, belief, episode_of(trial, k), key=KEY)
    rows = trial.flatten_time()
    flat = agent.adapt(state.model, agent.start(state.model, B), rows, key=KEY)
    pair = (product(b.precision, b.weighted) for b in (belief, flat))
    for one, other in zip(*pair, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
