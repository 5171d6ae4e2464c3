"""The gradients of one row, copied from each optimizer as it steps, and what becomes of None."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from ..errors import UsageError
from ..naming import shown
from ..quick_dataclass import dataclass
from .parameters import Owners
from .row_slot import RowSlot, local_shape
from .shards import check_placements
from .step_hooks import scale_of

Missing = Literal["zero", "hold", "error"]


@dataclass(frozen=True)
class Gathered:
    """What a row has of which tensors, by their names.

    names : in its slot; held : as the last row of the log that was resumed has them; absent : zeros
    missing : how many gradients were None
    """

    names: list[str]
    held: list[str]
    absent: list[str]
    missing: int


class RowGathering:
    """Fills a slot with the gradients that optimizers are about to use, row after row."""

    def __init__(self, owners: Owners, missing: Missing, stored: Iterable[str] = ()) -> None:
        """stored : names of the tensors of a log that is resumed"""
        self._owners = owners
        self._missing = missing
        self._held: dict[int, tuple[list[int], list[tuple[str, Any]]]] = {}
        self._found: dict[str, Any] = {}  # of this row: parameters without a gradient, None for others
        # Tensors that rows have, and the slot with their last; None where that is a row of before.
        self._seen: dict[str, RowSlot | None] = dict.fromkeys(stored)

    def copy(self, optimizer: Any, slot: RowSlot) -> None:
        """Copy what an optimizer is about to use, in place of what it used before in this row.

        Raises UsageError for a gradient that cannot be recorded, or is None where missing is "error".
        """
        gradients, absent = {}, {}
        for name, parameter in self._parameters(optimizer):
            if parameter.grad is not None:
                gradients[name] = parameter.grad
            elif parameter.requires_grad or name in self._seen:
                absent[name] = parameter
        if absent and self._missing == "error":
            raise UsageError(
                f"no gradient of {shown(list(absent), 3)}: missing='zero' stores zeros for them, and exclude "
                "leaves them out"
            )
        for name, gradient in gradients.items():
            if hasattr(gradient, "placements"):
                check_placements(name, gradient.placements)
        slot.prepare({name: local_shape(value) for name, value in gradients.items() if name not in slot})
        slot.fill(gradients, scale_of(optimizer))
        self._found |= dict.fromkeys(gradients) | absent

    def _parameters(self, optimizer: Any) -> list[tuple[str, Any]]:
        """What an optimizer steps, which may become more while it trains."""
        ids = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
        known = self._held.get(id(optimizer))
        if known is None or known[0] != ids:
            known = self._held[id(optimizer)] = ids, self._owners.of(optimizer)
        return known[1]

    def finish(self, slot: RowSlot) -> Gathered:
        """End a row. Tensors that never had a gradient are no part of it, nor of the log yet."""
        names = [name for name, parameter in self._found.items() if parameter is None]
        absent = {name: parameter for name, parameter in self._found.items() if parameter is not None}
        held: list[str] = []
        if self._missing == "hold":
            for name in [name for name in absent if name in self._seen]:
                last = self._seen[name]
                if last is None:
                    held.append(name)
                else:
                    slot.repeat(last, name, local_shape(absent[name]))
                    names.append(name)
        if not names and not held:  # the writer takes no row without a tensor
            for name, parameter in absent.items():
                slot.clear(name, local_shape(parameter))
            names = list(absent)
        there = {*names, *held}
        zeros = [name for name in absent if name in self._seen and name not in there]
        self._seen |= dict.fromkeys(names, slot)
        self._found = {}
        return Gathered(names, held, zeros, len(absent))
