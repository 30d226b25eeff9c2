"""Splits: what is drawn, from where, and what no two splits may share."""

import jax
import numpy as np
import pytest

from trmrl.envs import make

JOINTS = ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]


def draw(name, split, num_tasks=4000, seed=0):
    return make(name).sample_tasks(split, num_tasks, key=jax.random.key(seed))


def dead_joints(split):
    strength = draw("half-cheetah-crippled", split)["strength"]
    assert strength.dtype == np.float32 and strength.shape == (4000, 6)
    assert set(strength.ravel().tolist()) == {0.0, 1.0}
    assert (strength.sum(axis=1) == 5.0).all()
    dead, count = np.unique(strength.argmin(axis=1), return_counts=True)
    assert count.min() > 0.9 * 4000 / len(dead)  # each as likely
    return {JOINTS[i] for i in dead}


def test_dead_joints_out_of_distribution_are_never_trained_on():
    train, test, ood = (dead_joints(split) for split in ("train", "test", "ood"))
    assert train == test == {"bthigh", "bfoot", "fthigh", "fshin"}
    assert ood == {"bshin", "ffoot"}


@pytest.mark.parametrize(
    ("split", "low", "high"), [("train", 0, 1), ("test", 0, 1), ("ood", 1, 1.5)]
)
def test_loads_fill_their_split(split, low, high):
    tasks = draw("half-cheetah-payload", split)
    power = np.stack([np.log(tasks[name]) for name in ("mass", "damping", "friction")]) / np.log(3)
    size = np.abs(power)
    assert low - 1e-5 <= size.min() < low + 0.01 and high - 0.01 < size.max() <= high + 1e-5
    assert np.abs(size.mean(axis=1) - (low + high) / 2).max() < 0.03
    assert np.abs((power > 0).mean(axis=1) - 0.5).max() < 0.04
    assert np.abs(np.corrcoef(power) - np.eye(3)).max() < 0.06


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("name", "headings"),
    [
        ("ant-dir", [(-1.0, 0.0), (1.0, 0.0)]),
        ("ant-dir-radian", [(0.5403023, -0.841471), (0.5403023, 0.841471)]),
    ],
)
def test_ants_have_two_headings(name, headings, split):
    heading = draw(name, split)["heading"]
    assert heading.dtype == np.float32
    values, count = np.unique(heading.round(6), axis=0, return_counts=True)
    np.testing.assert_allclose(values, headings, atol=1e-6)
    assert count.min() > 1900


@pytest.mark.parametrize("split", ["train", "test"])
def test_humanoids_head_anywhere(split):
    heading = draw("humanoid-dir", split)["heading"]
    np.testing.assert_allclose(np.linalg.norm(heading, axis=1), 1.0, rtol=1e-6)
    angle = np.arctan2(heading[:, 1], heading[:, 0])
    count, _ = np.histogram(angle, bins=8, range=(-np.pi, np.pi))
    assert count.min() > 420 and count.max() < 580


@pytest.mark.parametrize("split", ["train", "test"])
def test_goals_fill_the_disc(split):
    goal = draw("ant-goal", split)["goal"]
    radius = np.linalg.norm(goal, axis=1)
    assert radius.max() <= 3.0 + 1e-5 and radius.max() > 2.99
    assert (radius < 1.5).mean() == pytest.approx(0.25, abs=0.03)  # as areas go
    assert np.abs(goal.mean(axis=0)).max() < 0.1
    standing_still = -200 * np.abs(goal).sum(axis=1).mean()
    assert standing_still == pytest.approx(-200 * 8 / np.pi, rel=0.03)  # r sums to 2, cos to 2/pi


@pytest.mark.parametrize(
    ("name", "sizes"), [("walker-rand-params", (8, 9, 8)), ("hopper-rand-params", (5, 6, 5))]
)
def test_bodies_of_random_make(name, sizes):
    tasks = draw(name, "train", 400)
    bodies, dofs, geoms = sizes
    shapes = {
        "body_mass": (400, bodies),
        "body_inertia": (400, bodies, 3),
        "dof_damping": (400, dofs),
        "geom_friction": (400, geoms, 3),
    }
    assert {field: factor.shape for field, factor in tasks.items()} == shapes
    for field, factor in tasks.items():
        power = np.log(factor) / np.log(1.3 if field == "dof_damping" else 1.5)
        assert -3.00001 <= power.min() < -2.98 and 2.98 < power.max() <= 3.00001
        assert abs(power.mean()) < 0.1
        columns = power.reshape(400, -1)
        assert np.abs(np.corrcoef(columns.T) - np.eye(columns.shape[1])).max() < 0.25
    mass, friction = tasks["body_mass"][:, 0], tasks["geom_friction"][:, 0, 0]
    assert abs(np.corrcoef(mass, friction)[0, 1]) < 0.2
    other = draw(name, "test", 400, seed=1)
    assert not np.isin(tasks["body_mass"], other["body_mass"]).all()
