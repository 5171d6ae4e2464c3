"""Groups of tensors, by patterns on their names."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..naming import matching, shown
from ..quick_dataclass import dataclass


@dataclass(frozen=True)
class Group:
    """name : of the group; tensors : numbers of its members, ascending"""

    name: str
    tensors: tuple[int, ...]


def groups_of(patterns: Sequence[str], names: Sequence[str]) -> tuple[Group, ...]:
    """The groups that patterns make of tensors, in the order of patterns and tensors.

    A whole number is a depth: tensors whose names agree in so many parts between dots are a group, named by
    these parts. Any other pattern is a glob, and what it matches is one group of that name. A tensor may be
    in several groups.

    names : of all tensors, in their order. Raises UsageError for a depth of 0, or a glob that matches nothing
    """
    found: dict[str, Group] = {}
    for pattern in patterns:
        if pattern.isdecimal():
            depth = int(pattern)
            if depth < 1:
                raise UsageError(f"group {pattern!r}: the depth of names must be at least 1")
            members: dict[str, list[int]] = {}
            for number, name in enumerate(names):
                members.setdefault(".".join(name.split(".")[:depth]), []).append(number)
        else:
            matched = matching([pattern], names)
            if not matched:
                raise UsageError(f"group {pattern!r}: no tensor matches; there are {shown(list(names), 4)}")
            members = {pattern: [number for number, name in enumerate(names) if name in matched]}
        for name, numbers in members.items():
            found.setdefault(name, Group(name, tuple(numbers)))
    return tuple(found.values())
