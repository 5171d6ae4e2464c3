"""r* that is limited by rows or parameters, or that a sketch is too small to tell."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Examined, Finding

CODE = "rank-limit"
LEAST_POSSIBLE = 10
"""Of fewer directions a share says little."""


def find(examined: Examined) -> Iterator[Finding]:
    """Of the whole model, at the middle epsilon."""
    run, spectrum = examined.analysis.run, examined.analysis.total.spectrum
    rank = None if spectrum is None else spectrum.middle_rank
    if spectrum is None or rank is None or spectrum.energy == 0:
        return
    increments = run.rows - 1
    possible = min(increments, run.parameters)
    figures = {"epsilon": rank.epsilon, "lower": float(rank.lower), "possible": float(possible)}
    name = f"r*({rank.epsilon:g})"
    if rank.rank is None and spectrum.projection is not None:
        dim = spectrum.projection.dim
        text = f"{name} is {rank.lower} or more: too many for a sketch of dimension {dim}"
        yield Finding(CODE, None, None, {**figures, "dimension": float(dim)}, text)
    elif possible >= LEAST_POSSIBLE and rank.lower >= examined.thresholds.rank_share * possible:
        by = (
            f"N - 1 = {increments} increments"
            if increments <= run.parameters
            else f"D = {run.parameters} parameters"
        )
        yield Finding(CODE, None, None, figures, f"{name} is {rank.lower}, limited by {by}")
