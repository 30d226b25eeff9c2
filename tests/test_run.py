"""A run folder keeps what it was given, to the bit, and refuses what it was not, by name."""

import errno
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.run import CHECKPOINT, CONFIG, LOCK, METRICS, Run, write_json
from trmrl.types import TrmrlError


def state(scale=1.0):
    return {
        "weight": jnp.asarray([[scale, np.nan], [-0.0, np.inf]], jnp.float32),
        "count": jnp.asarray(7, jnp.int32),
        "seen": jnp.asarray([True, False]),
        "key": jax.random.key(3),
        "none": None,
    }


SKELETON = jax.eval_shape(state)


def bits(tree):
    leaves = jax.tree.leaves(tree)
    keys = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    plain = [jax.random.key_data(x) if k else x for x, k in zip(leaves, keys, strict=True)]
    return [(np.asarray(x).dtype, np.asarray(x).tobytes()) for x in plain]


def contents(path):
    return {p.name: p.read_bytes() for p in Path(path).iterdir() if p.is_file()}


@pytest.fixture
def run(tmp_path) -> Run:
    """A run with one checkpoint."""
    run = Run(tmp_path / "run")
    run.create({"env": "somewhere"})
    run.save(state())
    return run


def test_a_checkpoint_comes_back_to_the_bit(run):
    again = run.restore(SKELETON)
    assert bits(again) == bits(state())
    assert jax.tree.structure(again) == jax.tree.structure(state())
    assert run.config() == {"env": "somewhere"}
    assert sorted(contents(run.path)) == [CHECKPOINT, CONFIG]


def test_saving_again_replaces(run):
    run.save(state(2.0))
    assert bits(run.restore(SKELETON)) == bits(state(2.0))


# --- folders


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_what_is_no_run_is_not_opened(tmp_path, make):
    path = tmp_path / "x"
    make(path)
    with pytest.raises(TrmrlError, match="x is not a run folder: it has no config.json"):
        Run.open(path)


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(TrmrlError, match="is not empty and not a run folder"):
        Run(tmp_path).create({})
    assert contents(tmp_path) == {"thesis.tex": b"years"}


def test_a_file_is_left_alone(tmp_path):
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(TrmrlError, match="notes is a file, expected a run folder"):
        Run(path).create({})
    with pytest.raises(TrmrlError, match="cannot use .*notes/run: Not a directory"):
        Run(path / "run").create({})
    assert path.read_text() == "mine"


def test_an_empty_folder_is_welcome(tmp_path):
    Run(tmp_path).create({"a": 1})
    assert Run.open(tmp_path).config() == {"a": 1}


def test_a_folder_that_may_not_be_made_is_one_line(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(TrmrlError, match=r"cannot use .*run: Permission denied$"):
        Run(tmp_path / "run").create({})


def test_a_folder_that_may_not_be_looked_into_is_one_line(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(TrmrlError, match=r"cannot use .*run: Permission denied$"):
        Run.open(tmp_path / "run")


HOLD = """
import sys
from trmrl.run import Run
with Run(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_process_until_it_dies(run):
    """The other process is killed: it lets go of nothing itself."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout and other.stdin
    with other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(TrmrlError, match="run is in use: another process trains it"),
            run.lock(),
        ):
            pass
        other.kill()
    with run.lock():
        assert (run.path / LOCK).read_bytes() == b""


def test_a_lock_is_let_go_whatever_happens(run):
    with pytest.raises(KeyboardInterrupt), run.lock():
        raise KeyboardInterrupt
    with run.lock():
        pass


# --- config.json


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"{}",
        b'{"format": 2}',
        b'{"format": "2", "config": {}}',
        b'{"format": 2, "config": 3}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_config_is_refused(run, text):
    (run.path / CONFIG).write_bytes(text)
    with pytest.raises(TrmrlError, match=r"config.json is damaged: ") as refused:
        run.config()
    assert "\n" not in str(refused.value)
    assert (run.path / CONFIG).read_bytes() == text


def test_a_newer_format_is_refused_whatever_else_it_holds(run):
    (run.path / CONFIG).write_text('{"format": 3, "version": "9.1", "experiment": "elsewhere"}')
    with pytest.raises(TrmrlError, match="has format 3, this version reads 2: .* trmrl 9.1, which"):
        run.config()


def test_a_folder_of_version_0_1_is_refused_with_what_to_do(run):
    (run.path / CONFIG).write_text('{"format": 1, "config": {}}')
    with pytest.raises(TrmrlError, match="has format 1.* read it with trmrl 0.1.0.* train again"):
        run.config()


def test_a_config_says_which_version_wrote_it(run):
    written = json.loads((run.path / CONFIG).read_text())
    assert written["version"] == version("trmrl")


# --- checkpoints


def test_no_checkpoint_is_said(tmp_path):
    run = Run(tmp_path / "run")
    run.create({})
    assert not run.has_checkpoint()
    with pytest.raises(TrmrlError, match="run has no checkpoint yet"):
        run.restore(SKELETON)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(run, kept):
    path = run.path / CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(TrmrlError, match="checkpoint.npz is damaged or no checkpoint"):
        run.restore(SKELETON)


def test_a_flipped_bit_is_refused(run):
    path = run.path / CHECKPOINT
    content = bytearray(path.read_bytes())
    where = bytes(content).index(np.asarray(state()["weight"]).tobytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrmrlError, match="damaged"):
        run.restore(SKELETON)


def test_a_folder_for_a_checkpoint_is_refused(run):
    (run.path / CHECKPOINT).unlink()
    (run.path / CHECKPOINT).mkdir()
    with pytest.raises(TrmrlError, match="damaged or no checkpoint"):
        run.restore(SKELETON)


def arrays_of(run):
    with np.load(run.path / CHECKPOINT) as stored:
        return dict(stored)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a.pop("['seen']"), r"it lacks \['seen'\]"),
        (lambda a: a.update(extra=np.zeros(3)), "it has an unknown extra"),
        (
            lambda a: a.update({"['weight']": np.zeros((2, 3), np.float32)}),
            r"\['weight'\] is float32\[2, 3\], expected float32\[2, 2\]",
        ),
        (
            lambda a: a.update({"['count']": np.zeros((), np.int64)}),
            r"\['count'\] is int64\[\], expected int32\[\]",
        ),
        (
            lambda a: a.update({"['key']": np.zeros(3, np.uint32)}),
            r"\['key'\] is uint32\[3\], expected uint32\[2\]",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_leaf(run, change, expected):
    arrays = arrays_of(run)
    change(arrays)
    np.savez(run.path / CHECKPOINT, **arrays)
    with pytest.raises(TrmrlError, match=f"does not fit its config: {expected}"):
        run.restore(SKELETON)


class Trap:
    """Unpickling it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", ["npz", "npy", "pickle"])
def test_a_strangers_checkpoint_runs_no_code(run, tmp_path, kind):
    path, mark = run.path / CHECKPOINT, tmp_path / "mark"
    trap = np.array([Trap(mark)], dtype=object)
    if kind == "npz":
        arrays: Any = arrays_of(run) | {"['weight']": trap}
        np.savez(path, **arrays)
    elif kind == "npy":
        with open(path, "wb") as file:
            np.save(file, trap)
    else:
        path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(TrmrlError, match="damaged or no checkpoint"):
        run.restore(SKELETON)
    assert not mark.exists()


# --- a disk that refuses


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_then_full(file, **arrays):
    file.write(b"half of it")
    full()


@pytest.mark.parametrize(
    ("where", "name", "fake"),
    [(np, "savez", half_then_full), (os, "fsync", full), (os, "replace", full)],
)
def test_a_full_disk_leaves_the_old_checkpoint_and_no_litter(run, monkeypatch, where, name, fake):
    before = contents(run.path)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fake)
        with pytest.raises(TrmrlError, match=r"^cannot use .*: No space left on device$"):
            run.save(state(2.0))
    assert contents(run.path) == before
    assert bits(run.restore(SKELETON)) == bits(state())


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_metrics(run, monkeypatch, name):
    run.log({"updates": 1, "env_steps": 8})
    run.log({"updates": 2, "env_steps": 16})
    run.close()
    before = contents(run.path)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, full)
        with pytest.raises(TrmrlError, match="No space left"):
            run.rewind(1)
        with pytest.raises(TrmrlError, match="No space left"):
            run.write_evaluation("test", {})
        with pytest.raises(TrmrlError, match="No space left"):
            write_json(run.path / "mine.json", {})
    assert contents(run.path) == before
    assert list((run.path / "evaluations").iterdir()) == []


def test_a_log_that_cannot_be_written_is_one_line(run):
    (run.path / METRICS).mkdir()
    with pytest.raises(TrmrlError, match="cannot use .*run: Is a directory"):
        run.log({"updates": 1, "env_steps": 8})


# --- metrics


def line(updates):
    return {"updates": updates, "env_steps": 8 * updates, "return": [0.5, updates / 3]}


def test_metrics_come_back_as_logged(run):
    assert run.metrics() == []
    for updates in (1, 2, 3):
        run.log(line(updates))
    run.close()
    assert run.metrics() == [line(1), line(2), line(3)]


def test_metrics_are_read_again_only_if_they_have_changed(run, monkeypatch):
    run.log(line(1))
    run.metrics().clear()  # a list of the caller's own
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
        assert run.metrics() == [line(1)]
    run.log(line(2))
    run.close()
    assert run.metrics() == [line(1), line(2)]


@pytest.mark.parametrize("torn", [b'{"upd', b'{"updates": 4, "env_steps": 32}', b"\0\0\0", b"[3]"])
def test_a_torn_last_line_is_forgotten(run, torn):
    for updates in (1, 2):
        run.log(line(updates))
    run.close()
    with open(run.path / METRICS, "ab") as file:
        file.write(torn)
    whole = torn.endswith(b"}")
    assert run.metrics() == [line(1), line(2), *([{"updates": 4, "env_steps": 32}] * whole)]
    run.rewind(2)
    run.log(line(3))
    run.close()
    assert run.metrics() == [line(1), line(2), line(3)]


def test_a_damaged_line_in_the_middle_is_named(run):
    run.log(line(1))
    run.close()
    with open(run.path / METRICS, "ab") as file:
        file.write(b'{"upd\n' + json.dumps(line(3)).encode() + b"\n")
    before = contents(run.path)
    for read in (run.metrics, lambda: run.rewind(1)):
        with pytest.raises(TrmrlError, match="metrics.jsonl is damaged: line 2 is no record"):
            read()
    assert contents(run.path) == before


@pytest.mark.parametrize("tail", [1, 64, 1 << 16])
def test_the_latest_line_is_found_from_the_end(run, monkeypatch, tail):
    """However long it is, and whatever a crash left behind it."""
    monkeypatch.setattr(sys.modules["trmrl.run"], "TAIL", tail)
    assert run.latest() is None
    for updates in (1, 2, 3):
        run.log(line(updates))
    run.close()
    assert run.latest() == line(3)
    with open(run.path / METRICS, "ab") as file:
        file.write(b'{"upd')
    assert run.latest() == line(3)


def test_rewind_forgets_what_will_be_lived_again(run):
    run.rewind(0)  # nothing logged yet
    for updates in (1, 2, 3):
        run.log(line(updates))
    run.close()
    run.rewind(2)
    assert run.metrics() == [line(1), line(2)]
    run.rewind(0)
    assert run.metrics() == []


def events_of(run):
    """Every scalar in the run's TensorBoard files: `(tag, step, value)`, and what is purged."""
    from tensorboardX.proto import event_pb2

    event_of: Any = getattr(event_pb2, "Event")  # noqa: B009
    start = getattr(event_pb2, "SessionLog").START  # noqa: B009
    scalars, purged = [], []
    for path in sorted(run.path.glob("events.out.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):  # length u64, its checksum u32, event, its checksum u32
            (length,) = struct.unpack_from("<Q", content, at)
            event = event_of.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            if event.session_log.status == start:
                purged.append(event.step)
            scalars += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        assert at == len(content)
    return scalars, purged


def test_tensorboard_holds_every_number_at_its_env_steps(run):
    run.log(line(1))
    run.close()
    scalars, _ = events_of(run)
    assert scalars == [
        ("updates", 8, 1.0),
        ("env_steps", 8, 8.0),
        ("return/1", 8, 0.5),
        ("return/2", 8, pytest.approx(1 / 3)),
    ]


def test_tensorboard_is_told_the_sum_of_a_long_list(run):
    run.log(line(1) | {"return": [0.5] * 11})
    run.close()
    scalars, _ = events_of(run)
    assert scalars[-1] == ("return/sum", 8, 5.5)


def test_tensorboard_needs_no_thread(run):
    """One that waits for more would keep an interrupted process from ending."""
    before = threading.active_count()
    run.log(line(1))
    assert threading.active_count() == before
    run.close()


def test_tensorboard_drops_what_is_lived_again(run):
    for updates in (1, 2):
        run.log(line(updates))
    run.close()
    run.rewind(1)
    run.log(line(2))
    run.close()
    _, purged = events_of(run)
    assert purged[-1] == 16


def test_an_evaluation_is_stored_under_its_name(run):
    path = run.write_evaluation("test", {"mean": [1.0]})
    assert path == run.path / "evaluations" / "test.json"
    assert json.loads(path.read_text()) == {"mean": [1.0]}
    run.write_evaluation("test", {"mean": [2.0]})
    assert json.loads(path.read_text()) == {"mean": [2.0]}
    assert [p.name for p in path.parent.iterdir()] == ["test.json"]
