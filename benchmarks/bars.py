"""What gradmf is to reach, store by store; the report says beside each figure whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Measure = Literal["ratio", "seconds", "peak", "faster", "interval"]


@dataclass(frozen=True)
class Bar:
    """A limit for a way on a store.

    ``ratio`` is to the way's reference, ``seconds`` and ``peak`` (MB) are absolute, ``faster`` is how many
    times faster than numpy-by-hand it is at least, ``interval`` the width of every [lower, upper] of r*,
    which must also hold the truth (None: however wide).
    """

    store: str
    way: str
    measure: Measure
    limit: float | None
    goal: float | None = None


BARS = (
    Bar("wide-zstd", "gradmf analyze", "ratio", 2.0, goal=1.7),
    Bar("wide-zstd", "gradmf analyze --rank none", "ratio", 1.4, goal=1.2),
    Bar("wide-zstd", "gradmf analyze", "faster", 3.0),
    Bar("wide-zstd", "gradmf analyze", "peak", 600),
    Bar("wide-raw", "gradmf analyze", "peak", 600),
    Bar("small", "gradmf --help", "ratio", 3.0),
    Bar("small", "gradmf analyze", "ratio", 3.0),
    Bar("small", "gradmf analyze, first run", "seconds", 15.0),
    Bar("tall-chunks", "gradmf analyze", "ratio", 3.0),
    Bar("many-small", "gradmf analyze", "ratio", 3.0),
    Bar("long-lowrank", "gradmf analyze", "ratio", 5.0),
    Bar("long-lowrank", "gradmf analyze", "peak", 1500),
    Bar("long-lowrank", "gradmf analyze", "interval", 1),
    Bar("long-lowrank-200k", "gradmf analyze", "peak", 1500),
    Bar("long-lowrank-200k", "gradmf analyze", "interval", 1),
    Bar("long-white", "gradmf analyze", "peak", 1500),
    Bar("long-white", "gradmf analyze", "interval", None),
)


def bars_for(store: str, way: str) -> list[Bar]:
    """The bars of a row."""
    return [bar for bar in BARS if (bar.store, bar.way) == (store, way)]
