"""Tensors that are dead, or next to dead: see `statistics.levels`, from which advice has it too."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Examined, Finding

CODE = "dead"


def find(examined: Examined) -> Iterator[Finding]:
    """Of tensors; none where all of them are."""
    if examined.analysis.total.energy == 0:
        return
    word = examined.analysis.run.kind.dead
    for tensor in examined.tensors:
        if not tensor.parameters:
            continue
        if tensor.energy == 0:
            yield Finding(CODE, tensor.name, None, {"level_left": 0.0}, f"{word}: zero at every step")
        elif tensor.quiet_row is not None:
            row, left = tensor.quiet_row, tensor.quiet_level or 0.0
            text = f"{'next to ' if left else ''}{word} from {examined.place(row)} on"
            yield Finding(CODE, tensor.name, examined.step(row), {"row": row, "level_left": left}, text)
