"""Sources of an import, written without the libraries that people write them with, and logs read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradmf import gradlog

Array = NDArray[Any]
_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "uint8": "U8", "bool": "BOOL"}


def safetensors_bytes(tensors: Mapping[str, Array]) -> bytes:
    """A file of the format's description; uint16 are the bits of bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in tensors.items():
        kind = "BF16" if values.dtype == np.uint16 else _NAMES[values.dtype.name]
        span = [len(data), len(data) + values.nbytes]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": span}
        data += values.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors_bytes(tensors))
    return path


def to_bfloat16(values: Array) -> Array:
    """Bits of the nearest bfloat16, ties to even."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def stored(path: Path) -> tuple[list[int], dict[str, Array], dict[str, list[float]]]:
    """Steps, tensors as they are stored, and series of a log."""
    log = gradlog.open_log(path)
    tensors = {tensor.name: np.asarray(tensor.array[...])[: log.rows] for tensor in log.tensors}  # type: ignore[attr-defined]
    series = {name: np.asarray(values[:]).tolist() for name, values in log.series.items()}
    return log.step.tolist(), tensors, series


def ulp(value: float, fraction_bits: int, least_exponent: int) -> float:
    """Distance of neighbours among floats of so many fraction bits."""
    exponent = math.frexp(value)[1] - 1 if value else least_exponent
    return 2.0 ** (max(exponent, least_exponent) - fraction_bits)
