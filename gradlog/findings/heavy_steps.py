"""A single row that carries most of a scope's energy: every figure of all rows is then one of that row."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Examined, Finding

CODE = "heavy-step"
LEAST_ROWS = 10
"""Of fewer rows one may well carry most."""


def find(examined: Examined) -> Iterator[Finding]:
    """Of the whole model and of tensors."""
    if examined.analysis.run.rows < LEAST_ROWS:
        return
    for name, scope in examined.scopes:
        row, share = scope.top_row, scope.top_row_share
        if row is not None and share is not None and share > examined.thresholds.step_share:
            text = f"{examined.place(row)} carries {100 * share:.1f}% of the energy"
            yield Finding(CODE, name, examined.step(row), {"row": row, "share": share}, text)
