"""How far training stays in the leading subspace of the window before: a table, a line, and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..chance import share_by_chance
from .figures import NOTHING, count, counted, percent
from .report import Column, Series, Table

if TYPE_CHECKING:
    from ..results.result import Analysis, SubspaceResult
    from ..results.row_kind import RowKind


def subspace_table(analysis: Analysis, subspace: SubspaceResult) -> Table:
    """Rows and increments of the whole model, a row of the table each."""
    parameters, dimensions = analysis.run.parameters, subspace.dimensions
    chance = percent(share_by_chance(dimensions, parameters))
    kinds = {analysis.run.kind.name: subspace.gradients, "increments": subspace.increments}
    return Table(
        f"In the leading {count(dimensions)} directions of the {count(subspace.window)} rows before",
        (
            Column("of", "left"),
            Column("energy inside", "decimal"),
            Column("overlap", "decimal"),
            Column("directions", dim=True, yields=2),
        ),
        tuple(
            (
                kind,
                percent(measure.fraction),
                percent(measure.overlap),
                NOTHING if measure.directions is None else count(measure.directions),
            )
            for kind, measure in kinds.items()
        ),
        note=_note(analysis, subspace, chance),
    )


def _note(analysis: Analysis, subspace: SubspaceResult, chance: str) -> str:
    rows, window = analysis.run.rows, subspace.window
    if rows <= window:
        are = "is" if rows == 1 else "are"
        told = f"nothing to compare: {counted(rows, 'row')} {are} no more than a window of {count(window)}"
        return f"{told}; {shorter_window(rows - 1, subspace.dimensions)}"
    told = (
        f"mean share of each, and overlap of consecutive windows; white {analysis.run.kind.name} would have "
        f"{chance} inside"
    )
    if rows < 2 * window:
        return f"{told}; overlap takes two whole windows: {shorter_window(rows // 2, subspace.dimensions)}"
    if subspace.gradients.fraction is None or subspace.increments.fraction is None:
        return f"{told}; - where all of them are 0"
    return told


def shorter_window(most: int, dimensions: int) -> str:
    """What to do where a window may have `most` rows, and needs one for each direction."""
    if most >= max(2, dimensions):
        return f"give a --window of at most {count(most)}"
    return "log more rows, or ask for a smaller --subspace" if most > 1 else "log more rows"


def subspace_over_training(kind: RowKind, subspace: SubspaceResult) -> Series | None:
    """The share of rows inside, window after window."""
    values = [point.fraction for point in subspace.gradients.windows[1:]]
    if len(values) < 3:
        return None
    title = f"Share of {kind.name} inside, window after window of {count(subspace.window)} rows"
    return Series(title, tuple(float("nan") if v is None else v for v in values), each="windows")
