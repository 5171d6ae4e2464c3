"""How figures look: widths, sizes of type, colours that everyone can tell apart, dashes and markers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..quick_dataclass import dataclass
from .library import load

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito (2008), told apart with any colour vision; without their yellow, which white swallows."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (7, 2, 1, 2)))
NOISE = (0, (1, 1.5))
"""Dashes of what noise would give, in every panel."""
GREY, PALE = "#6e6e6e", "#d0d0d0"
"""Of words and of lines that are no data; the first has a contrast of 5 on white."""
EM = 0.5
"""Mean width of a letter, in sizes of type."""
DIVERGING = "RdBu_r"
"""Blue for below noise, white for noise, red for above: told apart with any colour vision."""


@dataclass(frozen=True)
class Style:
    """A kind of page. Lengths in inches, sizes of type in points.

    width : of the figure; columns : of panels; row : height that a panel of ordinary size has
    """

    name: str
    width: float
    columns: int
    row: float
    font: float
    dpi: int

    @property
    def small(self) -> float:
        """Size of type of ticks and legends."""
        return self.font - 1.0

    @property
    def line(self) -> float:
        """Width of a line of data, in points."""
        return 0.13 * self.font

    @property
    def letters(self) -> int:
        """Letters of small type in the width of a panel."""
        return int(72 * self.width / self.columns / (EM * self.small))

    @property
    def line_height(self) -> float:
        """Of a line of small type, in inches."""
        return 1.25 * self.small / 72

    def settings(self) -> dict[str, Any]:
        """Settings of matplotlib, above its defaults."""
        thin = 0.07 * self.font
        return {
            "figure.dpi": self.dpi,
            "savefig.dpi": self.dpi,
            "font.size": self.font,
            "axes.titlesize": self.font,
            # Where it would be put anyway, but without looking for ticks above the axes each time.
            "axes.titley": 1.0,
            "axes.labelsize": self.font,
            "xtick.labelsize": self.small,
            "ytick.labelsize": self.small,
            "legend.fontsize": self.small,
            "figure.titlesize": self.font,
            "axes.linewidth": thin,
            "xtick.major.width": thin,
            "ytick.major.width": thin,
            "xtick.minor.width": 0.7 * thin,
            "ytick.minor.width": 0.7 * thin,
            "xtick.major.size": 0.35 * self.font,
            "ytick.major.size": 0.35 * self.font,
            "xtick.minor.size": 0.2 * self.font,
            "ytick.minor.size": 0.2 * self.font,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.linewidth": self.line,
            "lines.markersize": 0.42 * self.font,
            "lines.markeredgewidth": 0.1 * self.font,
            "legend.frameon": False,
            "legend.borderpad": 0.0,
            "legend.borderaxespad": 0.4,
            "legend.handlelength": 2.2,
            "legend.handletextpad": 0.5,
            "legend.columnspacing": 1.2,
            "legend.labelspacing": 0.25,
            "figure.constrained_layout.h_pad": 0.045,
            "figure.constrained_layout.w_pad": 0.045,
            # Names of runs and tensors are no formulas.
            "text.parse_math": False,
            **FILES,
        }


FILES = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "gradmf"}
"""Text stays text in vector files, and the same figure gives the same bytes."""

STYLES: Mapping[str, Style] = {
    style.name: style
    for style in (
        Style("paper-1col", 3.4, 1, 1.2, 7.5, 300),
        Style("paper-2col", 7.0, 2, 1.5, 7.5, 300),
        Style("screen", 11.0, 2, 2.3, 11.0, 120),
    )
}
"""Of a column and of a page of a paper, and of a screen."""


def style_of(name: str) -> Style:
    """Raises UsageError for a name that there is not."""
    if name not in STYLES:
        raise UsageError(f"style {name!r}: known are {', '.join(STYLES)}")
    return STYLES[name]


def in_style(style: Style) -> Any:
    """A context in which matplotlib draws in the style; of the user's own settings the fonts count alone."""
    matplotlib = load()
    kept = {key: matplotlib.rcParams[key] for key in ("font.family", "font.sans-serif", "font.serif")}
    return load("matplotlib.style").context({**kept, **style.settings()}, after_reset=True)
