"""The page of a report: all in one file, on its own, and right in a real browser."""

import csv
import re
import shutil
import subprocess

import numpy as np
import pytest

from trmrl.report.experiments import Episodes
from trmrl.report.page import write_page
from trmrl.types import STEP_NUMBERS, TrmrlError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
TASKS = [{"velocity": 2.0, "goal": [0.0, 1.0]}, {"velocity": 1.0, "goal": [1.0, 0.0]}]


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def runs(make_run, evaluation):
    """Two experiments of two seeds each, told apart by one setting."""
    made = []
    for name, clip, shift in (("good", 0.1, 10.0), ("bad<b>", 0.2, 0.0)):
        for seed in range(2):
            run = make_run(
                f"{name}-s{seed}", [(8, 1.0, [1.0, 2.0]), (16, 2.0, [3.0, 4.0])], seed=seed,
                agent={"clip": clip},
            )  # fmt: skip
            for split in ("test", "ood"):
                returns = [[0.0, shift + seed], [0.0, shift + 4.0]]
                steps = dict.fromkeys(STEP_NUMBERS, [0.0, 1.0, 1.0, 1.0])
                record = evaluation(returns, tasks=TASKS, split=split, reward_per_step=steps)
                run.write_evaluation(split, record)
            made.append(run)
    return made


@pytest.fixture
def page(runs, tmp_path):
    return write_page(runs, tmp_path / "report.html")


def test_it_says_what_was_run_and_by_what(page):
    text = page.read_text()
    assert "<td>agent.clip</td>" in text
    assert re.search(r'<td class="number">0.1</td><td class="number">0.2</td>', text)
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text) and "Python 3" in text


def test_every_figure_and_table_is_there(page):
    text = page.read_text()
    names = ["env-steps", "seconds", "steps", "task-velocity", "task-angle-of-goal", "profile"]
    assert re.findall(r'<figure id="([^"]+)"', text) == names
    headings = re.findall(r"<h2>([^<]+)</h2>", text)
    assert headings == [
        "What was run", "Figures", "Scores over seeds", "Which is better", "At equal cost",
        "Every evaluation",
    ]  # fmt: skip
    assert '<td class="number">1.00 (1.00 to 1.00)</td>' in text  # good above bad, every pair


def test_it_needs_nothing_from_anywhere_and_shows_names_as_they_are(page):
    text = page.read_text()
    assert "bad&lt;b&gt;" in text and "bad<b>" not in text
    links = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', text)
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "<script" not in text


def test_figures_stand_beside_it_as_png_and_csv(page):
    folder = page.with_name("report-figures")
    names = {file.name for file in folder.iterdir()}
    assert {"steps.png", "steps.csv", "task-velocity.png", "profile.csv"} <= names
    assert (folder / "steps.png").read_bytes().startswith(b"\x89PNG")
    rows = read(folder / "task-velocity.csv")
    good = [row for row in rows if row["line"] == "good, test"]
    points = [
        (float(row["velocity of the task"]), float(row["return of the last episode"]))
        for row in good
    ]
    assert points == [(1.0, 14.0), (2.0, 10.5)]  # by velocity; the mean over both seeds
    rows = read(folder / "task-angle-of-goal.csv")
    assert [float(row["angle of goal of the task"]) for row in rows[:2]] == [
        0.0, pytest.approx(np.pi / 2)
    ]  # fmt: skip


def test_the_profile_is_the_share_above_each_return(page):
    """Of good: 10, 11, 14 and 14; at the least return of all, 0, every one is above."""
    path = page.with_name("report-figures") / "profile.csv"
    rows = [row for row in read(path) if row["line"] == "good"]
    x = np.asarray([float(row["return of the last episode"]) for row in rows])
    y = np.asarray([float(row["share of test tasks and seeds above"]) for row in rows])
    assert (x[0], y[0], x[-1], y[-1]) == (0.0, 1.0, 14.0, 0.0)
    np.testing.assert_array_equal(y[(x > 10.2) & (x < 10.9)], 0.75)
    np.testing.assert_array_equal(y[(x > 11.2) & (x < 13.9)], 0.5)


def test_three_experiments_of_one_setting_make_a_grid(make_run, evaluation, tmp_path):
    runs = []
    for window, score in ((1, 1.0), (5, 2.0), (20, 3.0)):
        run = make_run(f"w{window}-s0", [(8, 1.0, [1.0])], window=window)
        run.write_evaluation("test", evaluation([[score]] * 4))
        runs.append(run)
    text = write_page(runs, tmp_path / "x.html", Episodes(1, 1)).read_text()
    grid = text[text.index("<th>window</th><th>interquartile mean</th>") :]
    cells = re.findall(r'<td class="number">([^<]+)</td>', grid)[:6]
    assert cells == ["1", "1.0", "5", "2.0", "20", "3.0"]


def test_nothing_to_report_is_said(make_run, tmp_path):
    with pytest.raises(TrmrlError, match="nothing to report: .*empty logged nothing"):
        write_page([make_run("empty")], tmp_path / "x.html")


def test_a_page_that_cannot_be_written_is_one_line(make_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrmrlError, match="cannot write .*x.html"):
        write_page([make_run("a-s0", [(8, 1.0, [1.0])])], tmp_path / "file" / "x.html")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_it_without_a_complaint(page, tmp_path):
    command = [
        CHROMIUM,
        *BROWSER,
        f"--user-data-dir={tmp_path / 'browser'}",
        "--enable-logging=stderr",
    ]
    screenshot = tmp_path / "page.png"
    shown = subprocess.run(
        [*command, "--window-size=1200,2400", f"--screenshot={screenshot}", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in shown.stderr
    dom = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    ).stdout
    assert dom.count("<svg") == 12 and "</html>" in dom
    from matplotlib import image

    pixels = image.imread(screenshot)[..., :3]
    assert pixels.shape[:2] == (2400, 1200)
    assert len(np.unique(pixels[::4, ::4].reshape(-1, 3), axis=0)) > 50  # lines, bands and dots
