"""The Run folder: config, metrics, checkpoints, evaluations; all that reports and viewers read.

    config.json        the experiment, and when, where and by which code it was begun; written once,
                       and signed if its world is foreign code
    metrics.jsonl      one line per update
    events.out.*       the same for TensorBoard
    checkpoint.npz     the newest TrainState, replaced atomically
    model.npz          of an exported agent, instead of all below it and the metrics: its model
    evaluations/       one JSON file per evaluation
    analysis/          what `trmrl analyze` found, by analysis: JSON, npz, PNG and CSV
    lock               held by the process that trains in the folder; empty

Read and written without pickle.
"""

import fcntl
import json
import os
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from trmrl.provenance import provenance
from trmrl.trust import check_trust, names_foreign_code, sign
from trmrl.types import Array, TrmrlError

CONFIG, METRICS, CHECKPOINT, MODEL, EVALUATIONS, LOCK = (
    "config.json",
    "metrics.jsonl",
    "checkpoint.npz",
    "model.npz",
    "evaluations",
    "lock",
)
EVENTS = "events"  # of TensorBoard, which adds when and where to the name
FLUSH_SECONDS = 10.0
MANY = 10  # entries of a list, beyond which TensorBoard gets their sum
TAIL = 1 << 16  # bytes at the end of the metrics in which the last line is looked for first
FORMAT = 2  # of the folder; raised when another version's folders can no longer be read
UNREADABLE = (  # what a file that is no archive of arrays, or half of one, makes its readers raise
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    MemoryError,
)


class Run:
    """A folder that holds one training run."""

    def __init__(self, path: str | Path) -> None:
        """Point at a folder; nothing is read or written yet."""
        self.path = Path(path)
        self._events: Any = None
        self._metrics: tuple[tuple[int, int], list[dict[str, Any]]] | None = None  # of which file

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Return the run in an existing folder; raises `TrmrlError` if there is none."""
        run = cls(path)
        if not run.exists():
            raise TrmrlError(f"{path} is not a run folder: it has no {CONFIG}")
        return run

    def exists(self) -> bool:
        """Return whether the folder holds a run."""
        with _disk_errors(self.path):
            return (self.path / CONFIG).is_file()

    def create(self, config: dict[str, Any]) -> None:
        """Make the folder and write the config; a folder with other things in it is refused."""
        with _disk_errors(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise TrmrlError(f"{self.path} is a file, expected a run folder or a new name")
            if self.path.is_dir() and any(self.path.iterdir()):
                raise TrmrlError(
                    f"{self.path} is not empty and not a run folder: choose another name"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            written = {"format": FORMAT, "version": version("trmrl"), "config": config}
            written["begun"] = provenance()
            if names_foreign_code(config):
                written["signature"] = sign(config)
            _replace(self.path / CONFIG, json.dumps(written, indent=2).encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder alone; raises `TrmrlError` if another process does.

        The operating system holds the lock and lets it go when the process ends, however it ends.
        """
        with _disk_errors(self.path):
            file = open(self.path / LOCK, "a")  # noqa: SIM115
        with file:
            with _disk_errors(self.path / LOCK):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise TrmrlError(f"{self.path} is in use: another process trains it") from None
            yield

    def config(self) -> dict[str, Any]:
        """Return the config as written; `TrmrlError` if it is damaged or from a newer version."""
        return self._read_config()["config"]

    def begun(self) -> dict[str, str]:
        """Return when, where and by which code the run was begun, by `provenance.py`'s names.

        Empty for runs of versions that did not keep it.
        """
        begun = self._read_config().get("begun")
        kept = begun.items() if isinstance(begun, dict) else ()
        return {name: value for name, value in kept if isinstance(value, str)}

    def trusted_config(self, trust: bool = False) -> dict[str, Any]:
        """Return the config for whoever then makes its worlds.

        Raises `TrmrlError` where those are foreign code, unless this user made the run or `trust`.
        """
        written = self._read_config()
        check_trust(written["config"], written.get("signature"), self.path, trust)
        return written["config"]

    def _read_config(self) -> dict[str, Any]:
        """Return the config as written, and what stands beside it."""
        path = self.path / CONFIG
        try:
            with _disk_errors(path):
                written = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise TrmrlError(f"{path} is damaged: {error}") from error
        found = written.get("format") if isinstance(written, dict) else None
        if not isinstance(found, int):
            raise TrmrlError(f"{path} is damaged: it states no format")
        if found != FORMAT:
            writer = written.get("version", "0.1.0")  # which wrote format 1, and no version
            raise TrmrlError(
                f"{path} has format {found}, this version reads {FORMAT}: "
                f"read it with trmrl {writer}, which wrote it, or train again in another folder"
            )
        if not isinstance(written.get("config"), dict):
            raise TrmrlError(f"{path} is damaged: it holds no config")
        return written

    def save(self, state: PyTree, name: str = CHECKPOINT) -> None:
        """Replace the checkpoint by `state`; a crash at any moment leaves the old one or this.

        `name`: the file of the folder that is replaced.
        """
        arrays = {name: _plain(leaf) for name, leaf in _named_leaves(state)}
        with _disk_errors(self.path):
            path = self.path / name
            partial = path.with_suffix(".partial")
            try:
                with open(partial, "wb") as file:
                    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)

    def has_checkpoint(self, name: str = CHECKPOINT) -> bool:
        """Return whether something was saved, as the file `name`."""
        with _disk_errors(self.path):
            return (self.path / name).exists()

    def restore(self, skeleton: PyTree, name: str = CHECKPOINT) -> PyTree:
        """Return the checkpoint, shaped like `skeleton` (whose array leaves may be abstract).

        Raises `TrmrlError` naming the first leaf that is missing or does not fit.
        """
        path = self.path / name
        if not self.has_checkpoint(name):
            raise TrmrlError(f"{self.path} has no checkpoint yet")
        wanted = dict(_named_leaves(skeleton))
        try:
            with zipfile.ZipFile(path) as archive:
                names = {name.removesuffix(".npy") for name in archive.namelist()}
                for name in sorted(set(wanted) ^ names):
                    where = "lacks" if name in wanted else "has an unknown"
                    raise TrmrlError(f"{path} does not fit its config: it {where} {name}")
                arrays = {name: _read_array(archive, name) for name in wanted}
        except UNREADABLE as error:
            raise TrmrlError(f"{path} is damaged or no checkpoint: {error}") from error
        leaves = [_fit(path, name, arrays[name], leaf) for name, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(skeleton), leaves)

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to the metrics, and its numbers to TensorBoard at `env_steps`.

        There a list has a curve for each of its entries, or if they are many one for their sum.
        """
        with _disk_errors(self.path):
            with open(self.path / METRICS, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            if self._events is None:
                self._events = _Events(self.path, record["env_steps"])
            self._events.write(record)

    def metrics(self) -> list[dict[str, Any]]:
        """Return every whole line of the metrics: a crash may have torn the last one.

        The file is read again only if it has changed. Raises `TrmrlError` if any other line is no
        record.
        """
        path = self.path / METRICS
        with _disk_errors(path):
            if not path.is_file():
                return []
            status = path.stat()
            written = status.st_mtime_ns, status.st_size
            if self._metrics is not None and self._metrics[0] == written:
                return list(self._metrics[1])
            lines = path.read_bytes().splitlines()
        records: list[Any] = [_record(line) for line in lines]
        if records and records[-1] is None:
            del records[-1]
        if None in records:
            raise TrmrlError(f"{path} is damaged: line {records.index(None) + 1} is no record")
        self._metrics = written, records
        return list(records)

    def latest(self) -> dict[str, Any] | None:
        """Return the last whole line of the metrics, read from the end; None if there is none."""
        path = self.path / METRICS
        with _disk_errors(path):
            if not path.is_file():
                return None
            with open(path, "rb") as file:
                size, tail = path.stat().st_size, TAIL
                while True:
                    file.seek(max(0, size - tail))
                    records = map(_record, reversed(file.read().splitlines()))
                    found = next((record for record in records if record is not None), None)
                    if found is not None or tail >= size:
                        return found
                    tail *= 4

    def rewind(self, updates: int) -> None:
        """Forget metrics logged after update number `updates`: they will be logged again."""
        kept = [record for record in self.metrics() if record["updates"] <= updates]
        if (self.path / METRICS).is_file():
            text = "".join(json.dumps(record) + "\n" for record in kept)
            with _disk_errors(self.path):
                _replace(self.path / METRICS, text.encode())

    def write_evaluation(self, name: str, record: dict[str, Any]) -> Path:
        """Store an evaluation as `evaluations/<name>.json`; returns its path."""
        path = self.path / EVALUATIONS / f"{name}.json"
        with _disk_errors(path):
            path.parent.mkdir(exist_ok=True)
        write_json(path, record)
        return path

    def has_evaluation(self, name: str) -> bool:
        """Return whether an evaluation is stored under this name."""
        path = self.path / EVALUATIONS / f"{name}.json"
        with _disk_errors(path):
            return path.is_file()

    def close(self) -> None:
        """Flush what is buffered."""
        if self._events is not None:
            self._events.close()
            self._events = None


class _Events:
    """TensorBoard's file, written by who calls and by no thread, which an interrupt could hang."""

    def __init__(self, path: Path, env_steps: int) -> None:
        """Begin another file, for which TensorBoard drops what it holds from `env_steps` on."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        self._event, self._summary = Event, Summary
        self._file = EventsWriter(str(path / EVENTS))
        self._file.write_event(
            Event(step=env_steps, session_log=SessionLog(status=SessionLog.START))
        )
        self._flushed = time.monotonic()

    def write(self, record: dict[str, Any]) -> None:
        """Write the numbers of a record."""
        summary = self._summary
        values = [summary.Value(tag=tag, simple_value=value) for tag, value in _scalars(record)]
        event = self._event(
            wall_time=time.time(), step=record["env_steps"], summary=summary(value=values)
        )
        self._file.write_event(event)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush what is buffered."""
        self._file.close()


def _scalars(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the curves of a record."""
    for name, value in record.items():
        if not isinstance(value, list):
            yield name, value
        elif len(value) > MANY:
            yield f"{name}/sum", sum(value)
        else:
            yield from ((f"{name}/{k}", entry) for k, entry in enumerate(value, start=1))


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, whole or not at all; raises `TrmrlError` if the disk refuses."""
    with _disk_errors(path):
        _replace(path, json.dumps(record).encode())


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what a disk may refuse into one line that names the path."""
    try:
        yield
    except OSError as error:
        raise TrmrlError(f"cannot use {path}: {error.strerror or error}") from error


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _record(line: bytes) -> dict[str, Any] | None:
    """Return one line of the metrics, or None if it is not a whole one."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(record, dict) and {"updates", "env_steps"} <= set(record)
    return record if whole else None


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _fit(path: Path, name: str, array: np.ndarray, leaf: Any) -> Array:
    """Return a stored array as the leaf it must be, or say why it cannot."""
    stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    if array.shape != stored.shape or array.dtype != stored.dtype:
        raise TrmrlError(
            f"{path} does not fit its config: {name} is {array.dtype}{list(array.shape)}, "
            f"expected {stored.dtype}{list(stored.shape)}"
        )
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(array))
    return array if isinstance(leaf, np.ndarray) else jnp.asarray(array)
