"""Two logs of the same parameters: what of them can be related, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..engine.plan import Plan
from ..engine.request import Request
from ..errors import DataError, UsageError
from ..logs.log import GradientLog, Tensor, sketch_of
from ..logs.opening import Run
from ..logs.repeated_steps import kept_rows
from ..predictors import HistoryBank
from ..quick_dataclass import dataclass
from ..results.result import Settings
from ..results.row_kind import check_same_kind
from ..sizes import SCALAR, extents
from .preparation import check_settings
from .selecting import open_as_asked, select_tensors
from .side_by_side import plan_side_by_side


@dataclass(frozen=True)
class Pairing:
    """Two logs, and the tensors of each that were chosen: of the same names and shapes."""

    logs: Sequence[GradientLog]
    tensors: Sequence[Sequence[Tensor]]

    @classmethod
    def of(cls, baseline: Run, run: Run, settings: Settings) -> Pairing:
        """Open both, and check that they can be related.

        Raises DataError for other parameters, and UsageError for settings that make no sense and for updates
        against gradients.
        """
        check_settings(settings)
        if settings.subspace is None:
            raise UsageError("relate: settings.subspace is not set")
        logs = [open_as_asked(path, settings) for path in (baseline, run)]
        check_same_kind(*logs)
        _check_projections(logs)
        tensors = [select_tensors(log, settings)[0] for log in logs]
        _check_parameters(logs, tensors)
        return cls(logs, tensors)

    def plan(
        self, steps: Sequence[NDArray[np.int64]], settings: Settings, memory: int, workers: int
    ) -> tuple[NDArray[np.int64], list[NDArray[np.intp]], list[Plan]]:
        """The training steps in both, the rows of each log that hold them, and how to read those.

        steps : of each run, those to take

        Raises DataError for steps that don't match, and MemoryLimitError where the work does not fit.
        """
        step, kept = _common_steps(self.logs, steps, settings.repeated)
        spans = [(int(rows[0]), int(rows[-1]) + 1) for rows in kept]
        bank = HistoryBank.of((), step.size)
        request = Request(self.tensors[0], (0, step.size), bank, memory, workers)
        return step, kept, plan_side_by_side(request, self.tensors, spans, settings.window_rows)


def _check_projections(logs: Sequence[GradientLog]) -> None:
    made = [sketch_of(log) for log in logs]
    if made[0] == made[1]:
        return
    told = [
        "no sketch" if one is None else f"a sketch of dimension {one.dim}, seed {one.seed}, kind '{one.kind}'"
        for one in made
    ]
    raise DataError(
        f"{logs[1].path}: {told[1]}, and {logs[0].path} is {told[0]}: only what the same projection made can "
        "be related row by row"
    )


def _check_parameters(logs: Sequence[GradientLog], chosen: Sequence[Sequence[Tensor]]) -> None:
    shapes = [{tensor.name: tensor.shape for tensor in tensors} for tensors in chosen]
    for name in [*shapes[0], *shapes[1]]:
        if shapes[0].get(name) != shapes[1].get(name):
            own, other = (side.get(name) for side in (shapes[1], shapes[0]))
            if own is None or other is None:
                told = f"tensor '{name}' is not in both"
            else:
                told = f"tensor '{name}' is {extents(own) or SCALAR}, not {extents(other) or SCALAR}"
            raise DataError(
                f"{logs[1].path}: other parameters than {logs[0].path}: {told}; --subspace compares runs of "
                "the same parameters, which --tensor and --exclude can choose"
            )


def _common_steps(
    logs: Sequence[GradientLog], steps: Sequence[NDArray[np.int64]], repeated: str
) -> tuple[NDArray[np.int64], list[NDArray[np.intp]]]:
    """The training steps in both runs, and the rows of each that hold them."""
    common = np.intersect1d(steps[0], steps[1])
    if not common.size:
        raise DataError(
            f"{logs[1].path}: no training step in common with {logs[0].path}: --subspace relates "
            f"{logs[0].kind.name} of equal steps"
        )
    rows = []
    for log in logs:
        wanted = np.isin(log.step, common)
        # Rows that are not wanted may hold any steps.
        keep = kept_rows(log.path, log.step, "keep" if repeated == "fail" else repeated)
        found = np.flatnonzero(wanted if keep is None else wanted & keep)
        if found.size != common.size or not np.array_equal(log.step[found], common):
            kept_rows(log.path, log.step, repeated)
            raise DataError(
                f"{log.path}: training steps stand twice or out of order: --subspace cannot match rows; "
                "--repeated last takes the last row of each step"
            )
        rows.append(found)
    return common, rows
