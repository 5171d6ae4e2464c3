"""The last row of a log that is resumed: what `missing="hold"` repeats until there is another gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..logs.log import GradientLog
from ..logs.row_values import BFLOAT16
from ..logs.stored_entries import StoredEntries


class LastRow:
    """Its tensors, each read when it is first wanted, and kept until it is dropped."""

    def __init__(self, log: GradientLog) -> None:
        """log : as it is resumed; rows that are put behind these change nothing"""
        self._row = (log.rows - 1, log.rows)
        self._tensors = {tensor.name: tensor for tensor in log.tensors}
        self._read: dict[str, Any] = {}

    def values(self, name: str) -> Any:
        """A tensor's entries as they are stored: an array of NumPy, or for bfloat16 a tensor of PyTorch.

        Raises DataError, without the log's name, where they cannot be read.
        """
        if name not in self._read:
            tensor = self._tensors[name]
            entries = StoredEntries.of(tensor)
            box = tuple(slice(0, extent) for extent in tensor.shape)
            room = np.empty(entries.nbytes(1, tensor.parameters), np.uint8)
            found = entries.read(self._row, box, room, 0)[0]
            self._read[name] = _bfloat16(found) if tensor.dtype == BFLOAT16 else found
        return self._read[name]

    def drop(self, name: str) -> None:
        """A tensor has a gradient again: what the last row has of it is not wanted any more."""
        self._read.pop(name, None)


def _bfloat16(bits: Any) -> Any:
    import torch

    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
