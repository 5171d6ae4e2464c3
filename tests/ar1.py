"""Analyses of simulated AR(1) gradients, straight from the definitions and without a store: fast in bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradmf.gradlog import Analysis, Cost, PredictorResult, RunInfo, ScopeResult, Settings, Steps

Array = NDArray[np.float64]


def ar1(rng: np.random.Generator, rows: int, columns: int, phi: float) -> Array:
    """(rows, columns): stationary, of unit variance, g_t = phi g_{t-1} + noise."""
    noise = np.sqrt(1 - phi * phi) * rng.standard_normal((rows, columns))
    noise[0] = rng.standard_normal(columns)
    for t in range(1, rows):
        noise[t] += phi * noise[t - 1]
    return noise


def predictions(g: Array, spec: str) -> Array:
    """m_t of one-step, ema:B or mean:K."""
    m = np.zeros_like(g)
    name, _, argument = spec.partition(":")
    if name == "one-step":
        m[1:] = g[:-1]
    elif name == "ema":
        decay = float(argument)
        for t in range(1, len(g)):
            m[t] = decay * m[t - 1] + (1 - decay) * g[t - 1]
    else:
        for t in range(1, len(g)):
            m[t] = g[max(0, t - int(argument)) : t].mean(axis=0)
    return m


def analysis_of(
    g: Array, specs: Sequence[str] = ("one-step", "ema:0.5", "mean:5"), path: str = "simulated"
) -> Analysis:
    """The analysis of gradients (rows, columns), without ranks and tensors."""
    energy = (g * g).sum(axis=1)
    held: dict[str, tuple[Array, Array]] = {}
    results = [PredictorResult("zero", float(energy.sum()), 1.0, 1.0, None)]
    for spec in specs:
        m = predictions(g, spec)
        residual, product, square = ((g - m) ** 2).sum(axis=1), (g * m).sum(axis=1), (m * m).sum()
        held[spec] = residual, product
        scale = product.sum() / square
        scaled = ((g - scale * m) ** 2).sum() / energy.sum()
        kappa = residual.sum() / energy.sum()
        results.append(
            PredictorResult(spec, float(residual.sum()), float(kappa), float(scaled), float(scale))
        )
    rows, columns = g.shape
    no_kappa: Mapping[str, Any] = {}
    return Analysis(
        version="0",
        run=RunInfo(path, rows, columns, 1, ("float64",), {}),
        settings=Settings(predictors=tuple(specs), rank="none"),
        total=ScopeResult(columns, float(energy.sum()), tuple(results), None),
        tensors=(),
        steps=Steps(
            np.arange(rows),
            np.sqrt(energy),
            np.full(rows, np.nan),
            no_kappa,
            {spec: residual for spec, (residual, _) in held.items()},
            {spec: product for spec, (_, product) in held.items()},
        ),
        warnings=(),
        cost=Cost(0.0, 0, "none"),
    )
