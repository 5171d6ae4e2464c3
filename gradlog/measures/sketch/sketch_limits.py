"""What a sketch cannot tell: ranks that are not small beside M, and the M that would do."""

from __future__ import annotations

from collections.abc import Sequence

from ...results.projection import MOST_DIMENSION
from ...results.result import LogWarning, ScopeResult, TensorResult

SMALL_SHARE = 4
"""Ranks up to M / SMALL_SHARE are stood behind."""


def beyond_sketch(total: ScopeResult, tensors: Sequence[TensorResult], rows: int) -> list[LogWarning]:
    """A warning where ranks are null because the sketch is too small for them."""
    found = []
    for scope in (total, *tensors):
        spectrum = scope.spectrum
        if spectrum is None or spectrum.projection is None:
            continue
        refused = [rank for rank in spectrum.rank if rank.rank is None]
        if refused:
            name = f"tensor '{scope.name}'" if isinstance(scope, TensorResult) else "the whole model"
            lower = max(rank.lower for rank in refused)
            needed = _dimension_needed(lower, min(rows - 1, scope.parameters))
            found.append((name, refused, lower, needed, spectrum.projection.dim))
    if not found:
        return []
    name, refused, _, _, dim = found[0]
    told = ", ".join(f"r*({rank.epsilon:g}) >= {rank.lower}" for rank in refused)
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    needed = max(item[3] for item in found)
    again = "gradmf sketch --dim" if total.energy_error is not None else "--sketch-dim"
    exact = "the log itself and --rank exact" if total.energy_error is not None else "--rank exact"
    return [
        LogWarning(
            "rank-beyond-sketch",
            f"{name}{others}: {told}, not small beside the sketch's dimension {dim}: no rank is given; "
            + (f"{again} {needed} may do, or {exact}" if needed > dim else f"it takes {exact}"),
        )
    ]


def _dimension_needed(lower: int, possible: int) -> int:
    """M that may do for an r* of at least `lower` and at most `possible`."""

    def power(value: int) -> int:
        return 1 << max(0, value - 1).bit_length()

    return min(power(2 * SMALL_SHARE * max(1, lower)), power(SMALL_SHARE * possible), MOST_DIMENSION)
