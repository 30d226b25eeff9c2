"""The page in a real browser: the robot moves, its hidden task changes, and Ctrl-C ends it."""

import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec

import pytest

from trmrl.pretrained import shipped_agents
from trmrl.types import TrmrlError
from trmrl.watch.page import HOST, _guarded, is_own_page, serve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER = (
    "--headless --no-sandbox --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-angle=swiftshader "
    "--enable-unsafe-swiftshader --remote-debugging-port=0 --window-size=1100,800"
).split()
PATIENCE = 60.0  # seconds for what takes one on a machine with nothing else to do


class Browser:
    """Chromium, driven by its DevTools protocol."""

    def __init__(self, folder, url):
        from websockets.sync.client import connect

        command = [CHROMIUM, *BROWSER, f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        port_file = folder / "DevToolsActivePort"
        wait_until(lambda: port_file.exists() and port_file.read_text())
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        self._socket = connect(pages[0]["webSocketDebuggerUrl"], max_size=None)
        self._numbers, self.complaints = itertools.count(1), []
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)

    def call(self, method, **params):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := json.loads(self._socket.recv(timeout=PATIENCE))).get("id") != number:
            self._listen(message)
        return message["result"]

    def _listen(self, message):
        params = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        if message["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(params["args"])
        if message["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"])

    def run(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def text(self):
        return self.run("document.body.innerText") or ""

    def click(self, label):
        self.run(
            "[...document.querySelectorAll('button')]"
            f".find(b => b.innerText.trim() == {label!r}).click()"
        )

    def close(self):
        self._socket.close()
        self._process.kill()
        self._process.wait()


def wait_until(condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} seconds")


class Watch:
    """`trmrl watch`, in a process of its own."""

    def __init__(self, *runs):
        program = "from trmrl.cli import main; main()"
        command = [sys.executable, "-c", program, "watch", *map(str, runs), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        found = re.match(rb"(http://127\.0\.0\.1:\d+) ", self.process.stdout.readline())
        self.url = found and found[1].decode()

    def interrupt(self):
        """Press Ctrl-C; returns the exit code and what was still printed."""
        self.process.send_signal(signal.SIGINT)
        printed, complaints = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, printed, complaints

    def close(self):
        self.process.kill()
        self.process.communicate()


SCENE = {"x": 330, "y": 100, "width": 400, "height": 500, "scale": 1}  # beside panel and notices


class Visitor(Browser):
    """A browser on the page of `trmrl watch`."""

    def line(self, start):
        """What follows `start` in the first caption that has it; None if none does."""
        found = re.search(rf"^{start} (.*)$", self.text(), flags=re.MULTILINE)
        return found and found[1]

    def steps(self):
        """Where it is: (episode, step)."""
        found = re.search(r"episode (\d+) of \d+, step (\d+) of", self.text())
        return found and tuple(map(int, found.groups()))

    def scene(self):
        return self.call("Page.captureScreenshot", clip=SCENE)["data"]

    def tick(self, label):
        self.run(
            "[...document.querySelectorAll('label')]"
            f".find(one => one.innerText.trim() == {label!r}).click()"
        )

    def enter(self, number, text):
        """Type into the number beside a slider, counted from the top."""
        self.run(
            "(() => { const all = document.querySelectorAll('input[inputmode=decimal]');"
            f"all[{number}].focus(); all[{number}].select(); }})()"
        )
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13)


@pytest.fixture
def visit(tmp_path):
    """`visit(*runs)`: a page with these runs and a browser on it, both ended with the test."""
    ended = []

    def begin(*runs):
        watch = Watch(*runs)
        ended.append(watch.close)
        if watch.url is None:
            raise AssertionError(watch.process.communicate()[1].decode())
        browser = Visitor(tmp_path / "browser", watch.url)
        ended.append(browser.close)
        wait_until(browser.steps)
        return watch, browser

    yield begin
    for end in reversed(ended):
        end()


in_a_browser = pytest.mark.skipif(
    CHROMIUM is None or find_spec("viser") is None, reason="needs Chromium and viser"
)
VELOCITY = 1  # the second slider, behind the steps per second


@in_a_browser
def test_it_is_watched_paused_stepped_changed_and_ended(visit, save_run):
    watch, browser = visit(save_run("half-cheetah-vel", name="cheetah"))
    assert "cheetah" in browser.text()
    moving = browser.scene()
    wait_until(lambda: browser.scene() != moving)
    browser.click("Pause")
    wait_until(lambda: "Go on" in browser.text())
    time.sleep(0.5)
    episode, step = browser.steps()
    still = wait_until(lambda: (one := browser.scene()) == browser.scene() and one)
    assert browser.steps() == (episode, step)
    browser.click("Step")
    wait_until(lambda: browser.steps() == ((episode, step + 1) if step < 200 else (episode + 1, 1)))
    wait_until(lambda: browser.scene() != still)
    browser.enter(VELOCITY, "1.25")
    wait_until(lambda: browser.line("task: velocity") == "1.25")
    browser.click("Draw another task")
    wait_until(lambda: browser.line("task: velocity") != "1.25")
    browser.click("New trial")
    wait_until(lambda: browser.steps() == (1, 0))
    browser.click("Go on")
    wait_until(lambda: browser.steps() > (1, 0))
    assert browser.complaints == []
    assert watch.interrupt() == (0, b"\n", b"")


@in_a_browser
def test_two_agents_stand_side_by_side_in_a_world_that_is_a_picture(visit, save_run):
    watch, browser = visit(save_run("grid-navi", name="one"), save_run("grid-navi", "gru", "two"))
    captions = browser.text()
    assert captions.index("one") < captions.index("two")
    assert len(re.findall("task: start 0 0, goal", captions)) == 2
    moving = browser.scene()
    wait_until(lambda: browser.scene() != moving)
    assert "nearest tasks" not in browser.text()
    browser.tick("what two remembers")
    wait_until(lambda: re.search(r"nearest tasks: goal \d \d; goal \d \d; goal", browser.text()))
    browser.tick("what two remembers")
    wait_until(lambda: "nearest tasks" not in browser.text())
    assert browser.complaints == []
    assert watch.interrupt()[0] == 0


@in_a_browser
@pytest.mark.skipif(
    "half-cheetah-vel" not in shipped_agents(), reason="needs the trained half-cheetah-vel"
)
def test_a_trained_agent_follows_the_target_within_two_seconds(visit):
    """Of the world's time: 40 steps."""
    watch, browser = visit("half-cheetah-vel")
    for target, begins_anew in (("0.5", True), ("2.5", False)):
        # Long before the end of an episode, where the robot is put at rest.
        wait_until(lambda: (browser.steps() or (0, 200))[1] <= 80)
        browser.enter(VELOCITY, target)
        wait_until(lambda target=target: browser.line("task: velocity") == target)
        if begins_anew:
            browser.click("New trial")
        begun = wait_until(browser.steps)
        wait_until(lambda begun=begun: _passed(begun, browser.steps()) >= 40)
        speeds = [float(browser.line("speed along x")) for _ in range(20) if not time.sleep(0.05)]
        assert sum(speeds) / len(speeds) == pytest.approx(float(target), abs=0.3)
    assert browser.complaints == []
    assert watch.interrupt()[0] == 0


def _passed(begun, now):
    return (now[0] - begun[0]) % 2 * 200 + now[1] - begun[1]


@pytest.fixture(scope="module")
def guarded():
    """The host and port of a guarded server of viser's."""
    viser = pytest.importorskip("viser", reason="needs viser")
    with _guarded():
        server = viser.ViserServer(host=HOST, port=0, verbose=False)
    yield f"{HOST}:{server.get_port()}"
    server.stop()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (None, "http://elsewhere.example"),
        (None, f"http://{HOST}:1"),
        (None, "null"),
        ("elsewhere.example", "http://elsewhere.example"),
        ("elsewhere.example", None),
    ],
)
def test_websockets_of_other_pages_are_refused(guarded, host, origin):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    path = socket.create_connection(guarded.split(":"))
    with path, pytest.raises(InvalidStatus, match="HTTP 403"):
        connect(f"ws://{host or guarded}", origin=origin, sock=path)


@pytest.mark.parametrize("origin", [None, "http://"])
def test_its_own_page_and_programs_may_open_a_websocket(guarded, origin):
    from viser import __version__ as version
    from websockets.sync.client import connect

    given = {"subprotocols": [f"viser-v{version}"], "origin": origin and origin + guarded}
    with connect(f"ws://{guarded}", max_size=None, **given) as page:
        assert page.recv(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("hosts", "origins", "is_own"),
    [
        (["127.0.0.1:8080"], ["http://127.0.0.1:8080"], True),
        (["localhost:9000"], ["http://localhost:9000"], True),  # a forwarded port
        (["localhost"], [], True),
        (["127.0.0.1:8080"], ["http://localhost:8080"], False),
        (["127.0.0.1:8080"], ["http://127.0.0.1:8080", "http://elsewhere.example"], False),
        (["127.0.0.1.elsewhere.example:8080"], [], False),
        (["127x0.0.1:8080"], [], False),
        (["127.0.0.1:8080", "elsewhere.example"], [], False),
        ([], [], False),
    ],
)
def test_requests_are_of_its_own_page_alone(hosts, origins, is_own):
    assert is_own_page(hosts, origins) is is_own


def test_a_server_that_cannot_be_guarded_is_refused(save_run, monkeypatch):
    viser = pytest.importorskip("viser", reason="needs viser")
    monkeypatch.setattr(viser.ViserServer, "__init__", lambda self, **options: None)
    with pytest.raises(TrmrlError, match="cannot be kept from answering to other pages"):
        serve([], 0)


def test_a_port_in_use_is_one_line(save_run):
    pytest.importorskip("viser", reason="needs viser")
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TrmrlError, match=f"port {port} is in use: choose another"):
            serve([], port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_one_line(port):
    pytest.importorskip("viser", reason="needs viser")
    with pytest.raises(TrmrlError, match=f"port {port} cannot be used"):
        serve([], port)


def test_without_viser_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(TrmrlError, match=r"a page needs viser: pip install 'trmrl\[watch\]'"):
        serve([], 0)
