"""Spectra of increment matrices: accumulators (monoids) and the ranks read off a spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ....kernels.gram import squared_singular_values
from ...results.result import RankResult, SpectrumResult
from ...results.spectral_counts import spectral_counts
from .certificate import TIE


class ExactSpectrum:
    """Gram matrix of a set of parameters' increments, (n, n) float64: H^T H or H H^T, the smaller.

    Gram matrices over rows (H^T H) add over disjoint parameters; those over columns (H H^T) add over time.
    """

    def __init__(self, size: int) -> None:
        self.gram = np.zeros((size, size))

    def update(self, gram: NDArray[np.floating]) -> None:
        """Add one tile's Gram matrix, float32 or float64."""
        self.gram += gram

    def merge(self, other: ExactSpectrum) -> None:
        """Add the Gram matrix over a disjoint set of parameters."""
        self.gram += other.gram

    def squared_singular_values(self) -> NDArray[np.float64]:
        """sigma_i^2, descending."""
        return squared_singular_values(self.gram)


@dataclass(frozen=True)
class PartialSpectra:
    """Spectra of a part of the parameters: finished where a tensor lies whole in it, Gram matrices elsewhere.

    squares : sigma_i^2, descending, of each tensor that lies whole in the part
    total_squares : those of the whole model, where its matrix over columns lies in this part
    grams : Gram matrix over rows of what the part has of each other tensor: at most its first and its last
    total : sum of the Gram matrices over rows of the tensors in `squares`; None where it serves nothing
    """

    squares: Mapping[int, NDArray[np.float64]]
    total_squares: NDArray[np.float64] | None
    grams: Mapping[int, NDArray[np.float64]]
    total: NDArray[np.float64] | None


class Spectrum(Protocol):
    """A finished spectrum of one scope, by any method."""

    def result(self, energy: float) -> SpectrumResult:
        """Ranks and summary figures. energy : ||H||_F^2, summed in float64 by the fused pass."""


@dataclass(frozen=True)
class ExactEigenvalues:
    """All sigma_i^2 of a scope, descending, (min(N - 1, D),) float64."""

    squares: NDArray[np.float64]
    epsilons: Sequence[float]

    def result(self, energy: float) -> SpectrumResult:
        """As of `Spectrum`. The squares must add up to the energy: RuntimeError otherwise, one is wrong."""
        return _exact_result(self.squares, energy, self.epsilons)


def _exact_result(squares: NDArray[np.float64], energy: float, epsilons: Sequence[float]) -> SpectrumResult:
    total = float(squares.sum())
    if abs(total - energy) > 1e-5 * energy:
        raise RuntimeError(
            f"the spectrum holds energy {total!r}, the increments {energy!r}: please report this"
        )
    cumulative = np.cumsum(squares)
    ranks = []
    for epsilon in epsilons:
        rank = 0
        if total > 0.0:
            rank = int(np.searchsorted(cumulative, (1.0 - epsilon - TIE) * total)) + 1
            rank = min(rank, squares.size)
        ranks.append(RankResult(epsilon, rank, rank, rank, float(squares[rank:].sum())))
    if total == 0.0:
        return SpectrumResult("exact", 1.0, energy, tuple(ranks), None, None, None, np.sqrt(squares))
    return SpectrumResult(
        method="exact",
        confidence=1.0,
        energy=energy,
        rank=tuple(ranks),
        **spectral_counts(squares),
        singular_values=np.sqrt(squares),
    )
