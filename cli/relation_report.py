"""How two runs move relative to each other: a table, and a line over training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradmf.gradlog import share_by_chance

from .comparison_words import letter
from .figures import NOTHING, counted, percent, significant
from .report import Column, Series, Table

if TYPE_CHECKING:
    from gradmf.gradlog import Relation


def relation_table(relation: Relation, parameters: int, number: int) -> Table:
    """The whole model. number : of the run, 1 for the first one after the baseline"""
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
            ("gradients", significant(total.cosine), percent(total.gradients)),
            ("increments", NOTHING, percent(total.increments)),
        ),
        note=f"means over steps and windows of {relation.window}; noise would overlap by {chance}",
    )


def cosine_over_training(relation: Relation, number: int) -> Series | None:
    """The cosine of the two gradients, step after step."""
    if relation.step.size < 3:
        return None
    title = f"Cosine of the gradients of {letter(0)} and {letter(number)} over training"
    return Series(title, tuple(relation.cosine.tolist()))
