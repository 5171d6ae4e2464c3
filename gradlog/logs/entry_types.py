"""What the entries of an array are, and how they become real numbers: declared types, packing, parts.

Packed entries follow the CF conventions, section 8.1: value = stored * scale_factor + add_offset, and
`_FillValue` or `missing_value` stands for none at all.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from .hierarchy import Node
from .row_values import REALS

_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_COMPLEX = {"complex64": "float32", "complex128": "float64"}
_TWO_BYTES = frozenset({"uint16", "r16", "void16"})
"""Types under which the bits of bfloat16 come where Zarr has no such type."""
_SCALING = ("scale_factor", "add_offset")
_MISSING = ("_FillValue", "missing_value")
PACKING_WORDS = (*_SCALING, *_MISSING)
"""Attributes that say how entries are packed."""


@dataclass(frozen=True)
class Packing:
    """value = stored * scale + offset, NaN where stored is one of `missing`; computed in float64."""

    scale: float
    offset: float
    missing: tuple[float, ...]

    def unpack(self, stored: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The values, of `dtype`, of what is stored; of the same shape."""
        if self.scale == 1 and self.offset == 0:
            values = stored.astype(dtype)
        else:
            values = (stored.astype(np.float64) * self.scale + self.offset).astype(dtype)
        for number in self.missing:
            values[stored == number] = np.nan
        return values


@dataclass(frozen=True)
class EntryType:
    """How an array's entries are read as gradients.

    name : as shown, such as "float32", "bfloat16", "complex64" or "packed int16"
    reals : 2 for complex entries, which are a last axis of two real ones, else 1
    compute : dtype of a block, float64 where the values need it, else float32
    """

    name: str
    compute: np.dtype[np.floating[Any]]
    reals: int = 1
    packing: Packing | None = None


def stored_type(node: Node) -> str:
    """NumPy's name of what an array stores, or the name that its metadata gives where NumPy has none."""
    declared: Any = node.document.get("data_type" if node.zarr_format == 3 else "dtype")
    if isinstance(declared, Mapping):
        declared = declared.get("name")
    if not isinstance(declared, str):
        return "no plain numbers"
    if node.zarr_format == 3 or declared == "bfloat16":
        return declared
    try:
        return np.dtype(declared).name
    except TypeError:
        return declared


def entry_type(node: Node) -> EntryType | None:
    """How an array's entries are read as gradients; None for what can be none (integers, text, ...).

    Raises ValueError for a declared packing that cannot be followed.
    """
    stored = stored_type(node)
    declared = node.attributes.get("gradlog")
    marked = declared.get("dtype") if isinstance(declared, dict) else None
    if stored == "bfloat16" or (marked == "bfloat16" and stored in _TWO_BYTES):
        if any(word in node.attributes for word in _SCALING):
            raise ValueError("bfloat16 with scale_factor or add_offset is not read")
        return EntryType("bfloat16", np.dtype(np.float32))
    packing = _packing(node, stored)
    if stored in _COMPLEX:
        if packing is not None:
            raise ValueError("complex entries with scale_factor, add_offset or _FillValue are not read")
        return EntryType(stored, np.dtype(_COMPLEX[stored]), reals=2)
    if stored in REALS:
        if packing is None:
            return EntryType(stored, np.dtype(np.float64 if stored == "float64" else np.float32))
        scaled = (packing.scale, packing.offset) != (1, 0)
        compute = np.float64 if scaled or stored == "float64" else np.float32
        return EntryType(f"packed {stored}" if scaled else stored, np.dtype(compute), packing=packing)
    if stored in _INTEGERS and packing is not None and any(word in node.attributes for word in _SCALING):
        return EntryType(f"packed {stored}", np.dtype(np.float64), packing=packing)
    return None


def _packing(node: Node, stored: str) -> Packing | None:
    """What the attributes declare; None where that changes nothing."""
    scale, offset = (_number(node, word, default) for word, default in zip(_SCALING, (1.0, 0.0), strict=True))
    missing = []
    for word in _MISSING:
        if word in node.attributes:
            missing += _missing_values(word, node.attributes[word])
    if stored in _INTEGERS and node.zarr_format == 2 and any(word in node.attributes for word in _SCALING):
        # xarray keeps _FillValue of a v2 array as its fill value.
        fill = node.document.get("fill_value")
        missing += [float(fill)] if isinstance(fill, int | float) and not isinstance(fill, bool) else []
    known = tuple(dict.fromkeys(number for number in missing if not math.isnan(number)))
    if (scale, offset) == (1.0, 0.0) and not known and not any(w in node.attributes for w in _SCALING):
        return None
    return Packing(scale, offset, known)


def _number(node: Node, word: str, default: float) -> float:
    value = node.attributes.get(word, default)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"its {word} is {value!r:.40}, which is no number")
    return number


def _missing_values(word: str, value: Any) -> list[float]:
    """The numbers that stand for no value. xarray writes those of floats as base64 of a double."""
    numbers = []
    for item in value if isinstance(value, list) else [value]:
        try:
            if isinstance(item, str):
                try:
                    numbers.append(float(item))
                except ValueError:
                    (number,) = struct.unpack("<d", base64.standard_b64decode(item))
                    numbers.append(number)
            elif item is not None:
                numbers.append(float(item))
        except (TypeError, ValueError, struct.error):
            raise ValueError(f"its {word} is {item!r:.40}, which is no number") from None
    return numbers
