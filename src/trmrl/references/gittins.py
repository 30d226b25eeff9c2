"""The Gittins index of a Bernoulli arm, by calibration against arms of known worth.

The strategy that pulls by it is `gittins` in `bandit.py`.
"""

import math

import numpy as np
from jaxtyping import Float

_NUM_CHARGES = 256  # points of the calibration, between which the index is interpolated
_TAIL = 1.0  # the horizon of the calculation beyond the table, in units of 1 / (1 - gamma)
_MAX_TAIL = 500


def gittins_index(num_pulls: int, gamma: float) -> Float[np.ndarray, "N N"]:
    """Return the index of an arm after `s` successes and `f` failures, at `[s, f]`, up to
    `s + f = num_pulls`; the rest of the table is zero.

    The arm's chance has the prior U[0, 1]; pulls are discounted by `gamma` in [0, 1). The index is
    the charge per pull at which playing on, with leave to stop for good, is worth nothing
    (Gittins et al., 2011). Values are computed backwards from a horizon where the
    mean is taken as known.
    """
    depth = num_pulls + min(math.ceil(_TAIL / (1.0 - gamma)), _MAX_TAIL)
    charge = np.linspace(0.0, 1.0, _NUM_CHARGES, dtype=np.float32)
    table = np.zeros((num_pulls + 1, num_pulls + 1), np.float32)
    value = np.maximum(_margin(depth, charge), 0.0) / np.float32(1.0 - gamma)
    for total in range(depth - 1, -1, -1):
        mean = _mean(total)[:, None]
        ahead = mean * value[1:] + (1.0 - mean) * value[:-1]
        play_on = _margin(total, charge) + np.float32(gamma) * ahead
        if total <= num_pulls:
            success = np.arange(total + 1)
            table[success, total - success] = _root(play_on, charge)
        value = np.maximum(play_on, 0.0)
    return table


def _mean(total: int) -> Float[np.ndarray, " S"]:
    """Return the posterior mean after `total` pulls, for every number of successes."""
    return (np.arange(total + 1, dtype=np.float32) + 1.0) / np.float32(total + 2)


def _margin(total: int, charge: Float[np.ndarray, " L"]) -> Float[np.ndarray, "S L"]:
    return _mean(total)[:, None] - charge[None, :]


def _root(play_on: Float[np.ndarray, "S L"], charge: Float[np.ndarray, " L"]) -> np.ndarray:
    """Return where each row, which falls with the charge, crosses zero."""
    left = np.clip((play_on > 0).sum(axis=1) - 1, 0, len(charge) - 2)
    row = np.arange(len(play_on))
    above, below = play_on[row, left], play_on[row, left + 1]
    return charge[left] + (charge[1] - charge[0]) * above / np.maximum(above - below, 1e-12)
