"""Finished spectra of increment matrices, and the ranks read off them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...quick_dataclass import dataclass
from ...results.quantities import COUNTS
from ...results.result import RankResult, SpectrumResult
from ...results.spectral_counts import predictable_rank, spectral_counts
from ...statistics.spectrum_errors import spectrum_errors

NAME = "spectrum"
"""Of the measure, by whichever method."""
WORDS = ("error", "freedom")
"""What `spectrum_errors` gives of each figure."""


class Spectrum(Protocol):
    """A finished spectrum of one scope, by any method."""

    def result(self, energy: float) -> SpectrumResult:
        """Ranks and summary figures. energy : ||H||_F^2, summed in float64 by the fused pass."""


@dataclass(frozen=True)
class Spectra:
    """Of the whole model, and of each tensor."""

    total: Spectrum
    tensors: Sequence[Spectrum]


@dataclass(frozen=True)
class ExactEigenvalues:
    """All sigma_i^2 of a scope, descending, (min(N - 1, D),) float64.

    left_out : the same without each of the stretches that `statistics.spectrum_errors` takes; or none
    """

    squares: NDArray[np.float64]
    epsilons: Sequence[float]
    left_out: Sequence[NDArray[np.float64]] = ()

    def result(self, energy: float) -> SpectrumResult:
        """As of `Spectrum`. The squares must add up to the energy: RuntimeError otherwise, one is wrong."""
        found = _exact_result(self.squares, energy, self.epsilons)
        errors = spectrum_errors(self.left_out, self.epsilons)
        if not errors:
            return found
        of_counts: dict[str, Any] = {
            f"{name}_{word}": errors[name][at] for name in COUNTS for at, word in enumerate(WORDS)
        }
        ranks = []
        for rank in found.rank:
            error, freedom = errors[repr(rank.epsilon)]
            ranks.append(dataclasses.replace(rank, error=error, freedom=freedom))
        return dataclasses.replace(found, rank=tuple(ranks), **of_counts)


def _exact_result(squares: NDArray[np.float64], energy: float, epsilons: Sequence[float]) -> SpectrumResult:
    total = float(squares.sum())
    if abs(total - energy) > 1e-5 * energy:
        raise RuntimeError(
            f"the spectrum holds energy {total!r}, the increments {energy!r}: please report this"
        )
    ranks = []
    for epsilon in epsilons:
        rank, _ = predictable_rank(squares, epsilon)
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
