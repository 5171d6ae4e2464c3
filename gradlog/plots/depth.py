"""Tensors in the order of depth, as far as names tell it, and what of their names fits beside a panel."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from ..quick_dataclass import dataclass
from .drawn_run import drawable, shortened

FEWEST_GROUPS = 3


def in_depth_order(names: Iterable[str]) -> list[str]:
    """Each name once, numbers in it by their value: layers.2 comes before layers.10."""
    return sorted(dict.fromkeys(names), key=_natural)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


@dataclass(frozen=True)
class NameTick:
    """A name beside consecutive tensors first .. last - 1: of one, or what their names begin with."""

    first: int
    last: int
    text: str

    @property
    def middle(self) -> float:
        """Where it stands."""
        return (self.first + self.last - 1) / 2


def name_ticks(names: Sequence[str], most: int, letters: int) -> list[NameTick]:
    """At most `most` names of at most `letters`: of each tensor, or of groups of what names begin with.

    Groups are as small as fits; where even large ones don't, some of them are named.
    """
    each = [NameTick(at, at + 1, name) for at, name in enumerate(names)]
    ways = [each, *(_groups(names, depth) for depth in range(_deepest(names), 0, -1))]
    fits = next(
        (way for way in ways if len(way) <= most and len(way) >= min(len(names), FEWEST_GROUPS)), None
    )
    if fits is None:
        too_many = [way for way in ways if len(way) > most]
        fewest = min(too_many, key=len, default=each)
        fits = fewest[:: max(1, -(-len(fewest) // max(1, most)))]
    kept = _apart(fits, len(names) / max(1, most))
    return [NameTick(tick.first, tick.last, shortened(drawable(tick.text), letters)) for tick in kept]


def _apart(ticks: Sequence[NameTick], gap: float) -> list[NameTick]:
    """Those that stand at least so many tensors from each other; of two that are too close, the larger."""
    kept: list[NameTick] = []
    for tick in sorted(ticks, key=lambda tick: (tick.first - tick.last, tick.first)):
        if all(abs(tick.middle - other.middle) >= gap - 1e-9 for other in kept):
            kept.append(tick)
    return sorted(kept, key=lambda tick: tick.first)


def _deepest(names: Sequence[str]) -> int:
    return max((name.count(".") + name.count("/") for name in names), default=0)


def _groups(names: Sequence[str], depth: int) -> list[NameTick]:
    """Consecutive tensors whose names begin with the same `depth` parts."""
    found = []
    at = 0
    for start, group in itertools.groupby(names, key=lambda name: _start(name, depth)):
        size = len(list(group))
        found.append(NameTick(at, at + size, start))
        at += size
    return found


def _start(name: str, depth: int) -> str:
    return "".join(re.split(r"([./])", name)[: 2 * depth - 1])
