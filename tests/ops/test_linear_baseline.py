"""The linear baseline against NumPy's own least squares, on the valid rows alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.ops.linear_baseline import baseline_advantage, features, fit

H, R, D = 30, 4, 3
LENGTHS = (30, 7, 1, 22)  # of the rollouts


@pytest.fixture(scope="module")
def task():
    """Observations (some beyond the clip, one constant), rewards and what happened, `[H, R]`."""
    noise = np.random.default_rng(0)
    obs = noise.normal(size=(H, R, D)) * 6.0
    obs[..., 2] = 0.0
    valid = np.arange(H)[:, None] < np.asarray(LENGTHS)[None]
    return tuple(np.asarray(x, np.float32) for x in (obs, noise.normal(size=(H, R)))) + (valid,)


def design(obs):
    """The features of all rows, by hand, in double precision: `[H, R, 2 D + 4]`."""
    s = np.clip(obs.astype(np.float64), -10, 10)
    t = np.broadcast_to(np.arange(len(obs))[:, None, None] / 100.0, (*obs.shape[:2], 1))
    return np.concatenate([s, s**2, t, t**2, t**3, np.ones_like(t)], axis=-1)


def returns_of(reward, valid, gamma):
    found = np.zeros(reward.shape)
    for lane in range(reward.shape[1]):
        for t in range(valid[:, lane].sum()):
            ahead = reward[t : valid[:, lane].sum(), lane].astype(np.float64)
            found[t, lane] = sum(gamma**i * r for i, r in enumerate(ahead))
    return found


def ridge_fit(rows, target, ridge=1e-5):
    """As least squares: a row more for every weight, of size `sqrt(ridge)`."""
    size = rows.shape[1]
    more = np.concatenate([rows, np.sqrt(ridge) * np.eye(size)])
    return np.linalg.lstsq(more, np.concatenate([target, np.zeros(size)]), rcond=None)[0]


def test_features_are_clipped_squared_and_timed():
    obs = jnp.asarray([[0.5, -20.0], [3.0, 0.0]])
    expected = [[0.5, -10, 0.25, 100, 0, 0, 0, 1], [3, 0, 9, 0, 0.01, 1e-4, 1e-6, 1]]
    np.testing.assert_allclose(features(obs), expected, rtol=1e-6)


@pytest.mark.parametrize("ridge", [1e-5, 10.0])
def test_a_fit_is_numpys_ridge_on_the_rows_that_happened(ridge):
    noise = np.random.default_rng(1)
    x, y = noise.normal(size=(40, 5)), noise.normal(size=40)
    valid = noise.uniform(size=40) < 0.7
    kept, target = x[valid], y[valid]
    expected = np.linalg.solve(kept.T @ kept + ridge * np.eye(5), kept.T @ target)
    x[~valid], y[~valid] = np.nan, np.nan
    found = fit(*(jnp.asarray(a, jnp.float32) for a in (x, y)), jnp.asarray(valid), ridge)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_constant_observation_and_a_single_row_leave_it_finite(task):
    obs, reward, valid = (jnp.asarray(x) for x in task)
    by_hand = fit(features(obs[:, 0]), reward[:, 0], jnp.arange(H) < 1)
    assert np.isfinite(by_hand).all()
    blank = baseline_advantage(jnp.zeros_like(obs), reward, valid, 0.99, 1.0)
    assert np.isfinite(blank).all()


@pytest.mark.parametrize("gae_lambda", [1.0, 0.5])
def test_advantages_are_gae_over_numpys_predictions(task, gae_lambda):
    obs, reward, valid = task
    gamma, rows = 0.9, design(obs)
    target = returns_of(reward, valid, gamma)
    weight = ridge_fit(rows[valid], target[valid])
    value = rows @ weight
    expected = np.zeros((H, R))
    for lane, length in enumerate(LENGTHS):
        after, advantage = 0.0, 0.0  # nothing is expected beyond the end
        for t in reversed(range(length)):
            delta = reward[t, lane] + gamma * after - value[t, lane]
            advantage = delta + gamma * gae_lambda * advantage
            after, expected[t, lane] = value[t, lane], advantage
    found = baseline_advantage(
        *(jnp.asarray(np.where(happened, x, np.nan)) for x, happened in (
            (obs, valid[..., None]), (reward, valid))),
        jnp.asarray(valid), gamma, gae_lambda,
    )  # fmt: skip
    np.testing.assert_allclose(np.asarray(found)[valid], expected[valid], atol=2e-3)
    assert (np.asarray(found)[~valid] == 0).all()
    if gae_lambda == 1.0:  # then it is the return less the prediction
        np.testing.assert_allclose(expected[valid], (target - value)[valid], atol=1e-9)


def test_single_precision_suffices_on_two_hundred_steps():
    """Polynomials of time up to 2, observations that hardly vary: predictions, not weights."""
    noise = np.random.default_rng(2)
    obs = (0.01 * noise.normal(size=(200, 10, 20)) + 0.5).astype(np.float32)
    reward = noise.normal(size=(200, 10)).astype(np.float32) - 1.0
    valid = np.ones((200, 10), bool)
    target, rows = returns_of(reward, valid, 0.99).ravel(), design(obs).reshape(2000, -1)
    found = baseline_advantage(jnp.asarray(obs), jnp.asarray(reward), jnp.asarray(valid), 0.99, 1.0)
    expected = target - rows @ ridge_fit(rows, target)
    assert np.abs(np.asarray(found).ravel() - expected).max() < 0.02 * expected.std()
