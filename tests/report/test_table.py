"""A table shows every stored evaluation of the runs it is given, and nothing else."""

import pytest

from trmrl.report.table import table
from trmrl.run import Run
from trmrl.types import STEP_NUMBERS, TrmrlError


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "mine-s3")
    run.create({})
    return run


def test_short_trials_show_every_episode(run, evaluation):
    run.write_evaluation("test", evaluation([[1.0, 2.0], [2.0, 1.0]]))
    run.write_evaluation("ood", evaluation([[1.0]], split="ood"))
    run.write_evaluation("test-sampled", evaluation([[1.0]], explore=True))
    assert table([run]).markdown().splitlines()[2:] == [
        "| mine-s3 | ood | mode | 1 | 12,000 | 1.0 (1.0 to 1.0) |",
        "| mine-s3 | test | sampled | 1 | 12,000 | 1.0 (1.0 to 1.0) |",
        "| mine-s3 | test | mode | 2 | 12,000 | 1.5 (1.0 to 2.0), then 1.5 (1.0 to 2.0) |",
    ]


def test_equal_tasks_are_counted_once_and_drawn_together(run, evaluation):
    """Goal 0 three times, with mean return 2, and goal 1 once: one of the two, or both."""
    tasks = [{"goal": [0.0, 1.0]}, {"goal": [1.0, 0.0]}, {"goal": [0.0, 1.0]}, {"goal": [0.0, 1.0]}]
    few, many = [[1.0], [10.0], [2.0], [3.0]], [[1.0] * 4, [10.0] * 4, [2.0] * 4, [3.0] * 4]
    success = [[0.0], [1.0], [0.0], [0.0]]
    run.write_evaluation("test", evaluation(few, tasks=tasks, success=success))
    run.write_evaluation("test-4", evaluation(many, tasks=tasks))
    long, short = (line[2:-2].split(" | ") for line in table([run]).markdown().splitlines()[2:])
    assert short[3] == long[3] == "4 (2 distinct)"
    assert short[5:7] == ["4.0 (2.0 to 10.0)", "0.25 (0.00 to 1.00)"]
    assert long[5].startswith("16.000 (8.000 to 40.000) a trial")


def test_long_trials_show_their_sum(run, evaluation):
    """Sums 4 and 8: mean 6; a resample repeats either with a chance of 1/4."""
    run.write_evaluation("test", evaluation([[1.0] * 4, [2.0] * 4]))
    shown = lambda: table([run]).markdown().splitlines()[-1].split(" | ")[-1]
    assert shown() == "6.000 (4.000 to 8.000) a trial (1.50, 1.50, 1.50, 1.50) |"
    run.write_evaluation("test", evaluation([[1.0] * 4]))
    assert shown() == "4.000 a trial (1.00, 1.00, 1.00, 1.00) |"
    run.write_evaluation("test", evaluation([[1.0] * 11]))
    assert shown() == "11.000 a trial |"


def test_success_has_columns_where_any_evaluation_has_it(run, evaluation):
    run.write_evaluation("test", evaluation([[1.0, 2.0]] * 2, success=[[0.0, 1.0]] * 2))
    run.write_evaluation("test-4", evaluation([[1.0] * 4] * 2, success=[[0.0] * 4, [1.0] * 4]))
    run.write_evaluation("test-11", evaluation([[1.0] * 11] * 2, success=[[0.5] * 11] * 2))
    run.write_evaluation("test-old", evaluation([[1.0]]))
    header, _, *rows = [line[2:-2].split(" | ") for line in table([run]).markdown().splitlines()]
    assert header[-3:] == ["return", "success", "success at the end"]
    many, few, old, two = (row[-2:] for row in rows)
    assert two == [
        "0.00 (0.00 to 0.00), then 1.00 (1.00 to 1.00)",
        "0.00 (0.00 to 0.00), then 0.50 (0.50 to 0.50)",
    ]
    assert few == [
        "0.50 (0.00 to 1.00) an episode (0.50, 0.50, 0.50, 0.50)",
        "0.25 (0.00 to 0.50) an episode (0.25, 0.25, 0.25, 0.25)",
    ]
    assert many == ["0.50 (0.50 to 0.50) an episode", "0.25 (0.25 to 0.25) an episode"]
    assert old == ["", ""]


def test_steps_to_the_plateau_have_a_column_where_rewards_by_step_were_kept(run, evaluation):
    steps = lambda *mean: dict.fromkeys(STEP_NUMBERS, list(mean)) | {"running": [1.0] * len(mean)}
    late = evaluation([[1.0, 2.0]], reward_per_step=steps(0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0))
    run.write_evaluation("a", late)
    run.write_evaluation("b", evaluation([[1.0]], reward_per_step=steps(0.0, 0.0, 0.0, 1.0)))
    run.write_evaluation("c", evaluation([[1.0]]))
    never = evaluation([[1.0, 2.0]], reward_per_step=steps(0.0, 0.0, 1.0, 1.0))
    run.write_evaluation("d", never)
    header, _, *rows = [line[2:-2].split(" | ") for line in table([run]).markdown().splitlines()]
    assert header[-1] == "steps to the plateau"
    assert [row[-1] for row in rows] == [
        "2 (last episode 1)", "3", "", "never (last episode 0)"
    ]  # fmt: skip


def test_nothing_evaluated_is_said(run):
    with pytest.raises(TrmrlError, match="no evaluations in .*mine-s3"):
        table([run])


def test_a_damaged_evaluation_is_refused_in_one_line(run, evaluation):
    path = run.write_evaluation("test", evaluation([[1.0]]))
    whole = path.read_text()
    path.write_text(whole[:30])
    with pytest.raises(TrmrlError, match="mine-s3.*test.json is damaged"):
        table([run])
    path.write_text(whole.replace("12000", '"many"'))
    with pytest.raises(TrmrlError, match="test.json is damaged: the field 'env_steps' is 'many'"):
        table([run])
