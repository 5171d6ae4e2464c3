"""The quantities that `advise` knows: by name, with what each takes beside per-step sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..quick_dataclass import dataclass
from . import coherence, dead, edge, frozen, growth, hint, momentum, rank, schedule, slow, spikes
from .decision import Decision
from .evidence import Evidence
from .missing import unknown

OPTIMIZED = "an optimizer's momentum is in its updates, and makes them alike: it takes a log of gradients"
PROJECTED = "low-rank optimizers project gradients, which updates are not: it takes a log of gradients"
SCHEDULED = "norms of updates have the learning rate in them: it takes a log of gradients"
DIFFERENCED = "of updates it takes the spectra of windows of themselves, not of their increments"


@dataclass(frozen=True)
class Quantity:
    """One quantity.

    spectrum, search, matrices, windows : what the pass has to gather for it
    of_updates : what is said in its place of a log of updates; None where it holds for them too
    """

    decide: Callable[[Evidence], list[Decision]]
    spectrum: bool = False
    search: bool = False
    matrices: bool = False
    windows: bool = False
    of_updates: Decision | None = None


QUANTITIES: Mapping[str, Quantity] = {
    dead.NAME: Quantity(dead.decide),
    spikes.NAME: Quantity(spikes.decide),
    growth.NAME: Quantity(growth.decide),
    frozen.NAME: Quantity(frozen.decide),
    rank.NAME: Quantity(
        rank.decide, spectrum=True, matrices=True, of_updates=unknown(rank.NAME, None, PROJECTED, rank.SOURCE)
    ),
    hint.NAME: Quantity(
        hint.decide, search=True, of_updates=unknown(hint.NAME, None, OPTIMIZED, hint.SOURCE)
    ),
    momentum.NAME: Quantity(
        momentum.decide, search=True, of_updates=unknown(momentum.NAME, None, OPTIMIZED, momentum.SOURCE)
    ),
    schedule.NAME: Quantity(
        schedule.decide, of_updates=unknown(schedule.NAME, None, SCHEDULED, schedule.SOURCE)
    ),
    slow.NAME: Quantity(slow.decide, of_updates=unknown(slow.NAME, None, OPTIMIZED, slow.SOURCE)),
    coherence.NAME: Quantity(
        coherence.decide, of_updates=unknown(coherence.NAME, None, OPTIMIZED, coherence.SOURCE)
    ),
    edge.NAME: Quantity(
        edge.decide,
        spectrum=True,
        windows=True,
        of_updates=unknown(edge.NAME, None, DIFFERENCED, edge.SOURCE),
    ),
}
