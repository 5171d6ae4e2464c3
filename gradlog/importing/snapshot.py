"""What every source is made of: the named tensors of one training step, in a file, a folder, or a row."""

from __future__ import annotations

import abc
import contextlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..logs.row_values import BFLOAT16, REALS
from ..logs.series import LOSSES, RATES
from ..quick_dataclass import dataclass

_STEP_NAMES = ("step", "global_step", "training_step", "iteration")
_SERIES_NAMES = {**dict.fromkeys(LOSSES, "loss"), **dict.fromkeys(RATES, "lr")}
GRADIENT = "gradient"
"""Name of a tensor that a file gives none."""


@dataclass(frozen=True)
class Kind:
    """What a tensor is. dtype : "float32", "bfloat16", "int64", ..., as NumPy or PyTorch names it"""

    shape: tuple[int, ...]
    dtype: str

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def is_plain(self) -> bool:
        """Whether entries are real numbers that NumPy has."""
        return self.dtype.startswith(("int", "uint")) or self.dtype in REALS

    @property
    def nbytes(self) -> int:
        """Bytes of the entries."""
        bits = re.search(r"\d+", self.dtype)
        return self.entries * max(1, int(bits[0]) // 8 if bits else 1)


@dataclass(frozen=True)
class Contents:
    """What a snapshot holds, by its headers.

    tensors : by name, whatever their dtype; left_out : why other things are no tensors, by name
    taken : what of the file the tensors are, in words, where that is not plain
    step : the training step that it says it is of; series : values of a row by name, such as loss
    """

    tensors: Mapping[str, Kind]
    left_out: Mapping[str, str] = field(default_factory=dict)
    taken: str = ""
    step: int | None = None
    series: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def with_scalars(
        cls,
        tensors: Mapping[str, Kind],
        scalars: Mapping[str, float],
        left_out: Mapping[str, str] | None = None,
        taken: str = "",
    ) -> Contents:
        """The step and series out of single numbers by name, as of `is_scalar_name`."""
        steps = [scalars[name] for name in _STEP_NAMES if name in scalars]
        series = {known: float(scalars[name]) for name, known in _SERIES_NAMES.items() if name in scalars}
        step = int(steps[0]) if steps and steps[0] == math.floor(steps[0]) else None
        return cls(tensors, left_out or {}, taken, step, series)


Values: TypeAlias = Callable[[str], NDArray[Any]]
"""Entries of a tensor by its name, bfloat16 as uint16 bits. Raises DataError that names file and tensor."""


class Snapshot(abc.ABC):
    """Tensors of one training step.

    place : what messages call it
    """

    place: str

    @property
    def label(self) -> str:
        """Path whose last parts may hold the number of the step."""
        return self.place

    @abc.abstractmethod
    def contents(self) -> Contents:
        """What it holds, without reading entries. Raises DataError that names it."""

    @abc.abstractmethod
    def opened(self) -> contextlib.AbstractContextManager[Values]:
        """Its entries, for as long as the block lasts. Raises DataError that names it."""

    def fault(self, told: str) -> DataError:
        """An error of this snapshot."""
        return DataError(f"{self.place}: {told}")


def is_scalar_name(name: str) -> bool:
    """Whether a single number of that name is a training step, a loss or a learning rate."""
    return name in _STEP_NAMES or name in _SERIES_NAMES


def numpy_kind(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Kind:
    """The kind of an array of NumPy's; entries of two bare bytes are `void16`."""
    return Kind(tuple(int(extent) for extent in shape), dtype.name)


def native(array: NDArray[Any]) -> NDArray[Any]:
    """The array in the byte order of the machine; bits of bfloat16 as uint16."""
    if array.dtype.name == BFLOAT16:
        return array.view(np.uint16)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
