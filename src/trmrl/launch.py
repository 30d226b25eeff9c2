"""One experiment from training to its curve, and many at once by Ray, a process and a core each.

Which run a process trains next, what it may use, and what becomes of the others when one fails or
the user interrupts. Ray listens on the loopback device alone, without a dashboard, and reports no
usage. How progress is shown is the caller's, who passes `show`.
"""

import contextlib
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trmrl import config as configs
from trmrl.config import Config
from trmrl.envs import make
from trmrl.evaluate import Evaluation
from trmrl.report.curve import draw
from trmrl.run import Run
from trmrl.train import conclude, train
from trmrl.types import EnvSpec, TrmrlError, base_name

CURVE = "curve.png"  # the picture of a run, in its folder
LOOPBACK = "127.0.0.1"
REFRESH_SECONDS = 1.0
STOP_SECONDS = 120.0  # within which interrupted runs finish their trial and save
STORE_BYTES = 80_000_000  # of shared memory; nothing large travels between processes


@dataclass(frozen=True)
class Cell:
    """A run to be: its experiment, and its folder."""

    config: Config
    path: Path


@dataclass(frozen=True)
class Event:
    """What happened to a cell; `record` is its newest metrics, `complaint` why it failed."""

    cell: Cell
    kind: Literal["started", "progressed", "finished", "failed"]
    record: dict[str, Any] | None = None
    complaint: str = ""


def run_experiment(
    config: Config,
    path: str | Path,
    *,
    show: Callable[[dict[str, Any]], None] = lambda record: None,
    begin: Callable[[int], None] = lambda env_steps: None,
) -> tuple[Run, list[Evaluation]]:
    """Train in the run folder `path`, evaluate on every held-out split, and draw `curve.png`.

    Returns the run and its evaluations, which are stored there too. Goes on where a run stopped;
    of a finished one, the evaluations and the picture are made again. `show` and `begin` are
    called as by `train`. Raises what `train` raises.
    """
    run = train(config, path, show, begin)
    evaluations = conclude(run, trust=True)  # the caller's own config, as `train` has checked
    draw([run], run.path / CURVE, specs=specs_of([run], trust=True))
    return run, evaluations


def specs_of(runs: Sequence[Run], *, trust: bool = False) -> dict[str, EnvSpec]:
    """Return what is known of the worlds that runs were trained on, by `base_name`.

    Nothing of a world that this machine cannot make, or of foreign code that nobody vouches for.
    """
    found: dict[str, EnvSpec] = {}
    for run in runs:
        with contextlib.suppress(TrmrlError):
            name = base_name(str(run.trusted_config(trust).get("env", "")))
            found[name] = found[name] if name in found else make(name).spec
    return found


def core_numbers() -> list[int]:
    """Return the numbers of the cores this process may use, in order."""
    return sorted(os.sched_getaffinity(0))


def sweep(
    cells: Sequence[Cell], show: Callable[[Event], None], *, jobs: int | None = None
) -> list[Event]:
    """Train and evaluate every cell, `jobs` at a time (default: one per usable core).

    A cell that fails does not stop the others; returns the failures. An interrupt lets the running
    cells save and is raised again: sweeping the same cells goes on. For the main thread only.
    Raises `TrmrlError` where Ray is not installed.
    """
    num_slots = jobs or len(core_numbers())
    ray = _start_ray(num_slots)
    terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)  # saves, as Ctrl-C does
    try:
        return _run_all(ray, cells, show, num_slots)
    finally:
        signal.signal(signal.SIGTERM, terminate)
        ray.shutdown()


def _run_all(
    ray: Any, cells: Sequence[Cell], show: Callable[[Event], None], num_slots: int
) -> list[Event]:
    """Keep every slot at work until all cells ended; slots share the cores in turn."""
    worker = ray.remote(num_cpus=1, max_calls=1, max_retries=0)(_run_cell)
    worker = worker.options(runtime_env={"env_vars": _environment()})
    folder = os.getcwd()
    cores, waiting, failures = core_numbers(), deque(cells), []
    running: dict[Any, tuple[Cell, int]] = {}
    try:
        while waiting or running:
            taken = {slot for _, slot in running.values()}
            for slot in [slot for slot in range(num_slots) if slot not in taken][: len(waiting)]:
                cell, core = waiting.popleft(), cores[slot % len(cores)]
                path = str(cell.path.absolute())
                reference = worker.remote(configs.to_json(cell.config), path, core, folder)
                running[reference] = cell, slot
                show(Event(cell, "started"))
            for reference in ray.wait(list(running), timeout=REFRESH_SECONDS)[0]:
                event = _ended(ray, reference, running.pop(reference)[0])
                failures += [event] * (event.kind == "failed")
                show(event)
            for cell, _ in running.values():
                show(Event(cell, "progressed", Run(cell.path).latest()))
    except KeyboardInterrupt:
        _interrupt(ray, list(running))
        raise
    return failures


def _start_ray(num_slots: int) -> Any:
    """Return Ray, running on this machine alone."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # what makes it stay on the loopback
    os.environ.setdefault("RAY_worker_niceness", "0")  # runs are as important as their sweep
    try:
        import ray
    except ModuleNotFoundError as error:
        raise TrmrlError("sweep needs Ray: pip install 'trmrl[sweep]'") from error
    ray.init(
        address="local",
        num_cpus=num_slots,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    where = ray.util.get_node_ip_address()
    if where != LOOPBACK:
        ray.shutdown()
        raise TrmrlError(f"Ray listens on {where}, expected {LOOPBACK}: was it imported before?")
    return ray


def _environment() -> dict[str, str]:
    """Return what a worker's environment must say before it imports JAX: one thread, no GPU."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return one | {
        "XLA_FLAGS": flags.strip(),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
    }


def _run_cell(config: dict[str, Any], path: str, core: int, folder: str) -> str:
    """Run one experiment in a worker; returns what the user can mend, or nothing.

    `folder` is the one the user works in, from which a world of their own is imported.
    """
    os.sched_setaffinity(0, {core})  # thread pools made from here on have one thread
    os.chdir(folder)
    try:
        run_experiment(configs.from_json(config), path)
    except TrmrlError as error:
        return str(error)
    return ""


def _interrupt(ray: Any, references: list[Any]) -> None:
    """Let running cells save and stop, as Ctrl-C would each of them."""
    for reference in references:
        ray.cancel(reference)
    if references:
        ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)


def _ended(ray: Any, reference: Any, cell: Cell) -> Event:
    """Return how a cell ended, whatever became of its process."""
    try:
        complaint = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        complaint = f"{type(error.cause).__name__}: {error.cause}"
    except ray.exceptions.RayError as error:
        complaint = f"its process died: {str(error).splitlines()[0]}"
    complaint = " ".join(complaint.split())
    return Event(cell, "failed" if complaint else "finished", complaint=complaint)
