"""Finite sets of tasks: their two splits share no row, and draws take every row in turn."""

import jax
import numpy as np
import pytest

from trmrl.envs import ENVS, make
from trmrl.envs.base import task_rows
from trmrl.envs.finite import draw_rows, split_rows
from trmrl.types import number_distinct

# Every world that has splits of finitely many tasks, and how many each has.
FINITE = {
    "grid-navi": {"train": 21, "test": 21},
    "dark-room": {"train": 65, "test": 16},
    "point-robot": {"train": 80, "test": 20},
    "point-robot-sparse": {"train": 80, "test": 20},
    "half-cheetah-dir": {"train": 2, "test": 2},
    "half-cheetah-crippled": {"train": 4, "test": 4, "ood": 2},
    "half-cheetah-dir-sparse": {"train": 2, "test": 2},
    "multi-stage-rooms": {"train": 48, "test": 48},
    "recipe-room": {"train": 24, "test": 6},
    "ant-dir": {"train": 2, "test": 2},
    "ant-dir-radian": {"train": 2, "test": 2},
}


def test_every_row_is_in_one_split():
    rows = np.arange(30).reshape(10, 3)
    train, test = split_rows(rows, "train"), split_rows(rows, "test")
    assert (len(train), len(test)) == (8, 2)
    assert sorted(np.concatenate([train, test])[:, 0].tolist()) == rows[:, 0].tolist()


@pytest.mark.parametrize(("num_draws", "least", "most"), [(3, 0, 1), (7, 1, 1), (24, 3, 4)])
def test_no_row_comes_again_before_all_others_have_come(num_draws, least, most):
    drawn = np.asarray(draw_rows(7, num_draws, key=jax.random.key(3)))
    assert drawn.shape == (num_draws,)
    for start in range(0, num_draws, 7):
        part = drawn[start : start + 7]
        assert len(set(part.tolist())) == len(part)
    counts = np.bincount(drawn, minlength=7)
    assert (counts.min(), counts.max()) == (least, most)


def test_each_draw_by_itself_is_uniform():
    """The first and the last of three draws from five rows, over 5,000 keys: a fifth each."""
    keys = jax.random.split(jax.random.key(0), 5_000)
    drawn = np.asarray(jax.vmap(lambda key: draw_rows(5, 3, key=key))(keys))
    for column in (0, 2):
        share = np.bincount(drawn[:, column], minlength=5) / 5_000
        np.testing.assert_allclose(share, 0.2, atol=5 * np.sqrt(0.2 * 0.8 / 5_000))


@pytest.mark.parametrize("name", ENVS)
def test_finite_splits_are_drawn_evenly_and_no_other_has_a_task_twice(name):
    envs = make(name)
    for split in envs.spec.splits:
        size = FINITE.get(name, {}).get(split, 50)
        num_tasks = 2 * size + 1 if name in FINITE else size
        tasks = envs.sample_tasks(split, num_tasks, key=jax.random.key(5))
        counts = np.bincount(number_distinct(task_rows(tasks)))
        expected = [2] * (size - 1) + [3] if name in FINITE else [1] * size
        assert sorted(counts[counts > 0].tolist()) == expected
