"""What a pass works on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..logs.log import Tensor
from ..predictors import HistoryBank
from ..quick_dataclass import dataclass
from .measure import RowSink
from .plan import Plan


@dataclass(frozen=True)
class PassWork:
    """bank : of the predictors; keep : (rows,) bool, False for rows of the plan to leave out, None keeps all

    strips : of each tensor in the whole plan, where `plan` holds the ranges of a part only
    sink : as of `PassContext`
    """

    tensors: Sequence[Tensor]
    plan: Plan
    bank: HistoryBank
    keep: NDArray[np.bool_] | None
    strips: Counter[int] | None = None
    sink: RowSink | None = None

    @property
    def rows(self) -> int:
        """Rows that are kept."""
        return self.plan.kept(self.keep)
