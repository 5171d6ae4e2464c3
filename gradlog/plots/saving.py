"""Figures as files: which endings there are, and files that appear whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..logs.places.finding import place_of
from ..naming import ending_of
from .library import load
from .panels import check_panels
from .style import FILES, style_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNDATED: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""By format: what leaves the time out, so that the same figure gives the same file."""


def save_plot(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure of `plot` as .png, .svg or .pdf, whole or not at all; a file that was there is replaced.

    Text is text in vector files, and fonts are embedded in .pdf.

    Raises UsageError for another ending, and OSError that names the path where the system refuses.
    """
    kind = figure_format(path)
    drawn = drawn_as(kind, figure)
    with place_of(path).whole_file() as file:
        file.write(drawn)


def drawn_as(kind: str, figure: Figure) -> bytes:
    """The bytes of a file of a figure. kind : png, svg or pdf"""
    held = io.BytesIO()
    with load("matplotlib").rc_context(FILES):
        figure.savefig(held, format=kind, dpi=figure.dpi, metadata=UNDATED[kind])
    return held.getvalue()


def figure_format(path: str | os.PathLike[str]) -> str:
    """png, svg or pdf, by the ending of a path. Raises UsageError for another."""
    return ending_of(path, [f".{kind}" for kind in UNDATED], "a figure is written to .png, .svg or .pdf")[1:]


def check_plot(path: str | os.PathLike[str], panels: Sequence[str] = (), style: str = "screen") -> None:
    """Raise UsageError for what `plot` and `save_plot` would refuse, before anything is analyzed."""
    figure_format(path)
    check_panels(panels)
    style_of(style)
    load()
    place_of(path).check_file()
