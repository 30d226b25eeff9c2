"""Whether a run folder was made by this user: only then may it name code to import.

A run whose env is an import path carries a signature of its config, made with a secret of the
user's. Anybody else's run needs `--trust`. A signature vouches for the config alone: not for the
module that is found under its name, nor for the checkpoint, which cannot run code.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Any

from trmrl.envs.imported import is_import_path
from trmrl.types import TrmrlError

SECRET_SIZE = 32  # bytes


def names_foreign_code(config: dict[str, Any]) -> bool:
    """Return whether a config, as JSON, has an env that would be imported."""
    env = config.get("env")
    return isinstance(env, str) and is_import_path(env)


def sign(config: dict[str, Any]) -> str:
    """Return this user's signature of a config, as JSON: 64 hex digits.

    The secret is made on first need. Where it can be neither read nor written, returns "", which
    is nobody's signature.
    """
    try:
        secret = _read_secret() or _make_secret()
    except OSError:
        return ""
    return _signature(config, secret)


def is_signed(config: dict[str, Any], signature: Any) -> bool:
    """Return whether a signature, of whatever type, is this user's of the config."""
    try:
        secret = _read_secret()
    except OSError:
        return False
    if secret is None or not isinstance(signature, str):
        return False
    given = signature.encode("utf-8", errors="replace")
    return hmac.compare_digest(given, _signature(config, secret).encode())


def check_trust(config: dict[str, Any], signature: Any, path: str | Path, trust: bool) -> None:
    """Raise `TrmrlError` if the run at `path` names foreign code that nobody vouches for.

    This user does by the signature of a run of their own, or by `trust`.
    """
    if trust or not names_foreign_code(config) or is_signed(config, signature):
        return
    module = config["env"].partition(":")[0]
    raise TrmrlError(
        f"{path} is not signed by you, and its env {config['env']!r} would import the module "
        f"{module!r}: pass --trust if you wrote that code or read it"
    )


def _signature(config: dict[str, Any], secret: bytes) -> str:
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hmac.new(secret, canonical.encode(), hashlib.sha256).hexdigest()


def _secret_path() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    home = Path(state) if os.path.isabs(state) else _home() / ".local" / "state"
    return home / "trmrl" / "secret"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise FileNotFoundError("there is no home folder") from error


def _read_secret() -> bytes | None:
    """Return the secret, or None if there is none yet; raises `OSError` on what is no secret."""
    try:
        secret = _secret_path().read_bytes()
    except FileNotFoundError:
        return None
    if len(secret) != SECRET_SIZE:
        raise OSError("the secret has another size")
    return secret


def _make_secret() -> bytes:
    """Return the secret that is in place afterwards: ours, or that of who was faster."""
    path = _secret_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f"secret.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_SIZE))
            file.flush()
            os.fsync(file.fileno())
        # A link never replaces what is there, and shows the file whole or not at all.
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    secret = _read_secret()
    if secret is None:
        raise FileNotFoundError(f"{path} vanished")
    return secret
