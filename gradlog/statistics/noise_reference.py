"""What a run's figures would be if its gradients were independent noise that keeps their norms.

Rows g_t = sqrt(e_t) z_t, with z_t independent, centred, and E ||z_t||^2 = 1: no history foretells anything of
them. Every figure is held against this: kappa against what a predictor's weights alone give, and ranks of
increments against the spectrum that norms and overlaps alone give.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...kernels.noise_spectrum import noise_spectra
from ..predictors import Average, Lag, parse_predictor
from ..quick_dataclass import dataclass

Doubles = NDArray[np.float64]

LEAST_EFFECTIVE_ROWS = 20.0
"""Where fewer rows carry the energy, nothing is said of how a figure may vary."""
FEW_CARRY = f"fewer than {LEAST_EFFECTIVE_ROWS:g} rows carry the energy"
MOST_GROUPS = 32
"""Groups of parameters of the same energy that a spectrum is worked out for."""
WINDOWS_AT_ONCE = 64
"""Of training, whose weights are held at once."""
FILTERED_AT_ONCE = 64
"""Rows that a product of matrices takes in the place of a loop."""


def effective_rows(energies: Doubles, widths: Doubles | NDArray[np.int64] | int = 1) -> Doubles:
    """Rows that carry the energy, (sum e_t)^2 / sum e_t^2, in 1 .. N; 0 where there is none (Kish 1965).

    energies : (..., N) float64, e_t = ||g_t||^2; the result has their other axes
    widths : (N,), where rows are taken together: how many, which share their energy evenly
    """
    largest = energies.max(axis=-1, keepdims=True, initial=0.0)
    scaled = np.divide(energies, largest, out=np.zeros_like(energies), where=largest > 0)
    squares = (np.square(scaled) / widths).sum(axis=-1)
    return np.asarray(
        np.divide(scaled.sum(axis=-1) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)
    )


def kappa_references(specs: Sequence[str], energies: Doubles) -> Doubles:
    """(..., P) kappa of each predictor on independent noise of these norms; NaN where all are 0.

    sum_t (e_t + E ||m_t||^2) / sum_t e_t, exactly, from the weights w_{t,s} of g_s in m_t: E ||m_t||^2 is
    sum_s w_{t,s}^2 e_s.

    energies : (..., N) float64, e_t = ||g_t||^2
    """
    largest = energies.max(axis=-1, keepdims=True, initial=0.0)
    scaled = np.divide(energies, largest, out=np.full_like(energies, np.nan), where=largest > 0)
    weights = np.stack([squared_weights(spec, energies.shape[-1]) for spec in specs], axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(1.0 + scaled @ weights / scaled.sum(axis=-1, keepdims=True))


def window_references(spec: str, windows: NDArray[np.int64], energies: Doubles) -> Doubles:
    """(tensors, W) kappa of each window on independent noise of these norms; NaN where all of them are 0.

    sum (e_t + E ||m_t||^2) / sum e_t over the rows of a window, with predictions made from all rows before.

    windows : (W, 2), first and last + 1 of the rows of each; energies : (tensors, N), e_t = ||g_t||^2
    """
    added, own = np.empty((2, energies.shape[0], len(windows)))
    for at in range(0, len(windows), WINDOWS_AT_ONCE):
        lot = windows[at : at + WINDOWS_AT_ONCE]
        weights = np.zeros((len(lot), energies.shape[1]))
        for number, (first, last) in enumerate(lot.tolist()):
            weights[number, :last] = squared_weights(spec, last)
            if first:
                weights[number, :first] -= squared_weights(spec, first)
            energies[:, first:last].sum(axis=1, out=own[:, at + number])
        # Differences of sums of the same terms: what is left below 0 is rounding.
        added[:, at : at + len(lot)] = energies @ np.maximum(weights, 0.0).T
    return np.asarray(1.0 + np.divide(added, own, out=np.full_like(own, np.nan), where=own > 0))


@functools.lru_cache(maxsize=64)
def squared_weights(spec: str, rows: int) -> Doubles:
    """(N,) sum_t w_{t,s}^2 over t = s + 1 .. N - 1: how often g_s comes back in predictions, by energy.

    Of two exponential averages of decay B and B', products of weights w_{t,s} w'_{t,s} are
    (1 - B) (1 - B') (B B')^(t-1-s); of one and a lag k, (1 - B) B^(k-1) at s = t - k.
    """
    t = np.arange(1, rows)
    found = np.zeros(rows)
    weights = parse_predictor(spec).weights(t) if t.size else {}
    of_lags: dict[Lag | Average, Doubles] = {}
    of_averages: dict[Lag | Average, Doubles] = {}
    for vector, weight in weights.items():
        (of_lags if isinstance(vector, Lag) else of_averages)[vector] = np.broadcast_to(
            np.asarray(weight, np.float64), t.shape
        )
    averages = [(cast("Average", vector).decay, weight) for vector, weight in of_averages.items()]
    for vector, weight in of_lags.items():
        k = cast("Lag", vector).k
        if k >= rows:
            continue
        beside = weight + 2 * sum((1 - b) * b ** (k - 1) * share for b, share in averages)
        found[: rows - k] += (weight * beside)[k - 1 :]
    for b, weight in averages:
        for c, other in averages:
            found[:-1] += (1 - b) * (1 - c) * _summed_back(weight * other, b * c)
    found.flags.writeable = False
    return found


@functools.lru_cache(maxsize=64)
def _response(decay: float) -> Doubles:
    """(n, n) decay^(t-s) for t >= s, 0 elsewhere, with s before t."""
    at = np.arange(FILTERED_AT_ONCE)
    ages = at - at[:, None]
    return np.where(ages >= 0, float(decay) ** np.maximum(ages, 0), 0.0)


def _summed_back(values: Doubles, decay: float) -> Doubles:
    """(n,) sum over t >= s of decay^(t-s) values[t], for each s."""
    size = FILTERED_AT_ONCE
    padded = np.zeros(-(-values.size // size) * size)
    padded[: values.size] = values[::-1]
    within = padded.reshape(-1, size) @ _response(decay)
    fading = float(decay) ** np.arange(1, size + 1)
    before = 0.0
    for block in within:
        block += before * fading
        before = float(block[-1])
    return np.asarray(within.reshape(-1)[: values.size][::-1])


@dataclass(frozen=True)
class SpectrumReference:
    """What independent noise gives in place of a spectrum's figures.

    rank : r* of each epsilon; stable_rank, effective_rank : as of `SpectrumResult`
    """

    rank: tuple[int, ...]
    stable_rank: float
    effective_rank: float


def spectrum_reference(
    energies: Doubles, parameters: Doubles, shares: Doubles, epsilons: Sequence[float]
) -> SpectrumReference | None:
    """Ranks of the increments of independent noise of these norms; None where there are no increments.

    energies : (N,) float64, e_t = ||g_t||^2
    parameters : (G,) float64, number of parameters of each group, which share its energy evenly: where they
    don't, their effective number; shares : (G,) float64, energy of each group, in any unit
    """
    return spectrum_references(energies[None], [(parameters, shares)], epsilons)[0]


def spectrum_references(
    energies: Doubles, groups: Sequence[tuple[Doubles, Doubles]], epsilons: Sequence[float]
) -> list[SpectrumReference | None]:
    """As `spectrum_reference`, of many scopes. energies : (S, N); groups : of each its parameters, shares"""
    found: list[SpectrumReference | None] = [None] * len(groups)
    largest = energies.max(axis=1, initial=0.0)
    there = np.flatnonzero((largest > 0) & np.isfinite(largest)).tolist() if energies.shape[1] > 1 else []
    fewer = {number: _fewer_groups(*groups[number]) for number in there if (groups[number][1] > 0).any()}
    if not fewer:
        return found
    there = list(fewer)
    scaled = energies[there] / largest[there, None]
    figures = noise_spectra(scaled, list(fewer.values()), epsilons)
    for number, (stable, effective, *ranks) in zip(there, figures.tolist(), strict=True):
        found[number] = SpectrumReference(tuple(int(rank) for rank in ranks), stable, effective)
    return found


def _fewer_groups(parameters: Doubles, shares: Doubles) -> tuple[Doubles, Doubles]:
    """Those with energy, the greatest 1, and parameters of at least 1; at most MOST_GROUPS.

    Of many, those with energies per parameter of the same power of two are one.
    """
    there = shares > 0
    parameters, shares = np.maximum(parameters[there], 1.0), shares[there] / shares.max()
    if parameters.size <= MOST_GROUPS:
        return parameters, shares
    order = np.argsort(-shares / parameters, kind="stable")
    parameters, shares = parameters[order], shares[order]
    octaves = np.frexp(shares / parameters)[1]
    at = np.flatnonzero(np.diff(octaves, prepend=octaves[0] + 1))[:MOST_GROUPS]
    return np.add.reduceat(parameters, at), np.add.reduceat(shares, at)
