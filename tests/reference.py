"""The quantities of gradmf straight from their definitions: float64, everything in memory, no shortcut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def predictions(gradients: Array, spec: str) -> Array:
    """(N, D) m_t of one predictor."""
    name, _, argument = spec.partition(":")
    m = np.zeros_like(gradients)
    state = np.zeros(gradients.shape[1])
    for t in range(1, gradients.shape[0]):
        past = gradients[:t]
        if name == "one-step":
            m[t] = past[-1]
        elif name in ("ema", "ema-debiased"):
            b = float(argument)
            state = b * state + (1 - b) * past[-1]
            m[t] = state if name == "ema" else state / (1 - b**t)
        elif name == "mean":
            m[t] = past[-int(argument) :].mean(axis=0)
        elif name == "linear":
            m[t] = past[-1] if t == 1 else 2 * past[-1] - past[-2]
        elif name == "lags":
            for lag, weight in enumerate(argument.split(",")[:t], 1):
                m[t] += float(weight) * past[-lag]
        elif name == "mixture":
            continue
        elif name != "zero":
            raise ValueError(spec)
    if name == "mixture":
        first, second, share = argument.split(",")
        averages = [predictions(gradients, f"ema:{decay}") for decay in (first, second)]
        m = float(share) * averages[0] + (1 - float(share)) * averages[1]
    return m


@dataclass(frozen=True)
class PathLength:
    path_length: float
    kappa: float | None
    scaled_kappa: float | None
    scale: float | None
    per_step: Array


def path_length(gradients: Array, spec: str) -> PathLength:
    m = predictions(gradients, spec)
    residual = gradients - m
    per_row = (residual**2).sum(axis=1)
    energies = (gradients**2).sum(axis=1)
    energy = energies.sum()
    total = float(per_row.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        per_step = np.where(energies > 0, per_row / energies, np.nan)
    if energy == 0:
        return PathLength(total, None, None, None, per_step)
    mm = (m**2).sum()
    if mm == 0:
        return PathLength(total, total / energy, 1.0, None, per_step)
    scale = float((gradients * m).sum() / mm)
    scaled = float(((gradients - scale * m) ** 2).sum() / energy)
    return PathLength(total, float(total / energy), scaled, scale, per_step)


@dataclass(frozen=True)
class Spectrum:
    energy: float
    shares: Array
    """sigma_i^2 / energy, descending; empty when the energy is 0."""
    singular_values: Array

    def rank(self, epsilon: float) -> int:
        if self.energy == 0:
            return 0
        return int(np.argmax(np.cumsum(self.shares) >= 1 - epsilon - 1e-12)) + 1

    def near_threshold(self, epsilon: float, tolerance: float = 1e-6) -> bool:
        """The cumulative share of some rank is too close to the threshold for r* to be told apart."""
        return bool(np.any(np.abs(np.cumsum(self.shares) - (1 - epsilon)) < tolerance))


def spectrum(gradients: Array) -> Spectrum:
    increments = np.diff(gradients, axis=0).T
    energy = float((increments**2).sum())
    sigma = np.linalg.svd(increments, compute_uv=False) if increments.size else np.zeros(0)
    shares = sigma**2 / energy if energy else np.zeros(0)
    return Spectrum(energy, shares, sigma)
