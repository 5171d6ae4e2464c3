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
from .noise_layout import SCRATCH

Doubles = NDArray[np.float64]


def noise_spectrum(
    energies: Doubles, parameters: Doubles, shares: Doubles, epsilons: Sequence[float]
) -> Doubles:
    """(2 + E,) stable rank, effective rank, and r* of each epsilon, of independent Gaussian rows.

    Of r* about what most draws have, to one or two percent of N.

    energies : (N,) float64, E ||g_t||^2, N >= 2, of which the greatest is 1: the others' order of magnitude
    is then no matter
    parameters : (G,) float64, number of parameters of each group, which share its energy evenly
    shares : (G,) float64, share of the energy of each group
    """
    count = float(parameters.sum())
    columns = np.ascontiguousarray([parameters / count, shares / parameters * (count / shares.sum())])
    cut = np.array(epsilons, dtype=np.float64)
    results, scratch = np.zeros(2 + cut.size), np.zeros(SCRATCH)
    held = np.ascontiguousarray(energies, dtype=np.float64)
    if held.ndim != 1 or held.size < 2 or not np.isfinite(columns).all():
        raise ValueError(f"{held.shape} rows of {parameters} parameters that share {shares}")
    if WITHOUT_JIT:
        from .noise_spectrum_jit import noise_figures

        noise_figures(held, columns, count, cut, results, scratch)
    else:
        compile_noise_spectrum()(
            held.ctypes.data, held.size, columns.ctypes.data, columns.shape[1], count,
            cut.ctypes.data, cut.size, results.ctypes.data, scratch.ctypes.data,
        )  # fmt: skip
    return results


def compile_noise_spectrum() -> Any:
    """The C function, from the cache or compiled: once for all processes."""
    return c_function("noise_spectrum", np.dtype(np.float64), _ARGUMENTS, ("noise_layout",))


_POINTER, _SIZE, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_ARGUMENTS = (_POINTER, _SIZE, _POINTER, _SIZE, _REAL, _POINTER, _SIZE, _POINTER, _POINTER)
