"""What rows store of gradients: entries of some dtype, or the sums of a projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UsageError
from ..logs.log import GradientLog
from ..measures.sketch.row_projection import RowProjection
from ..naming import shown
from ..quick_dataclass import dataclass
from ..results.projection import Projection

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class RowEntries:
    """dtype : one of `DTYPES`; projection : of larger tensors, None to store them as they are"""

    dtype: str
    projection: RowProjection | None

    @classmethod
    def of(cls, dtype: Any, project: int | None, seed: int) -> RowEntries:
        """From the arguments of `record`. Raises UsageError for what cannot be."""
        name = str(dtype).removeprefix("torch.")
        if name not in DTYPES:
            raise UsageError(f"dtype is {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, not {name!r:.40}")
        if project is None:
            return cls(name, None)
        if name != "float32":
            raise UsageError("the sums of a projection are float32: leave dtype out")
        return cls(name, RowProjection(Projection(project, seed)))

    def declared(self) -> dict[str, Any]:
        """What the log says beside its version."""
        return {} if self.projection is None else {"projection": self.projection.projection.document()}

    def boxes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, dict[str, Any]]:
        """What the log says of each tensor that is projected."""
        if self.projection is None:
            return {}
        return {
            name: {"shape": list(shape), "dtype": self.dtype}
            for name, shape in shapes.items()
            if self.projection.is_wide(shape)
        }

    def check(self, log: GradientLog, shapes: Mapping[str, Sequence[int]]) -> None:
        """Raise UsageError where rows of these tensors don't go with those of a log. shapes : by name"""
        if lost := sorted({tensor.name for tensor in log.tensors} - shapes.keys()):
            raise UsageError(
                f"its rows hold {shown(lost, 3)}, which is not recorded now: go on with the model and the "
                "options that it was begun with"
            )
        for tensor in log.tensors:
            shape = tuple(shapes[tensor.name])
            stored = tensor.shape if tensor.made_of is None else tensor.made_of
            if (shape, self.dtype) != (tuple(stored), tensor.dtype):
                raise UsageError(
                    f"'{tensor.name}' is {self.dtype}{list(shape)} now, and {tensor.dtype}{list(stored)} in "
                    "its rows: go on with the model and options that it was begun with"
                )
