"""Figures of one scope, from the sums of its parameters over all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import DataError
from ..results.result import ScopeResult, SubspaceResult

if TYPE_CHECKING:
    from ..measures.path_lengths.path_length import PathLengthTotals
    from ..measures.spectra.spectrum import Spectrum


def figures_of_scope(
    path: str,
    scope: str,
    parameters: int,
    totals: PathLengthTotals,
    spectrum: Spectrum | None,
    subspace: SubspaceResult | None,
    listed: frozenset[str],
    rows: str,
) -> ScopeResult:
    """scope : in words; listed : predictors that results have; rows : what text calls them

    Raises DataError where squares don't fit into float64.
    """
    if totals.overflow:
        raise DataError(f"{path}: {scope}: squared {rows} overflow float64; scale the {rows} down")
    if totals.vanish:
        raise DataError(f"{path}: {scope}: squared {rows} vanish in float64; scale the {rows} up")
    found = None if spectrum is None else spectrum.result(totals.increment_energy)
    predictors = tuple(result for result in totals.result() if result.predictor in listed)
    return ScopeResult(
        parameters, totals.energy, predictors, found, subspace=subspace, energy_error=totals.energy_error
    )
