"""Where tasks are a finite set, none of the train split's is in the test split, by value."""

import jax
import numpy as np
import pytest

from trmrl.envs import ENVS, make

# Published with one set for both; each says so on its page.
ONE_SET = {
    "half-cheetah-dir", "half-cheetah-dir-sparse", "half-cheetah-crippled", "ant-dir",
    "ant-dir-radian", "grid-navi", "multi-stage-rooms",
}  # fmt: skip
# Drawn afresh from an interval each time: two draws are hardly ever the same.
CONTINUOUS = {
    "bandit-n10-k5", "bandit-n100-k10", "tabular-n10", "semicircle", "navigation-2d",
    "treasure-hunt", "half-cheetah-vel", "half-cheetah-vel-delayed", "humanoid-dir",
}  # fmt: skip
NUM_TASKS = 10_000


def drawn(name, split, num_tasks=NUM_TASKS, seed=0):
    """The different tasks among many drawn, each as one row of numbers."""
    tasks = make(name).sample_tasks(split, num_tasks, key=jax.random.key(seed))
    rows = [np.asarray(leaf).reshape(num_tasks, -1) for leaf in jax.tree.leaves(tasks)]
    return {row.tobytes() for row in np.concatenate(rows, axis=1)}


@pytest.mark.parametrize("name", [name for name in ENVS if name not in ONE_SET | CONTINUOUS])
def test_no_task_is_in_both(name):
    assert not drawn(name, "train", seed=0) & drawn(name, "test", seed=1)


@pytest.mark.parametrize("name", sorted(CONTINUOUS))
def test_continuous_families_draw_what_was_never_drawn(name):
    train, test = drawn(name, "train", 20, seed=0), drawn(name, "test", 20, seed=1)
    assert not train & test
    assert len(train) == len(test) == 20


FINITE = {"point-robot": (80, 20), "point-robot-sparse": (80, 20), "dark-room": (65, 16)}


@pytest.mark.parametrize("name", FINITE)
def test_finite_sets_are_divided_as_their_pages_say(name):
    assert (len(drawn(name, "train")), len(drawn(name, "test"))) == FINITE[name]


def test_pairs_of_key_and_door_are_apart_whatever_the_start():
    pairs = {}
    for split in ("train", "test"):
        tasks = make("dark-key-to-door").sample_tasks(split, NUM_TASKS, key=jax.random.key(0))
        pairs[split] = {row.tobytes() for row in np.asarray(tasks.goal)}
    assert not pairs["train"] & pairs["test"]
    assert len(pairs["test"]) > 1_290  # of 1,312


def test_the_worlds_that_share_their_tasks_declare_it():
    assert {name for name in ENVS if make(name).spec.shared_splits} == ONE_SET


@pytest.mark.parametrize("name", sorted(ONE_SET))
def test_families_of_one_set_share_all_of_it(name):
    assert drawn(name, "train") == drawn(name, "test")
