"""Path lengths: sums over parameters and rows (monoids), and the predictability figures made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ....kernels.pass_layout import (
    ENERGY,
    INCREMENT,
    LAG_PRODUCT,
    NONZERO_TINY,
    PREDICTION,
    PREDICTORS,
    PRODUCT,
    RESIDUAL,
    TINY,
    sum_columns,
)
from ...results.kappa import predictor_result
from ...results.result import PredictorResult, Steps
from ...statistics.jackknife import standard_errors

FIGURES = ("path_length", "kappa", "scaled_kappa", "scale")
"""Of a `PredictorResult`."""


class PathLengthTotals:
    """Sums over all rows and a set of parameters: one float64 for each column of `fused_pass`.

    Disjoint sets of parameters, or of rows, add.
    """

    def __init__(self, predictors: Sequence[str]) -> None:
        self.predictors = tuple(predictors)
        self.totals = np.zeros(sum_columns(len(self.predictors)))
        self.groups: dict[int, NDArray[np.float64]] = {}
        """Sums of each group of a sketch, where they are estimates."""

    def add(self, sums: NDArray[np.float64], group: int | None = None) -> None:
        """Add the sums (columns,) of some rows and parameters; group : of a sketch that they belong to."""
        with np.errstate(over="ignore"):
            self.totals += sums
        if group is not None:
            self.add_group(group, sums)

    def add_group(self, group: int, sums: NDArray[np.float64]) -> None:
        """Add sums of a group that are among the others already."""
        self.groups[group] = self.groups.get(group, 0.0) + sums

    def merge_groups(self, other: PathLengthTotals) -> None:
        """Add the groups' sums over a disjoint set, whose other sums are there already."""
        for group, added in other.groups.items():
            self.add_group(group, added)

    @property
    def energy(self) -> float:
        """sum_t ||g_t||^2."""
        return float(self.totals[ENERGY])

    @property
    def increment_energy(self) -> float:
        """||H||_F^2 = sum_{t>=1} ||g_t - g_{t-1}||^2."""
        return float(self.totals[INCREMENT])

    @property
    def overflow(self) -> bool:
        """Squared gradients don't fit into float64."""
        return not np.isfinite(self.totals).all()

    @property
    def vanish(self) -> bool:
        """There are gradients, and their squares are too small for float64 to hold their digits."""
        return bool(self.energy < TINY and self.totals[NONZERO_TINY] > 0)

    def result(self) -> tuple[PredictorResult, ...]:
        """Path length, kappa and scaled kappa of each predictor, with standard errors where groups tell."""
        found = _results(self.predictors, self.totals)
        if not self.groups:
            return found
        errors = standard_errors(self.totals, self._groups(), self._figures).reshape(len(found), 4)
        return tuple(_with_errors(result, row) for result, row in zip(found, errors, strict=True))

    @property
    def energy_error(self) -> float | None:
        """Standard error of the energy, where it is an estimate."""
        if not self.groups:
            return None
        return float(standard_errors(self.totals, self._groups(), lambda row: row[ENERGY : ENERGY + 1])[0])

    def _groups(self) -> NDArray[np.float64]:
        return np.stack([self.groups[group] for group in sorted(self.groups)])

    def _figures(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        found = _results(self.predictors, totals)
        values = [getattr(result, name) for result in found for name in FIGURES]
        return np.array([np.nan if value is None else value for value in values])


class PathLengthSeries:
    """The same sums for each row apart, (N, columns) float64, over a set of parameters."""

    def __init__(self, rows: int, predictors: Sequence[str]) -> None:
        self.predictors = tuple(predictors)
        self.sums = np.zeros((rows, sum_columns(len(self.predictors))))

    def update(self, start: int, sums: NDArray[np.float64]) -> None:
        """Add the sums of rows start .. start + len(sums) - 1 over a tile."""
        self.sums[start : start + sums.shape[0]] += sums

    def totals(self) -> PathLengthTotals:
        """The sums over all rows."""
        totals = PathLengthTotals(self.predictors)
        with np.errstate(over="ignore"):
            totals.add(self.sums.sum(axis=0))
        return totals

    def steps(self, step: NDArray[np.int64]) -> Steps:
        """Per-step norm, cosine and kappas; NaN where a norm is 0."""
        energy = self.sums[:, ENERGY]
        norm = np.sqrt(energy)
        cosine = np.full(energy.size, np.nan)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            cosine[1:] = np.clip(self.sums[1:, LAG_PRODUCT] / norm[1:] / norm[:-1], -1.0, 1.0)
            kappa = {
                spec: np.where(energy > 0, self.sums[:, _columns(p)][:, RESIDUAL] / energy, np.nan)
                for p, spec in enumerate(self.predictors)
            }
        later = [
            (spec, self.sums[:, _columns(p)]) for p, spec in enumerate(self.predictors) if spec != "zero"
        ]
        path_length = {spec: sums[:, RESIDUAL].copy() for spec, sums in later}
        product = {spec: sums[:, PRODUCT].copy() for spec, sums in later}
        return Steps(step, norm, cosine, kappa, path_length, product)


def _results(predictors: Sequence[str], totals: NDArray[np.float64]) -> tuple[PredictorResult, ...]:
    energy = float(totals[ENERGY])
    return tuple(
        predictor_result(spec, energy, *map(float, totals[_columns(p)])) for p, spec in enumerate(predictors)
    )


def _with_errors(result: PredictorResult, errors: NDArray[np.float64]) -> PredictorResult:
    length, kappa, scaled, scale = (None if np.isnan(error) else float(error) for error in errors)
    return replace(
        result, path_length_error=length, kappa_error=kappa, scaled_kappa_error=scaled, scale_error=scale
    )


def _columns(predictor: int) -> slice:
    return slice(PREDICTORS + 3 * predictor, PREDICTORS + 3 * predictor + 3)


assert (RESIDUAL, PRODUCT, PREDICTION) == (0, 1, 2)
