"""Scores at equal cost, from metrics made by hand."""

import pytest

from trmrl.report.efficiency import efficiency_table, evaluated


def rows(runs):
    return [line.strip("| ").split(" | ") for line in efficiency_table(runs).splitlines()[2:]]


@pytest.fixture
def runs(make_run):
    """`slow` learns more per step, `fast` more per second; unevaluated updates lie between."""
    return [
        make_run("slow-s0", [(10, 5.0, [1.0, 3.0]), (15, 8.0, None), (20, 10.0, [4.0, 6.0])]),
        make_run("slow-s1", [(10, 6.0, [3.0, 5.0]), (20, 14.0, [6.0, 8.0])], seed=1),
        make_run("fast-s0", [(10, 1.0, [0.0]), (20, 2.0, [1.0]), (40, 9.0, [9.0])], clip=1),
    ]


def test_any_score_of_the_metrics_has_a_history(make_run):
    run = make_run("x", [(8, 1.0, [1.0], [0.0, 1.0]), (16, 2.0, [3.0]), (24, 3.0, [5.0], [1.0])])
    history = evaluated(run, "test_success")
    assert history is not None and history.seconds is not None
    assert (history.env_steps.tolist(), history.seconds.tolist()) == ([8, 24], [1.0, 3.0])
    assert history.score.tolist() == [0.5, 1.0]


def test_costs_are_equal_and_scores_the_last_within_them(runs):
    """All reached 20 steps, and 9 s: `slow` had then trained for 10 steps, `fast` for 40."""
    assert rows(runs) == [
        ["somewhere", "slow", "2", "20", "6.00 (5.00 to 7.00)",
         "9", "3.00 (2.00 to 4.00)", "10"],
        ["somewhere", "fast", "1", "20", "1.00", "9", "9.00", "40"],
    ]  # fmt: skip


def test_a_run_that_was_not_evaluated_by_then_scores_nothing(make_run, runs):
    late = make_run("late-s0", [(16, 1.0, None), (32, 20.0, [5.0])], clip=2)
    assert rows([*runs, late])[-1] == [
        "somewhere", "late", "1", "20", "none yet", "9", "none yet", "none yet"
    ]  # fmt: skip


def test_runs_that_logged_no_seconds_share_no_wall_clock(make_run, runs):
    old = make_run("old-s0", [(30, None, [5.0])], clip=3)
    assert [row[5:] for row in rows([*runs, old])] == [["not logged"] * 3] * 3
    assert rows([*runs, old])[-1][:5] == ["somewhere", "old", "1", "20", "none yet"]


def test_worlds_are_not_compared_with_each_other(make_run, runs):
    alone = make_run("alone-s0", [(10, 1.0, [5.0])], env="elsewhere")
    silent = make_run("silent-s0", [(10, 1.0, None)], clip=4)
    assert evaluated(silent) is None
    assert rows([*runs, alone, silent]) == rows(runs)
    assert efficiency_table([alone, silent]) == ""
    oracle = make_run("oracle-s0", [(10, 1.0, [8.0])], env="elsewhere+task")
    assert [row[:2] for row in rows([alone, oracle])] == [
        ["elsewhere", "alone"], ["elsewhere", "oracle"]
    ]  # fmt: skip
