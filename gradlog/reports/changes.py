"""Changes as people read them: percent, or times and parts where a figure is another order of magnitude."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .figures import NOTHING

if TYPE_CHECKING:
    from ..comparisons.comparison import Change

TIMES = 10.0
"""From this ratio on, and below its inverse, ratios read better than percent."""


def change_text(change: Change) -> str:
    """``+3.21%``, ``x12.3`` or ``/12.3``; nothing where there is no ratio."""
    if change.relative is None:
        return NOTHING
    return relative_text(change.relative, change.relative)


def interval_text(change: Change) -> str:
    """Both ends in the unit of the change itself, such as ``+1.2 to +5.3%``; ``exact`` of equal figures."""
    if change.interval is None or change.relative is None:
        return "exact" if change.basis == "exact" else "no interval" if change.why else NOTHING
    return ends_text(*change.interval, change.relative)


def ends_text(low: float, high: float, unit: float) -> str:
    """Two relative changes in the unit that fits the relative change `unit`, said once."""
    if _in_percent(unit):
        return f"{_percent(low)} to {_percent(high)}%"
    return f"{relative_text(low, unit)} to {_times(1 + high) if unit > 0 else _parts(high)}"


def relative_text(value: float, unit: float) -> str:
    """A relative change in the unit that fits the relative change `unit`."""
    if _in_percent(unit):
        return f"{_percent(value)}%"
    return f"x{_times(1 + value)}" if unit > 0 else f"/{_parts(value)}"


def sided_text(relative: float, limit: float) -> str:
    """``relative_text`` with as many digits as say on which side of the relative change `limit` it lies."""
    in_unit, sign, unit = _figure_in_unit(relative)
    figure, edge = in_unit(relative), in_unit(limit)
    for digits in ("", *(f"+.{count}g" if unit else f".{count}g" for count in (4, 6, 9, 12, 17))):
        text = relative_text(relative, relative) if not digits else f"{sign}{figure:{digits}}{unit}"
        shown = float(text.removeprefix(sign).removesuffix(unit).replace(",", ""))
        if (shown > edge, shown < edge) == (figure > edge, figure < edge):
            break
    return text


def _figure_in_unit(relative: float) -> tuple[Callable[[float], float], str, str]:
    """How a relative change becomes the figure that is shown, and what stands before and behind it."""
    if _in_percent(relative):
        return lambda value: 100 * value, "", "%"
    if relative > 0:
        return lambda value: 1 + value, "x", ""
    return lambda value: 1 / (1 + value) if value > -1 else float("inf"), "/", ""


def _in_percent(relative: float) -> bool:
    """Also where nothing is left, or the sign has changed: that is no part of what was there."""
    return not 0 < 1 + relative <= 1 / TIMES and 1 + relative < TIMES


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
