"""How much of a sweep `make test` runs: a part of it; `make test-all` runs the whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

WHOLE = os.environ.get("GRADMF_TEST_SWEEPS") == "whole"


def sweep(count: int) -> int:
    """Hypothesis's examples of a test that gets `count` in a whole sweep."""
    return count if WHOLE else -(-count // 5)


def mostly_slow(values: Iterable[Any], fast: Iterable[Any]) -> list[Any]:
    """Parameters of a test, of which those that are not among `fast` are marked slow."""
    quick = list(fast)
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]


def part_of(values: Sequence[Any], share: int) -> Sequence[Any]:
    """Every `share`-th of the values; all of them in a whole sweep."""
    return values if WHOLE else values[::share]
