"""A finding, the thresholds that make one, and the analysis that is looked at."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import field
from statistics import NormalDist
from typing import Self

from ..errors import UsageError
from ..quick_dataclass import dataclass
from ..results.result import Analysis, ScopeResult, TensorResult
from ..statistics.noise_reference import LEAST_EFFECTIVE_ROWS
from .level_series import ChangedLevel, changed_levels


@dataclass(frozen=True)
class Finding:
    """Something that stands out, with its evidence.

    code : stable name of its kind; tensor : a tensor's name, None for the whole model
    step : training step where it is, or begins; None where it is of all rows, or steps are not known
    figures : what it rests on, by name; text : in words, without the tensor's name
    """

    code: str
    tensor: str | None
    step: int | None
    figures: Mapping[str, float] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Thresholds:
    """From where on something stands out.

    step_share : of a scope's energy, that a single row carries
    level_change : factor between two levels of a norm, a kappa or an r*
    loss_scale : relative distance of a ratio of norms from a power of two
    opposing : one-step kappa over that of noise
    explained : share of the energy that a predictor may explain and still be missed, at most, for it to be
        said that none does
    rank_share : r* over the largest that there can be
    chance : with which noise, or levels that don't change, may be told as anything, in all scopes together
    """

    step_share: float = 0.5
    level_change: float = 1.5
    loss_scale: float = 0.02
    opposing: float = 1.1
    explained: float = 0.05
    rank_share: float = 0.9
    chance: float = 0.01

    def __post_init__(self) -> None:
        """Raises UsageError for one outside of its range."""
        for name, value in vars(self).items():
            least, most = (1.0, math.inf) if name in FACTORS else (0.0, 1.0)
            if not least < value < most:
                told = "above 1" if name in FACTORS else "between 0 and 1"
                raise UsageError(f"threshold {name} {value!r}: must be {told}")

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Self:
        """The defaults but for these. Raises UsageError for names that are not known, and as above."""
        known = [each.name for each in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"no threshold {name!r}; known are {', '.join(known)}")
        return cls(**values)


FACTORS = frozenset({"level_change", "opposing"})


@dataclass(frozen=True)
class Examined:
    """An analysis, by thresholds."""

    analysis: Analysis
    thresholds: Thresholds

    @property
    def scopes(self) -> Iterator[tuple[str | None, ScopeResult]]:
        """The whole model, then the tensors that have any energy, those with most first."""
        yield None, self.analysis.total
        for tensor in self.tensors:
            if tensor.energy > 0:
                yield tensor.name, tensor

    @property
    def tensors(self) -> list[TensorResult]:
        """Those of most energy first."""
        return sorted(self.analysis.tensors, key=lambda tensor: -tensor.energy)

    def step(self, row: int) -> int | None:
        """Training step of a row; None where the result holds no steps."""
        steps = self.analysis.steps.step
        return int(steps[row]) if 0 <= row < steps.size else None

    def place(self, row: int) -> str:
        """A row in words: its training step where that is known."""
        step = self.step(row)
        return f"row {row}" if step is None else f"step {step}"

    @functools.cached_property
    def changed_levels(self) -> list[ChangedLevel]:
        """Of norms, kappas and ranks of windows, in the order of scopes."""
        limits = self.thresholds
        return changed_levels(self.analysis, limits.chance, math.log(limits.level_change))

    def noise_deviation(self, scope: ScopeResult) -> float | None:
        """By how much the correlation of rows with a past that foretells nothing is off 0, by one deviation.

        1 / sqrt(rows that carry the energy x directions), where directions are at least the participation
        ratio of the increments, or 1 where it is not known: rows of noise g_t = sqrt(e_t) z_t have products
        of variance e_t e_s / (directions of z). None where too few rows carry the energy.
        """
        rows = scope.effective_rows
        if rows is None or rows < LEAST_EFFECTIVE_ROWS:
            return None
        spectrum = scope.spectrum
        directions = None if spectrum is None else spectrum.participation_ratio
        return 1.0 / math.sqrt(rows * max(1.0, directions or 1.0))

    def deviations(self, tests: int) -> float:
        """So many standard deviations is noise off on one side, with the chance of one in so many tests."""
        return NormalDist().inv_cdf(1 - self.thresholds.chance / max(1, tests))
