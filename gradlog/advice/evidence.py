"""What quantities take: an analysis with its per-step sums, and what else the same pass gathered."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..predictors import memory_rows
from ..quick_dataclass import dataclass
from ..results.reasons import tensor_steps_elsewhere
from ..results.result import Analysis, ScopeResult, TensorResult
from ..results.row_kind import RowKind
from ..results.samples import MatrixSpectra, matrix_shape
from ..results.search_result import ScopeSearch
from ..runs.strides import stride_of
from ..statistics.noise_reference import FEW_CARRY, LEAST_EFFECTIVE_ROWS, effective_rows
from .intervals import RunBootstrap

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class ScopeSteps:
    """Per-step sums of one scope, over n bins of rows: one row each up to 1,024 rows.

    result : the figures of all rows; name : a tensor's, None for the whole model
    first : (n,), first row of each bin; rows : (n,), rows of each bin; energy : (n,), sum of ||g_t||^2
    residual, product : for each predictor but `zero` (n,), sums of ||g_t - m_t||^2 and <g_t, m_t>
    """

    name: str | None
    result: ScopeResult
    first: NDArray[np.int64]
    rows: NDArray[np.int64]
    energy: Doubles
    residual: Mapping[str, Doubles]
    product: Mapping[str, Doubles]

    @property
    def level(self) -> Doubles:
        """(n,) root mean square of ||g_t|| over each bin."""
        return np.asarray(np.sqrt(self.energy / self.rows))

    @property
    def few_rows(self) -> str:
        """Why nothing can be said of how figures vary; "" where enough rows carry the energy."""
        carry = self.result.effective_rows
        if carry is None:
            carry = float(effective_rows(self.energy, self.rows))
        if carry >= LEAST_EFFECTIVE_ROWS or carry == 0:
            return ""
        return f"{FEW_CARRY}: nothing tells how figures vary"

    def memory_bins(self, spec: str) -> float:
        """Twice the bins that a predictor looks back on: rows that far apart still hang together."""
        rows = int(self.rows.sum())
        return 2 * memory_rows(spec, rows) * (self.first.size - 1) / max(1, rows - 1)

    def prediction(self, spec: str) -> Doubles:
        """(n,) sums of ||m_t||^2, from the other sums."""
        found = self.residual[spec] - self.energy + 2 * self.product[spec]
        return np.asarray(np.maximum(found, 0.0))


@dataclass(frozen=True)
class Evidence:
    """Everything about one run that a quantity may take.

    series : (N,) values of scalar series of the log, such as lr, by name
    matrices : singular values of gradient matrices by tensor; no_matrices : why one has none
    windows : (n, W), sigma_i^2 of the increments of rolling windows, descending; window_rows : (n,), the
    first row of each; no_windows : why there are none
    no_rates : why there is no lr, "" where the log was asked for it
    """

    analysis: Analysis
    series: Mapping[str, Doubles] = field(default_factory=dict)
    matrices: Mapping[str, MatrixSpectra] = field(default_factory=dict)
    no_matrices: Mapping[str, str] = field(default_factory=dict)
    windows: Doubles | None = None
    window_rows: NDArray[np.int64] | None = None
    no_windows: str = "a finished result holds no windows of increments: give the store"
    no_rates: str = ""

    @classmethod
    def of_finished(cls, analysis: Analysis) -> Self:
        """What a finished analysis holds."""
        return cls(
            analysis, series=analysis.series or {}, no_rates=NO_RATES if analysis.series is None else ""
        )

    @property
    def kind(self) -> RowKind:
        """What the rows are."""
        return self.analysis.run.kind

    @functools.cached_property
    def bootstrap(self) -> RunBootstrap:
        """Resamples the rows of the run."""
        return RunBootstrap(self.analysis.steps.grad_norm)

    def search(self, name: str | None) -> ScopeSearch | None:
        """What the search for the best predictors found for a tensor, or the whole model (None)."""
        search = self.analysis.search
        if search is None:
            return None
        return next((scope for scope in (search.total, *search.tensors) if scope.name == name), None)

    @functools.cached_property
    def total(self) -> ScopeSteps | None:
        """The whole model; None where the analysis holds no steps."""
        steps = self.analysis.steps
        rows = steps.grad_norm.size
        if rows == 0:
            return None
        return ScopeSteps(
            None, self.analysis.total, np.arange(rows), np.ones(rows, dtype=np.int64), steps.grad_norm**2,
            steps.path_length, steps.product,
        )  # fmt: skip

    @functools.cached_property
    def tensors(self) -> tuple[ScopeSteps, ...]:
        """The tensors; none where the analysis holds no per-step sums of them, or no training steps."""
        steps = self.analysis.tensor_steps
        if steps is None or self.total is None:
            return ()
        return tuple(
            ScopeSteps(
                tensor.name, tensor, steps.edges[:-1], np.diff(steps.edges), steps.energy[at],
                {spec: sums[at] for spec, sums in steps.path_length.items()},
                {spec: sums[at] for spec, sums in steps.product.items()},
            )
            for at, tensor in enumerate(self.analysis.tensors)
        )  # fmt: skip

    @property
    def no_tensors(self) -> str:
        """Why there are no per-step sums of tensors."""
        if self.total is None:
            return NO_STEPS
        return tensor_steps_elsewhere(self.analysis) or NO_TENSOR_STEPS

    @property
    def scopes(self) -> tuple[ScopeSteps, ...]:
        """The whole model, then the tensors, as far as there are per-step sums."""
        return (() if self.total is None else (self.total,)) + self.tensors

    @property
    def matrix_tensors(self) -> tuple[TensorResult, ...]:
        """Tensors that are matrices, or convolutions as (out, rest), of at least two rows and columns."""
        return tuple(t for t in self.analysis.tensors if matrix_shape(t.shape) is not None)

    @property
    def noise_level(self) -> float:
        """Probability with which noise may pass a limit in one scope: its share of that for all scopes."""
        return NOISE_LEVEL / max(1, len(self.scopes))

    def step(self, row: int) -> int:
        """Training step number of a row."""
        return int(self.analysis.steps.step[row])

    @property
    def stride(self) -> int:
        """Training steps from one logged row to the next; 1 where every step was logged."""
        return stride_of(self.analysis.steps.step)


def carrying_parameters(result: ScopeResult) -> float:
    """Parameters that carry the energy; all of them where it is not known how it is spread."""
    carry = result.effective_parameters
    return float(result.parameters) if carry is None else carry


NOISE_LEVEL = 0.025
"""Of noise in any scope: one end of a 95% interval."""
NO_RATES = "the result holds no lr to hold it against: write it with --format json, or give the store"
NO_MATRICES = "a finished result holds no gradient matrices: give the store"
NO_STEPS = "the result holds no steps: write it with --format json, or give the store"
NO_TENSOR_STEPS = "the result holds no sums of tensors: write it with --tensor-steps, or give the store"
