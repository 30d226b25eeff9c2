"""Tables of scores, by their text."""

import numpy as np
import pytest
from rich.console import Console

from trmrl.references import Score
from trmrl.tables import evaluation_table, reference_lines, without_memory_lines
from trmrl.types import Evaluation, replace


@pytest.mark.parametrize("has_success", [False, True])
def test_evaluations_stand_side_by_side_with_success_where_it_is_marked(has_success):
    row = lambda *numbers: dict(zip(("mean", "ci95_low", "ci95_high"), numbers, strict=True))
    success = {
        "success": [[0.0, 1.0]], "success_at_end": [[0.0, 0.0]],
        "success_per_episode": row([0.0, 0.75], [0.0, 0.5], [0.0, 1.0]),
        "success_at_end_per_episode": row([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
    }  # fmt: skip
    evaluation = Evaluation(
        env="world", agent="rl2", split="ood", num_tasks=1, num_episodes=2, env_steps=8,
        return_per_episode=row([1.0, 4.0], [0.5, 3.0], [1.5, 5.0]), returns=[[1.0, 4.0]],
        **(success if has_success else {}),
    )  # fmt: skip
    console = Console(width=200)
    with console.capture() as shown:
        console.print(evaluation_table([evaluation, replace(evaluation, explore=True)]))
    title, _, header, _, *rows, _ = shown.get().splitlines()
    assert title.strip() == "mean return of rl2 on 1 ood tasks of world"
    cells = lambda line: [cell.strip() for cell in line.strip("┃│ ").replace("┃", "│").split("│")]
    mark = lambda text: [text] if has_success else []
    ways = [*mark("success")], [*mark("0.00")], [*mark("0.75")]
    assert cells(header) == [
        "episode", "deterministic", "95 % interval", *ways[0], "sampled", "95 % interval", *ways[0]
    ]  # fmt: skip
    one = ["1.00", "0.50 to 1.50", *ways[1]]
    two = ["4.00", "3.00 to 5.00", *ways[2]]
    assert [cells(row) for row in rows[:2]] == [["1", *one, *one], ["2", *two, *two]]
    assert [cell for cell in cells(rows[2]) if cell] == ["sum", "5.00", "5.00"]


def test_strategies_by_line():
    scores = [
        Score("exact", np.array([2.5]), published=2.0),
        Score("guess", np.array([1.0, 1.0]), "width 3", distinct=np.array([0, 0])),
    ]
    title, empty, header, *rows = reference_lines("bandit", 2, scores)
    assert title == "bandit: total reward of a trial, mean over 2 (1 distinct) test tasks"
    assert empty == ""
    assert header.split() == "strategy mean 95 % interval published tuned".split()
    assert [row.split() for row in rows] == [
        "exact 2.500 exact 2".split(),
        "guess 1.000 1.000 to 1.000 width 3".split(),
    ]


def test_what_needs_no_memory_states_success_where_it_is_marked():
    score = Score("stand", np.array([1.0, 3.0]), distinct=np.array([0, 0]))
    assert without_memory_lines([score, replace(score, success=0.25)]) == [
        "without memory, stand: 2 a trial, mean over 2 (1 distinct) test tasks",
        "without memory, stand: 2 a trial, success 0.25, mean over 2 (1 distinct) test tasks",
    ]
    exact = Score("stand", np.array([2.0]))
    assert without_memory_lines([exact]) == ["without memory, stand: 2 a trial, exact"]
    assert without_memory_lines([]) == []
