"""What is logged of a trial, counted by hand."""

import numpy as np
import pytest

from trmrl.metrics import METRICS, describe
from trmrl.types import Decision, Outcome, Timestep, Trajectory, Trial, replace

K, H, B = 2, 3, 2


@pytest.fixture(scope="module")
def trial():
    """Lane 0 takes every step; lane 1 ends after its second, and what follows is marked absurdly.

    In the first episode it is by divergence, in the second by the world.
    """
    valid = np.ones((K, H, B), bool)
    valid[:, 2, 1] = False
    diverged = np.zeros((K, H, B), bool)
    diverged[0, 1:, 1] = True
    ended = np.zeros((K, H, B), bool)
    ended[:, 1:, 1] = True
    reward = np.where(valid, np.arange(K * H * B).reshape((K, H, B)), 1e6).astype(np.float32)
    obs = np.where(valid, 0.0, np.nan).astype(np.float32)[..., None]
    zero = np.zeros((K, H, B), np.float32)
    rows = Trajectory(
        Timestep(obs, obs, zero, ended, ended),
        Decision(obs, zero, zero),
        Outcome(reward, ended, ~ended, obs, success=ended, diverged=diverged),
        valid,
    )
    return Trial(rows, zero[0, 0])


def test_every_metric_counts_the_rows_that_happened(trial):
    found = {name: np.asarray(value).tolist() for name, value in describe(trial).items()}
    assert found == {
        "return": [(0 + 2 + 4 + 1 + 3) / 2, (6 + 8 + 10 + 7 + 9) / 2],
        "success": [0.5, 0.5],
        "idle_share": pytest.approx(2 / 12),
        "num_diverged": 1,
        "trial_steps": 10,
        "bad_obs": 0.0,
    }


def test_what_a_world_does_not_mark_is_left_out(trial):
    outcome = replace(trial.rows.outcome, success=None, diverged=None)
    unmarked = replace(trial, rows=replace(trial.rows, outcome=outcome))
    assert set(METRICS) - set(describe(unmarked)) == {"success", "num_diverged"}
