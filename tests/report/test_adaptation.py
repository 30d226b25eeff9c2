"""How fast agents adapt, on rewards made by hand."""

import numpy as np
import pytest

from trmrl.report.adaptation import (
    Shape,
    last_evaluation,
    last_evaluations,
    rewards_by_step,
    steps_to_plateau,
)
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


def shaped(evaluation, num_tasks, num_episodes, **fields):
    return evaluation([[0.0] * num_episodes] * num_tasks, **fields)


def test_what_was_evaluated_for_another_purpose_replaces_no_score(make_run, evaluation):
    """Trained on trials of two: not the later one of six, the larger one or that of another seed.

    File names of those on request come before `test`.
    """
    run = make_run("a", [(8, 1.0, [1.0, 2.0])])
    stored = {
        "test-20x6-seed1": shaped(evaluation, 20, 6, seed=1, env_steps=99_000),
        "test-20x6-seed0": shaped(evaluation, 20, 6),
        "test-9x2-seed0": shaped(evaluation, 9, 2),
        "other-9x2-seed1": shaped(evaluation, 9, 2, seed=1),
        "a-sampled": shaped(evaluation, 9, 2, explore=True),
    }
    for name, record in stored.items():
        run.write_evaluation(name, record)
    found = last_evaluation(run, "test")
    assert found is not None
    assert (found.num_tasks, found.num_episodes, found.seed) == (9, 2, 0)  # without a conclusion
    run.write_evaluation("test", shaped(evaluation, 4, 2))
    found = last_evaluation(run, "test")
    assert found is not None and found.num_tasks == 4
    run.write_evaluation("test-later", shaped(evaluation, 3, 2, env_steps=12_001))
    found = last_evaluation(run, "test")
    assert found is not None and found.num_tasks == 3


def test_who_asks_for_a_shape_gets_the_last_of_it(make_run, evaluation):
    run = make_run("a", [(8, 1.0, [1.0, 2.0])])
    run.write_evaluation("test", shaped(evaluation, 20, 2, seed=1))
    run.write_evaluation("sampled", shaped(evaluation, 20, 6, seed=1, explore=True))
    run.write_evaluation("ood", shaped(evaluation, 20, 6, seed=1, split="ood"))
    run.write_evaluation("fewer", shaped(evaluation, 19, 6, seed=1))
    run.write_evaluation("seed", shaped(evaluation, 20, 6, seed=2))
    assert last_evaluation(run, "test", Shape()) is None
    run.write_evaluation("one", shaped(evaluation, 20, 6, seed=1, env_steps=7))
    run.write_evaluation("two", shaped(evaluation, 20, 6, seed=1, env_steps=6))
    found = last_evaluation(run, "test", Shape())
    assert found is not None and found.env_steps == 7


def test_trials_of_unlike_length_have_no_common_line(kept):
    assert rewards_by_step([kept([1.0] * 4, 2), kept([1.0] * 6, 2)]) is None
