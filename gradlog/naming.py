"""Names of tensors, arrays and runs: which match patterns, and how many of them a message shows."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence


def matching(patterns: Iterable[str], names: Iterable[str]) -> set[str]:
    """The names that match any of the patterns. patterns : globs, whose case counts"""
    known = list(names)
    return {name for pattern in patterns for name in known if fnmatch.fnmatchcase(name, pattern)}


def shown(names: Sequence[str], most: int) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
