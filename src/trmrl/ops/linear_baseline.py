"""The baseline of MAML: returns of one task, predicted linearly from observation and time.

Functions are of one task; the caller batches. Features and ridge are those of rllab (Duan et al.,
2016) that MAML and ProMP kept.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from trmrl.ops.gae import discounted_return, gae

OBS_LIMIT = 10.0
TIME_UNIT = 100  # steps
RIDGE = 1e-5


def features(obs: Float[jax.Array, "T D"]) -> Float[jax.Array, "T F"]:
    """Return `[s, s^2, t, t^2, t^3, 1]` of one episode: `s` clipped, `t` in hundreds of steps."""
    s = jnp.clip(obs, -OBS_LIMIT, OBS_LIMIT)
    t = jnp.arange(obs.shape[0], dtype=obs.dtype)[:, None] / TIME_UNIT
    return jnp.concatenate([s, s**2, t, t**2, t**3, jnp.ones_like(t)], axis=1)


def fit(
    feature: Float[jax.Array, "N F"],
    target: Float[jax.Array, " N"],
    valid: Bool[jax.Array, " N"],
    ridge: float = RIDGE,
) -> Float[jax.Array, " F"]:
    """Return the `w` that minimizes `|X w - y|^2 + ridge |w|^2` over the valid rows.

    By QR of `[X y; sqrt(ridge) I 0]`, whose last column becomes `Q^T y`. It squares nothing, so it
    stays solvable in single precision, where the published normal equations may fail and are
    then tried again with ten times the ridge.
    """
    num_features = feature.shape[1]
    rows = jnp.concatenate([feature, target[:, None]], axis=1)
    rows = jnp.where(valid[:, None], rows, jnp.zeros_like(rows))
    penalty = ridge**0.5 * jnp.eye(num_features, num_features + 1, dtype=feature.dtype)
    triangle = jnp.linalg.qr(jnp.concatenate([rows, penalty]), mode="r")
    square, column = triangle[:num_features, :num_features], triangle[:num_features, num_features]
    return jax.scipy.linalg.solve_triangular(square, column)


def baseline_advantage(
    obs: Float[jax.Array, "H R D"],
    reward: Float[jax.Array, "H R"],
    valid: Bool[jax.Array, "H R"],
    gamma: float,
    gae_lambda: float,
) -> Float[jax.Array, "H R"]:
    """Return advantages of a task's `R` rollouts over the baseline fitted to their own returns.

    Values beyond a rollout's last valid row are zero, whatever ended it.
    """
    by_rollout = lambda function: jax.vmap(function, in_axes=1, out_axes=1)
    discount = jnp.full_like(reward, gamma)
    feature = by_rollout(features)(obs)
    target = by_rollout(discounted_return)(reward, discount, valid)
    weight = fit(feature.reshape((-1, feature.shape[-1])), target.reshape(-1), valid.reshape(-1))
    estimate = jax.vmap(gae, in_axes=(1, 1, 1, 1, None), out_axes=1)
    return estimate(reward, feature @ weight, discount, valid, gae_lambda)
