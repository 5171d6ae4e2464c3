"""What may be taken from a pass on the side, beside path lengths and spectra."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .blocks import Block


class SideWork(Protocol):
    """Takes blocks, and at the end the Gram matrix of the whole model's increments where there is one."""

    def take(self, block: Block, pool: ThreadPoolExecutor) -> None:
        """Take what is wanted of a block, before its memory is used again; more work goes to `pool`."""

    def take_gram(self, gram: NDArray[np.float64]) -> None:
        """gram : (N - 1, N - 1), inner products of increments over the whole model's parameters"""


MakeSideWork = Callable[[int], SideWork]
"""Makes it for a pass over so many rows."""
