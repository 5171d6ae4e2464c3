"""Numbers as people read them: four significant digits, thousands apart, sizes with units."""

from __future__ import annotations

import math
from collections.abc import Sequence

NOTHING = "-"


def significant(value: float | None) -> str:
    """Four significant digits, ``-`` for null."""
    return numbers([value])[0]


def numbers(values: Sequence[float | None]) -> list[str]:
    """A column of numbers with four significant digits; powers of ten where one reaches ten millions."""
    large = any(_known(value) and abs(value) >= 1e7 for value in values if value is not None)
    return [_number(value, large) for value in values]


def percent(value: float | None, decimals: int = 1) -> str:
    """A share as percent; what is above 0 but would read as 0 shows as below the last digit."""
    if value is None or not _known(value):
        return NOTHING
    least = 10.0**-decimals
    if 0 < 100 * value < least / 2:
        return f"<{least:.{decimals}f}%"
    return f"{100 * value:.{decimals}f}%"


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,d}"


def counted(value: int, noun: str) -> str:
    """``1 tensor``, ``2 tensors``."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def run_size(rows: int, steps: Sequence[int], tensors: int, parameters: int) -> str:
    """``240 rows (steps 0 to 239), 6 tensors, 7,626 parameters``. steps : first and last, or all"""
    span = ""
    if len(steps):
        span = f" (step {steps[0]})" if rows == 1 else f" (steps {steps[0]} to {steps[-1]})"
    return f"{counted(rows, 'row')}{span}, {counted(tensors, 'tensor')}, {counted(parameters, 'parameter')}"


def data_size(size: float) -> str:
    """Bytes with a decimal unit and three significant digits."""
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while size >= 999.5 and len(units) > 1:
        del units[0]
        size /= 1000
    decimals = 0 if units[0] == "bytes" or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{size:.{decimals}f} {units[0]}"


def duration(seconds: float) -> str:
    """Seconds, or minutes and hours for what took long."""
    if seconds < 99.5:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _known(value: float) -> bool:
    return math.isfinite(value)


def _number(value: float | None, large: bool) -> str:
    if value is None or not _known(value):
        return NOTHING
    if value == 0:
        return "0"
    scientific = f"{value:.3e}"
    exponent = int(scientific.partition("e")[2])
    if large or exponent < -4:
        return scientific
    return f"{value:,.{max(0, 3 - exponent)}f}"
