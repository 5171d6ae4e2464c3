"""Files .npy of NumPy: the rows of one array, or one array a training step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, first_line
from .snapshot import GRADIENT, Contents, Snapshot, Values, native, numpy_kind
from .stack import Stack


class NpyRows(Stack):
    """An array (N, *shape), mapped: a row a step."""

    def __init__(self, path: str) -> None:
        """Raises DataError where it is no such array."""
        self.place = path
        self._array = _mapped(path)
        if self._array.ndim == 0:
            raise DataError(f"{path}: a single value, and no rows of gradients")
        self.rows = self._array.shape[0]
        self.kinds = {GRADIENT: numpy_kind(self._array.shape[1:], self._array.dtype)}

    def read(self, name: str, first: int, stop: int, into: NDArray[Any] | None = None) -> NDArray[Any]:  # noqa: ARG002
        """(stop - first, *shape) entries of some rows."""
        return native(self._array[first:stop])

    @property
    def taken(self) -> str:
        """What of the source the tensors are, in words."""
        return f"the rows of an array {list(self._array.shape)}, one a step"


class NpyFile(Snapshot):
    """An array, mapped: the gradients of one step."""

    def __init__(self, path: str) -> None:
        self.place = path

    def contents(self) -> Contents:
        """What it holds, without reading entries. Raises DataError that names it."""
        array = _mapped(self.place)
        return Contents({GRADIENT: numpy_kind(array.shape, array.dtype)})

    @contextlib.contextmanager
    def opened(self) -> Iterator[Values]:
        """Its entries, for as long as the block lasts."""
        array = _mapped(self.place)
        yield lambda _: native(np.asarray(array))


def _mapped(path: str) -> NDArray[Any]:
    try:
        with Path(path).open("rb"):  # an error of the system stays one
            return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: no .npy file that can be read (cut short?): {first_line(error)}") from error
