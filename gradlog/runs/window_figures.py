"""Figures of windows of training, from what a pass gathered of them, beside what noise would have there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.pass_layout import ENERGY, PREDICTION, PREDICTORS, PRODUCT, RESIDUAL
from ..measures.noise.energies import lots
from ..measures.windows import SPECTRA as WINDOW_SPECTRA
from ..measures.windows import SUMS as WINDOW_SUMS
from ..results.spectral_counts import predictable_ranks
from ..results.windows import ScopeWindows, Windows
from ..statistics.noise_reference import spectrum_reference, window_references

if TYPE_CHECKING:
    from ..measures.noise.energies import EnergySums
    from ..measures.windows.window_spectra import SquaresOfWindows, WindowSquares
    from ..measures.windows.window_sums import SumsOfWindows

Doubles = NDArray[np.float64]


def figures_of_windows(
    step: NDArray[np.int64],
    specs: Sequence[str],
    listed: Sequence[str],
    epsilons: Sequence[float],
    results: Mapping[str, Any],
    energies: EnergySums,
    of_rows: Doubles,
    groups: tuple[Doubles, Doubles],
) -> Windows | None:
    """None where windows were not asked for.

    step : (N,) training steps; specs : of the predictors, in the order of the sums' columns
    listed : those of them that results have; energies : of each tensor by row
    of_rows : (N,) ||g_t||^2 of the whole model; groups : as of `spectrum_reference`, of the whole model
    """
    sums: SumsOfWindows | None = results.get(WINDOW_SUMS)
    if sums is None:
        return None
    spectra: SquaresOfWindows | None = results.get(WINDOW_SPECTRA)
    at = {spec: number for number, spec in enumerate(specs) if spec in listed}
    total = np.zeros(0)
    tensors: list[ScopeWindows] = []
    of_model: dict[str, Doubles] = {}
    for lot in lots(len(energies.watched), step.size):
        of_lot = sums.of(lot)
        total = of_lot.sum(axis=0) + (total if total.size else 0.0)
        of_lot_rows = energies.of_rows(lot)
        if not lot.start:  # those of the whole model come with the first ones
            of_lot_rows = np.concatenate([of_lot_rows, of_rows[None]])
        references = {spec: window_references(spec, sums.windows, of_lot_rows) for spec in at}
        if not lot.start:
            of_model = {spec: each[-1:] for spec, each in references.items()}
        squares = [None if spectra is None else spectra.tensors.get(n) for n in range(lot.start, lot.stop)]
        tensors += _scopes(of_lot, at, references, squares, epsilons)
    noise = (
        {} if spectra is None or spectra.total is None else _noise(sums.windows, of_rows, groups, epsilons)
    )
    of_all = [None if spectra is None else spectra.total]
    [of_total] = _scopes(total[None], at, of_model, of_all, epsilons)
    of_total = dataclasses.replace(of_total, rank_reference=noise)
    ends = np.stack([sums.windows[:, 0], sums.windows[:, 1] - 1], axis=1)
    return Windows(sums.windows, step[ends], of_total, tensors)


def _scopes(
    tables: Doubles,
    at: Mapping[str, int],
    references: Mapping[str, Doubles],
    squares: Sequence[WindowSquares | None],
    epsilons: Sequence[float],
) -> Iterator[ScopeWindows]:
    """tables : (scopes, W, columns of `fused_pass`); at : numbers of predictors; references : (scopes, W)"""
    energy = tables[..., ENERGY].copy()
    kappa, scaled = {}, {}
    for spec, number in at.items():
        residual, product, prediction = (
            tables[..., PREDICTORS + 3 * number + column] for column in (RESIDUAL, PRODUCT, PREDICTION)
        )
        kappa[spec] = _over(residual, energy)
        scaled[spec] = _scaled(energy, residual, product, prediction)
    known = [np.zeros((tables.shape[1], 0)) if each is None else each for each in squares]
    table = np.zeros((*tables.shape[:2], max((each.shape[1] for each in known), default=0)))
    for into, each in zip(table, known, strict=True):
        into[:, : each.shape[1]] = each
    ranks = {epsilon: predictable_ranks(table, epsilon) for epsilon in epsilons}
    for number, of_scope in enumerate(squares):
        rank = {} if of_scope is None else {epsilon: each[number] for epsilon, each in ranks.items()}
        yield ScopeWindows(
            energy[number],
            kappa={spec: each[number] for spec, each in kappa.items()},
            scaled_kappa={spec: each[number] for spec, each in scaled.items()},
            reference={spec: each[number] for spec, each in references.items()},
            rank=rank,
        )


def _over(above: Doubles, below: Doubles) -> Doubles:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _scaled(energy: Doubles, residual: Doubles, product: Doubles, prediction: Doubles) -> Doubles:
    """Scaled kappa of each window: as of `results.kappa.predictor_result`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = product - prediction
        near = residual / energy - excess / prediction * (excess / energy)
        far = 1.0 - product / prediction * (product / energy)
        found = np.clip(np.where(residual < energy, near, far), 0.0, 1.0)
    return np.where(energy > 0, np.where(prediction > 0, found, 1.0), np.nan)


def _noise(
    windows: NDArray[np.int64], of_rows: Doubles, groups: tuple[Doubles, Doubles], epsilons: Sequence[float]
) -> dict[float, Doubles]:
    found = np.full((len(epsilons), len(windows)), np.nan)
    for number, (first, last) in enumerate(windows.tolist()):
        reference = spectrum_reference(of_rows[first:last], *groups, epsilons)
        if reference is not None:
            found[:, number] = reference.rank
    return dict(zip(epsilons, found, strict=True))
