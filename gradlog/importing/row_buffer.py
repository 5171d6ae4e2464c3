"""Room for one row of tensors: in memory, or in a file without a name where memory is short."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_APART = 64


class RowBuffer:
    """An array for each tensor, used again for every row."""

    def __init__(
        self, tensors: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], room: int, folder: Path | str
    ) -> None:
        """tensors : shape and dtype of each; room : bytes of memory; folder : for the file"""
        sizes = {name: math.prod(shape) * dtype.itemsize for name, (shape, dtype) in tensors.items()}
        total = sum(-(-size // _APART) * _APART for size in sizes.values())
        if total <= room:
            self._bytes: NDArray[np.uint8] = np.empty(total, np.uint8)
        else:
            with tempfile.TemporaryFile(dir=folder) as file:  # the mapping outlives it
                file.truncate(total)
                self._bytes = np.memmap(file, np.uint8, "r+", shape=(total,))
        self._arrays: dict[str, NDArray[Any]] = {}
        first = 0
        for name, (shape, dtype) in tensors.items():
            self._arrays[name] = self._bytes[first : first + sizes[name]].view(dtype).reshape(shape)
            first += -(-sizes[name] // _APART) * _APART

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array of a tensor, with what was last put there."""
        return self._arrays[name]
