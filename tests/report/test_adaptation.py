"""How fast agents adapt, on rewards made by hand."""

import numpy as np
import pytest

from trmrl.report.adaptation import last_evaluations, rewards_by_step, steps_to_plateau
from trmrl.report.experiments import experiments
from trmrl.types import STEP_NUMBERS, Evaluation


def by_step(mean, low=None, running=1.0):
    rows = dict.fromkeys(STEP_NUMBERS, list(mean)) | {"running": [running] * len(mean)}
    return rows | ({} if low is None else {"ci95_low": list(low)})


@pytest.fixture
def kept(evaluation):
    """`kept(mean, num_episodes, low, ...)`: an evaluation with those rewards by step."""

    def make(mean, num_episodes, **fields):
        record = evaluation([[0.0] * num_episodes])
        return Evaluation.from_json(record | {"reward_per_step": by_step(mean, **fields)})

    return make


def test_the_plateau_is_reached_where_a_window_of_rewards_is_on_it(kept):
    """Episodes of 40 steps, windows of 2; the plateau begins at -0.3, its interval at -0.5.

    The first episode gets there after 12 steps, one of which passes it by chance before; the last,
    which knows the task, after 5.
    """
    first = [-3.0] * 12 + [-0.3] * 28
    first[4] = 0.0  # a window around it has a mean of -1.5
    last = [-3.0] * 5 + [-0.3] * 35
    low = np.asarray(first + last) - 0.2
    assert steps_to_plateau(kept(first + last, 2, low=low)) == (12, 5)


def test_who_knows_the_task_from_the_start_needs_no_steps_and_who_never_does_no_number(kept):
    assert steps_to_plateau(kept([1.0] * 8, 2)) == (0, 0)
    assert steps_to_plateau(kept([0.0] * 4 + [1.0] * 4, 2)) == (None, 0)


def test_a_trial_of_single_steps_is_one_stream(kept):
    """Ten pulls: the plateau is that of the last five, 0.9."""
    assert steps_to_plateau(kept([0.5, 0.5, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], 10)) == (3, 3)


def test_without_a_plateau_there_is_nothing_to_count(kept, evaluation):
    assert steps_to_plateau(kept([1.0] * 4, 1, running=0.9)) is None
    assert steps_to_plateau(Evaluation.from_json(evaluation([[1.0]]))) is None


def test_rewards_are_those_of_each_seed_s_last_evaluation_in_the_mode(make_run, evaluation):
    runs = [make_run("a-s0"), make_run("a-s1", seed=1), make_run("a-s2", seed=2)]
    for run, reward in zip(runs, (1.0, 2.0), strict=False):
        steps = {"reward_per_step": by_step([reward, reward + 1])}
        other = {"reward_per_step": by_step([9.0, 9.0])}
        run.write_evaluation("test", evaluation([[3.0]], **steps))
        run.write_evaluation("early", evaluation([[3.0]], **other, env_steps=1))
        run.write_evaluation("sampled", evaluation([[3.0]], **other, explore=True))
        run.write_evaluation("ood", evaluation([[3.0]], **other, split="ood"))
    runs[2].write_evaluation("test", evaluation([[3.0]]))  # by an older program
    (experiment,) = experiments(runs)
    rewards = rewards_by_step(last_evaluations(experiment, "test"))
    assert rewards is not None and rewards.tolist() == [[1.0, 2.0], [2.0, 3.0]]
    assert rewards_by_step(last_evaluations(experiment, "train")) is None


def test_trials_of_unlike_length_have_no_common_line(kept):
    assert rewards_by_step([kept([1.0] * 4, 2), kept([1.0] * 6, 2)]) is None
