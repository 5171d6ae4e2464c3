"""Whether what comes from a file is what it should be: fields of dataclasses, and of JSON objects."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass

MOST = (1 << 63) - 1
"""Of counts: what int64 holds."""
DEEPEST = 64
"""Lists within lists of free metadata: far below where Python's recursion ends."""


def check_fields(instance: Any, where: str = "") -> None:
    """Raise ValueError, naming the field, where one doesn't hold what its annotation says.

    Numbers, strings, tuples, mappings, optional ones of these, and dataclasses within are looked at; arrays
    are not. An int does for a float; a bool is no number, and neither are NaN and infinity.
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
            allowed = [kind for kind in inner if kind is not types.NoneType]
            # A tuple is looked into where one is allowed.
            fitting = [
                kind for kind in allowed if (typing.get_origin(kind) is tuple) == isinstance(value, tuple)
            ]
            _check(value, (fitting or allowed)[0], where)
    elif origin is tuple:
        if not isinstance(value, tuple):
            _wrong(value, where)
        kinds = (inner[0],) * len(value) if inner[1:] == (...,) else inner
        if len(value) != len(kinds):
            _wrong(value, where)
        for at, (item, kind) in enumerate(zip(value, kinds, strict=True)):
            _check(item, kind, f"{where}[{at}]")
    elif dataclasses.is_dataclass(annotation):
        check_fields(value, f"{where}.")
    elif not _fits(value, origin or annotation):
        _wrong(value, where)


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return _finite(value) is not None
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (str, bool, Mapping):
        return isinstance(value, kind)
    return True


def _finite(value: Any) -> float | None:
    """The number, None for what is none or not finite in float64."""
    if isinstance(value, bool) or not isinstance(value, float | int):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _wrong(value: Any, where: str, wanted: str = "") -> NoReturn:
    raise ValueError(f"{where} is {_shown(value)}{f', not {wanted}' if wanted else ''}")


def _shown(value: Any) -> str:
    """A value as JSON calls it, on one line and short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."


@dataclass(frozen=True)
class Fields:
    """An object of a JSON document, whose fields are asked for by name and kind.

    place : where the object stands, for errors; "" for the document itself

    All that is asked for must be there, and of its kind, or ValueError names it by its place. `known` kinds
    may be null, which is None; `maybe` kinds may be absent too. Fields that nobody asks for are none's fault.
    """

    held: Mapping[str, Any]
    place: str = ""

    @classmethod
    def of(cls, value: Any, place: str) -> Fields:
        """From what should be an object."""
        if not isinstance(value, dict):
            _wrong(value, place, "an object")
        return cls(value, place)

    def where(self, name: str) -> str:
        """The place of a field."""
        return f"{self.place}.{name}" if self.place else name

    def value(self, name: str) -> Any:
        """Of any kind."""
        if name not in self.held:
            raise ValueError(f"{self.where(name)!r} is missing")
        return self.held[name]

    def has(self, name: str) -> bool:
        """Whether it is there, and not null."""
        return self.held.get(name) is not None

    def text(self, name: str) -> str:
        """A string."""
        return as_text(self.value(name), self.where(name))

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.value(name)
        number = _finite(value)
        if number is None:
            _wrong(value, self.where(name), "a number")
        return number

    def known_number(self, name: str) -> float | None:
        """A finite number, or null."""
        return None if self.value(name) is None else self.number(name)

    def maybe_number(self, name: str) -> float | None:
        """A finite number, null, or absent."""
        return self.number(name) if self.has(name) else None

    def count(self, name: str, *, least: int = 0, most: int = MOST) -> int:
        """A whole number from `least` to `most`."""
        return as_count(self.value(name), self.where(name), least=least, most=most)

    def known_count(self, name: str, *, least: int = 0) -> int | None:
        """A whole number of at least `least`, or null."""
        return None if self.value(name) is None else self.count(name, least=least)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.value(name)
        if not isinstance(value, bool):
            _wrong(value, self.where(name), "true or false")
        return value

    def items(self, name: str) -> list[Any]:
        """A list of anything."""
        value = self.value(name)
        if not isinstance(value, list):
            _wrong(value, self.where(name), "a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(as_text(item, f"{self.where(name)}[{at}]") for at, item in enumerate(self.items(name)))

    def counts(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers of at least 0."""
        return tuple(as_count(item, f"{self.where(name)}[{at}]") for at, item in enumerate(self.items(name)))

    def inner(self, name: str) -> Fields:
        """An object."""
        return Fields.of(self.value(name), self.where(name))

    def inners(self, name: str) -> list[Fields]:
        """A list of objects."""
        return [Fields.of(item, f"{self.where(name)}[{at}]") for at, item in enumerate(self.items(name))]

    def free(self, name: str) -> dict[str, Any]:
        """An object that may hold anything, though not lists within lists without end."""
        held = self.inner(name).held
        level: list[Any] = [held]
        for _ in range(DEEPEST):
            level = [
                item
                for value in level
                for item in (value.values() if isinstance(value, dict) else value)
                if isinstance(item, dict | list)
            ]
            if not level:
                return dict(held)
        raise ValueError(f"{self.where(name)} holds lists within lists without end")

    def doubles(self, name: str, *, nulls: bool = False) -> NDArray[np.float64]:
        """(n,) float64 of a list of finite numbers; nulls : where null may stand, which is NaN"""
        values = self.items(name)
        allowed = {float, int, type(None)} if nulls else {float, int}
        place = self.where(name)
        if not set(map(type, values)) <= allowed:
            at = next(at for at, value in enumerate(values) if type(value) not in allowed)
            _wrong(values[at], f"{place}[{at}]", "a number")
        try:
            found = np.array(values, dtype=np.float64)
        except OverflowError:
            raise ValueError(f"{place} holds a number beyond float64") from None
        if np.isinf(found).any():
            raise ValueError(f"{place} holds a number beyond float64")
        return found

    def wholes(self, name: str) -> NDArray[np.int64]:
        """(n,) int64 of a list of whole numbers."""
        values = self.items(name)
        place = self.where(name)
        if not set(map(type, values)) <= {int}:
            at = next(at for at, value in enumerate(values) if type(value) is not int)
            _wrong(values[at], f"{place}[{at}]", "a whole number")
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            raise ValueError(f"{place} holds a number beyond int64") from None

    def doubles_by_name(self, name: str, *, nulls: bool = False) -> dict[str, NDArray[np.float64]]:
        """An object of such lists; none where it is absent."""
        if not self.has(name):
            return {}
        inner = self.inner(name)
        return {as_text(key, inner.place): inner.doubles(key, nulls=nulls) for key in inner.held}


def as_text(value: Any, place: str) -> str:
    """A string that can be written: bytes of a path that are no UTF-8 are, other lone surrogates are not."""
    if not isinstance(value, str):
        _wrong(value, place, "a string")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"{place} holds half of a character") from None
    return value


def as_count(value: Any, place: str, *, least: int = 0, most: int = MOST) -> int:
    """A whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        wanted = "a whole number" if least == 0 and most == MOST else f"a whole number from {least}"
        _wrong(value, place, wanted if most == MOST else f"{wanted} to {most}")
    return value
