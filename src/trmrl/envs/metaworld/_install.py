"""Meta-World is an optional package, installed beside this one: it is found and checked here."""

import functools
import importlib
import importlib.metadata
from types import ModuleType

from trmrl.types import TrmrlError

VERSION = "3.1.1"
# With its dependencies it would replace the MuJoCo that this library runs on.
COMMAND = (
    "pip install 'gymnasium>=1.4,<2' glfw imageio packaging && "
    f"pip install --no-deps metaworld=={VERSION}"
)


@functools.cache
def load(module: str = "metaworld.env_dict") -> ModuleType:
    """Import a module of Meta-World.

    Raises `TrmrlError` with the command that installs it, where it is missing, of another version,
    or lacks something it needs.
    """
    try:
        version = importlib.metadata.version("metaworld")
    except importlib.metadata.PackageNotFoundError as error:
        raise TrmrlError(f"metaworld {VERSION} is not installed: {COMMAND}") from error
    if version != VERSION:
        raise TrmrlError(f"metaworld is {version}, expected {VERSION}: {COMMAND}")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TrmrlError(f"metaworld cannot be imported ({error}): {COMMAND}") from error
