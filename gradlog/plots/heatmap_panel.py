"""Kappa of every tensor in every window of training, beside what noise has there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results.reasons import ALL_ZERO
from ..results.result import Analysis
from .drawn_run import DrawnRun
from .library import load
from .panel import Heading, Panel, handle, plain_number, sparse_ticks
from .style import DIVERGING, PALE, Style
from .tensor_axis import draw_tensor_axis, height, tensors_of
from .training_windows import NO_PREDICTORS, NO_WINDOWS

Doubles = NDArray[np.float64]

SPANS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Ratios to noise that the scale may end at, and at their inverse."""
VANISHING = 1e-12
"""A kappa of 0 is drawn as this ratio."""
SHARE = 98.0
"""Percent of the tensors' windows that lie within its ends."""


def draw(axes: Any, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """A run's tensors by windows: blue where the predictor does better than on noise, red where worse."""
    (run,) = runs
    windows = run.analysis.windows
    assert windows is not None
    names = tensors_of(runs)
    ratios = ratios_to_noise(run.analysis, run.predictor, names)
    shades = _logarithms(ratios)
    span = _span(runs)
    colors = load("matplotlib").colormaps[DIVERGING].with_extremes(bad=PALE)
    edges = _edges(run.middles(windows.rows))
    mesh = axes.pcolormesh(
        edges, np.arange(len(names) + 1) - 0.5, np.ma.masked_invalid(shades),
        cmap=colors, vmin=-span, vmax=span, rasterized=True, shading="flat",
    )  # fmt: skip
    draw_tensor_axis(axes, names, style, height(runs, style))
    axes.set_xlim(edges[0], edges[-1])
    sparse_ticks(axes.xaxis)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    _draw_scale(axes, mesh, span, shades)
    entries = []
    if np.isnan(ratios).any():
        patch = handle(run.say(ALL_ZERO), color=PALE, marker="s", dashes="none")
        entries.append(patch)
    return Heading(f"Kappa of {run.predictor} over noise, by tensor", entries)


def ratios_to_noise(analysis: Analysis, predictor: str, names: Sequence[str]) -> Doubles:
    """(tensors, W) kappa of a predictor over that of noise; NaN where all gradients are 0."""
    windows = analysis.windows
    assert windows is not None
    by_name = {t.name: scope for t, scope in zip(analysis.tensors, windows.tensors, strict=True)}
    kappa = np.array([by_name[name].kappa[predictor] for name in names])
    noise = np.array([by_name[name].reference[predictor] for name in names])
    return np.asarray(np.divide(kappa, noise, out=np.full_like(kappa, np.nan), where=noise > 0))


def _logarithms(ratios: Doubles) -> Doubles:
    return np.asarray(np.log10(np.maximum(ratios, VANISHING)))


def _span(runs: Sequence[DrawnRun]) -> float:
    """Where the scale ends, as a logarithm: the same for all runs of a figure."""
    predictor = runs[0].predictor
    found = [
        _logarithms(
            ratios_to_noise(analysis, predictor, [tensor.name for tensor in analysis.tensors])
        ).ravel()
        for analysis in runs[0].beside
        if not lacks(analysis) and analysis.windows is not None and predictor in analysis.windows.total.kappa
    ]
    known = np.abs(np.concatenate(found))
    known = known[~np.isnan(known)]
    wanted = float(np.percentile(known, SHARE)) if known.size else 0.0
    ends = [math.log10(span) for span in SPANS]
    return next((end for end in ends if end >= wanted), ends[-1])


def _edges(middles: Doubles) -> Doubles:
    """(W + 1,) where windows with these middles meet; a single one is one row or step wide."""
    if middles.size == 1:
        return np.array([middles[0] - 0.5, middles[0] + 0.5])
    between = (middles[1:] + middles[:-1]) / 2
    first, last = 2 * middles[0] - between[0], 2 * middles[-1] - between[-1]
    return np.concatenate([[first], between, [last]])


def _draw_scale(axes: Any, mesh: Any, span: float, shades: Doubles) -> None:
    known = shades[~np.isnan(shades)]
    below, above = bool((known < -span).any()), bool((known > span).any())
    extend = "both" if below and above else "min" if below else "max" if above else "neither"
    scale = axes.figure.colorbar(mesh, ax=axes, location="right", aspect=25, extend=extend, pad=0.015)
    ticks = [-span, -span / 2, 0.0, span / 2, span]
    digits = 3 if span < math.log10(2) else 2
    words = [plain_number(float(f"{10**tick:.{digits}g}")) for tick in ticks]
    words[2] = "noise"
    scale.set_ticks(ticks, labels=words)
    scale.outline.set_visible(False)
    scale.ax.minorticks_off()


def lacks(analysis: Analysis) -> str:
    """Why there is no picture of tensors by windows; "" where there is."""
    if analysis.total.energy == 0:
        return ALL_ZERO
    if analysis.windows is None:
        return NO_WINDOWS
    return "" if analysis.windows.total.kappa else NO_PREDICTORS


HEATMAP = Panel(
    "heatmap", "Kappa by tensor over training", lacks, draw, height, over_training=True, apart=True
)
