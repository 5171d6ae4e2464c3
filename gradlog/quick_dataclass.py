"""`dataclass` as of the standard library, at half the price of making one: an analysis makes two hundred.

Comparison, hash and text are the same functions for all classes, in place of code that is compiled for each:
half of what a class takes of every command's start. A NaN equals itself where it is the same object, with any
Python: from 3.13 on the standard library compares field by field, and it doesn't.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses

    def dataclass(cls=None, /, *, frozen=False, eq=True, order=False, repr=True, **options):
        """As `dataclasses.dataclass`."""

        def made_of(cls):
            own, quick = vars(cls), {}
            if eq and not order and "__eq__" not in own:
                quick["__eq__"] = _equal
                if "__hash__" not in own:
                    quick["__hash__"] = _hash if frozen else None
            if repr and "__repr__" not in own:
                quick["__repr__"] = _text
            made = dataclasses.dataclass(frozen=frozen, eq=order, order=order, repr=False, **options)(cls)
            for name, function in quick.items():
                setattr(made, name, function)
            return made

        return made_of if cls is None else made_of(cls)


@functools.cache
def _values(cls: type[Any]) -> Callable[[Any], Any]:
    """What is compared of an instance."""
    names = [field.name for field in fields(cls) if field.compare]
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda held: tuple(getattr(held, name) for name in names)


def _equal(self: Any, other: object) -> Any:
    kind: Any = type(self)
    if type(other) is not type(self):
        return NotImplemented
    values = _values(kind)
    return values(self) == values(other)


def _hash(self: Any) -> int:
    kind: Any = type(self)
    return hash(_values(kind)(self))


def _text(self: Any) -> str:
    told = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
    return f"{self.__class__.__qualname__}({told})"
