"""The gradients of one row, copied from each optimizer as it steps, and what becomes of None."""

from __future__ import annotations

from typing import Any, Literal

from ..errors import UsageError
from ..naming import shown
from .parameters import Owners
from .row_slot import RowSlot, local_shape
from .shards import check_placements
from .step_hooks import scale_of

Missing = Literal["zero", "hold", "error"]


class RowGathering:
    """Fills a slot with the gradients that optimizers are about to use, row after row."""

    def __init__(self, owners: Owners, missing: Missing) -> None:
        self._owners = owners
        self._missing = missing
        self._held: dict[int, tuple[list[int], list[tuple[str, Any]]]] = {}
        self._found: dict[str, Any] = {}  # of this row: parameters without a gradient, None for others
        self._seen: dict[str, RowSlot] = {}  # tensors that rows have, and the slot with their last

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

    def finish(self, slot: RowSlot) -> tuple[list[str], list[str], int]:
        """Names of tensors that the slot holds, and that the writer fills with zeros; how many were None.

        Tensors that never had a gradient are among neither: they are no part of the log yet.
        """
        names = [name for name, parameter in self._found.items() if parameter is None]
        absent = {name: parameter for name, parameter in self._found.items() if parameter is not None}
        if self._missing == "hold":
            held = [name for name in absent if name in self._seen]
            for name in held:
                slot.repeat(self._seen[name], name, local_shape(absent[name]))
            names += held
        if not names:  # the writer takes no row without a tensor
            for name, parameter in absent.items():
                slot.clear(name, local_shape(parameter))
            names = list(absent)
        zeros = [name for name in absent if name in self._seen and name not in names]
        self._seen |= dict.fromkeys(names, slot)
        self._found = {}
        return names, zeros, len(absent)
