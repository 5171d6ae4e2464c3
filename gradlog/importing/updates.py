"""Differences of consecutive checkpoints, and what of them is the rounding of 16-bit weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.bfloat16 import widen_into
from ..logs.row_values import BFLOAT16
from .snapshot import Kind

_BLOCK = 1 << 16
"""Entries that are worked on at once: they stay in the second cache."""


def update_dtype(kind: Kind) -> np.dtype[np.floating[Any]]:
    """As what differences are formed and stored: float64 of float64 weights, else float32."""
    return np.dtype(np.float64 if kind.dtype == "float64" else np.float32)


def subtract(kind: Kind, before: NDArray[Any], after: NDArray[Any], out: NDArray[Any]) -> float:
    """Put `after` - `before` into `out`, and return the energy of that, sum of squares in float64.

    before, after : (*shape) weights of `kind`, bfloat16 as bits; 16-bit ones are widened exactly
    out : (*shape) of `update_dtype`, in C order
    """
    old, new = (np.ascontiguousarray(weights).reshape(-1) for weights in (before, after))
    target = out.reshape(-1)
    energy = 0.0
    wide = np.empty((2, 1, min(_BLOCK, target.size)), out.dtype)
    squares = np.empty(min(_BLOCK, target.size))
    for first in range(0, target.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        part = target[block]
        if kind.dtype == out.dtype.name:
            np.subtract(new[block], old[block], out=part)
        else:
            low, high = wide[:, :, : part.size]
            _widen(kind, old[None, block], low)
            _widen(kind, new[None, block], high)
            np.subtract(high[0], low[0], out=part)
        # Squares may overflow or vanish in float32; and BLAS would start threads for so little.
        doubled = squares[: part.size]
        doubled[...] = part
        energy += float(np.einsum("i,i->", doubled, doubled))
    return energy


def _widen(kind: Kind, stored: NDArray[Any], out: NDArray[Any]) -> None:
    if kind.dtype == BFLOAT16:
        widen_into(stored, out)
    else:
        out[...] = stored


def _squared_ulps(exponent_bits: int, fraction_bits: int) -> NDArray[np.float64]:
    """(2**exponent_bits,) squared distance of neighbours by the exponent field; 0 for infinity and NaN."""
    field = np.arange(1 << exponent_bits)
    bias = (1 << (exponent_bits - 1)) - 1
    squared = np.exp2(2.0 * (np.maximum(field, 1) - bias - fraction_bits))
    squared[-1] = 0.0
    return squared


_FORMATS = {BFLOAT16: (8, 7), "float16": (5, 10)}
_SQUARED_ULPS = {name: _squared_ulps(*bits) for name, bits in _FORMATS.items()}


def is_rounded(kind: Kind) -> bool:
    """Whether weights are of a type whose rounding is looked at."""
    return kind.dtype in _FORMATS


def rounding_energy(kind: Kind, weights: NDArray[Any]) -> float:
    """What rounding to a 16-bit type leaves of energy: sum of ulp^2 / 12, the variance of a uniform error.

    weights : of `kind`, bfloat16 as bits
    """
    exponent_bits, fraction_bits = _FORMATS[kind.dtype]
    flat = np.ascontiguousarray(weights).reshape(-1).view(np.uint16)
    counts = np.zeros(1 << exponent_bits)
    for first in range(0, flat.size, _BLOCK):
        field = (flat[first : first + _BLOCK] >> fraction_bits) & ((1 << exponent_bits) - 1)
        counts += np.bincount(field, minlength=1 << exponent_bits)
    return float(counts @ _SQUARED_ULPS[kind.dtype]) / 12


class Rounding:
    """Energies of rounding and of updates, over the pairs of checkpoints so far.

    A tensor none of whose entries has moved is frozen: its rounding, twice the same, is in no update.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self._rounding = {name: 0.0 for name, kind in kinds.items() if is_rounded(kind)}
        self._updates = dict.fromkeys(kinds, 0.0)
        self._before: dict[str, float] = {}
        self._finite = True

    def start(self, name: str, weights: NDArray[Any]) -> None:
        """Take in a tensor of the first checkpoint."""
        if name in self._rounding:
            self._before[name] = rounding_energy(self._kinds[name], weights)

    def add(self, name: str, weights: NDArray[Any], energy: float) -> None:
        """Take in a tensor of the next checkpoint. energy : of its update"""
        rounding = 0.0
        if name in self._rounding:
            before = self._before[name]
            self._before[name] = rounding_energy(self._kinds[name], weights)
            rounding = before + self._before[name]
        if not math.isfinite(energy):
            self._finite = False
        else:
            self._updates[name] += energy
            if name in self._rounding:
                self._rounding[name] += rounding

    @property
    def nothing_moved(self) -> bool:
        """Whether all updates are zero."""
        return self._finite and not any(self._updates.values())

    def shares(self) -> tuple[float, dict[str, float]] | None:
        """Energy of rounding over that of the updates, of all tensors and of each; None without rounding."""
        moved = {name for name, energy in self._rounding.items() if self._updates[name] > 0}
        if not moved:
            return None
        total = math.fsum(self._rounding[name] for name in moved) / math.fsum(self._updates.values())
        return total, {name: self._rounding[name] / self._updates[name] for name in sorted(moved)}
