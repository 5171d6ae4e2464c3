"""Names of tensors, arrays, runs and files: which match patterns, how many a message shows, how they end."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import UsageError


def matching(patterns: Iterable[str], names: Iterable[str]) -> set[str]:
    """The names that match any of the patterns. patterns : globs, whose case counts"""
    known = list(names)
    return {name for pattern in patterns for name in known if fnmatch.fnmatchcase(name, pattern)}


def ending_of(path: str | os.PathLike[str], known: Sequence[str], rule: str) -> str:
    """The ending of a path, in lower case, with its dot. Raises UsageError where it is not known: `rule`."""
    ending = Path(path).suffix.lower()
    if ending not in known:
        told = f"ends in {ending!r}" if ending else "has no ending"
        raise UsageError(f"{os.fspath(path)}: {told}: {rule}")
    return ending


def shown(names: Sequence[str], most: int) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
