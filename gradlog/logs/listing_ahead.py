"""The chunks of many tensors, listed together where each listing would have to be waited for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import DataError
from .log import GradientLog, Tensor
from .rank_tensor import RankTensor
from .stored_chunks import list_ahead
from .zarr_tensor import ZarrTensor


def list_together(log: GradientLog, tensors: Sequence[Tensor], rows: int) -> None:
    """Let inventories of the first `rows` rows of tensors find what they ask for. Raises DataError."""
    try:
        list_ahead([(each.array, rows, each.step_axis) for each in _stored(tensors)])
    except DataError as error:
        raise DataError(f"{log.path}: {error}") from error


def _stored(tensors: Iterable[Tensor]) -> Iterable[ZarrTensor]:
    for tensor in tensors:
        if isinstance(tensor, ZarrTensor):
            yield tensor
        elif isinstance(tensor, RankTensor):
            yield from _stored(box.tensor for box in tensor.boxes)
