"""Whether the fields of a dataclass hold what its annotations say: for what comes from a file."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any


def check_fields(instance: Any, where: str = "") -> None:
    """Raise ValueError, naming the field, where one doesn't hold what its annotation says.

    Numbers, strings, tuples, mappings, optional ones of these, and dataclasses within are looked at; arrays
    are not. An int does for a float; a bool is no number, and infinity is none either.
    """
    # mypy takes the __hash__ of the class's instances for that of the class.
    for name, annotation in _annotations(type(instance)).items():  # type: ignore[arg-type]
        _check(getattr(instance, name), annotation, f"{where}{name}")


@functools.cache
def _annotations(kind: type[Any]) -> dict[str, Any]:
    held = typing.get_type_hints(kind)
    return {field.name: held[field.name] for field in dataclasses.fields(kind)}


def _check(value: Any, annotation: Any, where: str) -> None:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        if value is not None:
            for kind in inner:
                if kind is not types.NoneType:
                    _check(value, kind, where)
    elif origin is tuple:
        if not isinstance(value, tuple):
            raise _wrong(value, where)
        kinds = (inner[0],) * len(value) if inner[1:] == (...,) else inner
        if len(value) != len(kinds):
            raise _wrong(value, where)
        for at, (item, kind) in enumerate(zip(value, kinds, strict=True)):
            _check(item, kind, f"{where}[{at}]")
    elif dataclasses.is_dataclass(annotation):
        check_fields(value, f"{where}.")
    elif not _fits(value, origin or annotation):
        raise _wrong(value, where)


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool) and not math.isinf(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (str, bool, Mapping):
        return isinstance(value, kind)
    return True


def _wrong(value: Any, where: str) -> ValueError:
    return ValueError(f"{where} is {str(value)[:40]!r}")
