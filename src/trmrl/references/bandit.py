"""Classical strategies for Bernoulli bandits, as Duan et al. (2016, section 3.1) compared with.

Every strategy begins with one imagined success and one failure per arm, which is the prior U[0, 1]
of the tasks; means are posterior means, and of equal arms the first is pulled. Free numbers
are chosen per (pulls, arms) on train tasks, as the paper chose them per setting.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trmrl.envs.base import AbstractEnvs
from trmrl.references._base import Earned, Earning, draw_tasks, tune
from trmrl.references.gittins import gittins_index

_BLOCK = 250  # tasks played together: their arms fit the cache

UCB_GRID = (0.05, 0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25, 0.3, 0.4)
EPSILON_GRID = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
NUM_SAMPLES = 20  # of optimistic Thompson sampling; more gain little
GAMMA_GRID = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998)


@dataclass(frozen=True)
class Tally:
    """The pulls of every arm, one imagined success and failure included; changed in place."""

    success: Float[np.ndarray, "B K"]
    failure: Float[np.ndarray, "B K"]

    def mean(self) -> Float[np.ndarray, "B K"]:
        """Return the posterior means."""
        return self.success / (self.success + self.failure)


Strategy = Callable[[Tally, int, np.random.Generator], Int[np.ndarray, " B"]]


def play(
    mean: Float[np.ndarray, "B K"], num_pulls: int, strategy: Strategy, seed: int
) -> Float[np.ndarray, " B"]:
    """Return the total reward of `num_pulls` pulls of the arms with these means."""
    blocks = np.split(mean, range(_BLOCK, len(mean), _BLOCK))
    seeds = np.random.SeedSequence(seed).spawn(len(blocks))
    total = [
        _play_block(block, num_pulls, strategy, np.random.default_rng(one))
        for block, one in zip(blocks, seeds, strict=True)
    ]
    return np.concatenate(total)


def _play_block(
    mean: Float[np.ndarray, "B K"], num_pulls: int, strategy: Strategy, draw: np.random.Generator
) -> Float[np.ndarray, " B"]:
    lane = np.arange(len(mean))
    tally = Tally(np.ones(mean.shape, np.float32), np.ones(mean.shape, np.float32))
    total = np.zeros(len(mean))
    for t in range(num_pulls):
        arm = strategy(tally, t, draw)
        paid = draw.random(len(mean), np.float32) < mean[lane, arm]
        tally.success[lane, arm] += paid
        tally.failure[lane, arm] += ~paid
        total += paid
    return total


def random(tally: Tally, t: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
    """Pull any arm."""
    return draw.integers(tally.success.shape[1], size=len(tally.success))


def gittins(num_pulls: int, gamma: float) -> Strategy:
    """Pull the arm of the highest index for discount `gamma`."""
    index = gittins_index(num_pulls, gamma)
    count = lambda x: x.astype(np.int32) - 1
    return lambda tally, t, draw: index[count(tally.success), count(tally.failure)].argmax(axis=1)


def thompson(tally: Tally, t: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
    """Pull the arm whose mean is the highest in a draw from the posterior."""
    return _posterior_draw(tally, draw).argmax(axis=1)


def optimistic_thompson(tally: Tally, t: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
    """Thompson sampling by the most probable of `NUM_SAMPLES` draws: of highest posterior density.

    What the paper calls OTS; a draw is of all arms' means at once.
    """
    arm = np.zeros(len(tally.success), np.int64)
    highest = np.full(len(arm), -np.inf, np.float32)
    for _ in range(NUM_SAMPLES):
        mean = np.clip(_posterior_draw(tally, draw), 1e-6, np.float32(1 - 1e-6))
        log_density = (tally.success - 1) * np.log(mean) + (tally.failure - 1) * np.log1p(-mean)
        density = log_density.sum(axis=1)
        arm = np.where(density > highest, mean.argmax(axis=1), arm)
        highest = np.maximum(density, highest)
    return arm


def _posterior_draw(tally: Tally, draw: np.random.Generator) -> Float[np.ndarray, "B K"]:
    win = draw.standard_gamma(tally.success, dtype=np.float32)
    lose = draw.standard_gamma(tally.failure, dtype=np.float32)
    return win / np.maximum(win + lose, np.float32(1e-30))


def ucb1(width: float) -> Strategy:
    """Pull the arm of the highest `mean + width * sqrt(2 log(t) / pulls)` (Auer et al., 2002).

    The imagined pulls count, in `t` as in `pulls`.
    """

    def pull(tally, t, draw):
        pulls = tally.success + tally.failure
        bonus = np.float32(width) * np.sqrt(
            np.float32(2.0 * np.log(t + pulls.shape[1] * 2)) / pulls
        )
        return (tally.mean() + bonus).argmax(axis=1)

    return pull


def epsilon_greedy(epsilon: float) -> Strategy:
    """Pull the arm of the highest mean, but any arm with probability `epsilon`."""

    def pull(tally, t, draw):
        best = tally.mean().argmax(axis=1)
        explore = draw.random(len(best)) < epsilon
        return np.where(explore, random(tally, t, draw), best)

    return pull


def measure(envs: AbstractEnvs, num_tasks: int, seed: int) -> Earned:
    """Return what every strategy earns in `num_episodes` pulls."""
    test, train = (np.asarray(tasks.mean) for tasks in draw_tasks(envs, num_tasks, seed))
    num_pulls = envs.spec.num_episodes
    fixed = {
        "random": random,
        "thompson": thompson,
        "optimistic-thompson": optimistic_thompson,
        "greedy": epsilon_greedy(0.0),
    }
    earned: Earned = {
        name: Earning(play(test, num_pulls, strategy, seed)) for name, strategy in fixed.items()
    }
    free = {
        "gittins": ("gamma", GAMMA_GRID, lambda gamma: gittins(num_pulls, gamma)),
        "ucb1": ("width", UCB_GRID, ucb1),
        "epsilon-greedy": ("epsilon", EPSILON_GRID, epsilon_greedy),
    }
    for name, (label, grid, strategy) in free.items():
        best = tune(lambda x, make=strategy: play(train, num_pulls, make(x), seed + 1), grid)
        total = play(test, num_pulls, strategy(best), seed)
        earned[name] = Earning(total, f"{label} {best:g}")
    earned["oracle"] = Earning(num_pulls * test.max(axis=1).astype(np.float64))
    return earned
