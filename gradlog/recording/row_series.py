"""Numbers beside the gradients of a row: learning rates, counts, and what the loop notes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..errors import UsageError
from ..logs.row_values import check_names, scalar
from ..naming import shown
from .row_writer import SKIPPED

LR = "lr"
MISSING = "missing"
DROPPED = "dropped"
COUNTS = (MISSING, DROPPED, SKIPPED)


class RowSeries:
    """What is noted for the row to come. The first row fixes the names; what a later one lacks is NaN."""

    def __init__(self, counts: Collection[str], named: Sequence[str], stored: Collection[str] | None) -> None:
        """counts : of `COUNTS`, that rows have; named : series that may come later
        stored : names of those that the log has, None where it has no row

        Raises UsageError where the log has rows without one of them.
        """
        self._counts = counts
        self._named = named
        self._names = None if stored is None else frozenset(stored)
        self._noted: dict[str, Any] = {}
        if self._names is not None and (odd := sorted({*counts, *named} - self._names)):
            raise UsageError(
                f"its rows have no series {shown(odd, 3)}: go on with the options that it was begun with"
            )

    def note(self, series: Mapping[str, Any]) -> None:
        """Keep values for the row to come. Raises UsageError for what is none."""
        check_names((), series)
        for name, value in series.items():
            if name in COUNTS:
                raise UsageError(f"series '{name}' is counted, and cannot be noted")
            if self._names is not None and name not in self._names:
                raise UsageError(
                    f"series '{name}' is new, and the rows before have none of that name: note it before the "
                    f"first step, or record(..., series=['{name}'])"
                )
            self._noted[name] = _number(name, value)

    def forget(self) -> None:
        """Drop what was noted: its step makes no row."""
        self._noted.clear()

    def take(self, found: Mapping[str, float]) -> dict[str, Any]:
        """The series of a row, all but `SKIPPED`, which the writing thread counts.

        found : learning rates and counts; what is noted of those names takes the place of the rates
        """
        values = {name: value for name, value in found.items() if name not in COUNTS or name in self._counts}
        values |= self._noted
        self._noted = {}
        if self._names is None:
            self._names = frozenset({*values, *self._counts, *self._named})
        return {name: values.get(name, math.nan) for name in self._names if name != SKIPPED}


def learning_rates(optimizers: Sequence[Any], all_groups: bool) -> dict[str, float]:
    """`lr` of the first group of parameters, and with `all_groups` lr.1, lr.2, ... of the others."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups if LR in group]
    chosen = groups if all_groups else groups[:1]
    return {LR if not at else f"{LR}.{at}": float(group[LR]) for at, group in enumerate(chosen)}


def differ(optimizers: Sequence[Any]) -> bool:
    """Whether groups of parameters have learning rates of their own."""
    return len(set(learning_rates(optimizers, all_groups=True).values())) > 1


def _number(name: str, value: Any) -> Any:
    """A float, or a tensor of one entry on a GPU, which the writing thread waits for instead of training."""
    device = getattr(value, "device", None)
    if getattr(device, "type", "cpu") == "cpu" or not hasattr(value, "detach"):
        return float(scalar(name, value))
    if value.numel() != 1:
        raise UsageError(f"series '{name}' takes a number a row, not a tensor of shape {list(value.shape)}")
    return value.detach().clone()
