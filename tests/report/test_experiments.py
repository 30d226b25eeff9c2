"""Runs that differ in the seed alone are one experiment."""

import pytest

from trmrl.report.experiments import Episodes, common_episodes, experiments, with_interval
from trmrl.types import TrmrlError


def test_runs_are_grouped_by_all_of_their_config_but_the_seed(make_run):
    one = make_run("x-seed0"), make_run("x-seed1", seed=1)
    other = make_run("y-s0", clip=0.3)
    found = experiments([one[1], other, one[0]])
    assert [(e.label, e.env) for e in found] == [("x", "somewhere"), ("y", "somewhere")]
    assert [e.runs for e in found] == [{1: one[1], 0: one[0]}, {0: other}]


def test_the_oracle_is_in_the_same_world_but_another_experiment(make_run):
    found = experiments([make_run("a"), make_run("b", env="somewhere+task")])
    assert [(e.label, e.env) for e in found] == [("a", "somewhere"), ("b", "somewhere")]


def test_a_seed_counts_once(make_run):
    run, copy = make_run("here/x-s0"), make_run("there/x-s0")
    (found,) = experiments([run, copy, run])
    assert found.runs == {0: run}


def test_names_that_two_experiments_share_stand_with_their_folders(make_run):
    runs = [make_run("first/x-s0"), make_run("second/x-s0", clip=0.3), make_run("y-s0", clip=1)]
    assert [e.label for e in experiments(runs)] == ["first/x-s0", "second/x-s0", "y"]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([5, 5], "1 to 5"), ([2, 5, 2], "2"), ([1, 3], "1"), ([1, 1], "1"), ([10, 4], "4")],
)
def test_trials_are_compared_by_episodes_that_all_have(lengths, expected):
    assert str(common_episodes(lengths)) == expected


def test_the_mean_is_over_the_episodes_asked_for():
    """A trial that is shorter stands with its last."""
    scores = [-200.0, -190.0, -60.0, -50.0]
    assert Episodes(2, 2).mean(scores) == -190.0
    assert Episodes(3, 4).mean(scores) == -55.0
    assert Episodes(3, 5).mean(scores) == -55.0
    assert Episodes(3, 5).mean(scores[:2]) == -190.0


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (-1, -1)])
def test_episodes_that_cannot_be_are_refused(first, last):
    with pytest.raises(TrmrlError, match=f"--episodes is {first} {last}, expected"):
        Episodes(first, last)


def test_numbers_with_and_without_an_interval():
    assert with_interval(1.25, (1.0, 2.0), digits=2) == "1.25 (1.00 to 2.00)"
    assert with_interval(-0.125, None, digits=3) == "-0.125"
