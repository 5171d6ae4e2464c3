"""What an analysis found: frozen dataclasses. Every output format is a view of them, and none computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from .projection import Projection
from .row_kind import RowKind, row_kind
from .windows import Layout, Windows

if TYPE_CHECKING:
    from .search_result import PredictorSearch


@dataclass(frozen=True)
class LogWarning:
    """Something that the user should know and that did not stop the analysis; `code` is stable."""

    code: str
    message: str


@dataclass(frozen=True)
class PredictorResult:
    """Path length of one predictor over the analyzed rows of one scope (paper, section on path length).

    path_length : P(m) = sum_t ||g_t - m_t||^2, in squared gradient units
    kappa : P(m) / sum_t ||g_t||^2, >= 0; None when all gradients are 0
    scaled_kappa : min over real c of sum_t ||g_t - c m_t||^2 / sum_t ||g_t||^2, in [0, 1]; None likewise
    scale : the c that attains it; None when all gradients or all predictions are 0
    reference : kappa that independent noise of the same norms has, as of `statistics.noise_reference`; None
    when all gradients are 0, and in documents of an early gradmf
    *_error : standard errors of these where they are estimates from a sketch, None elsewhere
    """

    predictor: str
    path_length: float
    kappa: float | None
    scaled_kappa: float | None
    scale: float | None
    reference: float | None = None
    path_length_error: float | None = None
    kappa_error: float | None = None
    scaled_kappa_error: float | None = None
    scale_error: float | None = None


@dataclass(frozen=True)
class RankResult:
    """Predictable rank r*(eps): least r with sum_{i<=r} sigma_i^2 >= (1 - eps) ||H||_F^2.

    rank : r* where it is known; where certain bounds differ, `upper`: as many directions as are certainly
    enough; of a sketch an estimate within its bounds, None where it is too small to tell (`lower` holds)
    lower, upper : bounds on r*; equal to `rank` when the method is exact
    residual : sum_{i>rank} sigma_i^2, the least path length over rank-r increment predictors; None where rank
    is None or only bounded, and where it is not known: early documents of results lack it
    reference : r* that independent noise of the same norms has over as many parameters; None when there are
    no increments, and in early documents
    error, freedom : standard error of its natural logarithm with other minibatches, and the degrees of
    freedom that this is known with, as of `statistics.spectrum_errors`; None where that cannot be said
    """

    epsilon: float
    rank: int | None
    lower: int
    upper: int
    residual: float | None
    reference: int | None = None
    error: float | None = None
    freedom: float | None = None


@dataclass(frozen=True)
class GrowthPoint:
    """Bounds on r* of the first `rows` rows: (lower, upper) for each epsilon."""

    rows: int
    bounds: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SpectrumResult:
    """Spectrum of the increment matrix H = [g_1 - g_0, ..., g_{N-1} - g_{N-2}].

    method : "exact", "incremental" or "sketch", with the `confidence` of its bounds
    energy : ||H||_F^2
    stable_rank : ||H||_F^2 / sigma_1^2; effective_rank : exp of the entropy of sigma_i^2 / ||H||_F^2;
    participation_ratio : (sum sigma_i^2)^2 / sum sigma_i^4; each None when the energy is 0, or where a sketch
    cannot tell
    singular_values : float64, descending; all min(N - 1, D) of them when the method is exact
    growth : r* of the first rows, at up to 200 points, where the method gives it on the way
    projection : by which a sketch was made
    stable_rank_reference, effective_rank_reference : of independent noise, as of `RankResult.reference`
    *_error, *_freedom : of stable_rank, effective_rank and participation_ratio, as those of `RankResult`
    count_bounds : certain (lower, upper) of stable_rank, effective_rank and participation_ratio, where the
    method has them
    """

    method: str
    confidence: float
    energy: float
    rank: tuple[RankResult, ...]
    stable_rank: float | None
    effective_rank: float | None
    participation_ratio: float | None
    singular_values: NDArray[np.float64]
    stable_rank_reference: float | None = None
    effective_rank_reference: float | None = None
    growth: tuple[GrowthPoint, ...] = ()
    projection: Projection | None = None
    count_bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    stable_rank_error: float | None = None
    stable_rank_freedom: float | None = None
    effective_rank_error: float | None = None
    effective_rank_freedom: float | None = None
    participation_ratio_error: float | None = None
    participation_ratio_freedom: float | None = None

    @property
    def middle_rank(self) -> RankResult | None:
        """Of the one epsilon that stands for all where there is room for one; None without any."""
        ranks = sorted(self.rank, key=lambda rank: rank.epsilon)
        return ranks[len(ranks) // 2] if ranks else None

    def bounds_of(self, quantity: str) -> tuple[float, float] | None:
        """Certain bounds of stable_rank, effective_rank or participation_ratio; None where there are none."""
        value: float | None = getattr(self, quantity)
        if self.method == "exact":
            return None if value is None else (value, value)
        return self.count_bounds.get(quantity)


@dataclass(frozen=True)
class SubspaceWindow:
    """One window of training, against the one before.

    row : its first; fraction : mean over its steps; overlap : with the window before; directions : of its own
    leading subspace that stand clear of rounding. None where there is nothing to compare: at the first
    window, where gradients are 0, and for overlap and directions at a last window of fewer rows
    """

    row: int
    fraction: float | None
    overlap: float | None
    directions: int | None


@dataclass(frozen=True)
class SubspaceMeasure:
    """Gradients, or increments, against the leading subspace of the window before (arXiv 1812.04754).

    fraction : mean over steps of |V g|^2 / |g|^2, V the leading right singular vectors of the window before
    overlap : mean over windows of the mean squared cosine between consecutive leading subspaces
    directions : least number of directions used in any window, K where none drowned in rounding
    windows : each of them, for the whole model
    """

    fraction: float | None
    overlap: float | None
    directions: int | None
    windows: tuple[SubspaceWindow, ...]


@dataclass(frozen=True)
class SubspaceResult:
    """Leading subspaces of `dimensions` over consecutive windows of `window` rows."""

    dimensions: int
    window: int
    gradients: SubspaceMeasure
    increments: SubspaceMeasure


@dataclass(frozen=True)
class ScopeResult:
    """One scope: a tensor or the whole model.

    energy : sum_t ||g_t||^2; subspace : where it was asked for
    effective_rows : rows that carry it, (sum_t e_t)^2 / sum_t e_t^2 with e_t = ||g_t||^2; 0 when it is 0
    effective_parameters : parameters that carry it, by the same formula from each one's energy over all rows;
    all where these are many beside the rows
    top_row, top_row_share : the row of most energy, and its share; None where it is 0, and of tensors of logs
    so long that their energies are kept by bins of rows
    quiet_row, quiet_level : of a tensor, the row from which on it is dead, or next to it, as of
    `statistics.levels`, and what is left as a share of its typical level; None where it is not
    each None in documents of an early gradmf
    energy_error : standard error of the energy where a sketch estimates it; infinite where it is not known
    """

    parameters: int
    energy: float
    predictors: tuple[PredictorResult, ...]
    spectrum: SpectrumResult | None
    subspace: SubspaceResult | None = field(default=None, kw_only=True)
    energy_error: float | None = field(default=None, kw_only=True)
    effective_rows: float | None = field(default=None, kw_only=True)
    effective_parameters: float | None = field(default=None, kw_only=True)
    top_row: int | None = field(default=None, kw_only=True)
    top_row_share: float | None = field(default=None, kw_only=True)
    quiet_row: int | None = field(default=None, kw_only=True)
    quiet_level: float | None = field(default=None, kw_only=True)

    @property
    def estimated(self) -> bool:
        """Whether a sketch estimates the sums over steps."""
        return self.energy_error is not None or any(p.path_length_error is not None for p in self.predictors)

    @property
    def best(self) -> PredictorResult | None:
        """The predictor with the least path length, other than `zero`; None when all gradients are 0."""
        usable = [p for p in self.predictors if p.predictor != "zero" and p.kappa is not None]
        return min(usable, key=lambda p: p.path_length, default=None)


@dataclass(frozen=True)
class TensorResult(ScopeResult):
    """One tensor: `name` and parameter `shape` (without the step axis)."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GroupResult(ScopeResult):
    """Several tensors together. name : of the group; tensors : of its members, in their order

    why : why there are no ranks, where ranks were asked for; "" where there are
    """

    name: str
    tensors: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True)
class Steps:
    """Per-step quantities of the whole model; NaN stands for null.

    step : (N,) int64, training step numbers; grad_norm : (N,), ||g_t||; cosine : (N,), cos(g_t, g_{t-1});
    kappa : for each predictor (N,), ||g_t - m_t||^2 / ||g_t||^2
    path_length, product : for each predictor but `zero` (N,), ||g_t - m_t||^2 and <g_t, m_t>; with
    ||m_t||^2 = path_length - grad_norm^2 + 2 product they give kappa and scaled kappa of any set of rows
    inside : where it was asked for, "gradients" and "increments" (N,): share of the energy of g_t, or of
    g_t - g_{t-1}, inside the leading subspace of the window before
    """

    step: NDArray[np.int64]
    grad_norm: NDArray[np.float64]
    cosine: NDArray[np.float64]
    kappa: Mapping[str, NDArray[np.float64]]
    path_length: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    product: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    inside: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class TensorSteps:
    """Per-step sums of each of K tensors, over bins of consecutive rows: one row each up to 1,024 rows.

    edges : (bins + 1,) int64, first row of each bin, then N; the first bin holds row 0 alone
    energy : (K, bins), sum of ||g_t||^2
    path_length, product : for each predictor but `zero` (K, bins), sums of ||g_t - m_t||^2 and <g_t, m_t>
    """

    edges: NDArray[np.int64]
    energy: NDArray[np.float64]
    path_length: Mapping[str, NDArray[np.float64]]
    product: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class RunInfo:
    """What was read: `rows` N and `parameters` D are those that entered the analysis."""

    path: str
    rows: int
    parameters: int
    tensors: int
    dtypes: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def kind(self) -> RowKind:
        """What its rows are. Raises DataError where the attributes name what is not known."""
        return row_kind(self.attributes)


@dataclass(frozen=True)
class Settings:
    """Everything that changes the numbers of an analysis; threads and memory do not.

    tensors, exclude : glob patterns on tensor names; no `tensors` means all
    repeated : where training steps of rows don't increase: "fail", take the "last" or "first" row of each
    step, or "keep" all rows in their order
    gradients : globs on the paths of arrays that are gradients, in a store that does not say so itself
    rows : (first, last + 1) rows of the log, Python slice rules; None for either end
    subspace : dimensions of the leading subspaces to follow over training; None for not at all
    window : rows of a window of training for that; None for 4 times as many as dimensions
    sketch_dim, seed : M and the seed of the sketch method's projection; None for an M that memory allows
    project : M of a projection that path lengths are estimated from too; None for exact ones
    measures : further ones that are registered, by name: see `gradlog.measure`
    windows : so many windows of training, or their rows and from the start of one to that of the next
    groups : patterns that make groups of tensors: see `results.groups`
    band : lags of the band that predictors are searched from where not all pairs of rows are multiplied,
    2 to 256; None for 64
    """

    predictors: tuple[str, ...] = ("one-step", "ema:0.5", "ema:0.9", "ema:0.99", "mean:5", "linear")
    epsilons: tuple[float, ...] = (0.1, 0.05, 0.01)
    rank: str = "auto"
    tensors: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    rows: tuple[int | None, int | None] = (None, None)
    nonfinite: str = "fail"
    repeated: str = "fail"
    truncate: bool = False
    gradients: tuple[str, ...] = ()
    strict: bool = False
    subspace: int | None = None
    window: int | None = None
    sketch_dim: int | None = None
    seed: int = 0
    project: int | None = None
    band: int | None = None
    measures: tuple[str, ...] = ()
    windows: Layout | None = None
    groups: tuple[str, ...] = ()

    @property
    def middle_epsilon(self) -> float | None:
        """The one epsilon that stands for all where there is room for one; None without any."""
        return sorted(self.epsilons)[len(self.epsilons) // 2] if self.epsilons else None

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Self:
        """From fields as JSON holds them, where tuples are lists. Raises TypeError for an unknown field."""
        held = {"repeated": "keep", **held}  # all rows were taken before this was a field
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in held.items()}
        return cls(**fields)

    @property
    def window_rows(self) -> int:
        """Rows of a window of training; 0 where subspaces were not asked for."""
        return 0 if self.subspace is None else self.window or 4 * self.subspace


@dataclass(frozen=True)
class Cost:
    """What the analysis took. seconds : wall clock; bytes_decoded : of gradients; reader : codec pipeline."""

    seconds: float
    bytes_decoded: int
    reader: str


@dataclass(frozen=True)
class Analysis:
    """The result of `analyze`: the whole model, its tensors in the log's order, and the steps.

    tensor_steps : the same for each tensor, where asked for
    search : the best predictors of each family, where asked for
    series : loss and lr of each row, as logged; None where it is not known what the log has
    measures : results of further measures, by name, as plain values
    windows : figures of windows of training, where asked for
    groups : of tensors, where asked for
    """

    version: str
    run: RunInfo
    settings: Settings
    total: ScopeResult
    tensors: tuple[TensorResult, ...]
    steps: Steps
    warnings: tuple[LogWarning, ...]
    cost: Cost
    tensor_steps: TensorSteps | None = None
    search: PredictorSearch | None = None
    series: Mapping[str, NDArray[np.float64]] | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)
    windows: Windows | None = None
    groups: tuple[GroupResult, ...] = ()
