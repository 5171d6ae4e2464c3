"""A matplotlib figure as an <svg> element that stands within a page, beside others."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from ..plots.saving import drawn_as

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIGITS = re.compile(r"-?\d+\.\d{3,}")
IDENTIFIER = re.compile(r' id="([^"]*)"')
REFERENCE = re.compile(r'(?:(?<=xlink:href=")|(?<=url\())#([^")]*)')


def inline_svg(figure: Figure, prefix: str, label: str) -> str:
    """The element, with text as text, lengths to a hundredth of a point, and ids that no other figure has.

    prefix : of ids; label : what stands for the picture where nobody sees it
    """
    text = drawn_as("svg", figure).decode("utf-8")
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"\s+", " ", re.sub(r"(?<=>)\s+(?=<)", "", body)).strip()
    # Numbers, in order: matplotlib's own names are not the same each time.
    known = {name: f"{prefix}-{at}" for at, name in enumerate(dict.fromkeys(REFERENCE.findall(body)))}
    body = IDENTIFIER.sub(lambda m: f' id="{known[m[1]]}"' if m[1] in known else "", body)
    body = REFERENCE.sub(lambda m: f"#{known[m[1]]}", body)
    body = re.sub(r' (?:d|points|transform|x|y|style)="[^"]*"', lambda m: DIGITS.sub(_short, m[0]), body)
    width, height = (72 * inches for inches in figure.get_size_inches())
    return (
        f'<svg role="img" aria-label="{html.escape(label)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="stroke-linejoin:round;stroke-linecap:butt">{body}</svg>'
    )


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
