"""How training is shown: bars on a terminal, plain lines at a measured pace elsewhere."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from trmrl.launch import Cell, Event
from trmrl.progress import show_sweep, show_training
from trmrl.recipes import recipe

RECORD = {"env_steps": 50, "env_steps_per_s": 1234.5, "return": [1.0, 2.0]}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def terminal():
    """A terminal of 100 columns."""
    return Console(file=io.StringIO(), force_terminal=True, width=100)


@pytest.fixture
def file():
    """What `nohup` and continuous integration write to."""
    return Console(file=io.StringIO(), force_terminal=False, width=80)


@pytest.fixture
def cells():
    config = recipe("bandit-n4-k2", "rl2", env_steps=100)
    return [Cell(config, Path(f"runs/x-seed{seed}")) for seed in (0, 1)]


def text(console):
    return console.file.getvalue()


def test_the_bar_shows_from_the_compiling_on(terminal):
    with show_training(terminal, 100) as (show, begin):
        assert text(terminal) == ""  # a run may yet be refused
        begin(20)
        assert "20 / 100 env steps" in text(terminal)
        assert "compiling the first update" in text(terminal)
        show(RECORD)
    assert "1,234 steps/s, return 1.0 2.0" in text(terminal)


def test_a_sweep_shows_a_bar_for_every_run_that_trains(terminal, cells):
    with show_sweep(terminal) as show:
        for cell in cells:
            show(Event(cell, "started"))
        show(Event(cells[0], "progressed"))
        show(Event(cells[0], "progressed", RECORD))
        show(Event(cells[1], "failed", complaint="no [room]"))
        show(Event(cells[0], "finished"))
    shown = text(terminal)
    assert "failed runs/x-seed1: no [room]\n" in shown
    for part in ("x-seed0", "x-seed1", "starting", "finished"):
        assert part in shown


def test_a_file_gets_a_line_every_ten_seconds_and_at_evaluations(file, clock):
    record = {"env_steps": 120_000, "env_steps_per_s": 5300.4, "return": [-120.31, -101.2]}
    with show_training(file, 3_000_000, clock) as (show, begin):
        assert text(file) == ""
        clock.now += 50.0
        begin(20_000)
        for seconds in (9.9, 0.1, 9.9):  # the second one is due
            clock.now += seconds
            show(record)
        show(record | {"env_steps": 140_000, "test_return": [-90.0, -80.0]})
        clock.now += 9.9
        show(record)
        clock.now += 0.1
        show(record | {"env_steps": 150_000, "return": [1.0, 2.0, 3.0, 4.5]})
    assert text(file).splitlines() == [
        "env steps 20,000 / 3,000,000, compiling the first update",
        "env steps 120,000 / 3,000,000, 5,300 steps/s, return -120.3 -101.2",
        "env steps 140,000 / 3,000,000, 5,300 steps/s, return -120.3 -101.2, "
        "on test tasks -90.0 -80.0",
        "env steps 150,000 / 3,000,000, 5,300 steps/s, return 10.5",
    ]


def test_nothing_to_train_prints_nothing(file, terminal):
    for console in (file, terminal):
        with show_training(console, 100), show_sweep(console):
            pass
        assert text(console) == ""


def test_a_file_gets_a_line_a_minute_from_every_run_of_a_sweep(file, clock, cells):
    with show_sweep(file, clock) as show:
        show(Event(cells[0], "started"))
        clock.now += 30.0
        show(Event(cells[1], "started"))
        for _ in range(120):
            clock.now += 1.0
            show(Event(cells[0], "progressed", RECORD))
            show(Event(cells[1], "progressed"))
        show(Event(cells[1], "failed", complaint="no [room]"))
        show(Event(cells[0], "finished"))
    line = "runs/x-seed0: env steps 50 / 100, 1,234 steps/s, return 1.0 2.0"
    assert text(file).splitlines() == [
        "started runs/x-seed0",
        "started runs/x-seed1",
        line,
        line,
        "failed runs/x-seed1: no [room]",
        "finished runs/x-seed0",
    ]
