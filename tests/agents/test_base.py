"""Which tasks are trained on, and by which lanes, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.base import TaskPlan
from trmrl.types import TrmrlError, replace


@pytest.mark.parametrize(
    ("lanes_per_task", "num_lanes", "groups"),
    [(1, 1, 1), (1, 6, 6), (3, 3, 1), (3, 9, 3), (3, 2, 1), (3, 1, 1)],
)
def test_lanes_are_divided_among_tasks(lanes_per_task, num_lanes, groups):
    assert TaskPlan(lanes_per_task=lanes_per_task).groups(num_lanes) == groups


@pytest.mark.parametrize("num_lanes", [4, 5, 10])
def test_lanes_that_no_number_of_tasks_fills_are_refused(num_lanes):
    with pytest.raises(TrmrlError) as refusal:
        TaskPlan(lanes_per_task=3).groups(num_lanes)
    assert str(refusal.value) == f"{num_lanes} lanes, expected a multiple of 3, a task's lanes"


@pytest.mark.parametrize("library", [np, jnp])
def test_tasks_are_spread_over_neighboring_lanes(library):
    tasks = {"goal": library.asarray([[1, 2], [3, 4]]), "speed": library.asarray([5, 6])}
    spread = TaskPlan(lanes_per_task=3).spread(tasks)
    np.testing.assert_array_equal(spread["goal"], [[1, 2]] * 3 + [[3, 4]] * 3)
    np.testing.assert_array_equal(spread["speed"], [5, 5, 5, 6, 6, 6])
    alone = TaskPlan(lanes_per_task=1).spread(tasks)
    assert jax.tree.all(jax.tree.map(np.array_equal, alone, tasks))


@pytest.mark.parametrize(
    ("split", "complaint"),
    [
        ("train", None),
        ("fresh", None),
        ("test", "split is 'test', expected one of train, fresh to train on"),
        ("ood", "split is 'ood', expected one of train, fresh to train on"),
        ("swapped", "split is 'swapped', expected one of train, fresh to train on"),
    ],
)
def test_training_draws_from_a_split_that_is_not_held_out(drift, split, complaint):
    spec = replace(drift().spec, splits=("train", "test", "ood", "fresh"))
    assert TaskPlan(split=split).check(spec) == complaint


def test_lanes_by_task_are_the_neighbors_that_share_one():
    plan, lanes = TaskPlan(lanes_per_task=2), np.arange(6)
    np.testing.assert_array_equal(plan.by_task(lanes), [[0, 1], [2, 3], [4, 5]])
    rows = np.stack([lanes, 10 + lanes])  # leading axes stay
    np.testing.assert_array_equal(
        plan.by_task(rows), [[[0, 1], [2, 3], [4, 5]], [[10, 11], [12, 13], [14, 15]]]
    )
    few = TaskPlan(lanes_per_task=8).by_task(rows)  # fewer lanes than a task's are one group
    np.testing.assert_array_equal(few, rows[:, None])


def test_by_task_undoes_spread():
    plan = TaskPlan(lanes_per_task=3)
    by_task = plan.by_task(plan.spread(np.arange(4)))
    np.testing.assert_array_equal(by_task, np.arange(4)[:, None].repeat(3, axis=1))


@pytest.mark.parametrize(
    ("plan", "num_lanes", "trials"),
    [
        (TaskPlan(5, 1), 2, [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4], [0, 1]]),
        (TaskPlan(3, 1), 3, [[0, 1, 2]] * 4),
        (TaskPlan(2, 1), 5, [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1], [0, 1, 0, 1, 0]]),  # twice around
        (TaskPlan(3, 2), 4, [[0, 0, 1, 1], [2, 2, 0, 0], [1, 1, 2, 2], [0, 0, 1, 1]]),
        (TaskPlan(2, 4), 2, [[0, 0], [0, 0], [1, 1], [1, 1], [0, 0]]),  # half a task's lanes
        (TaskPlan(1, 1), 2, [[0, 0], [0, 0]]),
    ],
)
def test_tasks_follow_each_other_in_a_ring(plan, num_lanes, trials):
    for updates, expected in enumerate(trials):
        found = plan.task_ids(num_lanes, jnp.int32(updates))
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("updates", [2**31 - 1, 2**31 - 2, 2**31 - 1000, 2**30 + 7])
@pytest.mark.parametrize("plan", [TaskPlan(100, 1), TaskPlan(7, 20), TaskPlan(999_983, 1)])
def test_the_ring_goes_on_however_many_updates_there_were(plan, updates):
    """32 bits hold the updates, and not the lanes of all of them; Python's integers hold both."""
    num_lanes = 40
    first = updates * num_lanes
    expected = [(first + lane) // plan.lanes_per_task % plan.num_tasks for lane in range(num_lanes)]
    found = jax.jit(lambda updates: plan.task_ids(num_lanes, updates))(jnp.int32(updates))
    np.testing.assert_array_equal(found, expected)
