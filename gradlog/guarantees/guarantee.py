"""Guarantees: formulas with their assumptions, evaluated on one run; frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from ..results.reasons import ALL_ZERO, NO_SERIES
from ..results.result import Analysis, LogWarning
from ..results.row_kind import RowKind
from ..results.training import adaptive_optimizer, full_batch
from ..runs.strides import STRIDED, SUMMED, stride_of, stride_warnings
from ..statistics.noise_reference import LEAST_EFFECTIVE_ROWS

SpeaksOf = Literal["logged", "along m_t", "hindsight"]
"""Whose path: the logged gradients, as a sequence that stands; a run that moves along m_t, which was not
logged; the logged gradients, with what only their end tells."""
HINDSIGHT = "the predictor is chosen in hindsight"
ZERO_ALONE = "no predictor but zero was measured: give --predictor"


@dataclass(frozen=True)
class Guarantee:
    """One row.

    name : stable; hint : spec of the predictor that it is about, "" where there is none
    formula : of `value`; worst_formula : of `worst`, the same without what this run shows
    value, worst, ratio : None where `why` says why there is none, and `worst` where without this run there is
    no bound; ratio : value / worst
    in_expectation : over minibatches, not of each run
    vacuous : it says nothing: gradients of these norms are never beyond it
    """

    name: str
    hint: str
    formula: str
    worst_formula: str
    assumptions: tuple[str, ...]
    value: float | None
    worst: float | None
    why: str = ""
    speaks_of: SpeaksOf = "logged"
    in_expectation: bool = False
    vacuous: bool = False

    @property
    def ratio(self) -> float | None:
        """value / worst, None where either is missing or the worst case is 0."""
        return None if self.value is None or not self.worst else self.value / self.worst


@dataclass(frozen=True)
class MeetingRank:
    """Least r with ||g_0||^2 + sum_{i>r} sigma_i^2 <= P(predictor).

    lower, upper : certain, or with the spectrum's confidence; upper None where no rank is sure to be enough
    """

    predictor: str
    lower: int
    upper: int | None


@dataclass(frozen=True)
class ResidualCurve:
    """sum_{i>r} sigma_i^2 at each of `rank`, with bounds that are equal where the spectrum is exact."""

    rank: NDArray[np.int64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


@dataclass(frozen=True)
class Anytime:
    """Regret bounds at every prefix of n = 1 .. N rows.

    bounds : by predictor (N,), R sqrt(2 P_n); `zero` is without hints; none of updates
    hint : the best predictor that beats no hint beyond noise, else the one with the least path length over
    all rows; None where none leaves less than no hint
    predicts : whether any predictor beats no hint beyond noise; None where rows are too few to tell
    pays_from : where it predicts, the first row from which on its bound stays below the one without hints
    guarantees : (N,) the other rows of `Bounds`, by name, each over the rows so far; NaN where there is no
    value yet. Ranks of prefixes are not known, so that "regret[rank r]" has none
    """

    bounds: Mapping[str, NDArray[np.float64]]
    hint: str | None
    predicts: bool | None
    pays_from: int | None
    guarantees: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Bounds:
    """All guarantees of one run. radius, smoothness, lr, floor : as given."""

    analysis: Analysis
    radius: float
    smoothness: float | None
    lr: float | None
    floor: float
    rows: tuple[Guarantee, ...]
    anytime: Anytime
    residual: ResidualCurve | None
    meeting: tuple[MeetingRank, ...]

    @property
    def warnings(self) -> tuple[LogWarning, ...]:
        """Those of the analysis, and of a stride that results of earlier versions don't tell."""
        held = self.analysis.warnings
        told = any(warning.code in (STRIDED, SUMMED) for warning in held)
        return held if told else (*held, *stride_warnings(self.analysis.steps.step, self.kind))

    @property
    def kind(self) -> RowKind:
        """What the rows are: of updates, theorems about gradients have no value."""
        return self.analysis.run.kind

    @property
    def unsure(self) -> frozenset[str]:
        """Tensors of which too few rows carry the energy for an interval or a verdict."""
        return frozenset(
            tensor.name
            for tensor in self.analysis.tensors
            if tensor.effective_rows is not None and tensor.effective_rows < LEAST_EFFECTIVE_ROWS
        )

    @property
    def stride(self) -> int:
        """Training steps from a row to the next."""
        return stride_of(self.analysis.steps.step)

    @property
    def full_batch(self) -> bool:
        """Whether the log says that gradients are of all examples."""
        return full_batch(self.analysis.run.attributes)

    @property
    def adaptive_optimizer(self) -> str:
        """The log's optimizer where it moves along rescaled gradients, else ""."""
        return adaptive_optimizer(self.analysis.run.attributes)

    def row(self, name: str) -> Guarantee:
        """The guarantee of that name. Raises KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)


def no_best(analysis: Analysis) -> str:
    """Why no listed predictor is the best one; "" where one is."""
    if analysis.total.best is not None:
        return ""
    return analysis.run.kind.say(ALL_ZERO) if analysis.total.energy == 0 else ZERO_ALONE


def no_series(analysis: Analysis) -> str:
    """Why there are no sums of every listed predictor by step; "" where there are."""
    steps = analysis.steps
    listed = {p.predictor for p in analysis.total.predictors} - {"zero"}
    return "" if steps.grad_norm.size and listed <= steps.path_length.keys() else NO_SERIES


def logged_rows(analysis: Analysis) -> str:
    """The assumption on g_t of what speaks of the logged rows."""
    if analysis.run.kind.of_updates:
        return "g_t are the logged updates: it speaks of that sequence"
    batch = "full-batch as the log says" if full_batch(analysis.run.attributes) else "of minibatches"
    return f"g_t are the logged gradients, {batch}: it speaks of that sequence"


def listed_and_found(analysis: Analysis) -> dict[str, NDArray[np.float64]]:
    """(N,) ||g_t - m_t||^2 of the listed predictors but `zero`, and of those that a search found."""
    found = {} if analysis.search is None else analysis.search.total.steps
    return {**analysis.steps.path_length, **found}
