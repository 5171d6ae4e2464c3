"""Figures of windows of training as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results.typed_fields import Fields
from ..results.windows import ScopeWindows, Windows

WORDS = ("kappa", "scaled_kappa", "reference")
"""Figures by predictor."""
RANKS = ("rank", "rank_reference")
"""Figures by epsilon."""


def windows_document(windows: Windows, names: Sequence[str]) -> dict[str, Any]:
    """names : of the tensors"""
    return {
        "rows": windows.rows,
        "step": windows.step,
        "total": _scope(windows.total),
        "tensors": [
            {"name": name, **_scope(scope)} for name, scope in zip(names, windows.tensors, strict=True)
        ],
    }


def windows_of(held: Fields, names: Sequence[str]) -> Windows:
    """From its document. Raises ValueError, in words, for what is none of these tensors."""
    rows, step = _pairs(held, "rows"), _pairs(held, "step")
    by_name = {item.text("name"): item for item in held.inners("tensors")}
    if by_name.keys() != set(names):
        raise ValueError("windows.tensors are not the tensors")
    if len(step) != len(rows) or (rows < 0).any() or (rows[:, 1] <= rows[:, 0]).any():
        raise ValueError("windows.rows are no rows, or windows.step not theirs")
    return Windows(
        rows, step, _read(held.inner("total"), len(rows)), [_read(by_name[name], len(rows)) for name in names]
    )


def _scope(scope: ScopeWindows) -> dict[str, Any]:
    document: dict[str, Any] = {"energy": scope.energy}
    for word in WORDS:
        document[word] = dict(getattr(scope, word))
    for word in RANKS:
        found: Mapping[float, NDArray[np.float64]] = getattr(scope, word)
        if found:
            document[word] = [{"epsilon": epsilon, "rank": ranks} for epsilon, ranks in found.items()]
    return document


def _read(held: Fields, count: int) -> ScopeWindows:
    found: dict[str, Any] = {word: held.doubles_by_name(word, nulls=True) for word in WORDS}
    for word in RANKS:
        items = held.inners(word) if held.has(word) else []
        found[word] = {item.number("epsilon"): item.doubles("rank", nulls=True) for item in items}
    energy = held.doubles("energy")
    for word, series in found.items():
        for key, values in series.items():
            if values.size != energy.size:
                raise ValueError(f"{held.where(word)} of {key} holds {values.size} values, not {energy.size}")
    if energy.size != count:
        raise ValueError(f"{held.where('energy')} holds {energy.size} values, not {count}")
    return ScopeWindows(energy, **found)


def _pairs(held: Fields, name: str) -> NDArray[np.int64]:
    """(W, 2)"""
    value = held.value(name)
    pairs = value if isinstance(value, list) else [value]
    if not all(isinstance(p, list) and len(p) == 2 and all(type(n) is int for n in p) for p in pairs):
        raise ValueError(f"{held.where(name)} holds no pairs of whole numbers")
    try:
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)
    except OverflowError:
        raise ValueError(f"{held.where(name)} holds numbers beyond int64") from None
