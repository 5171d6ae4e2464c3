"""How far training stays in the leading subspace of the window before: a table, a line, and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradmf.gradlog import share_by_chance

from .figures import NOTHING, count, percent
from .report import Column, Series, Table

if TYPE_CHECKING:
    from gradmf.gradlog import Analysis, SubspaceResult


def subspace_table(analysis: Analysis, subspace: SubspaceResult) -> Table:
    """Gradients and increments of the whole model, a row each."""
    parameters, dimensions = analysis.run.parameters, subspace.dimensions
    chance = percent(share_by_chance(dimensions, parameters))
    kinds = {"gradients": subspace.gradients, "increments": subspace.increments}
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
    if analysis.run.rows <= subspace.window:
        rows, window = count(analysis.run.rows), count(subspace.window)
        return (
            f"nothing to compare: {rows} rows are no more than a window of {window}; give a shorter --window"
        )
    return (
        f"mean share of each, and overlap of consecutive windows; white gradients would have {chance} inside"
    )


def subspace_over_training(subspace: SubspaceResult) -> Series | None:
    """The share of gradients inside, window after window."""
    values = [point.fraction for point in subspace.gradients.windows[1:]]
    if len(values) < 3:
        return None
    title = f"Share of gradients inside, window after window of {count(subspace.window)} rows"
    return Series(title, tuple(float("nan") if v is None else v for v in values), each="windows")
