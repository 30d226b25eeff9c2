"""How long `trmrl watch` takes from the command to a page that is served.

    python benchmarks/watch_start.py [RUN] [TIMES]

Prints the seconds of wall clock, and of the process's own time, of a few starts in a row (of the
half-cheetah that comes with the library, three times) until the page has answered a request.
"""

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PROGRAM = "from trmrl.cli import main; main()"
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process so far, user and system (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main() -> None:
    run = sys.argv[1] if len(sys.argv) > 1 else "half-cheetah-vel"
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    for _ in range(times):
        begun = time.perf_counter()
        command = [sys.executable, "-c", PROGRAM, "watch", run, "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        found = re.match(rb"(http\S+) ", process.stdout.readline())
        if found is None:
            sys.exit(process.wait())
        with urllib.request.urlopen(found[1].decode()) as answer:
            answer.read()
        wall = time.perf_counter() - begun
        own = processor_seconds(process.pid)
        print(f"{wall:6.2f} s, {own:6.2f} s of its own", flush=True)
        process.kill()
        process.communicate()


if __name__ == "__main__":
    main()
