"""The quantities that `advise` knows: by name, with what each takes beside per-step sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import coherence, dead, edge, frozen, growth, hint, momentum, rank, schedule, slow, spikes
from .decision import Decision
from .evidence import Evidence


@dataclass(frozen=True)
class Quantity:
    """One quantity. spectrum, search, matrices, windows : what the pass has to gather for it"""

    decide: Callable[[Evidence], list[Decision]]
    spectrum: bool = False
    search: bool = False
    matrices: bool = False
    windows: bool = False


QUANTITIES: Mapping[str, Quantity] = {
    dead.NAME: Quantity(dead.decide),
    spikes.NAME: Quantity(spikes.decide),
    growth.NAME: Quantity(growth.decide),
    frozen.NAME: Quantity(frozen.decide),
    rank.NAME: Quantity(rank.decide, spectrum=True, matrices=True),
    hint.NAME: Quantity(hint.decide, search=True),
    momentum.NAME: Quantity(momentum.decide, search=True),
    schedule.NAME: Quantity(schedule.decide),
    slow.NAME: Quantity(slow.decide),
    coherence.NAME: Quantity(coherence.decide),
    edge.NAME: Quantity(edge.decide, spectrum=True, windows=True),
}
