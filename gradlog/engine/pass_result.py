"""What a pass gathers: of a tile, and of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..measures.path_lengths.path_length import PathLengthSeries, PathLengthTotals
from ..measures.path_lengths.tensor_series import TensorSeries
from ..measures.spectra.spectrum import PartialSpectra, Spectrum
from ..results.search_result import PredictorSearch
from .ranges import Part

if TYPE_CHECKING:
    from ..measures.subspaces.subspace import ModelSubspaces
    from ..measures.subspaces.windows import WindowGrams
    from .side_work import SideWork


@dataclass(frozen=True)
class NonfiniteRow:
    """`count` entries of a tensor's row `row` (index t of the pass) are NaN or infinite."""

    tensor: int
    row: int
    count: int


@dataclass
class PassResult:
    """What one pass gathered.

    series, spectrum : of the whole model; totals, spectra : of each tensor; no spectra where none were asked
    for, or where entries are not finite
    tensor_series : per-step sums of each tensor, where asked for
    subspaces : of windows of training, where asked for; search : the best predictors, likewise
    side_work : what was taken on the side, where asked for
    partial : instead of spectra, where only a part of the parameters was read
    """

    series: PathLengthSeries
    totals: list[PathLengthTotals]
    spectrum: Spectrum | None
    spectra: list[Spectrum | None]
    nonfinite: list[NonfiniteRow] = field(default_factory=list)
    partial: PartialSpectra | None = None
    tensor_series: TensorSeries | None = None
    subspaces: ModelSubspaces | None = None
    search: PredictorSearch | None = None
    side_work: SideWork | None = None


@dataclass
class TileResult:
    """Sums of each part (T, columns), the Gram matrix over rows of the tile, and those over columns.

    stored_bytes : of the block, with its last tile, else 0; windows : of each part, where asked for
    small_grams : of the sketch method, Gram matrices by tensor
    part_grams : over rows, of each part of several, where predictors are searched
    lagged : lagged products of each part (T, columns), where predictors are searched without those matrices
    """

    start: int
    parts: tuple[Part, ...]
    sums: list[NDArray[np.float64]]
    rows_gram: NDArray[Any] | None
    columns_gram: list[NDArray[np.float64]]
    stored_bytes: int
    windows: tuple[WindowGrams, ...] = ()
    range_index: int = 0
    small_grams: dict[int, NDArray[np.floating[Any]]] = field(default_factory=dict)
    part_grams: list[NDArray[np.floating[Any]]] = field(default_factory=list)
    lagged: tuple[NDArray[np.float64], ...] = ()
