"""What a training loop hands to the writer, as it is stored: gradients, scalars, steps, names, attributes.

Errors here are UsageErrors that name the value and what is allowed; the writer adds the log and the row.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UsageError, first_line
from .log import GRADS, STEP

REALS = ("float16", "float32", "float64")
BFLOAT16 = "bfloat16"
_RESERVED = frozenset({"", ".", "..", "zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})
_INT64 = np.iinfo(np.int64)


def gradient(name: str, value: ArrayLike) -> tuple[NDArray[Any], str]:
    """The array to store, and the name of its dtype; bits of bfloat16 come as uint16."""
    array, dtype = _floats(name, value)
    if array.size == 0:
        raise UsageError(
            f"the gradient of '{name}' has no entries, shape {list(array.shape)}: gather a partitioned "
            "parameter (FSDP, ZeRO-3) first, or leave it out"
        )
    return array, dtype


def _floats(name: str, value: ArrayLike) -> tuple[NDArray[Any], str]:
    try:
        bits = _bfloat16_bits(value)
        if bits is not None:
            return bits, BFLOAT16
        array = np.asarray(_off_device(value))
    except (ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"the gradient of '{name}' is no array of numbers: {first_line(error)}") from None
    if array.dtype.name == BFLOAT16:
        return array.view(np.uint16), BFLOAT16
    if array.dtype.kind == "f" and array.dtype.itemsize in (2, 4, 8):
        return array.astype(array.dtype.newbyteorder("="), copy=False), array.dtype.name
    if array.dtype.kind not in "biuf":
        raise UsageError(f"the gradient of '{name}' is an array of {array.dtype}, not of real numbers")
    return array.astype(np.float32), "float32"


def _off_device(value: Any) -> Any:
    """A tensor of PyTorch as NumPy takes it: out of the graph, in main memory, dense. Others as they are."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    tensor = value.detach().to("cpu")
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _bfloat16_bits(value: Any) -> NDArray[np.uint16] | None:
    """The bits of a tensor of PyTorch in bfloat16, which NumPy lacks; None for anything else."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor) or value.dtype != torch.bfloat16:
        return None
    bits: NDArray[np.int16] = _off_device(value).contiguous().view(torch.int16).numpy()
    return bits.view(np.uint16)


def scalar(name: str, value: Any) -> NDArray[np.float64]:
    """() float64, the value of a series; NaN and infinity are values too."""
    try:
        if isinstance(value, (str, bytes, bytearray)):  # float() would parse it
            raise TypeError
        return np.asarray(float(_off_device(value)), np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise UsageError(f"series '{name}' takes a number a row, not {_shown(value)}") from None


def whole_step(what: str, value: Any) -> int:
    """A training step. what : its name in the error"""
    number = value
    if not isinstance(value, (bool, int, float, str, bytes)):
        try:
            array = np.asarray(_off_device(value))
            number = array.item() if array.ndim == 0 else None
        except (TypeError, ValueError, RuntimeError):
            number = None
    if isinstance(number, (float, np.floating)) and number == np.floor(number) and np.isfinite(number):
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or not _INT64.min <= number <= _INT64.max:
        raise UsageError(
            f"{what} must be a whole number from -2**63 to 2**63 - 1, as int64 holds, not {_shown(value)}"
        )
    return number


def _shown(value: Any) -> str:
    try:
        text = f"{value!r:.60}"
    except Exception:
        text = f"a {type(value).__name__}"
    return " ".join(text.split())


def json_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes with NumPy's scalars and arrays as plain numbers and lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        raise TypeError(f"{type(value).__name__} is not JSON")

    try:
        stored: dict[str, Any] = json.loads(json.dumps(dict(attributes), default=plain, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"attributes must be what JSON holds: {error}") from None
    return stored


def check_names(tensors: Iterable[str], series: Iterable[str]) -> None:
    """Raise UsageError for names that a Zarr hierarchy cannot hold beside each other."""
    known = set(tensors)
    for name in known:
        parts = name.split("/") if isinstance(name, str) else [""]
        if any(part in _RESERVED or part.startswith("__") for part in parts):
            raise UsageError(f"{name!r} cannot be the name of a tensor")
        folders = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if taken := folders & known:
            raise UsageError(f"tensor '{name}' would lie inside tensor '{taken.pop()}': rename one")
    for name in series:
        if name in _RESERVED | {GRADS, STEP} or "/" in name or name.startswith("__"):
            raise UsageError(f"'{name}' cannot be the name of a series")
