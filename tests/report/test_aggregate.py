"""Means over seeds, and interquartile means over seeds and tasks, worked by hand."""

from trmrl.report.aggregate import aggregate_table, mean_interval


def rows(runs):
    return [line.strip("| ").split(" | ") for line in aggregate_table(runs).splitlines()[2:]]


def test_every_episode_is_averaged_over_seeds(make_run):
    """Two seeds, four tasks, two episodes.

    First episode: the seeds' means are 2.5 and 12.5; of the eight scores 1 2 3 4 11 12 13 14 the
    middle half is 3 4 11 12, whose mean is 7.5; drawn twice alone, the seeds give 2.5 and 12.5.
    """
    first = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 8.0]]
    second = [[a + 10, b] for a, b in first]
    runs = [make_run("x-s0", returns=first), make_run("x-s1", returns=second, seed=1)]
    told = ["x", "test", "mode", "12,000"]
    assert rows(runs) == [
        [*told, "1", "2", "7.5 (2.5 to 12.5)", "7.5 (2.5 to 12.5)", "2.5, 12.5"],
        [*told, "2", "2", "2.0 (2.0 to 2.0)", "0.0 (0.0 to 0.0)", "2.0, 2.0"],
    ]


def test_trials_of_many_episodes_are_summed_and_one_seed_has_no_interval(make_run):
    """Sums of eleven pulls: 11 and 22."""
    (row,) = rows([make_run("x-s0", returns=[[1.0] * 11, [2.0] * 11])])
    assert row[4:] == ["sum of 11", "1", "16.500", "16.500", "16.500"]


def test_several_episodes_are_told_one_by_one_and_summed(make_run):
    """Four pulls worth 1 in one task and 2 in the other: 1.5 each, 6 in all."""
    told = rows([make_run("x-s0", returns=[[1.0] * 4, [2.0] * 4])])
    assert [row[4] for row in told] == ["1", "2", "3", "4", "sum of 4"]
    assert [row[6] for row in told] == ["1.500"] * 4 + ["6.000"]


def test_unlike_evaluations_are_not_averaged(make_run, evaluation):
    runs = [make_run(f"x-s{seed}", seed=seed, returns=[[1.0], [3.0]]) for seed in (0, 1)]
    runs[0].write_evaluation("test-sampled", evaluation([[5.0], [5.0]], explore=True))
    runs[1].write_evaluation("test-2x1-seed4", evaluation([[7.0], [7.0]], seed=4))
    runs[1].write_evaluation("early", evaluation([[0.0], [0.0]], env_steps=8))
    found = {(row[2], row[3], row[5], row[6]) for row in rows(runs)}
    assert found == {
        ("mode", "12,000", "2", "2.0 (2.0 to 2.0)"),
        ("sampled", "12,000", "1", "5.0"),
        ("mode", "12,000", "1", "7.0"),
        ("mode", "8", "1", "0.0"),
    }


def test_seeds_that_lived_almost_equally_long_are_averaged(make_run, evaluation):
    """Episodes that end early leave an update a few steps short."""
    runs = [make_run(f"x-s{seed}", seed=seed, returns=[[1.0], [3.0]]) for seed in (0, 1, 2)]
    runs[1].write_evaluation("test", evaluation([[7.0], [7.0]], env_steps=11_900))
    runs[2].write_evaluation("test", evaluation([[7.0], [7.0]], env_steps=11_000))
    found = [(row[3], row[5], row[8]) for row in rows(runs)]
    assert found == [("11,950", "2", "2.0, 7.0"), ("11,000", "1", "7.0")]


def test_of_two_or_three_seeds_the_interval_is_from_least_to_greatest():
    assert mean_interval([4.0, 1.0]) == (1.0, 4.0)
    assert mean_interval([4.0, 1.0, 2.0]) == (1.0, 4.0)
    low, high = mean_interval([4.0, 1.0, 2.0, 3.0]) or (0.0, 0.0)
    assert 1.0 < low < 2.5 < high < 4.0
    assert mean_interval([4.0]) is None
