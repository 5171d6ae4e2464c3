"""Spectrum of the increments of independent rows, from their energies alone.

Increments g_t - g_{t-1} of independent, centred rows overlap with their neighbours only: E <h_t, h_t> is
e_{t-1} + e_t, E <h_t, h_{t+1}> is -e_t, and all others are 0. With many more parameters than rows, the matrix
of inner products is this tridiagonal one. With D of equal energy, it is a sample covariance matrix of D
samples of it, whose eigenvalues spread (Marchenko and Pastur 1967); with groups of parameters of different
energy, a separable one (Paul and Silverstein 2009).

Eigenvalues are counted, not computed: by Sturm sequences between some 160 thresholds, N operations each, and
the spread follows from a transform along lines that cross the real axis.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .c_function import WITHOUT_JIT, c_function
from .noise_layout import LANES, SCRATCH

Doubles = NDArray[np.float64]


def noise_spectra(
    energies: Doubles, groups: Sequence[tuple[Doubles, Doubles]], epsilons: Sequence[float]
) -> Doubles:
    """(S, 2 + E) stable rank, effective rank, and r* of each epsilon, of independent Gaussian rows.

    Of r* about what most draws have, to one or two percent of N. The GIL is free meanwhile.

    energies : (S, N) float64 of each scope, E ||g_t||^2, N >= 2, of which the greatest is 1: the others'
    order of magnitude is then no matter
    groups : of each scope (G,) and (G,) float64, number of parameters of each group, which share its
    energy evenly, and its share of the energy
    """
    scopes, rows = energies.shape
    ends = np.cumsum([0, *(parameters.size for parameters, _ in groups)])
    columns, counts = np.empty(2 * ends[-1]), np.empty(scopes)
    for number, (parameters, shares) in enumerate(groups):
        counts[number] = count = parameters.sum()
        first, middle, last = 2 * ends[number], ends[number] + ends[number + 1], 2 * ends[number + 1]
        columns[first:middle] = parameters / count
        columns[middle:last] = shares / parameters * (count / shares.sum())
    cut = np.array(epsilons, dtype=np.float64)
    results = np.zeros((scopes, 2 + cut.size))
    scratch, lanes = np.empty(SCRATCH), np.empty((3, LANES), np.float32)
    held = np.ascontiguousarray(energies, dtype=np.float64)
    if rows < 2 or len(groups) != scopes or not np.isfinite(columns).all():
        raise ValueError(f"{energies.shape} rows of {len(groups)} groups of parameters: {groups}")
    if WITHOUT_JIT:
        from .noise_spectrum_jit import figures_of_scopes

        figures_of_scopes(held, columns, ends, counts, cut, results, scratch, lanes)
    else:
        compile_noise_spectra()(
            held.ctypes.data, scopes, rows, columns.ctypes.data, ends.ctypes.data, counts.ctypes.data,
            cut.ctypes.data, cut.size, results.ctypes.data, scratch.ctypes.data, lanes.ctypes.data,
        )  # fmt: skip
    return results


def compile_noise_spectra() -> Any:
    """The C function, from the cache or compiled: once for all processes."""
    return c_function("noise_spectrum", np.dtype(np.float64), _ARGUMENTS, ("noise_layout",))


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS = (_POINTER, _SIZE, _SIZE, *(_POINTER,) * 4, _SIZE, *(_POINTER,) * 3)
