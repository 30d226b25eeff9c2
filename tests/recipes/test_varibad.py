"""VariBAD's `paper` is the published settings, and its bound the published loss on average."""

import numpy as np
import pytest

from trmrl import config as configs
from trmrl.envs import make
from trmrl.learners.objectives import ELBO
from trmrl.recipes import recipe
from trmrl.recipes.varibad import PUBLISHED, Published, published_bound
from trmrl.types import TrmrlError

# The published code's configurations, column by column.
SHARED = {
    "agent.core.width": 128,
    "agent.readout.latent": 5,
    "agent.readout.gradient": "detached",
    "agent.head.init_std": 1.0,
    "agent.memory_scope": "trial",
    "agent.normalize_obs": True,
    "agent.algorithm.gae_lambda": 0.9,
    "agent.algorithm.gamma": 0.97,
    "agent.algorithm.clip": 0.1,
    "agent.algorithm.value.coef": 0.5,
    "agent.algorithm.normalize_reward": True,
    "agent.algorithm.normalize_advantage": True,
    "agent.algorithm.credit_across_episodes": True,
    "agent.algorithm.bootstrap": True,
    "agent.algorithm.objectives.entropy.coef": 0.01,
    "agent.algorithm.objectives.elbo.coef": 0.0,
    "agent.algorithm.optimizer.learning_rate": 7e-4,
    "agent.algorithm.optimizer.max_grad_norm": 0.5,
    "agent.algorithm.optimizer.decay_end": 0,
    "agent.algorithm.replayed.num_updates": 1,
    "agent.algorithm.replayed.num_trials": 10,
    "agent.algorithm.replayed.capacity": 10_000,
    "agent.algorithm.replayed.optimizer.learning_rate": 1e-3,
    "agent.algorithm.replayed.optimizer.max_grad_norm": 1.0,
    "agent.algorithm.replayed.objectives.elbo.hidden": (64, 32),
    "agent.algorithm.replayed.objectives.elbo.num_beliefs": 50,
    "agent.algorithm.replayed.objectives.elbo.reward_kind": "gaussian",
    "agent.algorithm.replayed.objectives.elbo.reward_coef": 1.0,
    "agent.algorithm.replayed.objectives.elbo.obs_coef": 0.0,
    "agent.head.hidden": (128, 128),
    "env_steps": 100_000_000,
    "eval_tasks": 16,
}
BOUND = "agent.algorithm.replayed.objectives.elbo"
COLUMNS = {
    "grid-navi": {
        "agent.core.width": 64,
        "agent.head.hidden": (32,),
        "agent.algorithm.num_passes": 2,
        "agent.algorithm.clip": 0.05,
        "agent.algorithm.gamma": 0.95,
        "agent.algorithm.gae_lambda": 0.95,
        "agent.algorithm.replayed.num_updates": 3,
        "agent.algorithm.replayed.num_trials": 25,
        "agent.algorithm.replayed.capacity": 100_000,
        "agent.algorithm.replayed.optimizer.max_grad_norm": 0.0,
        f"{BOUND}.hidden": (32, 32),
        f"{BOUND}.num_beliefs": 0,
        f"{BOUND}.reward_kind": "bernoulli",
        f"{BOUND}.kl_coef": 0.25,  # 0.01, summed over 25 trials
        "env_steps": 20_000_000,
    },
    "half-cheetah-dir": {
        "agent.algorithm.num_passes": 16,
        f"{BOUND}.kl_coef": 4.0,
    },
    "half-cheetah-vel": {
        "agent.algorithm.num_passes": 2,
        # 0.1, summed over 10 trials, times 8 of the samples, halved as the squares are.
        f"{BOUND}.kl_coef": 4.0,
    },
    "ant-dir-radian": {
        "agent.algorithm.num_passes": 2,
        f"{BOUND}.kl_coef": 4.0,
    },
    "ant-goal": {
        "agent.readout.latent": 10,
        "agent.algorithm.num_passes": 2,
        "agent.algorithm.clip": 0.05,
        "agent.algorithm.optimizer.learning_rate": 1e-3,
        "agent.algorithm.optimizer.decay_end": 100_000_000,
        "agent.algorithm.optimizer.final_factor": 0.0,
        "agent.algorithm.replayed.num_updates": 5,
        f"{BOUND}.num_beliefs": 0,
        f"{BOUND}.kl_coef": 0.5,
    },
    "walker-rand-params": {
        "agent.readout.latent": 10,
        "agent.algorithm.num_passes": 2,
        "agent.algorithm.clip": 0.05,
        f"{BOUND}.hidden": (256, 128),
        f"{BOUND}.reward_coef": 0.0,
        f"{BOUND}.obs_coef": 1.0,
        f"{BOUND}.kl_coef": 40.0,
    },
    "semicircle": {
        "agent.head.hidden": (128, 128, 128),
        "agent.algorithm.num_passes": 2,
        "agent.algorithm.gamma": 0.99,
        "agent.algorithm.objectives.entropy.coef": 0.001,
        "agent.algorithm.replayed.num_updates": 3,
        "agent.algorithm.replayed.num_trials": 15,
        "agent.algorithm.replayed.optimizer.max_grad_norm": 0.0,
        f"{BOUND}.num_beliefs": 0,
        f"{BOUND}.kl_coef": 7.5,
        "env_steps": 50_000_000,
    },
}
# Steps of each of 16 processes in an update, and its minibatches.
BATCHES = {
    "grid-navi": (60, 4),
    "half-cheetah-dir": (800, 4),
    "half-cheetah-vel": (400, 8),
    "ant-dir-radian": (200, 1),
    "ant-goal": (200, 1),
    "walker-rand-params": (200, 2),
    "semicircle": (200, 8),
}


@pytest.mark.parametrize("env", COLUMNS)
def test_paper_is_the_published_column(env):
    leaves, published = configs.flatten(recipe(env, "varibad", "paper")), SHARED | COLUMNS[env]
    close = lambda x: pytest.approx(x) if isinstance(x, float) else x
    for name, value in published.items():
        assert leaves[name] == close(value), name


@pytest.mark.parametrize("env", BATCHES)
def test_an_update_has_the_published_rows_and_minibatches(env):
    """To a trial: 11 of 300 steps are 100 more than 3,200."""
    config, (steps, num_minibatches) = recipe(env, "varibad", "paper"), BATCHES[env]
    trial_length = make(env).spec.trial_length
    rows = config.num_lanes * trial_length
    assert 0 <= rows - 16 * steps < trial_length
    assert -(-rows // config.agent.algorithm.minibatch_size) == num_minibatches


def test_every_published_column_is_checked():
    assert set(PUBLISHED) == set(COLUMNS) == set(BATCHES)
    with pytest.raises(TrmrlError, match=r"varibad/paper has no setting for ant-dir, only for gri"):
        recipe("ant-dir", "varibad", "paper")


@pytest.mark.parametrize("sampled", [0, 3])
@pytest.mark.parametrize("bernoulli", [False, True])
def test_the_bound_is_the_published_loss_on_average(sampled, bernoulli):
    """By 20,000 draws of which beliefs, and which steps of each, the published loss sums."""
    steps, batch, weight = 6, 4, 0.1
    noise = np.random.default_rng(0)
    error = noise.uniform(size=(steps, steps, batch))  # square, or cross entropy, under each belief
    divergence = noise.uniform(size=(steps, batch))
    num_beliefs = sampled or steps
    draws = []
    for _ in range(20_000 if sampled else 1):
        beliefs = noise.permutation(steps)[:num_beliefs]
        decoded = [noise.permutation(steps)[:num_beliefs] for _ in beliefs]
        errors = sum(error[t][i].sum(axis=0) for t, i in zip(beliefs, decoded, strict=True))
        draws.append(errors.mean() + weight * divergence[beliefs].sum())
    published = Published(16, 2, 1, weight, num_trials=batch, sampled=sampled, bernoulli=bernoulli)
    bound = published_bound(published, steps)
    halved = error if bernoulli else 0.5 * error  # ours is a log likelihood
    ours = halved.sum(axis=(0, 1)) + bound.kl_coef * divergence.sum(axis=0)
    assert isinstance(bound, ELBO)
    assert bound.coef * ours.mean() / steps**2 == pytest.approx(np.mean(draws), rel=5e-3)


@pytest.mark.parametrize("agent", ["varibad", "hyperx"])
def test_points_are_not_surprised_by_the_clock(agent):
    """RL²'s own setting for small worlds ends rewards with the trial, which its memory foresees."""
    leaf = lambda env, name: configs.flatten(recipe(env, agent))[f"agent.algorithm.{name}"]
    for env, bootstrap in (("grid-navi", False), ("treasure-hunt", True), ("ant-dir", True)):
        assert leaf(env, "bootstrap") is bootstrap
    entropies = [leaf(env, "objectives.entropy.coef") for env in ("grid-navi", "semicircle")]
    assert entropies == [0.06, 0.003]


def test_stages_have_the_published_setting_of_hyperx():
    """Zintgraf et al., 2021 (released arguments of rooms); bonuses are all that differs."""
    varibad, hyperx = (
        configs.flatten(recipe("multi-stage-rooms", agent)) for agent in ("varibad", "hyperx")
    )
    expected = {
        "agent.readout.latent": 10,
        "agent.algorithm.gamma": 0.98,
        "agent.algorithm.gae_lambda": 0.95,
        "agent.algorithm.objectives.entropy.coef": 0.1,
    }
    assert {name: hyperx[name] for name in expected} == expected
    paid = "agent.algorithm.replayed.objectives"
    bonuses = {f"{paid}.novelty.coef": 1.0, f"{paid}.novelty.bonus_coef": 10.0}
    bonuses |= {f"{paid}.elbo.bonus_coef": 1.0, "agent_name": "hyperx"}
    assert {name: hyperx[name] for name in hyperx if hyperx[name] != varibad[name]} == bonuses
