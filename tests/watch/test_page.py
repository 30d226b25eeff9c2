"""The page in a real browser: the robot moves, its hidden task changes, and Ctrl-C ends it."""

import itertools
import json
import shutil
import subprocess
import time
import urllib.request

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
        self._process.terminate()
        self._process.wait(PATIENCE)


def wait_until(condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} seconds")
