"""Set beside each figure what independent noise of the same norms has: see `statistics.noise_reference`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..results.result import ScopeResult, SpectrumResult
from ..statistics.noise_reference import (
    SpectrumReference,
    effective_rows,
    kappa_references,
    spectrum_references,
)

Doubles = NDArray[np.float64]
Groups = tuple[Doubles, Doubles]
_Scope = TypeVar("_Scope", bound=ScopeResult)
_Result = TypeVar("_Result")

THREADS, FEW = 2, 32
"""So many scopes one thread is done with at once."""


def with_references(
    scopes: Sequence[_Scope], energies: Doubles, groups: Sequence[Groups]
) -> Iterator[_Scope]:
    """The scopes, of which each has the same predictors, with the references of their figures.

    energies : (scopes, N) float64, ||g_t||^2
    groups : of each scope (G,) and (G,) float64, how many parameters share how much energy about evenly
    """
    kappas = kappa_references([p.predictor for p in scopes[0].predictors], energies)
    rows = effective_rows(energies)
    spectra = [scope.spectrum for scope in scopes]
    epsilons = sorted({rank.epsilon for spectrum in spectra if spectrum for rank in spectrum.rank})
    references = _spectrum_references(energies, groups, epsilons) if any(spectra) else [None] * len(scopes)
    for number, scope in enumerate(scopes):
        predictors = [
            _with(p, reference=None if math.isnan(kappa) else kappa)
            for p, kappa in zip(scope.predictors, kappas[number].tolist(), strict=True)
        ]
        spectrum, reference = spectra[number], references[number]
        if spectrum is not None and reference is not None:
            spectrum = _with_reference(spectrum, dict(zip(epsilons, reference.rank, strict=True)), reference)
        yield _with(
            scope,
            predictors=tuple(predictors),
            spectrum=spectrum,
            effective_rows=float(rows[number]),
            effective_parameters=_together(*groups[number]),
        )


def _spectrum_references(
    energies: Doubles, groups: Sequence[Groups], epsilons: Sequence[float]
) -> list[SpectrumReference | None]:
    scopes = len(groups)
    if scopes <= FEW:
        return spectrum_references(energies, groups, epsilons)
    lots = [slice(scopes * k // THREADS, scopes * (k + 1) // THREADS) for k in range(THREADS)]
    # The kernel lets the other thread run meanwhile.
    with ThreadPoolExecutor(THREADS, thread_name_prefix="gradmf-noise") as pool:
        taken = [pool.submit(spectrum_references, energies[lot], groups[lot], epsilons) for lot in lots]
        return [reference for lot in taken for reference in lot.result()]


def _with_reference(
    spectrum: SpectrumResult, ranks: Mapping[float, int], reference: SpectrumReference
) -> SpectrumResult:
    return _with(
        spectrum,
        rank=tuple(_with(rank, reference=ranks[rank.epsilon]) for rank in spectrum.rank),
        stable_rank_reference=reference.stable_rank,
        effective_rank_reference=reference.effective_rank,
    )


def _with(result: _Result, **changed: object) -> _Result:
    """As `dataclasses.replace`, which would show among thousands of tensors."""
    found = object.__new__(type(result))
    vars(found).update(vars(result) | changed)
    return found


def _together(parameters: Doubles, shares: Doubles) -> float:
    """(sum v)^2 / sum v^2 of the energies v of parameters; 0 where there is none."""
    largest = float(shares.max(initial=0.0))
    if largest <= 0:
        return 0.0
    scaled = shares / largest
    return float(scaled.sum() ** 2 / (np.square(scaled) / np.maximum(parameters, 1.0)).sum())
