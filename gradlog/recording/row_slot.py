"""Room in memory for the gradients of one row: filled while training waits, read by who writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SERIAL = 1 << 14
"""Entries that PyTorch copies in one thread; of more than 32,768 it makes work for all."""


class RowSlot:
    """A buffer in main memory for each tensor, page-locked where gradients come from a GPU."""

    def __init__(self, dtype: str, pinned: bool) -> None:
        """dtype : of the entries, a name of PyTorch"""
        import torch

        self._dtype: Any = getattr(torch, dtype)
        self._pinned = pinned
        self._buffers: dict[str, Any] = {}
        self._arrays: dict[str, Any] = {}
        self._copied: list[Any] = []  # events: what was copied from each GPU has arrived

    def prepare(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Make room for more tensors, and have the system give the memory."""
        import torch

        if not shapes:
            return
        sizes = [math.prod(shape) for shape in shapes.values()]
        whole = torch.empty(sum(sizes), dtype=self._dtype, pin_memory=self._pinned).zero_()
        for (name, shape), part in zip(shapes.items(), whole.split(sizes), strict=True):
            self._buffers[name] = part.view(tuple(shape))
            # NumPy lacks bfloat16; the writer takes such tensors as they are.
            bits = self._dtype is torch.bfloat16
            self._arrays[name] = self._buffers[name] if bits else self._buffers[name].numpy()

    def __contains__(self, name: str) -> bool:
        return name in self._buffers

    def fill(self, gradients: Mapping[str, Any], scale: Any) -> None:
        """Copy gradients, converted to the buffers' dtype.

        gradients : tensors on any device, dense or sparse; scale : that they are divided by, or None
        """
        import torch

        if not gradients:
            return
        values = {name: _dense(value) for name, value in gradients.items()}
        if scale is not None:
            # Unscaled in float32 before anything is rounded: a scaled gradient may be beyond float16.
            values = {name: value.float() / scale.to(value.device) for name, value in values.items()}
        there = {name: value for name, value in values.items() if value.device.type == "cpu"}
        for name, value in there.items():
            self._copy(name, value)
        others = {name: value for name, value in values.items() if name not in there}
        if others:
            buffers = [self._buffers[name] for name in others]
            torch._foreach_copy_(buffers, list(others.values()), non_blocking=self._pinned)
        for device in {value.device for value in others.values() if value.is_cuda}:
            self._copied.append(torch.cuda.current_stream(device).record_event())

    def _copy(self, name: str, value: Any) -> None:
        """Copy a tensor from main memory, in this thread: others would wait for the next one in a loop."""
        if value.dtype is self._buffers[name].dtype and isinstance(self._arrays[name], np.ndarray):
            self._arrays[name][...] = value.numpy()
            return
        flat, to = value.reshape(-1), self._buffers[name].view(-1)
        for part, place in zip(flat.split(SERIAL), to.split(SERIAL), strict=True):
            place.copy_(part)

    def repeat(self, other: RowSlot, name: str, shape: Sequence[int]) -> None:
        """Copy what another row has of a tensor."""
        if other is not self:
            other.wait()
            self._room(name, shape)
            self._buffers[name].copy_(other._buffers[name])

    def clear(self, name: str, shape: Sequence[int]) -> None:
        """Put zeros in place of a tensor's gradient."""
        self._room(name, shape)
        self._buffers[name].zero_()

    def _room(self, name: str, shape: Sequence[int]) -> None:
        if name not in self:
            self.prepare({name: shape})

    def wait(self) -> None:
        """Until all that was copied from a GPU has arrived."""
        while self._copied:
            self._copied.pop().synchronize()

    def values(self, name: str) -> Any:
        """A tensor's row in this slot: an array of NumPy, or for bfloat16 a tensor of PyTorch."""
        return self._arrays[name]

    def is_finite(self, name: str) -> bool:
        """Whether a tensor's row holds neither NaN nor infinity."""
        values = self._arrays[name]
        if isinstance(values, np.ndarray):
            # Finite entries of 32 bits cannot overflow a float64 sum, and others cannot leave one.
            with np.errstate(invalid="ignore"):
                return bool(np.isfinite(np.add.reduce(values, axis=None, dtype=np.float64)))
        exponents: NDArray[np.int16] = self._buffers[name].view(_int16()).numpy() & 0x7F80
        return bool((exponents != 0x7F80).all())


def _int16() -> Any:
    import torch

    return torch.int16


def _dense(gradient: Any) -> Any:
    """Dense and local: a sparse gradient is summed up, and of a distributed one this process has its part."""
    import torch

    value = gradient.detach()
    value = value.to_local() if hasattr(value, "to_local") else value
    return value if value.layout == torch.strided else value.to_dense()


def local_shape(tensor: Any) -> tuple[int, ...]:
    """Of the part of a tensor that this process has."""
    return tuple((tensor.to_local() if hasattr(tensor, "to_local") else tensor).shape)
