"""How two runs move relative to each other: a table, and a line over training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..chance import share_by_chance
from .comparison_words import letter
from .figures import count, counted, percent, significant
from .report import Column, Series, Table
from .subspace_report import shorter_window

if TYPE_CHECKING:
    from ..results.row_kind import RowKind
    from ..runs.relation import Relation


def relation_table(relation: Relation, parameters: int, kind: RowKind, number: int) -> Table:
    """The whole model. kind : of the rows; number : of the run, 1 for the first one after the baseline"""
    total, dimensions = relation.total, relation.dimensions
    chance = percent(share_by_chance(dimensions, parameters))
    return Table(
        f"{letter(0)} and {letter(number)} at {counted(relation.step.size, 'equal step')}",
        (
            Column("of", "left"),
            Column("cosine", "decimal"),
            Column(f"overlap of leading {dimensions}", "decimal"),
        ),
        (
            (kind.name, significant(total.cosine), percent(total.gradients)),
            ("increments", "", percent(total.increments)),
        ),
        note=_note(relation, chance),
    )


def _note(relation: Relation, chance: str) -> str:
    steps, total = relation.step.size, relation.total
    if steps < relation.window:
        told = (
            f"mean over steps; no overlap: {counted(steps, 'step')} make{'s' * (steps == 1)} no whole window "
        )
        return f"{told}of {count(relation.window)}: {shorter_window(steps, relation.dimensions)}"
    told = f"means over steps and windows of {count(relation.window)}; noise would overlap by {chance}"
    if None in (total.cosine, total.gradients, total.increments):
        return f"{told}; - where all of a run's are 0"
    return told


def cosine_over_training(relation: Relation, kind: RowKind, number: int) -> Series | None:
    """The cosine of the runs' rows, step after step."""
    if relation.step.size < 3:
        return None
    title = f"Cosine of the {kind.name} of {letter(0)} and {letter(number)} over training"
    return Series(title, tuple(relation.cosine.tolist()))
