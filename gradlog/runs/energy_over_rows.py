"""How the energy of tensors lies over the rows: the row that carries most, and from when on there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..statistics.levels import LEAST_TAIL, NEARLY, quiet_tail

Doubles = NDArray[np.float64]


def energy_over_rows(
    energies: Doubles, edges: NDArray[np.int64], *, quiet: bool = True
) -> list[dict[str, Any]]:
    """The fields of `ScopeResult` about it, of each scope.

    energies : (scopes, bins) float64, sums of ||g_t||^2; edges : (bins + 1,), first row of each bin, then N
    quiet : whether quiet tails are looked for
    """
    widths = np.diff(edges)
    found: list[dict[str, Any]] = [{} for _ in energies]
    if not energies.size:
        return found
    with np.errstate(over="ignore"):
        # Sums that overflow are refused where figures of scopes are made.
        largest, sums = energies.max(axis=1), energies.sum(axis=1)
    if (widths == 1).all():
        for number, row in enumerate(energies.argmax(axis=1).tolist()):
            if 0 < sums[number] < np.inf:
                found[number] = {"top_row": row, "top_row_share": float(largest[number] / sums[number])}
    # Most tensors have energy to the end.
    ends = energies[:, -LEAST_TAIL:].max(axis=1)
    silent = (largest > 0) & (ends <= NEARLY**2 * largest * widths.max())
    for number in np.flatnonzero(silent & np.isfinite(sums)).tolist() if quiet else ():
        tail = quiet_tail(np.sqrt(energies[number] / np.maximum(widths, 1)))
        if tail is not None:
            found[number] |= {"quiet_row": int(edges[tail[0]]), "quiet_level": tail[1]}
    return found
