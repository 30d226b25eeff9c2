"""Worlds of one's own, by import path: `package.module:attribute`."""

import importlib
import os
import re
import sys
from operator import attrgetter

from trmrl.envs.base import AbstractEnvs
from trmrl.types import TrmrlError

PATTERN = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")


def is_import_path(name: str) -> bool:
    """Return whether the name of an env asks for foreign code, well-formed or not."""
    return ":" in name


def import_envs(name: str) -> AbstractEnvs:
    """Return the worlds that `package.module:attribute` names, or that it makes if it is callable.

    The module is looked for in the current folder first, then where Python looks. Raises
    `TrmrlError` if it cannot be imported, fails, or answers something else than worlds.
    """
    match = PATTERN.fullmatch(name)
    if match is None:
        raise TrmrlError(f"{name!r} is no import path: expected package.module:attribute")
    module, attribute = match.groups()
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _failure(name, f"importing {module} raised", error) from error
        raise TrmrlError(
            f"env {name!r}: there is no module {error.name!r} in {folder} or where Python looks"
        ) from error
    except (Exception, SystemExit) as error:
        raise _failure(name, f"importing {module} raised", error) from error
    try:
        made = attrgetter(attribute)(imported)
    except AttributeError as error:
        raise TrmrlError(f"env {name!r}: module {module} has no {attribute!r}") from error
    if not isinstance(made, AbstractEnvs) and callable(made):
        try:
            made = made()
        except (Exception, SystemExit) as error:
            raise _failure(name, f"{attribute}() raised", error) from error
    if not isinstance(made, AbstractEnvs):
        raise TrmrlError(
            f"env {name!r} is {type(made).__name__!r}, expected an AbstractEnvs or a function "
            "without arguments that returns one"
        )
    return made


def _failure(name: str, what: str, error: BaseException) -> TrmrlError:
    reason = " ".join(str(error).split())
    return TrmrlError(f"env {name!r}: {what} {type(error).__name__}: {reason}")
