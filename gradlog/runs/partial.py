"""Analyze a part of a log's parameters: sums for `merge_parts` to add up with those of the other parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..engine.splitting import PartNumber
from ..errors import DataError, UsageError
from ..logs.opening import Run
from ..logs.store import codec_pipeline
from ..progress import Progress
from ..results.read import Read
from ..results.result import Cost, LogWarning, Settings
from ..sizes import DEFAULT_MEMORY
from ..version import __version__
from .preparation import prepare
from .prepared_pass import nonfinite_text, take_pass

if TYPE_CHECKING:
    from ..measures.spectra.spectrum import PartialSpectra


@dataclass(frozen=True)
class PartialAnalysis:
    """What a pass over one part of the parameters gathered.

    read, settings, method, by_columns, plan : of the whole analysis, the same in all of its parts; `plan` is
    a digest of how the parameters are read and split
    series : (N, columns) float64, sums over the part's parameters of each row, columns as of `fused_pass`
    totals : (tensors, columns) float64, sums over all rows; zeros for tensors that lie elsewhere
    spectra : None with method "none"
    tensor_sums : (bins, columns) float64 as of `TensorSeries`, of each tensor that lies in the part, whole or
    not; None where they are not kept
    """

    version: str
    part: PartNumber
    read: Read
    settings: Settings
    method: str
    by_columns: bool
    plan: str
    series: NDArray[np.float64]
    totals: NDArray[np.float64]
    spectra: PartialSpectra | None
    tensor_sums: Mapping[int, NDArray[np.float64]] | None
    warnings: tuple[LogWarning, ...]
    cost: Cost


def analyze_part(
    run: Run,
    part: PartNumber,
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
    tensor_steps: bool = False,
) -> PartialAnalysis:
    """What `analyze` would gather, of one part of the parameters only; arguments and errors as there.

    All parts of a run must be made with the same settings and `memory`, which decide how it is split. Rank
    "auto" is exact, and "incremental" has no parts. Rows that are not finite raise DataError with
    `nonfinite="drop"` too: the other parts would not know of them.
    """
    settings = settings or Settings()
    if settings.subspace is not None:
        raise UsageError(f"part {part}: subspaces are followed over all parameters together, in one run")
    ready = prepare(run, settings, threads, memory, part, tensor_steps=tensor_steps)
    assert ready.part is not None
    with codec_pipeline(ready.workers):
        result = take_pass(ready, ready.keep, progress)
    read = ready.read(ready.keep)
    if result.nonfinite:
        raise DataError(
            f"{read.path}: {nonfinite_text(ready, result.nonfinite)}; a part cannot drop steps, because the "
            "other parts would keep them: leave them out of all parts with --rows, or analyze in one run"
        )
    kept = result.tensor_series
    inside = {part.tensor for item in ready.part.ranges for tile in item.tiles for part in tile}
    return PartialAnalysis(
        version=__version__,
        part=part,
        read=read,
        settings=settings,
        method=ready.plan.method,
        by_columns=ready.plan.by_columns,
        plan=ready.part.digest,
        series=result.series.sums,
        totals=_stacked([totals.totals for totals in result.totals], result.series.sums.shape[1]),
        spectra=result.partial,
        tensor_sums=None if kept is None else {tensor: kept.sums[tensor] for tensor in sorted(inside)},
        warnings=ready.warnings,
        cost=ready.cost(),
    )


def _stacked(totals: Sequence[NDArray[np.float64]], columns: int) -> NDArray[np.float64]:
    return np.stack(totals) if totals else np.zeros((0, columns))
