"""Where a run was begun, and by which code."""

import datetime
import subprocess

from trmrl import provenance
from trmrl.run import Run


def test_it_states_date_machine_versions_and_commit():
    found = provenance.provenance()
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found["date"])
    assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=5)
    assert "cores" in found["machine"] and "no accelerator" in found["machine"]
    assert found["versions"].startswith("Python 3.")


def test_the_commit_says_whether_files_differed(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert "commit" not in provenance.provenance()  # installed from an archive
    (tmp_path / "src" / "trmrl").mkdir(parents=True)
    file = tmp_path / "file"
    file.write_text("one")
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], ["add", "file"], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, timeout=60)
    head = ["git", "-C", str(tmp_path), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, timeout=60).stdout[:12]
    assert provenance.provenance()["commit"] == commit
    file.write_text("two")
    assert provenance.provenance()["commit"] == f"{commit}+changes"


def test_a_run_keeps_it(tmp_path):
    run = Run(tmp_path / "run")
    run.create({"env": "somewhere"})
    assert set(run.begun()) >= {"date", "machine", "versions"}
    path = run.path / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"begun"', '"other"'))  # by an older version
    assert run.begun() == {}
    path.write_text(text.replace('"begun": {', '"begun": [], "other": {'))
    assert run.begun() == {}
