"""What `advise` found: frozen dataclasses. A decision never sounds surer than its figures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from ..results.result import LogWarning, RunInfo, Settings

Doubles = NDArray[np.float64]

CHANGE, NOTE, KEEP, UNKNOWN = "change", "note", "keep", "unknown"
"""Verdicts: something to change; a fact to know; nothing to change; cannot be said."""
CERTAIN, CLEAR, WEAK, NONE = "certain", "clear", "weak", "none"
"""Confidence: a fact of the logged rows; a 95% interval (or every sampled row) on one side of the limit, or a
figure past what noise gives in 2.5 percent of runs; the figure alone, or a theory whose assumptions the log
cannot show; nothing to go by."""
FACT, BOOTSTRAP, SAMPLE, ESTIMATE, NOISE = "exact", "bootstrap", "sample", "estimate", "noise"
"""What a figure rests on: all rows; resampled rows; sampled rows, lower and upper being the extremes; a
formula whose assumptions the log cannot show; all rows, lower or upper being what this run's own noise passes
in 2.5 percent of runs at most."""


@dataclass(frozen=True)
class Figure:
    """A number that a decision rests on.

    lower, upper : of its 95% interval where basis is "bootstrap", of certain bounds where it is "exact", the
    extremes of the sample where it is "sample", one end of what noise gives where it is "noise"; None without
    """

    name: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    basis: str = FACT


@dataclass(frozen=True)
class Decision:
    """What to do about one quantity in one scope.

    quantity : its name, as `--only` takes it; scope : a tensor's name, None for the whole model
    text : the decision, or why there is none; figures : what it rests on, the most telling first
    weight : how much there is at stake, 0 to 100; decisions are shown by it
    """

    quantity: str
    scope: str | None
    verdict: str
    text: str
    figures: tuple[Figure, ...]
    confidence: str
    source: str
    weight: float = 0.0

    def __post_init__(self) -> None:
        """Hold the confidence against the figures. Raises ValueError where it says more than they do."""
        if self.confidence == CERTAIN and any(figure.basis != FACT for figure in self.figures):
            raise ValueError(f"{self.quantity}: certain of what was not counted")
        if self.confidence == CLEAR and not any(
            (figure.lower, figure.upper) != (None, None) and figure.basis in (BOOTSTRAP, SAMPLE, NOISE)
            for figure in self.figures
        ):
            raise ValueError(f"{self.quantity}: clear without an interval")
        if (self.verdict == UNKNOWN) != (self.confidence == NONE):
            raise ValueError(f"{self.quantity}: unknown and confidence none go together")


@dataclass(frozen=True)
class Schedule:
    """A learning rate for each of N rows.

    refined : (N,), its largest value is 1; smoothed : (N,), the norms that it was made of
    logged : (N,) learning rates of the log, None where it has none
    ratio : bound of the refined schedule over that of the logged one, each at its best base rate; None
    without `logged`; base : best base rates for D = 1 of the refined and of the logged schedule
    """

    step: NDArray[np.int64]
    grad_norm: Doubles
    smoothed: Doubles
    refined: Doubles
    logged: Doubles | None
    ratio: float | None
    base: tuple[float | None, float | None]


@dataclass(frozen=True)
class Advice:
    """All decisions on one run, the weightiest first.

    checked : names of the quantities that were asked for; samples : rows whose matrices were taken, at most
    """

    version: str
    run: RunInfo
    settings: Settings
    checked: tuple[str, ...]
    decisions: tuple[Decision, ...]
    schedule: Schedule | None
    samples: int
    seconds: float
    warnings: tuple[LogWarning, ...]
    steps: tuple[int, int] | None

    def of(self, verdict: str) -> tuple[Decision, ...]:
        """The decisions of one verdict."""
        return tuple(decision for decision in self.decisions if decision.verdict == verdict)
