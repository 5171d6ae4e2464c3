"""Sizes as people read and write them: of memory, and of tensors."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_MEMORY = 1 << 30
"""Bytes that a pass may take unless more or less is granted."""


def format_size(size: int) -> str:
    """A number of bytes as --memory takes it, rounded up: 512M, 3G."""
    if size < 10 << 30:
        return f"{max(1, -(-size >> 20))}M" if size % (1 << 30) else f"{size >> 30}G"
    return f"{-(-size // (1 << 30))}G"


SCALAR = "a scalar"
"""In place of `extents`, where there are no axes."""


def extents(shape: Sequence[int]) -> str:
    """``64x32``, nothing for no axes."""
    return "x".join(map(str, shape))
