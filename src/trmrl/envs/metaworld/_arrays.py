"""What the names in a translated reward method mean when every value has lanes as its last axis.

A scalar is `[B]`, a position `[3, B]`, an observation `[39, B]`; constants of all lanes have a last
axis of one, or are plain Python numbers. `obs[4:7]` or `tcp[[0, 2]]` then mean what they meant.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

UNSET: Any = None  # what a variable holds before its first assignment


def is_lanes(x: Any) -> bool:
    """Return whether a value differs between lanes; other values are plain Python's."""
    return type(x) is np.ndarray and x.ndim > 0  # asked some hundred times in a step


def truth(x: Any) -> Any:
    """Return `bool(x)` of each lane."""
    if not is_lanes(x):
        return bool(x)
    return x if x.dtype == bool else x.astype(bool)


def negate(x: Any) -> Any:
    """Return `not x`."""
    return ~truth(x) if is_lanes(x) else not x


def both(x: Any, other: Callable[[], Any]) -> Any:
    """Return `x and other()`."""
    if not any_lane(x):
        return x
    return select(truth(x), other(), x) if is_lanes(x) else other()


def either(x: Any, other: Callable[[], Any]) -> Any:
    """Return `x or other()`."""
    if not is_lanes(x):
        return x if x else other()
    return select(truth(x), x, other())


def choose(test: Any, value: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """Return `value() if test else other()`."""
    if not is_lanes(test):
        return value() if test else other()
    return select(truth(test), value(), other())


def any_lane(mask: Any) -> bool:
    """Return whether a mask has any lane."""
    # A fifth of the time of `mask.any()`.
    return bool(np.count_nonzero(mask) if is_lanes(mask) else mask)


def is_certain(mask: Any) -> bool:
    """Return whether a mask is every lane, whatever the lanes hold."""
    return not is_lanes(mask) and bool(mask)


def intersect(mask: Any, test: Any) -> Any:
    """Return the lanes of a mask in which a test holds."""
    if mask is True:
        return truth(test)
    return mask and truth(test) if not is_lanes(mask) else mask & truth(test)


def select(mask: Any, value: Any, other: Any) -> Any:
    """Return `value` in the lanes of a mask and `other` elsewhere, which may be unset."""
    if mask is True or other is UNSET:
        return value
    if not is_lanes(mask):
        return other
    if isinstance(value, tuple | list):
        return tuple(select(mask, *pair) for pair in zip(value, other, strict=True))
    return np.where(mask, value, other)


def _float(x: Any) -> Any:
    return x.astype(np.float64) if is_lanes(x) else float(x)


def _fold(pick: Callable, plain: Callable) -> Callable:
    """Return `min` or `max`, of its arguments or of one list."""

    def fold(*xs: Any) -> Any:
        items: Any = xs[0] if len(xs) == 1 else xs
        return functools.reduce(pick, items) if any(map(is_lanes, items)) else plain(items)

    return fold


def _column(x: Any) -> np.ndarray:
    """Return a value as `[n, B]`, a scalar as `[1, B]`."""
    x = np.asarray(x)
    return x.reshape(-1, 1) if x.ndim == 0 else x[None] if x.ndim == 1 else x


def _join(xs: Any, axis: int = 0) -> np.ndarray:
    """`np.hstack` and `np.concatenate`."""
    if axis != 0:
        raise NotImplementedError(f"arrays joined along axis {axis}")
    columns = [_column(_array(x) if isinstance(x, tuple | list) else x) for x in xs]
    num_lanes = max(x.shape[-1] for x in columns)
    return np.concatenate([np.broadcast_to(x, (len(x), num_lanes)) for x in columns])


def _array(x: Any, dtype: Any = None) -> np.ndarray:
    """`np.array`, of scalars or of an array."""
    del dtype  # every number is a float64
    return _join([*x]) if isinstance(x, tuple | list) else np.array(x)


def _norm(x: np.ndarray, ord: int = 2) -> np.ndarray:
    """`np.linalg.norm` of a vector, or of a scalar."""
    if ord != 2:
        raise NotImplementedError(f"norms of order {ord}")
    return np.abs(x) if x.ndim < 2 else np.sqrt((x * x).sum(axis=0))


class _Linalg:
    norm = staticmethod(_norm)


class _NumPy:
    """NumPy; what would mix lanes is replaced."""

    linalg = _Linalg()
    array = staticmethod(_array)
    hstack = staticmethod(_join)
    concatenate = staticmethod(_join)

    def zeros(self, size: int) -> np.ndarray:
        return np.zeros((size, 1))

    def __getattr__(self, name: str) -> Any:
        if name not in _ELEMENTWISE:
            raise NotImplementedError(f"np.{name} over lanes")
        return getattr(np, name)


_ELEMENTWISE = {
    "abs", "arccos", "arccosh", "arctanh", "clip", "copy", "cos", "cosh", "exp", "float32",
    "float64", "floating", "inf", "isscalar", "log", "logical_and", "logical_not", "logical_or",
    "maximum", "minimum", "ndarray", "pi", "sin", "sqrt", "tanh", "where",
}  # fmt: skip


class _Rotations:
    """`scipy`'s rotation of every lane, as far as it is used."""

    def __init__(self, rotation: Any) -> None:
        self._rotation = rotation

    @staticmethod
    def from_matrix(matrix: np.ndarray) -> "_Rotations":
        """Take rotations from matrices `[3, 3, B]`."""
        return _Rotations(Rotation.from_matrix(np.moveaxis(matrix, -1, 0)))

    def as_quat(self) -> np.ndarray:
        """Return quaternions `[4, B]`, the real part last."""
        return self._rotation.as_quat().T


# Names that translated code is given instead of what they are in its module.
NAMES: dict[str, Any] = {
    "np": _NumPy(),
    "Rotation": _Rotations,
    "float": _float,
    "bool": truth,
    "min": _fold(np.minimum, min),
    "max": _fold(np.maximum, max),
    "_UNSET": UNSET,
    "_negate": negate,
    "_both": both,
    "_either": either,
    "_choose": choose,
    "_any_lane": any_lane,
    "_is_certain": is_certain,
    "_intersect": intersect,
    "_select": select,
}
