"""When, where and by which code a run was begun: what a result has to state beside its numbers."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parents[2]  # of a checkout, if this is one


def provenance() -> dict[str, str]:
    """Return date (UTC), machine, versions, and the commit if the code is a git checkout.

    The commit is followed by `+changes` where files differed from it.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    device = jax.devices()[0]
    accelerator = "no accelerator" if device.platform == "cpu" else device.device_kind
    found = {
        "date": now,
        "machine": f"{_processor()}, {os.cpu_count() or 1} cores, {accelerator}",
        "versions": f"Python {platform.python_version()}, jax {version('jax')}",
    }
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


def _processor() -> str:
    """Return the processor's name, as far as the system states it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit of the checkout that this file is in; "" if it is in none of ours."""
    if not (ROOT / ".git").exists() or not (ROOT / "src" / "trmrl").is_dir():
        return ""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10
        )
        clean = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    if head.returncode:
        return ""
    return head.stdout.strip() + ("" if clean.returncode == 0 else "+changes")
