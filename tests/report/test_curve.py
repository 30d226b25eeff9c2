"""Learning curves are drawn from run folders alone."""

import numpy as np
import pytest

from trmrl.report.curve import draw
from trmrl.report.experiments import Episodes
from trmrl.report.panels import on_one_grid
from trmrl.types import STEP_NUMBERS, Discrete, EnvSpec, TrmrlError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def axes_of(monkeypatch):
    """The panels of every figure that `draw` makes, kept after it is closed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kept, subplots = [], plt.subplots

    def remember(*args, **kwargs):
        figure, panels = subplots(*args, **kwargs)
        kept.append(list(panels.flat))
        return figure, panels

    monkeypatch.setattr(plt, "subplots", remember)
    yield kept
    assert plt.get_fignums() == []  # whatever happened, nothing stays open


def line(plotted):
    return plotted.get_xdata().tolist(), plotted.get_ydata().tolist()


def test_curves_stand_over_steps_and_over_seconds(make_run, axes_of, tmp_path):
    runs = [
        make_run("a-s0", [(8, 1.0, [1.0, 2.0]), (16, 2.0, None), (24, 5.0, [3.0, 4.0])]),
        make_run("a-s1", [(8, 2.0, [2.0, 3.0]), (24, 4.0, [6.0, 7.0])], seed=1),
        make_run("b-s0", [(8, 9.0, None)], clip=1),
        make_run("empty"),
    ]
    path = draw(runs, tmp_path / "x.png")
    assert path.read_bytes().startswith(PNG)
    ((steps, clock),) = axes_of
    first, _, first_dots, second_dots, mean, other, *_ = steps.lines
    assert line(first) == ([8, 16, 24], [2.0, 2.0, 2.0])  # it had [1, 3] every time
    assert line(first_dots) == ([8, 24], [1.5, 3.5])
    assert line(second_dots) == ([8, 24], [2.5, 6.5])
    assert line(mean) == ([8, 24], [2.0, 5.0])
    assert first.get_color() == mean.get_color() != other.get_color()
    (band,) = steps.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert corners == {(8, 1.5), (8, 2.5), (24, 3.5), (24, 6.5)}
    assert [text.get_text() for text in steps.get_legend().get_texts()] == ["a", "b"]
    # Over seconds both seeds are known from 2 to 4 s: 2, 2.5 and 3 of the first are interpolated.
    assert line(clock.lines[4]) == ([2, 4], [(2.0 + 2.5) / 2, (3.0 + 6.5) / 2])
    assert "wall-clock" in clock.get_xlabel()


def test_lines_are_of_the_episodes_that_are_compared(make_run, axes_of, tmp_path):
    """Of trials of two and three episodes, the second; the axis says so."""
    runs = [
        make_run("a-s0", [(8, None, [1.0, 2.0]), (16, None, [5.0, 6.0])]),
        make_run("b-s0", [(8, None, [1.0, 4.0, 9.0]), (16, None, [1.0, 5.0, 9.0])], clip=1),
    ]
    draw(runs, tmp_path / "x.png")
    draw(runs[1:], tmp_path / "x.png", Episodes(3, 3))
    ((both,), (third,)) = axes_of
    means = [plotted for plotted in both.lines if plotted.get_linestyle() == "-"]
    training, mean_a, _, mean_b, *_ = means
    assert line(training) == ([8, 16], [3.0, 3.0])  # its second in training
    assert (line(mean_a)[1], line(mean_b)[1]) == ([2.0, 6.0], [4.0, 5.0])
    assert both.get_ylabel() == "return per episode, episode 2"
    assert line(third.lines[2])[1] == [9.0, 9.0]
    assert third.get_ylabel() == "return per episode, episode 3"


def test_without_seconds_there_is_one_panel(make_run, axes_of, tmp_path):
    draw([make_run("old", [(8, None, [1.0])])], tmp_path / "x.png")
    ((steps,),) = axes_of
    assert steps.get_xlabel() == "env steps"


def test_adaptation_stands_over_what_the_task_had_cost(make_run, evaluation, axes_of, tmp_path):
    """Of two seeds; what was sampled, of another split or evaluated earlier does not count."""
    summary = lambda mean: {"mean": mean, "ci95_low": mean, "ci95_high": mean}
    runs = [make_run(f"a-s{seed}", [(8, 1.0, None)], seed=seed) for seed in range(2)]
    runs.append(make_run("b-s0", [(8, 1.0, None)], clip=1))
    for run, mean in zip(runs[:2], ([1.0, 5.0], [3.0, 9.0]), strict=True):
        returns = [mean, mean]
        fields = {"experience": [0.0, 200.0], "return_per_episode": summary(mean)}
        run.write_evaluation("test", evaluation(returns, **fields))
        wrong = fields | {"return_per_episode": summary([99.0, 99.0])}
        run.write_evaluation("early", evaluation(returns, **wrong, env_steps=1))
        run.write_evaluation("ood", evaluation(returns, **wrong, split="ood"))
        run.write_evaluation("sampled", evaluation(returns, **wrong, explore=True))
    runs[2].write_evaluation("test", evaluation([[1.0, 2.0]]))  # by an older program
    draw(runs, tmp_path / "x.png")
    ((steps, _, trial, *_),) = axes_of
    assert trial.get_ylim() == steps.get_ylim()
    (mean,) = trial.lines
    assert line(mean) == ([0.0, 200.0], [2.0, 7.0])
    assert "before the episode" in trial.get_xlabel()
    (band,) = trial.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert corners == {(0.0, 1.0), (0.0, 3.0), (200.0, 5.0), (200.0, 9.0)}


def test_rewards_by_step_have_a_panel_with_a_line_for_each_split(
    make_run, evaluation, axes_of, tmp_path
):
    runs = [make_run(f"a-s{seed}", [(8, 1.0, None)], seed=seed) for seed in range(2)]
    for run, reward in zip(runs, (1.0, 3.0), strict=True):
        for split, more in (("test", 0.0), ("ood", -5.0)):
            mean = [reward + more, reward + more + 1]
            steps = dict.fromkeys(STEP_NUMBERS, mean)
            record = evaluation([[3.0]], split=split, reward_per_step=steps)
            run.write_evaluation(split, record)
    draw(runs, tmp_path / "x.png")
    ((_, _, panel, *_),) = axes_of
    test, ood, *_ = panel.lines
    assert line(test) == ([0, 1], [2.0, 3.0])
    assert line(ood) == ([0, 1], [-3.0, -2.0])
    assert (test.get_linestyle(), ood.get_linestyle()) == ("-", "--")
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "test tasks",
        "ood tasks",
    ]
    assert panel.get_xlabel() == "steps since the trial began"


def test_the_bounds_of_the_world_stand_in_the_panel_of_steps(
    make_run, evaluation, axes_of, tmp_path
):
    """An episode of four steps is known to return 2 to 8: half to 2 a step, of test tasks."""
    spec = EnvSpec("somewhere", "test", 1, Discrete(2), 4, 2, floor=2.0, ceiling=8.0)
    runs = [make_run("a", [(8, 1.0, None)]), make_run("b", [(8, 1.0, None)], clip=1)]
    steps = dict.fromkeys(STEP_NUMBERS, [1.0] * 8)
    runs[0].write_evaluation("test", evaluation([[4.0, 4.0]], reward_per_step=steps))
    runs[1].write_evaluation("ood", evaluation([[4.0, 4.0]], split="ood", reward_per_step=steps))
    specs = {"somewhere": spec, "elsewhere": spec}
    draw(runs, tmp_path / "x.png", specs=specs)
    draw(runs[1:], tmp_path / "x.png", specs=specs)
    ((_, _, panel, *_), (_, _, ood, *_)) = axes_of
    _, _, floor, ceiling, *_ = panel.lines
    assert line(floor) == ([0, 7], [0.5, 0.5]) and line(ceiling) == ([0, 7], [2.0, 2.0])
    assert floor.get_color() == "gray" and floor.get_linestyle() == ":"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "a", "b", "test tasks", "ood tasks", "floor", "ceiling"
    ]  # fmt: skip
    assert [text.get_text() for text in ood.get_legend().get_texts()] == ["ood tasks"]


def test_bounds_of_several_worlds_are_named(make_run, evaluation, axes_of, tmp_path):
    spec = EnvSpec("x", "test", 1, Discrete(2), 2, 1, floor=2.0)
    runs = [make_run(env, [(8, 1.0, None)], env=env) for env in ("here", "there")]
    steps = dict.fromkeys(STEP_NUMBERS, [1.0, 1.0])
    for run in runs:
        run.write_evaluation("test", evaluation([[2.0]], reward_per_step=steps))
    draw(runs, tmp_path / "x.png", specs={"here": spec, "there": spec})
    ((_, _, panel, *_),) = axes_of
    names = [text.get_text() for text in panel.get_legend().get_texts()]
    assert names == ["here", "there", "test tasks", "floor of here", "floor of there"]


def test_success_has_a_panel_where_any_run_logged_it(make_run, axes_of, tmp_path):
    runs = [
        make_run("a-s0", [(8, 1.0, [9.0, 9.0], [0.0, 0.5]), (16, 2.0, [9.0, 9.0], [0.5, 1.0])]),
        make_run(
            "a-s1", [(8, 1.0, [9.0, 9.0], [0.5, 1.0]), (16, 2.0, [9.0, 9.0], [1.0, 1.0])], seed=1
        ),
        make_run("b-s0", [(8, 1.0, [9.0, 9.0])], clip=1),
    ]
    draw(runs, tmp_path / "x.png")
    ((steps, clock, success, *_),) = axes_of
    first_dots, second_dots, mean, *_ = success.lines
    assert line(first_dots) == ([8, 16], [0.25, 0.75])
    assert line(second_dots) == ([8, 16], [0.75, 1.0])
    assert line(mean) == ([8, 16], [0.5, 0.875])
    assert success.get_xlabel() == "env steps" and "success" in success.get_ylabel()
    assert success.get_ylim() == (-0.02, 1.02) != steps.get_ylim() == clock.get_ylim()


def test_curves_are_compared_at_the_costs_they_share():
    x, scores = on_one_grid(
        [
            (np.asarray([0.0, 10.0, 30.0]), np.asarray([0.0, 1.0, 2.0])),
            (np.asarray([5.0, 20.0]), np.asarray([4.0, 7.0])),
        ]
    )
    assert x.tolist() == [5.0, 10.0, 20.0]
    np.testing.assert_allclose(scores, [[0.5, 1.0, 1.5], [4.0, 5.0, 7.0]])


def test_curves_that_share_no_cost_have_no_mean(make_run, axes_of, tmp_path):
    runs = [make_run("a-s0", [(8, 1.0, [1.0])]), make_run("a-s1", [(16, 2.0, [2.0])], seed=1)]
    draw(runs, tmp_path / "x.png")
    ((steps, _),) = axes_of
    assert len(steps.lines) == 5 and not steps.collections


def test_nothing_to_draw_is_said(make_run, axes_of, tmp_path):
    with pytest.raises(TrmrlError, match="nothing to draw: .*empty logged nothing"):
        draw([make_run("empty")], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["nowhere/x.png", "x.nonsense"])
def test_a_picture_that_cannot_be_written_is_one_line(make_run, axes_of, tmp_path, name):
    with pytest.raises(TrmrlError, match=f"cannot write .*{name}"):
        draw([make_run("a", [(8, 1.0, None)])], tmp_path / name)
