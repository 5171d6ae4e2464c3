"""A figure of one run or of several: its panels, where they stand, and their legends."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..quick_dataclass import dataclass
from ..results.result import Analysis
from .drawn_run import DrawnRun, drawn_runs
from .library import load
from .panel import Heading, Panel, handle, sparse_ticks
from .panels import check_panels, chosen_panels
from .style import EM, GREY, Style, in_style, style_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AROUND = 0.3
"""Inches that title, legend and ticks of a panel take beside its height."""


@dataclass(frozen=True)
class _Tile:
    """A panel with the runs that it shows; reasons : of those that have nothing to show, by their labels"""

    panel: Panel
    runs: Sequence[DrawnRun]
    reasons: Sequence[tuple[str, str]]

    def height(self, style: Style) -> float:
        rows = self.panel.height(self.runs, style) if self.runs else 0.5
        return rows * style.row + AROUND


def plot(
    runs: Analysis | Sequence[Analysis],
    *,
    panels: Sequence[str] = (),
    style: str = "screen",
    labels: Sequence[str] = (),
) -> Figure:
    """Curves of one run, or of several laid over each other, as a matplotlib Figure.

    Best of analyses with windows of training, which `analyze_for_plot` makes. A panel that cannot be drawn
    says why in its place. `save_plot` writes the figure, with text as text in vector files.

    Parameters
    ----------
    runs : one analysis, or several: of `analyze`, or of `read_analyses`
    panels : names of panels, in the order in which they stand: kappa, loss, norm, heatmap, spectrum, rank,
        growth, window-rank, overlap; without any the usual ones that there is something for
    style : paper-1col (3.4 inches wide), paper-2col (7 inches) or screen (11 inches)
    labels : of the runs; by default the last part of their paths

    Raises
    ------
    UsageError : unknown panels or style, no runs or more than can be told apart, or matplotlib is not there
    """
    analyses = (runs,) if isinstance(runs, Analysis) else tuple(runs)
    return draw_panels(analyses, panels, style_of(style), labels)


def draw_panels(
    analyses: Sequence[Analysis],
    panels: Sequence[str],
    style: Style,
    labels: Sequence[str] = (),
    *,
    named: bool = True,
) -> Figure:
    """`plot`, in any style. named : whether what was analyzed stands above a single run"""
    check_panels(panels)
    with in_style(style):
        drawn = drawn_runs(analyses, labels)
        tiles = [tile for panel in chosen_panels(panels, analyses) for tile in _tiles(panel, drawn)]
        return _draw(tiles, drawn, style, named=named)


def _tiles(panel: Panel, runs: Sequence[DrawnRun]) -> list[_Tile]:
    if panel.apart and len(runs) > 1:
        return [tile for run in runs for tile in _tiles(panel, [run])]
    why = [(run, run.say(panel.lacks(run.analysis))) for run in runs]
    return [
        _Tile(
            panel,
            [run for run, reason in why if not reason],
            [(r.label, reason) for r, reason in why if reason],
        )
    ]


def _draw(tiles: Sequence[_Tile], runs: Sequence[DrawnRun], style: Style, *, named: bool) -> Figure:
    together = [tile for tile in tiles if tile.panel.over_training and not tile.panel.apart]
    others = [tile for tile in tiles if tile not in together]
    blocks = [list(held) for _, held in itertools.groupby(others, key=lambda tile: tile.panel.name)]
    if together:
        blocks.insert(0, together)
    columns: list[list[list[_Tile]]] = [[] for _ in range(min(style.columns, len(blocks)))]
    for block in blocks:
        min(columns, key=lambda held: _height(held, style)).append(block)
    top = (len(runs) * style.line_height if len(runs) > 1 else 1.5 * style.line_height) + 0.05
    height = max(_height(column, style) for column in columns) + top
    figure: Figure = load("matplotlib.figure").Figure(figsize=(style.width, height), layout="constrained")
    headings: list[tuple[Any, Heading]] = []
    grid = figure.add_gridspec(1, len(columns))
    for at, column in enumerate(columns):
        ratios = [_height([block], style) for block in column]
        inner = grid[0, at].subgridspec(len(column), 1, height_ratios=ratios)
        for row, block in enumerate(column):
            headings += _draw_block(figure, inner[row, 0], block, runs, style)
    if named or len(runs) > 1:
        _name_runs(figure, runs, style)
    lay_out: Any = figure.get_layout_engine()
    lay_out.execute(figure)
    for axes, heading in headings:
        _fit_heading(axes, heading, style)
    lay_out.execute(figure)
    figure.set_layout_engine(None)  # else every drawing would move things a little
    return figure


def _height(blocks: Sequence[Sequence[_Tile]], style: Style) -> float:
    """Of blocks below each other, in inches."""
    return sum(tile.height(style) for block in blocks for tile in block)


def _draw_block(
    figure: Any, place: Any, tiles: Sequence[_Tile], runs: Sequence[DrawnRun], style: Style
) -> list[tuple[Any, Heading]]:
    """Panels below each other, which share the axis of training if they have one."""
    grid = place.subgridspec(len(tiles), 1, height_ratios=[tile.height(style) for tile in tiles])
    headings = []
    shared: list[Any] = []
    apart: list[Any] = []
    for row, tile in enumerate(tiles):
        if not tile.runs:
            axes = figure.add_subplot(grid[row, 0])
            headings.append((axes, _draw_reasons(axes, tile, runs, style)))
            continue
        over = tile.panel.over_training and not tile.panel.apart
        axes = figure.add_subplot(grid[row, 0], sharex=shared[0] if over and shared else None)
        heading = tile.panel.draw(axes, tile.runs, style)
        headings.append((axes, Heading(_title(tile, heading, runs), heading.entries)))
        shared += [axes] if over else []
        apart += [axes] if tile.panel.apart else []
    for axes in shared[:-1]:
        axes.tick_params(labelbottom=False)
    for axes in (*shared[-1:], *apart):
        sparse_ticks(axes.xaxis)
        axes.set_xlabel("training step" if runs[0].by_step else "row")
    return headings


def _title(tile: _Tile, heading: Heading, runs: Sequence[DrawnRun]) -> str:
    """With the run's name where it has a panel of its own, and with what is missing of the others."""
    named = tile.panel.apart and len(runs) > 1
    title = f"{tile.runs[0].label}: {heading.title}" if named else heading.title
    return "\n".join([title, *_reasons(tile, runs)])


def _reasons(tile: _Tile, runs: Sequence[DrawnRun]) -> list[str]:
    """A line for each reason why runs are missing, with their names where there are several in the figure."""
    by_reason: dict[str, list[str]] = {}
    for label, why in tile.reasons:
        by_reason.setdefault(why, []).append(label)
    return [f"{', '.join(labels)}: {why}" if len(runs) > 1 else why for why, labels in by_reason.items()]


def _draw_reasons(axes: Any, tile: _Tile, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """In the place of a panel why there is none."""
    axes.set_axis_off()
    text = "\n".join(textwrap.fill(why, style.letters - 8) for why in _reasons(tile, runs))
    axes.text(
        0.5, 0.5, text, ha="center", va="center", color=GREY, transform=axes.transAxes, fontsize=style.small
    )  # fmt: skip
    return Heading(tile.panel.title)


def _name_runs(figure: Any, runs: Sequence[DrawnRun], style: Style) -> None:
    """What was analyzed, above everything: in the legend of runs where there are several."""
    if len(runs) == 1:
        wide = int(72 * style.width / (EM * style.font))
        figure.suptitle(textwrap.fill(f"{runs[0].label}: {_size(runs[0])}", wide), x=0.01, ha="left")
        return
    wide = int(72 * style.width / (EM * style.small)) - 8
    entries = [
        handle(
            textwrap.fill(f"{run.label}: {_size(run)}", wide),
            color=run.color,
            marker=run.marker,
            dashes=run.dashes,
        )
        for run in runs
    ]
    figure.legend(handles=entries, loc="outside upper left", fontsize=style.small)


def _size(run: DrawnRun) -> str:
    spectrum = run.analysis.total.spectrum
    sketched = run.analysis.total.estimated or (spectrum is not None and spectrum.method == "sketch")
    return run.size + (", estimates from a sketch" if sketched else "")


def _fit_heading(axes: Any, heading: Heading, style: Style) -> None:
    """Title and legend above the axes, in as many columns as fit: never on data."""
    width = axes.get_window_extent().width
    pad = 0.4 * style.font
    for columns in range(len(heading.entries), 0, -1):
        legend = axes.legend(
            handles=list(heading.entries), loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns
        )
        extent = legend.get_window_extent()
        if extent.width <= 0.98 * width or columns == 1:
            pad += 72 * extent.height / axes.figure.dpi + 0.3 * style.font
            break
    letters = max(20, int(72 * width / axes.figure.dpi / (EM * style.font)))
    title = "\n".join(textwrap.fill(line, letters) for line in heading.title.split("\n"))
    axes.set_title(title, loc="left", pad=pad)
