"""A table tells every stored evaluation of the runs it is given, and nothing else."""

import pytest

from trmrl.report.table import table
from trmrl.run import Run
from trmrl.types import TrmrlError


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "mine-s3")
    run.create({})
    return run


def test_short_trials_show_every_episode(run, evaluation):
    run.write_evaluation("test", evaluation([[1.0, 2.0], [2.0, 1.0]]))
    run.write_evaluation("ood", evaluation([[1.0]], split="ood"))
    run.write_evaluation("test-sampled", evaluation([[1.0]], explore=True))
    assert table([run]).splitlines()[2:] == [
        "| mine-s3 | ood | mode | 1 | 12,000 | 1.5 (1.0 to 2.2) |",
        "| mine-s3 | test | sampled | 1 | 12,000 | 1.5 (1.0 to 2.2) |",
        "| mine-s3 | test | mode | 2 | 12,000 | 1.5 (1.0 to 2.2), then 1.5 (1.0 to 2.2) |",
    ]


def test_long_trials_show_their_sum(run, evaluation):
    """Sums 4 and 8: mean 6, standard error 2, and 1.96 of those either way."""
    run.write_evaluation("test", evaluation([[1.0] * 4, [2.0] * 4]))
    told = lambda: table([run]).splitlines()[-1].split(" | ")[-1]
    assert told() == "6.000 ± 3.920 a trial (1.50, 1.50, 1.50, 1.50) |"
    run.write_evaluation("test", evaluation([[1.0] * 4]))
    assert told() == "4.000 ± 0.000 a trial (1.50, 1.50, 1.50, 1.50) |"
    run.write_evaluation("test", evaluation([[1.0] * 11]))
    assert told() == "11.000 ± 0.000 a trial |"


def test_nothing_evaluated_is_said(run):
    with pytest.raises(TrmrlError, match="no evaluations in .*mine-s3"):
        table([run])


def test_a_damaged_evaluation_is_said(run, evaluation):
    path = run.write_evaluation("test", evaluation([[1.0]]))
    path.write_text(path.read_text()[:30])
    with pytest.raises(TrmrlError, match="mine-s3.*test.json is damaged"):
        table([run])
