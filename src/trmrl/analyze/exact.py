"""What can be known of the hidden task, exactly, in worlds where that can be worked out.

For each such world: the posterior before every step of a trial, how far another distribution is
from it, and what the best action is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln, digamma, gammaln
from jaxtyping import Float

from trmrl.analyze._probe import KL
from trmrl.envs.grid import MOVES, cells, cells_after
from trmrl.envs.tabular import HORIZON, NUM_ACTIONS, NUM_STATES
from trmrl.references.bandit_optimal import optimal_values
from trmrl.references.navigation import bayes_optimal_grid
from trmrl.references.tabular import Belief, plan
from trmrl.types import Array, EnvSpec, Trajectory

LOG_RANGE = -2.0, 8.0  # of the logarithms that a probe may give


@dataclass(frozen=True)
class Posterior:
    """Posteriors before each step, as numbers, and how far others are from them.

    `kl(exact, given)` is the divergence of `given` from `exact` `[N, P]`, nats; `given` may be any
    numbers, as a linear decoder has them.
    """

    numbers: Float[np.ndarray, "T B P"]
    prior: Float[np.ndarray, " P"]  # as `given`
    kl: KL


@dataclass(frozen=True)
class Choice:
    """What every action is worth at each step, given all that can be known there."""

    values: Float[np.ndarray, "T B A"]  # expected rest of the trial (or of the episode, if planned)
    best_total: float | None  # of a trial, in expectation; None where the values are no optimum
    label: str


Exact = tuple[
    Callable[[Trajectory, np.ndarray], Posterior], Callable[[EnvSpec, Trajectory], Choice]
]


def _before(events: np.ndarray) -> np.ndarray:
    """Return the sums of events `[T, ...]` before each step."""
    return events.cumsum(axis=0) - events


def _beta_kl(a: Array, b: Array, c: Array, d: Array) -> Array:
    """Return `KL(Beta(a, b) || Beta(c, d))`, nats."""
    total = (c - a + d - b) * digamma(a + b)
    return betaln(c, d) - betaln(a, b) + (a - c) * digamma(a) + (b - d) * digamma(b) + total


def _dirichlet_kl(a: Array, c: Array) -> Array:
    """Return `KL(Dirichlet(a) || Dirichlet(c))` over the last axis, nats."""
    total = a.sum(axis=-1)
    found = gammaln(total) - gammaln(c.sum(axis=-1)) + (gammaln(c) - gammaln(a)).sum(axis=-1)
    return found + ((a - c) * (digamma(a) - digamma(total)[..., None])).sum(axis=-1)


def _flat(rows: Trajectory) -> Trajectory:
    return jax.tree.map(np.asarray, rows.flatten_time())


def _arm_counts(rows: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Return successes and failures `[T, B, K]` of every arm before each pull."""
    flat = _flat(rows)
    arms = flat.timestep.prev_action.shape[-1]
    pulled = np.eye(arms)[flat.decision.action]
    success = flat.outcome.reward[..., None] * pulled
    return _before(success), _before(pulled - success)


def arms(rows: Trajectory, steps: np.ndarray) -> Posterior:
    """Beta(1 + successes, 1 + failures) for every arm; numbers are the logarithms."""
    success, failure = _arm_counts(rows)
    numbers = np.log1p(np.concatenate([success, failure], axis=-1))[steps]

    def kl(exact: Array, given: Array) -> Array:
        a, b = jnp.split(jnp.exp(exact), 2, axis=1)
        c, d = jnp.split(jnp.exp(jnp.clip(given, *LOG_RANGE)), 2, axis=1)
        return _beta_kl(a, b, c, d).sum(axis=1)

    return Posterior(numbers, np.zeros(numbers.shape[-1]), kl)


def best_arm(spec: EnvSpec, rows: Trajectory) -> Choice:
    """The Bayes-optimal values, by dynamic programming over all counts."""
    total, values = optimal_values(spec.num_episodes, spec.action_space.size)
    counts = zip(*(x.astype(np.int64) for x in _arm_counts(rows)), strict=True)
    return Choice(np.stack([values(*one) for one in counts]), total, "the Bayes-optimal arm")


NAVI_GOALS = cells(5)[(cells(5) > 1).any(axis=1)]


def open_goals(rows: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Return which goals are still possible before each step, `[T, B, 21]`, and which entered."""
    flat = _flat(rows)
    cell = np.rint(flat.outcome.next_obs).astype(int)
    entered = (cell[:, :, None] == NAVI_GOALS).all(axis=-1)
    paid = flat.outcome.reward[..., None] > 0
    left = _before(entered & ~paid) == 0
    found = _before(entered & paid) > 0
    left = np.where(found.any(axis=-1, keepdims=True), found, left)
    return left, _before(entered) > 0


def goals(rows: Trajectory, steps: np.ndarray) -> Posterior:
    """Uniform over the cells that have not been entered, or the goal once it was found."""
    left = open_goals(rows)[0][steps].astype(np.float64)
    numbers = left / left.sum(axis=-1, keepdims=True)

    def kl(exact: Array, given: Array) -> Array:
        log_p = jnp.log(jnp.maximum(exact, 1e-30))
        away = exact * (log_p - jax.nn.log_softmax(given))
        return jnp.sum(jnp.where(exact > 0, away, 0.0), axis=1)

    return Posterior(numbers, np.zeros(numbers.shape[-1]), kl)


def best_move(spec: EnvSpec, rows: Trajectory) -> Choice:
    """The Bayes-optimal values, by dynamic programming over cells and sets of possible goals."""
    flat, left = _flat(rows), open_goals(rows)[0]
    belief = left @ (1 << np.arange(len(NAVI_GOALS)))
    count = left.sum(axis=-1)
    place = np.clip(np.rint(flat.timestep.obs).astype(int)[:, :, None] + MOVES, 0, 4)
    after = place @ np.array([5, 1])  # [T, B, A], the cell that each action leads to
    values = np.empty(after.shape)

    def visit(t: int, arrive: np.ndarray) -> None:
        values[t] = arrive[after[t], belief[t][:, None]] / count[t][:, None]

    total = bayes_optimal_grid(5, spec.horizon, spec.num_episodes, visit)
    known = _known_goal_values(spec.horizon)
    goal = left.argmax(axis=-1)
    was_found = _before((flat.outcome.reward > 0).astype(int)) > 0
    for t in range(len(values)):
        here = known[spec.horizon - t % spec.horizon][goal[t][:, None], after[t]]
        values[t] = np.where(was_found[t][:, None], here, values[t])
    return Choice(values, total, "the Bayes-optimal move")


def _known_goal_values(horizon: int) -> list[np.ndarray]:
    """Return what stepping onto a cell is worth with so many steps left and the goal known.

    `[steps left][goal, cell]`, for the rest of the episode: all else is the same for all actions.
    """
    every = cells(5)
    pays = np.where((every == NAVI_GOALS[:, None]).all(axis=-1), 1.0, -0.1)
    near = cells_after(5) @ np.array([5, 1])
    arrive = [np.zeros_like(pays), pays]
    while len(arrive) <= horizon:
        arrive.append(pays + arrive[-1][:, near].max(axis=-1))
    return arrive


def _tables(rows: Trajectory, steps: np.ndarray) -> list[Belief]:
    """Return visits, reward sums and transitions of every state and action before some steps."""
    flat = _flat(rows)
    state, after = flat.timestep.obs.argmax(axis=-1), flat.outcome.next_obs.argmax(axis=-1)
    lanes, found = np.arange(state.shape[1]), []
    shape = len(lanes), NUM_STATES, NUM_ACTIONS
    belief = Belief(
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros((*shape, NUM_STATES), np.float32),
    )
    for t in range(max(steps) + 1):
        if t in steps:
            held = belief.visits, belief.reward_sum, belief.transitions
            found.append(Belief(*(x.copy() for x in held)))
        at = lanes, state[t], flat.decision.action[t]
        belief.visits[at] += 1
        belief.reward_sum[at] += flat.outcome.reward[t]
        belief.transitions[(*at, after[t])] += 1
    return found


_PAIRS = NUM_STATES * NUM_ACTIONS


def mdps(rows: Trajectory, steps: np.ndarray) -> Posterior:
    """For every state and action, N(m, 1 / (1 + n)) for its mean reward, and a Dirichlet.

    Numbers are all m, the logarithms of 1 + n, and those of the Dirichlet's parameters.
    """
    flat = lambda x: x.reshape((len(x), -1)).astype(np.float64)
    rows_of = lambda one: [
        flat(one.mean_reward(prior=1.0)), np.log1p(flat(one.visits)),
        np.log1p(flat(one.transitions)),
    ]  # fmt: skip
    numbers = np.stack([np.concatenate(rows_of(one), axis=1) for one in _tables(rows, steps)])

    def kl(exact: Array, given: Array) -> Array:
        logs = jnp.clip(given[:, _PAIRS:], *LOG_RANGE)
        precision, others = jnp.exp(exact[:, _PAIRS : 2 * _PAIRS]), jnp.exp(logs[:, :_PAIRS])
        away = (exact[:, :_PAIRS] - given[:, :_PAIRS]) ** 2
        ratio = others / precision
        normal = 0.5 * (ratio - jnp.log(ratio) - 1.0 + away * others)
        shape = len(exact), _PAIRS, NUM_STATES
        alpha = jnp.exp(exact[:, 2 * _PAIRS :]).reshape(shape)
        given_alpha = jnp.exp(logs[:, _PAIRS:]).reshape(shape)
        return (normal + _dirichlet_kl(alpha, given_alpha)).sum(axis=1)

    prior = np.zeros(numbers.shape[-1])
    prior[:_PAIRS] = 1.0
    return Posterior(numbers, prior, kl)


def planned_action(spec: EnvSpec, rows: Trajectory) -> Choice:
    """What planning in the posterior's mean MDP has for the rest of the episode: no optimum."""
    state = _flat(rows).timestep.obs.argmax(axis=-1)
    found, lanes = [], np.arange(state.shape[1])
    for t, belief in enumerate(_tables(rows, np.arange(spec.trial_length))):
        left = HORIZON - t % HORIZON
        planned = plan(belief.mean_reward(prior=1.0), belief.mean_transition(), left)
        found.append(planned[0][lanes, state[t]])
    label = "the action planned in the posterior's mean MDP"
    return Choice(np.stack(found).astype(np.float64), None, label)


# By family, or by name where the rest of a family has other posteriors.
EXACT: dict[str, Exact] = {
    "bandit": (arms, best_arm),
    "grid-navi": (goals, best_move),
    "tabular": (mdps, planned_action),
}
