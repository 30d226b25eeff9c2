"""Scores at equal cost, from metrics made by hand."""

import pytest

from trmrl.report.efficiency import efficiency_table, evaluated
from trmrl.report.experiments import Episodes


def rows(runs, episodes=None):
    lines = efficiency_table(runs, episodes).markdown().splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in lines]


@pytest.fixture
def runs(make_run):
    """`slow` learns more per step, `fast` more per second; unevaluated updates lie between."""
    return [
        make_run("slow-s0", [(10, 5.0, [1.0, 3.0]), (15, 8.0, None), (20, 10.0, [4.0, 6.0])]),
        make_run("slow-s1", [(10, 6.0, [3.0, 5.0]), (20, 14.0, [6.0, 8.0])], seed=1),
        make_run(
            "fast-s0", [(10, 1.0, [0.0, 0.0]), (20, 2.0, [1.0, 1.0]), (40, 9.0, [9.0, 9.0])], clip=1
        ),
    ]


def test_any_score_of_the_metrics_has_a_history(make_run):
    run = make_run(
        "x", [(8, 1.0, [1.0], [0.0, 1.0]), (16, 2.0, [3.0]), (24, 3.0, [5.0], [1.0, 1.0])]
    )
    history = evaluated(run, "test_success")
    assert history is not None and history.seconds is not None
    assert (history.env_steps.tolist(), history.seconds.tolist()) == ([8, 24], [1.0, 3.0])
    assert history.over(Episodes(1, 2)).tolist() == [0.5, 1.0]


def test_costs_are_equal_and_scores_the_last_within_them(runs):
    """All reached 20 steps, and 9 s: `slow` had then trained for 10 steps, `fast` for 40."""
    assert rows(runs) == [
        ["somewhere", "slow", "2", "1 to 2", "not logged", "20", "6.00 (5.00 to 7.00)",
         "9", "3.00 (2.00 to 4.00)", "10"],
        ["somewhere", "fast", "1", "1 to 2", "not logged", "20", "1.00", "9", "9.00", "40"],
    ]  # fmt: skip


def test_a_run_that_was_not_evaluated_by_then_scores_nothing(make_run, runs):
    late = make_run("late-s0", [(16, 1.0, None), (32, 20.0, [5.0, 5.0])], clip=2)
    assert rows([*runs, late])[-1] == [
        "somewhere", "late", "1", "1 to 2", "not logged", "20", "none yet",
        "9", "none yet", "none yet",
    ]  # fmt: skip


def test_runs_that_logged_no_seconds_share_no_wall_clock(make_run, runs):
    old = make_run("old-s0", [(30, None, [5.0, 5.0])], clip=3)
    assert [row[7:] for row in rows([*runs, old])] == [["not logged"] * 3] * 3
    assert rows([*runs, old])[-1][:7] == [
        "somewhere", "old", "1", "1 to 2", "not logged", "20", "none yet"
    ]  # fmt: skip


def test_worlds_are_not_compared_with_each_other(make_run, runs):
    alone = make_run("alone-s0", [(10, 1.0, [5.0])], env="elsewhere")
    silent = make_run("silent-s0", [(10, 1.0, None)], clip=4)
    assert evaluated(silent) is None
    assert rows([*runs, alone, silent]) == rows(runs)
    assert efficiency_table([alone, silent]).rows == []
    oracle = make_run("oracle-s0", [(10, 1.0, [8.0])], env="elsewhere+task")
    assert [row[:2] for row in rows([alone, oracle])] == [
        ["elsewhere", "alone"], ["elsewhere", "oracle"]
    ]  # fmt: skip


@pytest.fixture
def unlike(make_run):
    """PEARL's five episodes, an agent with two, and one with ten lanes on a task."""
    pearl, steps = [-201.7, -200.9, -61.1, -59.6, -59.6], [0.0, 200.0, 400.0, 600.0, 800.0]
    return [
        make_run("pearl-s0", [(10, 1.0, pearl, None, steps)]),
        make_run("trmrl-s0", [(10, 1.0, [-25.0, -24.0], None, [0.0, 200.0])], clip=1),
        make_run("maml-s0", [(10, 1.0, [-90.0, -70.0], None, [0.0, 2000.0])], clip=2),
    ]


def test_trials_of_unlike_length_are_compared_at_the_same_episode(unlike):
    """The second, the last that all have; not at the means, -116.58, -24.50 and -80.00."""
    assert [row[1:7] for row in rows(unlike)] == [
        ["pearl", "1", "2", "200 (fewer)", "10", "-200.90"],
        ["trmrl", "1", "2", "200 (fewer)", "10", "-24.00"],
        ["maml", "1", "2", "2,000", "10", "-70.00"],
    ]


def test_any_episodes_can_be_asked_for(unlike):
    """Who has no fifth stands with its last, and its fewer steps on the task are marked."""
    assert [row[1:7] for row in rows(unlike[:2], Episodes(4, 5))] == [
        ["pearl", "1", "4 to 5", "800", "10", "-59.60"],
        ["trmrl", "1", "2", "200 (fewer)", "10", "-24.00"],
    ]
