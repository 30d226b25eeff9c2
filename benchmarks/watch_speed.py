"""How many frames a second a watched world can have, the agent acting: against its own steps.

    taskset -c 0 python benchmarks/watch_speed.py RUN [RUN]

Prints steps per second of the session alone, of the session with its page (no browser is looking,
which costs the page's process nothing), and of the session with pictures for a video.
"""

import sys
import time
from collections.abc import Callable

import viser

from trmrl.watch.drawing import drawing_of, picture
from trmrl.watch.page import HOST, Page
from trmrl.watch.session import open_sessions

SECONDS = 5.0


def rate(step: Callable[[], object]) -> float:
    step()  # compiles
    count, begun = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < SECONDS:
        step()
        count += 1
    return count / seconds


def main() -> None:
    sessions = open_sessions(sys.argv[1:])
    drawings = [drawing_of(session.envs) for session in sessions]
    server = viser.ViserServer(host=HOST, port=0, verbose=False)
    page = Page(server, sessions)

    def step() -> None:
        for session in sessions:
            session.step()

    def draw() -> None:
        step()
        for session, drawing in zip(sessions, drawings, strict=True):
            picture(session, drawing, (480, 320))

    alone = rate(step)
    print(f"session alone     {alone:8.0f} steps/s")
    for name, shown in (("with its page", page._step), ("with pictures", draw)):
        found = rate(shown)
        print(f"{name:17} {found:8.0f} steps/s, {found / alone:.2f} of it")
    server.stop()


if __name__ == "__main__":
    main()
