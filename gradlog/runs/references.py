"""Set beside each figure what independent noise of the same norms has: see `statistics.noise_reference`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..results.result import PredictorResult, RankResult, ScopeResult, SpectrumResult
from ..statistics.noise_reference import effective_rows, kappa_references, spectrum_reference

Doubles = NDArray[np.float64]
Groups = tuple[Doubles, Doubles]
_Scope = TypeVar("_Scope", bound=ScopeResult)

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
    # Kernels let the other thread run meanwhile.
    with ThreadPoolExecutor(THREADS, thread_name_prefix="gradmf-noise") as pool:
        of_each = pool.map if len(scopes) > FEW else map
        spectra = list(of_each(_spectrum, scopes, energies, groups))
    for number, scope in enumerate(scopes):
        # Of thousands of tensors `dataclasses.replace` would show.
        predictors = [
            PredictorResult(**(vars(p) | {"reference": None if math.isnan(kappa) else kappa}))
            for p, kappa in zip(scope.predictors, kappas[number].tolist(), strict=True)
        ]
        yield dataclasses.replace(
            scope,
            predictors=tuple(predictors),
            spectrum=spectra[number],
            effective_rows=float(rows[number]),
            effective_parameters=_together(*groups[number]),
        )


def _spectrum(scope: ScopeResult, energies: Doubles, shared: Groups) -> SpectrumResult | None:
    spectrum = scope.spectrum
    if spectrum is None:
        return None
    found = spectrum_reference(energies, *shared, [rank.epsilon for rank in spectrum.rank])
    if found is None:
        return spectrum
    ranks = [
        RankResult(**(vars(rank) | {"reference": reference}))
        for rank, reference in zip(spectrum.rank, found.rank, strict=True)
    ]
    return dataclasses.replace(
        spectrum,
        rank=tuple(ranks),
        stable_rank_reference=found.stable_rank,
        effective_rank_reference=found.effective_rank,
    )


def _together(parameters: Doubles, shares: Doubles) -> float:
    """(sum v)^2 / sum v^2 of the energies v of parameters; 0 where there is none."""
    largest = float(shares.max(initial=0.0))
    if largest <= 0:
        return 0.0
    scaled = shares / largest
    return float(scaled.sum() ** 2 / (np.square(scaled) / np.maximum(parameters, 1.0)).sum())
