"""What adapting and learning to adapt are: by differences and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from trmrl import config as configs
from trmrl.agents import maml
from trmrl.agents.base import TaskPlan
from trmrl.agents.maml import MAML
from trmrl.envs import make
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.outer import OuterPPOConfig, TRPOConfig, surrogate_loss
from trmrl.nets.heads import HeadConfig
from trmrl.recipes import recipe
from trmrl.train import build_iteration
from trmrl.trial import run_trial
from trmrl.types import TrainState, TrmrlError, replace


def small(**fields):
    usual = {"plan": TaskPlan(lanes_per_task=2), "head": HeadConfig((3,), 1.0, 1.0)}
    return MAML(**(usual | fields))


@pytest.fixture
def batch_of(random_batch):
    """`batch_of(agent)`: a policy, and a batch of three tasks, three episodes each, it acted in."""
    return lambda agent: random_batch(agent._policies, num_episodes=3, credit=maml._credit)


def readapter(agent):
    return jax.vmap(agent._readapt, in_axes=(None, 0))


CASES = {
    "log_prob": {"inner_loss": "log_prob"},
    "ratio": {"inner_loss": "ratio"},
    "two steps": {"inner_loss": "ratio", "num_inner_steps": 2},
    "credit": {"exploration_coef": 0.7},
}


@pytest.mark.parametrize("case", CASES)
def test_the_outer_gradient_is_that_of_the_whole_two_stage_surrogate(
    in_double, differences, batch_of, case
):
    agent = small(inner_rate=0.1, **CASES[case])
    policy, batch = batch_of(agent)
    weights, unravel = ravel_pytree(policy)
    assert len(weights) == 19
    moved = weights + 0.1 * jnp.sin(jnp.arange(19.0))  # where ratios are not one

    def loss_of(agent):
        return jax.jit(lambda w: surrogate_loss(readapter(agent)(unravel(w), batch), batch))

    def kl(w):
        return readapter(agent)(unravel(w), batch).kl_after.mean()

    found = jax.jit(jax.grad(loss_of(agent)))(moved)
    expected = differences(loss_of(agent), np.asarray(moved))
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    kl_expected = differences(jax.jit(kl), np.asarray(moved))
    np.testing.assert_allclose(jax.jit(jax.grad(kl))(moved), kl_expected, rtol=1e-5, atol=1e-8)
    cheap = jax.jit(jax.grad(loss_of(replace(agent, first_order=True))))(moved)
    assert np.abs(cheap - expected).max() > 0.01 * np.abs(expected).max()


def test_both_inner_losses_have_one_gradient_and_two_curvatures(in_double, batch_of):
    """Where the weights are those that acted; the outer gradient is not the same."""
    policy, batch = batch_of(small())
    one = jax.tree.map(lambda x: x[0, 0], batch.rollouts)
    weights, unravel = ravel_pytree(policy)
    gradients, curvatures = [], []
    for inner_loss in ("log_prob", "ratio"):
        agent = small(inner_loss=inner_loss)
        slope = jax.grad(lambda w, agent=agent: agent._inner_loss(unravel(w), one))
        gradients.append(jax.jit(slope)(weights))
        curvatures.append(jax.jit(jax.jacfwd(slope))(weights))
    np.testing.assert_allclose(*gradients, rtol=1e-9, atol=1e-12)
    assert np.abs(curvatures[0] - curvatures[1]).max() > 0.01


def divergence(p, q):
    """`KL(p || q)` of normals, by hand."""
    p_mean, p_std, q_mean, q_std = map(
        np.asarray, (p.mean, np.exp(p.log_std), q.mean, np.exp(q.log_std))
    )
    each = np.log(q_std / p_std) + (p_std**2 + (p_mean - q_mean) ** 2) / (2 * q_std**2) - 0.5
    return each.sum(axis=-1)


def test_what_a_readapted_policy_is_measured_by(in_double, batch_of):
    """From those who acted to who would act now, where they differ: in NumPy, task by task."""
    agent = small(inner_rate=0.1, exploration_coef=0.7)
    policy, batch = batch_of(agent)
    policy = jax.tree.map(
        lambda w: w + 0.3 * jnp.sin(jnp.arange(1.0, w.size + 1).reshape(w.shape)), policy
    )
    found = jax.jit(readapter(agent))(policy, batch)
    policies = jax.vmap(agent._policies, in_axes=(None, 0))
    before, after = jax.jit(policies)(policy, batch.rollouts)
    valid, action, log_prob = (
        np.asarray(x)
        for x in (batch.rollouts.valid, batch.rollouts.action, batch.rollouts.log_prob)
    )
    averages = lambda x, where: [one[kept].mean() for one, kept in zip(x, where, strict=True)]

    def density(policy, action):
        z = (action - np.asarray(policy.mean)) / np.exp(policy.log_std)
        return (-0.5 * z**2 - np.asarray(policy.log_std) - 0.5 * np.log(2 * np.pi)).sum(axis=-1)

    early, last = valid[:, :-1], valid[:, -1]
    expected = {
        "log_ratio": density(after, action[:, -1]) - log_prob[:, -1],
        "kl_before": averages(divergence(batch.old_before, before), early),
        "kl_after": averages(divergence(batch.old_after, after), last),
        "entropy": averages(
            (np.asarray(after.log_std) + 0.5 * np.log(2 * np.pi * np.e)).sum(axis=-1), last
        ),
        "exploration": 0.7
        * np.asarray(batch.credit)
        * averages(density(before, action[:, :-1]), early),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-9, err_msg=name)
    backwards = averages(divergence(after, batch.old_after), last)
    assert np.abs(np.subtract(backwards, expected["kl_after"])).min() > 0.01


def test_credit_is_each_tasks_reward_among_all(batch_of):
    _, batch = batch_of(small())
    reward, valid = (np.asarray(x)[:, -1] for x in (batch.rollouts.reward, batch.rollouts.valid))
    pooled = reward[valid]
    expected = [
        (r[v].mean() - pooled.mean()) / pooled.std() for r, v in zip(reward, valid, strict=True)
    ]
    np.testing.assert_allclose(batch.credit, expected, rtol=1e-4)


@functools.cache
def compiled_update(agent):
    return jax.jit(agent.update)


def update(agent, learner, trial):
    key = jax.random.key(3)
    return compiled_update(agent)(learner, trial, env_steps=jnp.float32(0), key=key)


@pytest.fixture(scope="module")
def roll_out(drift, currents):
    """`roll_out(agent)`: its learner before any update, a trial of two tasks on two lanes each."""

    def run(agent, host=False):
        envs = drift(host)
        learner = agent.init(envs.spec, key=jax.random.key(0))
        trial = run_trial(
            agent, learner.model, envs, currents(noise=0.1), explore=True, key=jax.random.key(1)
        )
        return learner, jax.tree.map(np.asarray, trial)

    return run


def adapted(agent, learner, trial):
    memory = agent.start(learner.model, trial.rows.valid.shape[-1])
    episode = jax.tree.map(lambda x: x[0], trial.rows)
    return agent.adapt(learner.model, memory, episode).policy


def close(one, two, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def updated(agent, learner, trial):
    return update(agent, learner, trial)[0].model


OUTER = {
    "trpo": {"outer": TRPOConfig()},
    "ppo": {"outer": OuterPPOConfig()},
    "promp": {"outer": OuterPPOConfig(kl_coef=5e-4, kl_target=0.01), "inner_loss": "ratio"},
}


@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("host", [False, True])
def test_an_update_keeps_every_shape_and_is_finite(roll_out, outer, host):
    agent = small(**OUTER[outer])
    before, trial = roll_out(agent, host)
    assert 0 < trial.rows.valid.sum() < trial.rows.valid.size
    after, metrics = update(agent, before, trial)
    assert all(np.isfinite(x) and x.shape == () for x in metrics.values())
    assert {"kl", "policy_loss", "entropy", "grad_norm", "step_size"} <= set(metrics)
    old, new = jax.tree.leaves(before), jax.tree.leaves(after)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert all(x.aval == y.aval for x, y in zip(old, new, strict=True))
    assert metrics["policy_loss"] < 0 < metrics["kl"]  # better than it was, and elsewhere


def test_an_inner_step_by_hand(roll_out):
    """A linear policy: the score of a mean is (a - m) / s^2, of a log deviation z^2 - 1."""
    agent = small(head=HeadConfig((), 1.0, 0.5), inner_rate=0.3, gamma=0.9)
    learner, trial = roll_out(agent)
    weight, bias = learner.model.mean.layers[0].weight, learner.model.mean.layers[0].bias
    fast = adapted(agent, learner, trial)
    for task in range(2):
        lanes = slice(2 * task, 2 * task + 2)
        valid = trial.rows.valid[0, :, lanes]
        obs, action, reward = (
            x[0, :, lanes].astype(np.float64)
            for x in (
                trial.rows.timestep.obs,
                trial.rows.decision.action,
                trial.rows.outcome.reward,
            )
        )
        t = np.broadcast_to(np.arange(len(obs))[:, None, None] / 100, (*valid.shape, 1))
        rows = np.concatenate([obs, obs**2, t, t**2, t**3, np.ones_like(t)], axis=-1)
        target = np.zeros_like(reward)
        for i in range(len(obs) - 1, -1, -1):
            ahead = target[i + 1] if i + 1 < len(obs) else 0.0
            target[i] = np.where(valid[i], reward[i] + 0.9 * ahead, 0.0)
        rows, target, obs, action = (x[valid] for x in (rows, target, obs, 10.0 * action))
        ridge = np.vstack([rows, 1e-5**0.5 * np.eye(rows.shape[1])])
        blank = np.zeros(rows.shape[1])
        fitted = np.linalg.lstsq(ridge, np.concatenate([target, blank]), rcond=None)[0]
        advantage = target - rows @ fitted
        advantage = (advantage - advantage.mean()) / advantage.std()
        z = (action - obs @ np.asarray(weight) - np.asarray(bias)) / 0.5
        score = advantage[:, None] * z / 0.5
        expected = {
            "weight": weight + 0.3 * obs.T @ score / len(obs),
            "bias": bias + 0.3 * score.mean(0),
            "log_std": np.log(0.5) + 0.3 * (advantage[:, None] * (z**2 - 1)).mean(0),
        }
        found = fast.mean.layers[0].weight[task], fast.mean.layers[0].bias[task], fast.log_std[task]
        start = weight, bias, learner.model.log_std
        for name, value, before in zip(expected, found, start, strict=True):
            np.testing.assert_allclose(value, expected[name], rtol=0.02, atol=2e-3, err_msg=name)
            assert np.abs(np.asarray(value) - np.asarray(before)).max() > 0.01


def test_actions_are_scaled_and_log_probabilities_are_of_the_unscaled(roll_out, drift, currents):
    agent = small(head=HeadConfig((), 1.0, 1.0), action_scale=4.0)
    learner, trial = roll_out(agent)
    policy = learner.model(jnp.asarray(trial.rows.timestep.obs[0]))  # nobody has adapted yet
    expected = policy.log_prob(jnp.asarray(4.0 * trial.rows.decision.action[0]))
    np.testing.assert_allclose(trial.rows.decision.log_prob[0], expected, rtol=1e-5, atol=1e-5)
    still = replace(agent, exploration_episodes=0)
    mode = run_trial(
        still, learner.model, drift(), currents(), explore=False, key=jax.random.key(0)
    )
    mean = learner.model(mode.rows.timestep.obs[0]).mean
    np.testing.assert_allclose(mode.rows.decision.action[0], mean / 4.0, rtol=1e-5, atol=1e-6)
    assert (trial.rows.decision.value == 0).all()


def test_what_is_adapted_to_is_sampled_and_what_follows_is_as_asked(roll_out, drift, currents):
    """Of two episodes the first is the same either way, the second by the adapted mode."""
    agent = small()
    learner, _ = roll_out(agent)
    sampled, mode = (
        run_trial(agent, learner.model, drift(), currents(), explore=explore, key=jax.random.key(4))
        for explore in (True, False)
    )
    np.testing.assert_array_equal(sampled.rows.decision.action[0], mode.rows.decision.action[0])
    assert not np.array_equal(sampled.rows.decision.action[1], mode.rows.decision.action[1])
    fast = adapted(agent, learner, mode)
    obs = jnp.asarray(mode.rows.timestep.obs[1])
    by_task = obs.reshape((len(obs), 2, 2, -1)).swapaxes(0, 1)
    mean = jax.vmap(lambda policy, obs: policy(obs).mean)(fast, by_task)
    mean = mean.swapaxes(0, 1).reshape(mode.rows.decision.action[1].shape)
    np.testing.assert_allclose(mode.rows.decision.action[1], mean / 10.0, rtol=1e-4, atol=1e-5)


def test_acting_leaves_memory_itself(roll_out):
    agent = small()
    learner, trial = roll_out(agent)
    memory = agent.start(learner.model, 4)
    assert {x.shape[0] for x in jax.tree.leaves(memory.policy)} == {2}
    first = jax.tree.map(lambda x: jnp.asarray(x[0, 0]), trial.rows.timestep)
    keys = jax.random.split(jax.random.key(0), 4)
    after, _ = agent.act(learner.model, memory, first, explore=True, key=keys)
    assert all(a is b for a, b in zip(jax.tree.leaves(memory), jax.tree.leaves(after), strict=True))


def test_the_readapted_policies_are_those_that_acted(roll_out):
    """Ratios of one before any step, so that the surrogate starts from zero."""
    agent = small(inner_rate=1.0)
    learner, trial = roll_out(agent)
    batch = jax.jit(agent._batch)(learner.model, trial.rows)
    found = jax.jit(readapter(agent))(learner.model, batch)
    np.testing.assert_allclose(np.asarray(found.log_ratio)[batch.last.valid], 0.0, atol=1e-4)
    assert float(found.kl_after.max()) < 1e-6
    fresh = jax.vmap(learner.model)(batch.last.obs).log_prob(batch.last.action)
    moved = np.asarray(fresh - batch.last.log_prob)[batch.last.valid]
    assert np.abs(moved).max() > 0.1  # it did adapt in between


def test_what_is_logged_is_of_the_policy_after_the_step(roll_out):
    agent = small()
    learner, trial = roll_out(agent)
    after, metrics = update(agent, learner, trial)
    batch = jax.jit(agent._batch)(learner.model, trial.rows)
    found = jax.jit(readapter(agent))(after.model, batch)
    expected = {
        "kl": found.kl_after.mean(),
        "kl_before_adapting": found.kl_before.mean(),
        "entropy": found.entropy.mean(),
        "policy_loss": surrogate_loss(found, batch),
    }
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(float(value), rel=1e-3), name
    assert len({round(float(value), 4) for value in expected.values()}) == 4


def spoil(trial, where, value):
    """The trial with every number overwritten where a `[K, H, B]` flag says so."""

    def spoilt(x):
        if not np.issubdtype(x.dtype, np.floating):
            return x
        return np.where(where.reshape(where.shape + (1,) * (x.ndim - 3)), np.float32(value), x)

    rows = replace(jax.tree.map(spoilt, trial.rows), valid=trial.rows.valid)
    return replace(trial, rows=rows)


@pytest.mark.parametrize("outer", OUTER)
def test_rows_that_never_happened_are_never_read(roll_out, outer):
    agent = small(**OUTER[outer])
    learner, trial = roll_out(agent)
    spoilt = spoil(trial, ~trial.rows.valid, np.nan)
    close(adapted(agent, learner, trial), adapted(agent, learner, spoilt), rtol=0)
    close(updated(agent, learner, trial), updated(agent, learner, spoilt), rtol=0)


def test_a_task_adapts_to_its_own_lanes_alone(roll_out):
    agent = small()
    learner, trial = roll_out(agent)
    where = np.zeros(trial.rows.valid.shape, bool)
    where[..., 3] = True
    one, two = adapted(agent, learner, trial), adapted(agent, learner, spoil(trial, where, 0.7))
    first, second = (lambda x, i=i: jax.tree.map(lambda leaf: leaf[i], x) for i in (0, 1))
    close(first(one), first(two), rtol=0)
    assert np.abs(second(one).log_std - second(two).log_std).max() > 1e-3


@pytest.mark.parametrize("outer", OUTER)
def test_the_order_of_a_tasks_lanes_does_not_matter(roll_out, outer):
    agent = small(**OUTER[outer])
    if outer == "trpo":  # else rounding decides along directions of no curvature
        agent = replace(agent, outer=TRPOConfig(damping=1e-2))
    learner, trial = roll_out(agent)
    turned = jax.tree.map(lambda x: x[:, :, [1, 0, 3, 2]], trial.rows)
    one, two = updated(agent, learner, trial), updated(agent, learner, replace(trial, rows=turned))
    close(one, two, rtol=1e-2, atol=1e-4)


def test_lanes_that_no_number_of_tasks_fills_are_refused(roll_out):
    model = roll_out(small())[0].model
    with pytest.raises(TrmrlError, match="5 lanes, expected a multiple of 2"):
        small().start(model, 5)
    alone = small().start(model, 1)  # one lane is a task's
    assert alone.num_tasks == 1


def test_a_trial_of_one_episode_is_refused_with_one_line():
    config = replace(recipe("navigation-2d", "maml"), num_episodes=1)
    envs = make(config.env, config.num_episodes)
    with pytest.raises(TrmrlError, match=r"^agent\.outer learns .* num_episodes is 1, expected 2"):
        configs.check(config, envs.spec)


def test_choices_have_no_scale():
    envs, agent = make("bandit-n2-k3"), small()
    learner = agent.init(envs.spec, key=jax.random.key(0))
    tasks = agent.plan.spread(envs.sample_tasks("train", 2, key=jax.random.key(1)))
    trial = run_trial(agent, learner.model, envs, tasks, explore=True, key=jax.random.key(2))
    assert trial.rows.decision.action.dtype == jnp.int32
    batch = jax.jit(agent._batch)(learner.model, trial.rows)
    expected = np.moveaxis(np.asarray(trial.rows.decision.action).reshape(2, 1, 2, 2), 2, 0)
    np.testing.assert_array_equal(batch.rollouts.action, expected)


LEARNERS = {
    "trpo": {"outer": TRPOConfig()},
    "promp": OUTER["promp"] | {
        "outer": OuterPPOConfig(
            kl_coef=5e-4, optimizer=OptimizerConfig(learning_rate=1e-2, max_grad_norm=0.0)
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("outer", LEARNERS)
def test_it_learns_to_adapt(outer):
    """Ten rollouts of 20 steps show where to go; before learning, a step gains little from them."""
    envs = make("navigation-2d")
    envs = replace(envs, spec=replace(envs.spec, horizon=20))
    plan = TaskPlan(lanes_per_task=10)
    agent = MAML(plan=plan, head=HeadConfig((16,), 1.0, 1.0), **LEARNERS[outer])
    iterate = build_iteration(agent, envs, 100)
    learner, zero = agent.init(envs.spec, key=jax.random.key(0)), np.zeros((), np.int64)
    train_state = TrainState(learner, jax.random.key(1), zero, zero)
    gain = []
    for _ in range(40):
        train_state, metrics = iterate(train_state)
        before, after = np.asarray(metrics["return"])
        gain.append(after - before)
    assert np.mean(gain[:3]) < 0.5
    assert np.mean(gain[-5:]) > 2.0
