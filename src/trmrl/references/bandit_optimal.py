"""The exact Bayes-optimal play of small Bernoulli bandits, by dynamic programming over beliefs."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from trmrl.types import TrmrlError

_MOST_BELIEFS = 3_000_000

Counts = Int[np.ndarray, "B K"]
Values = Callable[[Counts, Counts], Float[np.ndarray, "B K"]]


def optimal_values(num_pulls: int, num_arms: int) -> tuple[float, Values]:
    """Return the greatest expected total reward, and the value of every arm by the counts so far.

    Arms have the prior U[0, 1]. `values(success, failure)` is the expected reward of pulling each
    arm now and the best from then on, undiscounted, after so many successes and failures `[B, K]`,
    as many pulls in every row. A belief is the counts of all arms, as one number in a base above
    any count. Raises `TrmrlError` where there are too many beliefs.
    """
    num_beliefs = math.comb(num_pulls - 1 + 2 * num_arms, 2 * num_arms)
    if num_beliefs > _MOST_BELIEFS or (num_pulls + 1) ** (2 * num_arms) >= 2**63:
        raise TrmrlError(
            f"{num_pulls} pulls of {num_arms} arms have {num_beliefs:.1e} beliefs, "
            f"too many for an exact solution"
        )
    place = (num_pulls + 1) ** np.arange(2 * num_arms, dtype=np.int64)
    levels = [np.zeros(1, np.int64)]
    for _ in range(num_pulls):
        levels.append(np.unique(levels[-1][:, None] + place[None]))
    tables: list[np.ndarray] = []
    ahead = np.zeros(len(levels[-1]))
    for now, later in zip(levels[-2::-1], levels[:0:-1], strict=True):
        count = now[:, None] // place % (num_pulls + 1)
        success, failure = count[:, :num_arms], count[:, num_arms:]
        mean = (1 + success) / (2 + success + failure)
        after = ahead[np.searchsorted(later, now[:, None] + place)]
        won, lost = after[:, :num_arms], after[:, num_arms:]
        tables.append(mean * (1.0 + won) + (1.0 - mean) * lost)
        ahead = tables[-1].max(axis=1)
    tables.reverse()

    def values(success: Counts, failure: Counts) -> Float[np.ndarray, "B K"]:
        counts = np.concatenate([success, failure], axis=1).astype(np.int64)
        level = int(counts[0].sum())
        return tables[level][np.searchsorted(levels[level], counts @ place)]

    return float(ahead[0]), values
