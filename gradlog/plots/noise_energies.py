"""What independent noise with a run's norms is made of, as far as an analysis tells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..results.result import Analysis

Doubles = NDArray[np.float64]


def noise_energies(analysis: Analysis) -> tuple[Doubles, Doubles, Doubles] | None:
    """Arguments of `spectrum_reference` for the whole model; None without per-step series, or without energy.

    energies : (N,) ||g_t||^2; parameters, shares : (tensors,) how many parameters carry how much energy:
    the effective number of each tensor, where the pass itself counted them by powers of two
    """
    energies = np.square(analysis.steps.grad_norm)
    if not energies.size or not np.isfinite(energies).all() or not energies.any():
        return None
    parameters = [t.effective_parameters or float(t.parameters) for t in analysis.tensors]
    shares = np.array([t.energy for t in analysis.tensors])
    return (energies, np.array(parameters), shares) if shares.any() else None
