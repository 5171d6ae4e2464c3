"""Predictable rank of each tensor, in the order of depth, beside that of noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..results.result import Analysis, RankResult
from .drawn_run import DrawnRun
from .panel import Heading, Panel, handle, looks_of_ranks, middle_epsilon, sparse_ticks
from .spectrum_panel import lacks as lacks_spectrum
from .spectrum_panel import rank_shown
from .style import PALE, Style
from .tensor_axis import draw_tensor_axis, height, tensors_of

MOST_EPSILONS = 3
MOST_GUIDES = 40
"""Tensors that each have a thin line, to follow to their names."""


def draw(axes: Any, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """r* of each epsilon, of one run; of one epsilon, of several."""
    names = tensors_of(runs)
    spectrum = runs[0].analysis.total.spectrum
    assert spectrum is not None
    epsilons = [rank.epsilon for rank in spectrum.rank][:MOST_EPSILONS]
    middle = middle_epsilon(runs)
    if len(names) > MOST_GUIDES and middle is not None:
        epsilons = [middle]
    looks, of = looks_of_ranks(runs, epsilons)
    entries: list[Any] = []
    bounded = False
    for run, epsilon, color, marker, _ in looks:
        ranks = ranks_of_tensors(run.analysis, epsilon, names)
        at = np.arange(len(names))
        shown = [np.nan if rank is None else rank_shown(rank) for rank in ranks]
        noise = [np.nan if rank is None or rank.reference is None else rank.reference for rank in ranks]
        axes.plot(
            noise, at, color=color, marker=marker, markerfacecolor="white", linestyle="none", zorder=2
        )  # fmt: skip
        found = axes.plot(
            np.array(shown, dtype=float), at, color=color, marker=marker, linestyle="none", zorder=3
        )[0]  # fmt: skip
        found.set_label(f"eps {epsilon:g}")
        entries += [found] if runs[0].alone else []
        for number, rank in enumerate(ranks):
            if rank is not None and rank.lower < rank.upper:
                axes.plot([rank.lower, rank.upper], [number] * 2, color=color, linewidth=0.5 * style.line)
                bounded = True
    if bounded:
        entries.append(handle("bounds", linewidth=0.5 * style.line))
    entries.append(handle("noise", marker="o", markerfacecolor="white", dashes="none"))
    for number in range(len(names) if len(names) <= MOST_GUIDES else 0):
        axes.axhline(number, color=PALE, linewidth=0.4 * style.line, zorder=0)
    draw_tensor_axis(axes, names, style, height(runs, style))
    axes.set_xlim(left=0)
    sparse_ticks(axes.xaxis)
    axes.set_xlabel("directions r*")
    return Heading(f"{of} by tensor", entries)


def ranks_of_tensors(analysis: Analysis, epsilon: float, names: Sequence[str]) -> list[RankResult | None]:
    """Of each name; None where the run has no such tensor, or it no rank."""
    held = {}
    for tensor in analysis.tensors:
        ranks = () if tensor.spectrum is None else tensor.spectrum.rank
        held[tensor.name] = next((rank for rank in ranks if rank.epsilon == epsilon), None)
    return [held.get(name) for name in names]


def lacks(analysis: Analysis) -> str:
    """Why there are no ranks of tensors; "" where there are."""
    return lacks_spectrum(analysis)


RANK = Panel("rank", "r* by tensor", lacks, draw, height)
