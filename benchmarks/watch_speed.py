"""How many steps a second a watched world can take, the agent acting: against its steps alone.

    taskset -c 0 python benchmarks/watch_speed.py RUN [RUN]

Prints steps per second, and milliseconds of this process's own time a step, of the session alone,
of the session with its page (a client that reads every message and draws nothing stands for the
browser), and of the session with pictures for a video.
"""

import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Callable

import viser

from trmrl.watch.drawing import drawing_of, picture
from trmrl.watch.page import HOST, Page
from trmrl.watch.session import open_sessions

SECONDS = 5.0
READER = f"""
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], subprotocols=["viser-v{viser.__version__}"], max_size=None) as page:
    print(flush=True)
    for message in page:
        pass
"""


def measure(name: str, step: Callable[[], object]) -> None:
    step()  # compiles
    count, begun, spent = 0, time.perf_counter(), time.process_time()
    while (seconds := time.perf_counter() - begun) < SECONDS:
        step()
        count += 1
    own = 1000 * (time.process_time() - spent) / count
    print(f"{name:16}{count / seconds:8.0f} steps/s{own:8.2f} ms a step", flush=True)


def main() -> None:
    sessions = open_sessions(sys.argv[1:])
    drawings = [drawing_of(session.envs) for session in sessions]

    def step() -> None:
        for session in sessions:
            session.step()

    def draw() -> None:
        step()
        for session, drawing in zip(sessions, drawings, strict=True):
            picture(session, drawing, (480, 320))

    measure("session alone", step)
    measure("with pictures", draw)
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host=HOST, port=0, verbose=False)
    page = Page(server, sessions)
    address = f"ws://{HOST}:{server.get_port()}"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, address], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert reader.stdout is not None
    reader.stdout.readline()
    measure("with its page", page._step)
    reader.kill()
    server.stop()


if __name__ == "__main__":
    main()
