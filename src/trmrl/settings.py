"""A setting knows itself: its limits stand beside its fields, its relations in its `check`."""

import dataclasses
import math
from typing import Any

import equinox as eqx

from trmrl.types import EnvSpec


def field(
    default: Any = dataclasses.MISSING,
    *,
    low: int | float = -math.inf,
    high: int | float = math.inf,
) -> Any:
    """Return a field of a setting whose number, or every number of whose tuple, is bounded.

    The bounds are included. A comment behind the field is its help on the command line.
    """
    return eqx.field(default=default, metadata={"low": low, "high": high})


def limits(declared: dataclasses.Field) -> tuple[int | float, int | float]:
    """Return the least and the greatest number a field may hold; infinite where it is free."""
    return declared.metadata.get("low", -math.inf), declared.metadata.get("high", math.inf)


class AbstractSettings(eqx.Module):
    """What a part of an experiment is built from: a record of plain values and other settings.

    Final subclasses state their fields. A config in JSON names a setting by its class, which is
    found among the subclasses that are imported (`config.py`).
    """

    def check(self, spec: EnvSpec) -> str | None:
        """Return what is wrong between the fields, or between them and the worlds, else None.

        A complaint begins with the name of the field at fault.
        """
        del spec
        return None
