"""Measures that are asked for by name, beside those that the program has tables for."""

from __future__ import annotations

from typing import TypeVar

from ..engine.measure import Measure
from ..errors import UsageError

_M = TypeVar("_M", bound=Measure)
_REGISTERED: dict[str, type[Measure]] = {}


def measure(registered: type[_M]) -> type[_M]:
    """Class decorator: `Settings(measures=[NAME])` asks for it from now on.

    Its accumulator's `result` is plain values, as JSON has them, and its `state` goes into part files.
    """
    _REGISTERED[registered.name] = registered
    return registered


def registered_measure(name: str) -> Measure:
    """The measure of that name. Raises UsageError with the known ones."""
    if name not in _REGISTERED:
        known = f"known are {', '.join(sorted(_REGISTERED))}" if _REGISTERED else "none is registered"
        raise UsageError(f"measure {name!r}: {known}")
    return _REGISTERED[name]()
