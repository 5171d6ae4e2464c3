"""The kinds of findings there are, the most important first, and what is found in an analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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

FINDINGS: Sequence[Callable[[Examined], Iterator[Finding]]] = (
    heavy_steps.find,
    scale_jumps.find,
    dead_tensors.find,
    level_shifts.find,
    opposing_steps.find,
    nothing_foretold.find,
    rank_limits.find,
)


def find(analysis: Analysis, thresholds: Thresholds | None = None) -> tuple[Finding, ...]:
    """What stands out in an analysis, the most important kind first: the whole model before its tensors.

    What the analysis does not hold gives no finding: steps and sums by step are left out of some documents,
    and what early ones lack. docs/findings.md has each with its condition.
    """
    examined = Examined(analysis, thresholds or Thresholds())
    return tuple(finding for kind in FINDINGS for finding in kind(examined))
