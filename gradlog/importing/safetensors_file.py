"""Files .safetensors, mapped: eight bytes of length, a header of JSON, and the entries.

The library's own reader for NumPy has no bfloat16, and copies. The format is fixed:
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .snapshot import Contents, Kind, Snapshot, Values, is_scalar_name

_DTYPES = {
    "F64": ("float64", "<f8"),
    "F32": ("float32", "<f4"),
    "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<u2"),
    "I64": ("int64", "<i8"),
    "I32": ("int32", "<i4"),
    "I16": ("int16", "<i2"),
    "I8": ("int8", "i1"),
    "U64": ("uint64", "<u8"),
    "U32": ("uint32", "<u4"),
    "U16": ("uint16", "<u2"),
    "U8": ("uint8", "u1"),
    "BOOL": ("bool", "?"),
    "C64": ("complex64", "<c8"),
    "F8_E4M3": ("float8_e4m3", "u1"),
    "F8_E5M2": ("float8_e5m2", "u1"),
}
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000
"""As the library has it."""


class SafetensorsFile(Snapshot):
    """A file of named tensors."""

    def __init__(self, path: str) -> None:
        self.place = path

    def contents(self) -> Contents:
        """What it holds, without reading entries. Raises DataError that names it."""
        header, _ = self._header()
        kinds = {name: kind for name, (kind, _) in header.items()}
        single = [n for n, kind in kinds.items() if is_scalar_name(n) and not kind.shape and kind.is_plain]
        with self.opened() as values:
            scalars = {name: values(name).item() for name in single}
        return Contents.with_scalars({n: k for n, k in kinds.items() if n not in scalars}, scalars)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Values]:
        """Its entries, for as long as the block lasts."""
        header, first = self._header()
        data = np.memmap(self.place, np.uint8, "r", offset=first) if self._size > first else np.zeros(0, "u1")

        def values(name: str) -> NDArray[Any]:
            kind, (start, stop) = header[name]
            stored = dict(_DTYPES.values())[kind.dtype]
            array = np.asarray(data[start:stop]).view(stored).reshape(kind.shape)
            return array.astype(array.dtype.newbyteorder("="), copy=False)

        yield values

    @property
    def _size(self) -> int:
        return Path(self.place).stat().st_size

    def _header(self) -> tuple[dict[str, tuple[Kind, tuple[int, int]]], int]:
        """Kind and (first, last + 1) byte of each tensor, and where in the file these are counted from."""
        size = self._size
        with Path(self.place).open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            first = _LENGTH_BYTES + length
            if size < _LENGTH_BYTES or length > _LONGEST_HEADER or first > size:
                raise self.fault(f"no safetensors file, or cut short: {size} bytes, header of {length}")
            text = file.read(length)
        try:
            document = json.loads(text)
            document.pop("__metadata__", None)
            found = {name: _entry(entry) for name, entry in document.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self.fault(f"its header is damaged: {type(error).__name__}: {error}") from error
        end = 0
        for name, (kind, (start, stop)) in sorted(found.items(), key=lambda item: item[1][1]):
            if start != end or stop - start != kind.nbytes:
                raise self.fault(f"its header is damaged: tensor '{name}' lies at {start} to {stop}")
            end = stop
        if first + end != size:
            what = "cut short" if first + end > size else "longer than its header says"
            raise self.fault(f"{what}: {size} bytes, and its header speaks of {first + end}")
        return found, first


def _entry(entry: dict[str, Any]) -> tuple[Kind, tuple[int, int]]:
    start, stop = map(int, entry["data_offsets"])
    shape = tuple(map(int, entry["shape"]))
    if min((0, *shape)) < 0 or math.prod(shape) < 0:
        raise ValueError(f"shape {list(shape)}")
    return Kind(shape, _DTYPES[entry["dtype"]][0]), (start, stop)
