"""A series as a line of block characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..quick_dataclass import dataclass
from .figures import significant

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"


IN_ASCII = str.maketrans(BLOCKS, ASCII)

LOG_RATIO = 100.0
"""Where highest and lowest are further apart, heights follow the logarithm."""


@dataclass(frozen=True)
class Sparkline:
    """A drawn series. low, high : what the lowest and highest character stand for; bin : values in one"""

    text: str
    low: float
    high: float
    bin: int
    logarithmic: bool

    def caption(self, each: str = "steps") -> str:
        """The range in words. each : what one value stands for"""
        scale = " (log scale)" if self.logarithmic else ""
        bins = f", mean of {self.bin} {each} a character" if self.bin > 1 else ""
        return f"from {significant(self.low)} to {significant(self.high)}{scale}{bins}"


def draw_sparkline(values: Sequence[float], width: int, levels: str = BLOCKS) -> Sparkline | None:
    """Means over at most `width` bins of equal size, NaN left out; None where there is nothing else."""
    size = max(1, -(-len(values) // max(1, width)))
    means = [_mean(values[start : start + size]) for start in range(0, len(values), size)]
    known = [mean for mean in means if mean is not None]
    if not known:
        return None
    low, high = min(known), max(known)
    logarithmic = low > 0 and high / low > LOG_RATIO
    heights = [mean if mean is None or not logarithmic else math.log(mean) for mean in means]
    return Sparkline(_draw(heights, levels), low, high, size, logarithmic)


def _draw(heights: Sequence[float | None], levels: str) -> str:
    known = [height for height in heights if height is not None]
    low, span = min(known), max(known) - min(known)
    top = len(levels) - 1
    # Differences in the last digits are no shape.
    flat = not span > 1e-9 * max(map(abs, known))
    return "".join(
        " " if height is None else levels[top // 2 if flat else round(top * ((height - low) / span))]
        for height in heights
    )


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else None
