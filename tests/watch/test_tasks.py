import jax
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.types import TrmrlError
from trmrl.watch.tasks import describe_numbers, read_numbers, read_tasks, write_numbers


def draw(name):
    return make(name).sample_tasks("train", 1, key=jax.random.key(0))


def test_numbers_go_to_a_task_and_back():
    task = draw("grid-navi")
    changed = write_numbers(task, [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(changed.start, [[1, 2]])
    np.testing.assert_array_equal(changed.goal, [[[3, 4]]])
    assert changed.goal.dtype == np.int32 and read_numbers(changed) == [1, 2, 3, 4]


def test_tasks_follow_each_other():
    task = draw("half-cheetah-vel")
    tasks = read_tasks(task, [1.0, 2.5, 0.5])
    assert [one["velocity"].tolist() for one in tasks] == [[1.0], [2.5], [0.5]]
    assert read_tasks(task, []) == []


@pytest.mark.parametrize(
    ("read", "numbers", "expected"),
    [
        (write_numbers, [1.0, 2.0], "expected 4 finite numbers"),
        (write_numbers, [1.0, 2.0, np.nan, 0.0], "expected 4 finite numbers"),
        (read_tasks, [1.0] * 7, "--tasks has 7 numbers, expected 4 for each task"),
    ],
)
def test_other_numbers_are_refused(read, numbers, expected):
    with pytest.raises(TrmrlError, match=expected):
        read(draw("grid-navi"), numbers)


def test_limits_are_those_of_all_splits():
    (velocity,) = describe_numbers(make("half-cheetah-vel"))  # train 0 to 3, ood 3 to 4
    assert velocity.name == "velocity" and not velocity.is_whole
    assert 0 <= velocity.low < 0.05 and 3.95 < velocity.high <= 4
    *start, x, y = describe_numbers(make("grid-navi"))
    assert [one.name for one in start] == ["start 1", "start 2"]
    assert (x.low, x.high, y.low, y.high) == (0, 4, 0, 4) and x.is_whole
