"""PEARL's gradient step against a second derivation of it: plain formulas, one task at a time.

Only the draws are repeated from the agent. Nothing of `ops`, of the networks or of the optimizer is
used, and the derivation has 64 bits.
"""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.base import TaskPlan
from trmrl.agents.pearl import PEARL, Stored, _draw_tasks
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.replay import Transitions, draw, store
from trmrl.types import Continuous, EnvSpec, replace

D, A, L, M, N, C = 2, 2, 3, 3, 5, 7  # of obs, action, z; tasks, rows and context rows of a step
SPEC = EnvSpec("any", "test", D, Continuous(A), horizon=6, num_episodes=4)
STOCKED = 2, 5, 6  # tasks with anything stored
KEY, RATE = jax.random.key(1), 0.01
PUBLISHED = PEARL(
    plan=TaskPlan(8), latent=L, encoder_hidden=(6,), hidden=(6,), capacity=24, context_size=C,
    meta_batch=M, batch_size=N, optimizer=OptimizerConfig(RATE, max_grad_norm=0.0),
)  # fmt: skip
OPTIONS = replace(
    PUBLISHED, context_prefix=True, context_next_obs=True, dense_critics=True, gamma=0.7, tau=0.2,
    tune_temperature=True, kl_coef=0.4, actor_penalty=0.3, reward_scale=2.0,
)  # fmt: skip


def random_rows(seed, num_rows):
    """Transitions `[T, B]` of the stocked tasks, each field of its own; about half are ends."""
    noise = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(noise.normal(size=(num_rows, 3, *shape)), jnp.float32)
    over = jnp.asarray(noise.uniform(size=(num_rows, 3)) < 0.5)
    return Transitions(normal(D), jnp.tanh(normal(A)), normal(), normal(), over, normal(D))


@pytest.fixture(scope="module", params=[PUBLISHED, OPTIONS], ids=["published", "options"])
def step(request, shake):
    """An agent, its model and stores; and a gradient step's model, moments and metrics.

    Both stores hold rows of their own: a step that draws from the wrong one shows.
    """
    agent = request.param
    learner = agent.init(SPEC, key=KEY)
    model = replace(shake(learner.model), log_temperature=jnp.float32(-0.5))
    stored, tasks = learner.store, jnp.array(STOCKED)
    filled = Stored(
        store(stored.everything, tasks, random_rows(1, 20), jnp.ones((20, 3), bool)),
        store(stored.context, tasks, random_rows(2, 11), jnp.ones((11, 3), bool)),
    )
    learned = model, learner.optimizer
    after, metrics = jax.jit(agent._step)(learned, filled, jnp.float32(RATE), KEY)
    return agent, model, filled, *after, metrics


def drawn(agent, stored):
    """What the step draws, in 64 bits: context, how often it counts, rows and noises, by task."""
    task_key, context_key, batch_key, z_key, next_key, actor_key = jax.random.split(KEY, 6)
    task = _draw_tasks(stored, M, task_key)
    assert len(set(task.tolist())) > 1
    context, times = agent._context(stored, task, context_key)
    rows = draw(stored.everything, task, N, key=batch_key)
    noises = [
        jax.random.normal(key, shape)
        for key, shape in ((z_key, (M, L)), (next_key, (M, N, A)), (actor_key, (M, N, A)))
    ]
    wide = lambda x: np.asarray(x, np.float64)
    fields = lambda found: SimpleNamespace(**{name: wide(x) for name, x in vars(found).items()})
    return fields(context), wide(times), fields(rows), [wide(noise) for noise in noises]


def weights(mlp):
    return [
        (np.asarray(layer.weight, np.float64), np.asarray(layer.bias, np.float64))
        for layer in mlp.layers
    ]


def perceptron(layers, *parts):
    x = jnp.concatenate(parts, axis=-1)
    for weight, bias in layers[:-1]:
        x = jnp.maximum(x @ weight + bias, 0.0)
    return x @ layers[-1][0] + layers[-1][1]


def belief(agent, encoder, context, times, task):
    """Mean and variance of one task's posterior: the product of a Gaussian for every row."""
    parts = [context.obs[task], context.action[task], context.reward[task][:, None]]
    raw = perceptron(encoder, *parts, *[context.next_obs[task]] * agent.context_next_obs)
    variance = jnp.log1p(jnp.exp(raw[:, L:]))
    precision = times[task] * (1.0 / variance).sum(axis=0)
    return times[task] * (raw[:, :L] / variance).sum(axis=0) / precision, 1.0 / precision


def acted(actor, obs, z, noise):
    """Actions of the policy, their log densities, and the normal's mean and log deviation."""
    mean, log_std = jnp.split(perceptron(actor, obs, z), 2, axis=-1)
    log_std = jnp.clip(log_std, -20.0, 2.0)
    action = jnp.tanh(mean + jnp.exp(log_std) * noise)
    density = -0.5 * noise**2 - log_std - 0.5 * math.log(2.0 * math.pi)
    return action, (density - jnp.log(1.0 - action**2)).sum(axis=-1), mean, log_std


def lesser(critics, obs, action, z):
    """The lesser of both critics' values."""
    return jnp.minimum(*(perceptron(critic, obs, action, z)[:, 0] for critic in critics))


def derived(agent, model, context, times, rows, noises):
    """The gradients of `(encoder, critics), actor, log_temperature`, and what the step logs."""
    z_noise, next_noise, actor_noise = noises
    encoder, actor = weights(model.encoder), weights(model.actor)
    critics = [weights(critic) for critic in model.critics]
    slow = [weights(critic) for critic in model.target_critics]
    temperature = math.exp(float(model.log_temperature))
    reward = rows.dense_reward if agent.dense_critics else rows.reward
    shown, target = [], []  # z of each task at every row, and what its critics should say: constant
    for m in range(M):
        mean, variance = belief(agent, encoder, context, times, m)
        z = np.tile(mean + np.sqrt(variance) * z_noise[m], (N, 1))
        action, log_prob, *_ = acted(actor, rows.next_obs[m], z, next_noise[m])
        value = lesser(slow, rows.next_obs[m], action, z) - temperature * log_prob
        going_on = 1.0 - rows.terminated[m]
        target.append(np.asarray(agent.reward_scale * reward[m] + agent.gamma * going_on * value))
        shown.append(np.asarray(z))

    def critic_loss(parts):
        encoder, critics = parts
        error, kl, q = 0.0, 0.0, 0.0
        for m in range(M):
            mean, variance = belief(agent, encoder, context, times, m)
            z = jnp.tile(mean + jnp.sqrt(variance) * z_noise[m], (N, 1))
            for critic in critics:
                found = perceptron(critic, rows.obs[m], rows.action[m], z)[:, 0]
                error += ((found - target[m]) ** 2).sum() / (M * N)
                q += found.sum() / (M * N) * (critic is critics[0])
            kl += 0.5 * (variance + mean**2 - 1.0 - jnp.log(variance)).sum()
        return error + agent.kl_coef * kl, {"critic_loss": error, "kl": kl / M, "q": q}

    def actor_loss(actor):
        loss, penalty, log_probs = 0.0, 0.0, 0.0
        for m in range(M):
            action, log_prob, mean, log_std = acted(actor, rows.obs[m], shown[m], actor_noise[m])
            value = lesser(critics, rows.obs[m], action, shown[m])
            loss += (temperature * log_prob - value).sum() / (M * N)
            penalty += ((mean**2).sum() + (log_std**2).sum()) / (M * N * A)
            log_probs += log_prob.sum() / (M * N)
        return loss + agent.actor_penalty * penalty, {"actor_loss": loss, "entropy": -log_probs}

    critic_gradient, logged = jax.grad(critic_loss, has_aux=True)((encoder, critics))
    actor_gradient, more = jax.grad(actor_loss, has_aux=True)(actor)
    goal = -float(A)  # of entropy, nats
    warmer = more["entropy"] - goal if agent.tune_temperature else 0.0
    logged = logged | more | {"temperature": temperature}
    return (critic_gradient, actor_gradient, warmer), {k: float(x) for k, x in logged.items()}


@pytest.fixture(scope="module")
def derivation(step):
    """The derived gradients and metrics of the step."""
    agent, before, stored, *_ = step
    draws = drawn(agent, stored)
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    ):
        return derived(agent, before, *draws)


@pytest.fixture(scope="module")
def gradients(step, derivation):
    """The derived gradients by part, and the moments, parameters before and after of each."""
    _, before, _, after, moments, _ = step
    (encoder, critics), actor, temperature = derivation[0]
    ((mu_encoder, mu_critics), mu_actor, mu_temperature) = moments[1].mu
    flat = lambda tree: [np.asarray(x, np.float64) for x in jax.tree.leaves(tree)]
    return {
        name: [flat(tree) for tree in trees]
        for name, trees in {
            "encoder": (encoder, mu_encoder, before.encoder, after.encoder),
            "critics": (critics, mu_critics, before.critics, after.critics),
            "actor": (actor, mu_actor, before.actor, after.actor),
            "temperature": (
                temperature, mu_temperature, before.log_temperature, after.log_temperature
            ),
        }.items()
    }  # fmt: skip


def test_contexts_are_of_the_task_and_from_the_store_of_contexts(step):
    agent, _, stored, *_ = step
    context, _ = agent._context(stored, jnp.array(STOCKED), KEY)
    for rewards, task in zip(context.reward, STOCKED, strict=True):
        assert set(rewards.tolist()) <= set(stored.context.rows.reward[task, :11].tolist())


@pytest.mark.parametrize("part", ["encoder", "critics", "actor", "temperature"])
def test_a_step_follows_the_derived_gradient(gradients, step, part):
    """Adam's first moment is a tenth of the gradient, and its first step follows the sign."""
    gradient, moment, before, after = gradients[part]
    size = max(np.abs(g).max() for g in gradient)
    assert size > 1e-3 or (part == "temperature" and not step[0].tune_temperature)
    for g, mu, old, new in zip(gradient, moment, before, after, strict=True):
        np.testing.assert_allclose(10.0 * mu, g, rtol=2e-3, atol=2e-5 * size)
        moved = np.where(10.0 * mu == 0.0, 0.0, RATE * np.sign(mu))
        clear = np.abs(g) > 1e-3 * size  # beside Adam's constant, 1e-8
        np.testing.assert_allclose((old - new)[clear], moved[clear], rtol=1e-2)


def test_slow_critics_follow_the_new_ones(step):
    agent, before, _, after, *_ = step
    trees = before.target_critics, after.critics, after.target_critics
    for old, new, slow in zip(*(jax.tree.leaves(tree) for tree in trees), strict=True):
        np.testing.assert_allclose(
            slow, (1.0 - agent.tau) * old + agent.tau * new, rtol=1e-5, atol=1e-6
        )


def test_a_step_logs_what_it_minimized(step, derivation):
    found = {name: float(x) for name, x in step[-1].items()}
    assert found == pytest.approx(derivation[1], rel=1e-3)
