"""Classical strategies for random tabular MDPs, as Duan et al. (2016, section 3.2) compared with.

Every strategy plans once per episode, for all of its steps; of equal actions any is taken. The
paper gives neither priors nor scales; TabulaRL's (Osband), kept here, bring its numbers. Bayesian
strategies take mean rewards as N(0, 1) (the MDPs are drawn from N(1, 1)), observed with N(0, 1)
noise, and transitions as flat Dirichlet; the others take the empirical MDP, where what was never
tried pays 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trmrl.envs.base import AbstractEnvs
from trmrl.envs.tabular import HORIZON
from trmrl.references._base import Earned, Earning, draw_tasks, tune

_BLOCK = 250  # MDPs played together: their tables fit the cache

BEB_GRID = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
NUM_SAMPLES = 10  # of optimistic PSRL
EPSILON = 0.1
# Half-widths of UCRL2's bounds, as shares of the theory's. Fitted to the published numbers: with
# one common scale, as TabulaRL has it, the best we found was 2 % below them.
REWARD_WIDTH, TRANSITION_WIDTH = 0.25, 0.02


@dataclass(frozen=True)
class Belief:
    """What was observed, changed in place: visits, reward sums and transitions of every (s, a)."""

    visits: Float[np.ndarray, "B S A"]
    reward_sum: Float[np.ndarray, "B S A"]
    transitions: Float[np.ndarray, "B S A S"]

    def mean_reward(self, prior: float = 0.0) -> Float[np.ndarray, "B S A"]:
        """Return the posterior means of the mean rewards under the prior N(`prior`, 1).

        Their variance is `1 / (1 + visits)`.
        """
        return (prior + self.reward_sum) / (1.0 + self.visits)

    def mean_transition(self) -> Float[np.ndarray, "B S A S"]:
        """Return the posterior means of the transition probabilities."""
        return (1.0 + self.transitions) / (self.transitions.shape[-1] + self.visits)[..., None]


Values = Float[np.ndarray, "H B S A"]
Strategy = Callable[[Belief, int, np.random.Generator], Values]


def plan(
    reward: Float[np.ndarray, "B S A"],
    transition: Float[np.ndarray, "B S A S"],
    horizon: int = HORIZON,
    bonus: Float[np.ndarray, "B S A"] | None = None,
) -> Values:
    """Return the optimal action values of every step of an episode, undiscounted.

    `bonus` is added once for each step that remains after the one valued.
    """
    num_mdps, num_states = reward.shape[:2]
    flat = transition.reshape(num_mdps, -1, num_states)
    values = np.empty((horizon, *reward.shape), np.float32)
    ahead = np.zeros((num_mdps, num_states, 1), np.float32)
    for step in range(horizon - 1, -1, -1):
        values[step] = reward + (flat @ ahead).reshape(reward.shape)
        if bonus is not None:
            values[step] += bonus * np.float32(horizon - 1 - step)
        ahead = values[step].max(axis=2)[..., None]
    return values


def play(
    reward: Float[np.ndarray, "B S A"],
    transition: Float[np.ndarray, "B S A S"],
    num_episodes: int,
    strategy: Strategy,
    seed: int,
    epsilon: float = 0.0,
) -> Float[np.ndarray, "B K"]:
    """Return the return of every episode; any action is taken with probability `epsilon`."""
    edges = range(_BLOCK, len(reward), _BLOCK)
    blocks = list(zip(np.split(reward, edges), np.split(transition, edges), strict=True))
    seeds = np.random.SeedSequence(seed).spawn(len(blocks))
    returns = [
        _play_block(*block, num_episodes, strategy, np.random.default_rng(one), epsilon)
        for block, one in zip(blocks, seeds, strict=True)
    ]
    return np.concatenate(returns)


def _play_block(reward, transition, num_episodes, strategy, draw, epsilon):
    lane = np.arange(len(reward))
    cumulative = transition.cumsum(axis=-1)
    belief = Belief(np.zeros_like(reward), np.zeros_like(reward), np.zeros_like(transition))
    returns = np.zeros((len(reward), num_episodes))
    num_states, num_actions = reward.shape[1:]
    for k in range(num_episodes):
        values = strategy(belief, k, draw)
        state = np.zeros(len(reward), np.int64)
        for step in range(HORIZON):
            action = _best(values[step][lane, state], draw)
            if epsilon:
                explore = draw.random(len(lane)) < epsilon
                action = np.where(explore, draw.integers(num_actions, size=len(lane)), action)
            paid = reward[lane, state, action] + draw.standard_normal(len(lane), np.float32)
            level = draw.random((len(lane), 1), np.float32)
            after = (cumulative[lane, state, action] < level).sum(axis=1).clip(max=num_states - 1)
            belief.visits[lane, state, action] += 1
            belief.reward_sum[lane, state, action] += paid
            belief.transitions[lane, state, action, after] += 1
            returns[:, k] += paid
            state = after
    return returns


def _best(values: Float[np.ndarray, "B A"], draw: np.random.Generator) -> Int[np.ndarray, " B"]:
    """Return the action of the highest value, any of equals."""
    tie = values == values.max(axis=1, keepdims=True)
    return (tie * draw.random(values.shape)).argmax(axis=1)


def random(belief: Belief, k: int, draw: np.random.Generator) -> Values:
    """Take any action."""
    return np.zeros((HORIZON, *belief.visits.shape), np.float32)


def greedy(belief: Belief, k: int, draw: np.random.Generator) -> Values:
    """Plan in the empirical MDP: rewards of what was never tried are 0, its transitions even."""
    return plan(*_empirical(belief))


def bayes_greedy(belief: Belief, k: int, draw: np.random.Generator) -> Values:
    """Plan in the mean MDP of the posterior under the tasks' true prior, N(1, 1) for rewards."""
    return plan(belief.mean_reward(prior=1.0), belief.mean_transition())


def psrl(belief: Belief, k: int, draw: np.random.Generator) -> Values:
    """Plan in one MDP drawn from the posterior (Osband et al., 2013)."""
    noise = draw.standard_normal(belief.visits.shape, np.float32)
    share = draw.standard_gamma(1.0 + belief.transitions, dtype=np.float32)
    reward = belief.mean_reward() + noise / np.sqrt(1.0 + belief.visits)
    return plan(reward, share / share.sum(axis=-1, keepdims=True))


def opsrl(belief: Belief, k: int, draw: np.random.Generator) -> Values:
    """Take the upper envelope of the action values of `NUM_SAMPLES` drawn MDPs."""
    best = psrl(belief, k, draw)
    for _ in range(NUM_SAMPLES - 1):
        np.maximum(best, psrl(belief, k, draw), out=best)
    return best


def beb(width: float) -> Strategy:
    """Plan in the mean MDP with a bonus that falls with the visits (Kolter & Ng, 2009).

    As in the finite-horizon form of Osband's TabulaRL: `1 / (2 + visits)` for the reward, and
    `width / (1 + S + visits)` for the transition, times the steps that remain after it.
    """

    def values(belief, k, draw):
        num_states = belief.transitions.shape[-1]
        reward = belief.mean_reward() + 1.0 / (2.0 + belief.visits)
        bonus = np.float32(width) / (1.0 + num_states + belief.visits)
        return plan(reward, belief.mean_transition(), bonus=bonus)

    return values


def ucrl2(belief: Belief, k: int, draw: np.random.Generator) -> Values:
    """Plan in the best MDP within confidence bounds (Jaksch et al., 2010).

    Half-widths are `REWARD_WIDTH * sqrt(4 L / n)` around the empirical mean reward, and
    `TRANSITION_WIDTH * sqrt(4 S L / n)` in L1 distance around the posterior mean of a row of
    transition probabilities, with `L = log(2 S A (k + 1) / 0.05)` in episode k.
    """
    num_states, num_actions = belief.visits.shape[1:]
    log = np.log(2 * num_states * num_actions * (k + 1) / 0.05)
    bound = np.sqrt(np.float32(4 * log) / np.maximum(belief.visits, 1.0))
    reward = _empirical(belief)[0] + np.float32(REWARD_WIDTH) * bound
    radius = np.float32(TRANSITION_WIDTH * np.sqrt(num_states)) * bound
    return plan_optimistically(reward, belief.mean_transition(), radius)


def plan_optimistically(
    reward: Float[np.ndarray, "B S A"],
    transition: Float[np.ndarray, "B S A S"],
    radius: Float[np.ndarray, "B S A"],
    horizon: int = HORIZON,
) -> Values:
    """Return `plan`'s values with each row of probabilities at its best within an L1 ball.

    The best row moves half the radius onto the state worth most, taken from those worth least
    first (Jaksch et al., 2010, figure 2); with states in falling order of worth, the sums of
    probability up to each are raised by that half, to 1 at most.
    """
    lane = np.arange(len(reward))[:, None]
    half = (radius / 2.0).astype(np.float32)[..., None]
    values = np.empty((horizon, *reward.shape), np.float32)
    worth = np.zeros(reward.shape[:2], np.float32)
    for step in range(horizon - 1, -1, -1):
        order = np.argsort(-worth, axis=1)
        falling = worth[lane, order]
        row = np.moveaxis(transition, -1, 1)[lane, order]  # [B, next, S, A]
        upto = np.minimum(np.moveaxis(row, 1, -1).cumsum(axis=-1) + half, 1.0)
        upto[..., -1] = 1.0
        drop = falling - np.append(falling[:, 1:], np.zeros((len(lane), 1), np.float32), axis=1)
        values[step] = reward + np.einsum("bsan,bn->bsa", upto, drop)
        worth = values[step].max(axis=2)
    return values


def _empirical(belief: Belief) -> tuple[np.ndarray, np.ndarray]:
    visits = np.maximum(belief.visits, 1.0)
    even = np.float32(1.0 / belief.transitions.shape[-1])
    row = np.where(belief.visits[..., None] > 0, belief.transitions / visits[..., None], even)
    return belief.reward_sum / visits, row


def measure(envs: AbstractEnvs, num_tasks: int, seed: int) -> Earned:
    """Return what every strategy earns in `num_episodes` episodes."""
    num_episodes = envs.spec.num_episodes
    test, train = (
        (np.asarray(tasks.reward), np.asarray(tasks.transition))
        for tasks in draw_tasks(envs, num_tasks, seed)
    )

    def total(mdps, strategy, seed=seed, epsilon=0.0):
        reward, transition = mdps
        return play(reward, transition, num_episodes, strategy, seed, epsilon).sum(axis=1)

    fixed = {"random": random, "psrl": psrl, "opsrl": opsrl, "ucrl2": ucrl2, "greedy": greedy}
    earned: Earned = {name: Earning(total(test, strategy)) for name, strategy in fixed.items()}
    earned["epsilon-greedy"] = Earning(total(test, greedy, epsilon=EPSILON))
    width = tune(lambda x: total(train, beb(x), seed + 1), BEB_GRID)
    earned["beb"] = Earning(total(test, beb(width)), f"width {width:g}")
    earned["bayes-greedy"] = Earning(total(test, bayes_greedy))
    optimum = plan(*test)[0][:, 0].max(axis=1)
    earned["oracle"] = Earning(num_episodes * optimum.astype(np.float64))
    return earned
