"""Means over seeds, and interquartile means over seeds and tasks, worked by hand."""

from trmrl.report.aggregate import aggregate_table


def rows(runs):
    return [
        line.strip("| ").split(" | ") for line in aggregate_table(runs).markdown().splitlines()[2:]
    ]


def test_every_episode_is_averaged_over_seeds(make_run):
    """Two seeds, four tasks, two episodes.

    First episode: the seeds' means are 2.5 and 12.5; of the eight scores 1 2 3 4 11 12 13 14 the
    middle half is 3 4 11 12, whose mean is 7.5; drawn twice alone, the seeds give 2.5 and 12.5.
    """
    first = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 8.0]]
    second = [[a + 10, b] for a, b in first]
    runs = [make_run("x-s0", returns=first), make_run("x-s1", returns=second, seed=1)]
    shared = ["x", "test", "mode", "12,000", "return"]
    assert rows(runs) == [
        [*shared, "1", "2", "7.5 (2.5 to 12.5)", "7.5 (2.5 to 12.5)", "2.5, 12.5"],
        [*shared, "2", "2", "2.0 (2.0 to 2.0)", "0.0 (0.0 to 0.0)", "2.0, 2.0"],
    ]


def test_trials_of_many_episodes_are_summed_and_one_seed_has_no_interval(make_run):
    """Sums of eleven pulls: 11 and 22."""
    (row,) = rows([make_run("x-s0", returns=[[1.0] * 11, [2.0] * 11])])
    assert row[4:] == ["return", "sum of 11", "1", "16.500", "16.500", "16.500"]


def test_several_episodes_have_a_row_each_and_their_sum(make_run):
    """Four pulls worth 1 in one task and 2 in the other: 1.5 each, 6 in all."""
    found = rows([make_run("x-s0", returns=[[1.0] * 4, [2.0] * 4])])
    assert [row[5] for row in found] == ["1", "2", "3", "4", "sum of 4"]
    assert [row[7] for row in found] == ["1.500"] * 4 + ["6.000"]


def test_success_has_rows_of_its_own(make_run):
    """Two seeds, four tasks, one episode.

    The seeds' shares are 1/4 and 3/4; of 0 0 0 0 1 1 1 1 the middle half has the mean 1/2.
    """
    success = [[[0.0], [0.0], [0.0], [1.0]], [[0.0], [1.0], [1.0], [1.0]]]
    runs = [
        make_run(f"x-s{seed}", seed=seed, returns=[[7.0]] * 4, success=success[seed])
        for seed in (0, 1)
    ]
    of_return, anytime, at_end = rows(runs)
    assert of_return[4] == "return"
    assert anytime[4:] == [
        "success", "1", "2", "0.50 (0.25 to 0.75)", "0.50 (0.00 to 1.00)", "0.25, 0.75"
    ]  # fmt: skip
    assert at_end[4:] == [
        "success at the end", "1", "2", "0.25 (0.12 to 0.38)", "0.25 (0.00 to 0.50)", "0.12, 0.38"
    ]  # fmt: skip


def test_success_of_a_long_trial_is_a_mean_and_counts_only_if_every_seed_has_it(make_run):
    """Eleven episodes, of which one task succeeds in all: a share of 1/2."""
    returns, success = [[1.0] * 11, [2.0] * 11], [[1.0] * 11, [0.0] * 11]
    run = make_run("x-s0", returns=returns, success=success)
    assert [row[4:8] for row in rows([run])] == [
        ["return", "sum of 11", "1", "16.500"],
        ["success", "mean of 11", "1", "0.50"],
        ["success at the end", "mean of 11", "1", "0.25"],
    ]
    older = make_run("x-s1", seed=1, returns=returns)
    assert [row[4:7] for row in rows([run, older])] == [["return", "sum of 11", "2"]]


def test_unlike_evaluations_are_not_averaged(make_run, evaluation):
    runs = [make_run(f"x-s{seed}", seed=seed, returns=[[1.0], [3.0]]) for seed in (0, 1)]
    runs[0].write_evaluation("test-sampled", evaluation([[5.0], [5.0]], explore=True))
    runs[1].write_evaluation("test-2x1-seed4", evaluation([[7.0], [7.0]], seed=4))
    runs[1].write_evaluation("early", evaluation([[0.0], [0.0]], env_steps=8))
    found = {(row[2], row[3], row[6], row[7]) for row in rows(runs)}
    assert found == {
        ("mode", "12,000", "2", "2.0 (2.0 to 2.0)"),
        ("sampled", "12,000", "1", "5.0"),
        ("mode", "12,000", "1", "7.0"),
        ("mode", "8", "1", "0.0"),
    }


def test_seeds_trained_for_almost_as_many_steps_are_averaged(make_run, evaluation):
    """Episodes that end early leave an update a few steps short."""
    runs = [make_run(f"x-s{seed}", seed=seed, returns=[[1.0], [3.0]]) for seed in (0, 1, 2)]
    runs[1].write_evaluation("test", evaluation([[7.0], [7.0]], env_steps=11_900))
    runs[2].write_evaluation("test", evaluation([[7.0], [7.0]], env_steps=11_000))
    found = [(row[3], row[6], row[9]) for row in rows(runs)]
    assert found == [("11,950", "2", "2.0, 7.0"), ("11,000", "1", "7.0")]
