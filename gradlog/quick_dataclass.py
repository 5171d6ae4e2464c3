"""`dataclass` as of the standard library, at an eighth of the price of making one: an analysis makes 120.

Comparison, hash, text and what refuses changes are the same functions for all classes, and `__init__` is
compiled when it is first asked for, in place of code that is compiled for each: a tenth of a command's start.
A NaN equals itself where it is the same object, with any Python: from 3.13 on the standard library compares
field by field, and it doesn't. There are no fields of `InitVar`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, fields
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses

    def dataclass(cls=None, /, *, frozen=False, eq=True, order=False, repr=True, slots=False, **options):
        """As `dataclasses.dataclass`."""

        def made_of(cls):
            own, quick = vars(cls), {}
            # Heirs of a frozen class have to be made as frozen ones.
            heir = any(dataclasses.is_dataclass(base) for base in cls.__bases__)
            lazy = frozen and not slots and not heir
            if eq and not order and "__eq__" not in own:
                quick["__eq__"] = _equal
            if eq and "__hash__" not in own:
                quick["__hash__"] = _hash if frozen else None
            if repr and "__repr__" not in own:
                quick["__repr__"] = _text
            if lazy:
                quick |= {"__setattr__": _keep, "__delattr__": _keep}
                if "__init__" not in own:
                    quick["__init__"] = _Init(cls)
            made = dataclasses.dataclass(
                init=not lazy,
                frozen=frozen and not lazy,
                eq=order,
                order=order,
                repr=False,
                slots=slots,
                **options,
            )(cls)
            made.__dataclass_params__.frozen = frozen  # asked of the bases of other frozen classes
            for name, function in quick.items():
                setattr(made, name, function)
            return made

        return made_of if cls is None else made_of(cls)


class _Init:
    """`__init__` of a class that refuses changes, until it is first asked for."""

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        init = _init_of(self.cls)
        self.cls.__init__ = init
        return init.__get__(instance, owner)


def _init_of(cls: type[Any]) -> Any:
    annotations: dict[str, Any] = {}
    values: dict[str, Any] = {"__set__": object.__setattr__, "__missing__": MISSING}
    parameters: list[str] = []
    body: list[str] = []
    for field in sorted(fields(cls), key=lambda field: bool(field.kw_only)):
        name = field.name
        if field.kw_only and "*" not in parameters:
            parameters.append("*")
        parameters.append(name)
        given = name
        if field.default is not MISSING:
            values[f"__default_{name}__"] = field.default
            parameters[-1] += f"=__default_{name}__"
        elif field.default_factory is not MISSING:
            values[f"__make_{name}__"] = field.default_factory
            parameters[-1] += "=__missing__"
            given = f"__make_{name}__() if {name} is __missing__ else {name}"
        body.append(f"__set__(self, {name!r}, {given})")
        annotations[name] = field.type
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    exec(f"def __init__(self, {', '.join(parameters)}):\n " + "\n ".join(body or ["pass"]), values)
    init = values["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = annotations | {"return": None}
    return init


def _keep(self: Any, name: str, *_: Any) -> NoReturn:
    raise FrozenInstanceError(f"a {type(self).__qualname__} stays as it was made: {name!r} cannot change")


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
