"""The kinds of findings there are, the most important first, and what is found in an analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..results.result import Analysis
from . import (
    dead_tensors,
    heavy_steps,
    level_shifts,
    nothing_foretold,
    opposing_steps,
    rank_limits,
    scale_jumps,
)
from .finding import Examined, Finding, Thresholds

FINDINGS: Mapping[str, Callable[[Examined], Iterator[Finding]]] = {
    "heavy_steps": heavy_steps.find,
    "scale_jumps": scale_jumps.find,
    "dead_tensors": dead_tensors.find,
    "level_shifts": level_shifts.find,
    "opposing_steps": opposing_steps.find,
    "nothing_foretold": nothing_foretold.find,
    "rank_limits": rank_limits.find,
}
"""By the module that has it."""


def find(analysis: Analysis, thresholds: Thresholds | None = None) -> tuple[Finding, ...]:
    """What stands out in an analysis, the most important kind first: the whole model before its tensors.

    What the analysis does not hold gives no finding: steps and sums by step are left out of some documents,
    and what early ones lack. docs/findings.md has each with its formula and its rate of false alarms.
    """
    examined = Examined(analysis, thresholds or Thresholds())
    return tuple(finding for kind in FINDINGS.values() for finding in kind(examined))
