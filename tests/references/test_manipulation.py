"""Scripts that know the goal, and scripts that know where goals are on average."""

import numpy as np
import pytest

from trmrl.envs import make
from trmrl.references import reference, without_memory
from trmrl.references._base import draw_tasks
from trmrl.references.manipulation import goals, mean_goals, measure
from trmrl.types import TrmrlError, replace

NUM_TASKS = 6


def test_means_are_of_the_train_goals_of_a_scene():
    """Scene 7 has train goals; scene 9 has none, and its own are taken."""
    scene, train_scene = np.array([7, 9, 9, 7]), np.array([7, 5, 7])
    goal = np.arange(12.0).reshape(4, 3)
    train_goal = np.array([[2.0, 0.0, 4.0], [50.0, 50.0, 50.0], [4.0, 2.0, 0.0]])
    found = mean_goals(scene, goal, train_scene, train_goal)
    np.testing.assert_allclose(found[[0, 3]], [[3.0, 1.0, 2.0]] * 2)
    np.testing.assert_allclose(found[[1, 2]], [[4.5, 5.5, 6.5]] * 2)


@pytest.mark.metaworld
def test_reach_takes_a_goal_and_the_middle_is_rarely_one():
    name = "ml1-reach-h90"
    known, guessed = reference(name, num_tasks=NUM_TASKS)
    assert (known.strategy, guessed.strategy) == (
        "script, shown the goal",
        "script, shown the mean goal",
    )
    assert known.success == 1.0 and guessed.success < 0.5
    assert known.mean > guessed.mean
    assert known.num_distinct == NUM_TASKS
    (alone,) = without_memory(name, num_tasks=NUM_TASKS)
    np.testing.assert_array_equal(alone.total, guessed.total)
    assert alone.success == guessed.success
    assert "success" in known.to_json()


@pytest.mark.metaworld
def test_goals_are_the_layouts_last_numbers_on_reach():
    envs = make("ml1-reach-h90")
    tasks, _ = draw_tasks(envs, NUM_TASKS, 0)
    np.testing.assert_allclose(goals(envs, tasks), tasks["layout"][:, 3:6], atol=1e-12)


def test_worlds_of_which_random_play_alone_is_known():
    assert without_memory("bandit-n10-k5") == []


def test_worlds_of_others_have_no_scripts():
    spec = replace(make("bandit-n10-k5").spec, family="manipulation", name="mine")
    envs = replace(make("bandit-n10-k5"), spec=spec)
    with pytest.raises(TrmrlError, match="scripts are known for Meta-World's worlds, not for mine"):
        measure(envs, NUM_TASKS, 0)
