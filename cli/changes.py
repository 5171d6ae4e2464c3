"""Changes as people read them: percent, or times and parts where a figure is another order of magnitude."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .figures import NOTHING

if TYPE_CHECKING:
    from gradmf.gradlog import Change

TIMES = 10.0
"""From this ratio on, and below its inverse, ratios read better than percent."""


def change_text(change: Change) -> str:
    """``+3.21%``, ``x12.3`` or ``/12.3``; nothing where there is no ratio."""
    if change.relative is None:
        return NOTHING
    return relative_text(change.relative, change.relative)


def interval_text(change: Change) -> str:
    """Both ends in the unit of the change itself, such as ``+1.2 to +5.3%``; ``exact`` where it is a fact."""
    if change.interval is None or change.relative is None:
        return "exact" if change.basis == "exact" else NOTHING
    low, high = change.interval
    if _in_percent(change.relative):
        return f"{_percent(low)} to {_percent(high)}%"
    if change.relative > 0:
        return f"{relative_text(low, change.relative)} to {_times(1 + high)}"
    return f"{relative_text(low, change.relative)} to {_parts(high)}"


def relative_text(value: float, unit: float) -> str:
    """A relative change in the unit that fits the relative change `unit`."""
    if _in_percent(unit):
        return f"{_percent(value)}%"
    return f"x{_times(1 + value)}" if unit > 0 else f"/{_parts(value)}"


def _in_percent(relative: float) -> bool:
    return 1 / TIMES < 1 + relative < TIMES


def _percent(relative: float) -> str:
    text = three_digits(100 * relative)
    return text if text == "0" or text.startswith("-") else f"+{text}"


def _times(ratio: float) -> str:
    return three_digits(ratio)


def _parts(relative: float) -> str:
    return three_digits(1 / (1 + relative)) if relative > -1 else "inf"


def three_digits(value: float) -> str:
    """Three significant digits, at most two after the point, and never a power of ten below a million."""
    size = abs(value)
    if size >= 1e6:
        return f"{value:.2g}".replace("e+0", "e").replace("e+", "e")
    if size < 0.005:
        return "0"
    return f"{value:,.{0 if size >= 99.95 else 1 if size >= 9.995 else 2}f}"
