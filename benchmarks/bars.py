"""What gradmf is to reach, store by store; the report says beside each figure whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Measure = Literal["ratio", "seconds", "peak", "faster", "interval", "plan"]


@dataclass(frozen=True)
class Bar:
    """A limit for a way on a store.

    ``ratio`` is to the way's reference, or to `against`, ``seconds`` and ``peak`` (MB) are absolute,
    ``faster`` is how many times faster than numpy-by-hand it is at least, ``interval`` the width of every
    [lower, upper] of r*, which must also hold the truth (None: however wide), ``plan`` the factor by which
    the estimate of `--plan` may miss.
    """

    store: str
    way: str
    measure: Measure
    limit: float | None
    goal: float | None = None
    against: str | None = None


BARS = (
    Bar("wide-zstd", "gradmf analyze", "ratio", 1.15, against="read, then H H^T"),
    Bar("wide-zstd", "gradmf analyze --rank none", "ratio", 1.25),
    Bar("wide-zstd", "gradmf analyze", "faster", 3.0),
    Bar("wide-zstd", "gradmf analyze", "peak", 600),
    Bar("wide-raw", "gradmf analyze", "peak", 600),
    Bar("small", "gradmf --help", "ratio", 3.0),
    Bar("small", "gradmf analyze", "ratio", 3.0),
    Bar("small", "gradmf analyze, first run", "seconds", 15.0),
    Bar("tall-chunks", "gradmf analyze", "ratio", 1.8),
    Bar("many-small", "gradmf analyze", "ratio", 1.3),
    Bar("many-tiny", "gradmf analyze", "ratio", 1.4),
    Bar("many-tiny", "gradmf analyze", "peak", 600),
    Bar("gpt2-raw", "gradmf analyze", "ratio", 2.0, goal=1.5),
    Bar("gpt2-raw", "gradmf analyze", "peak", 1500),
    Bar("gpt2-zstd", "gradmf analyze", "ratio", 3.0),
    Bar("gpt2-bfloat16", "gradmf analyze", "ratio", 2.5),
    Bar("long-lowrank", "gradmf analyze", "ratio", 2.5),
    Bar("long-lowrank", "gradmf analyze", "peak", 1500),
    Bar("long-lowrank", "gradmf analyze", "interval", 1),
    Bar("long-lowrank-200k", "gradmf analyze", "peak", 1500),
    Bar("long-lowrank-200k", "gradmf analyze", "interval", 1),
    Bar("long-white", "gradmf analyze", "peak", 1500),
    Bar("long-white", "gradmf analyze", "interval", None),
)


PLAN_FACTOR = 2.0
"""By which the estimate of `--plan` may miss, on any store."""


def bars_for(store: str, way: str) -> list[Bar]:
    """The bars of a row."""
    planned = [Bar(store, way, "plan", PLAN_FACTOR)] if way.startswith("gradmf analyze") else []
    return [bar for bar in BARS if (bar.store, bar.way) == (store, way)] + planned
