"""The increments of a log, as each peer likes to be fed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr

TIME_BLOCK = 64
PARAMETER_BLOCK = 65_536


def tensors(path: str) -> list[zarr.Array[Any]]:
    """The arrays of the log, by name."""
    return [array for _, array in sorted(zarr.open_group(path, path="grads", mode="r").arrays())]


def blocks_of_time(path: str) -> Iterator[np.ndarray]:
    """H^T in blocks of up to 64 steps: (steps, D) each."""
    arrays = tensors(path)
    rows = arrays[0].shape[0]
    for start in range(0, rows - 1, TIME_BLOCK):
        stop = min(rows, start + TIME_BLOCK + 1)
        block = np.concatenate([np.reshape(a[start:stop], (stop - start, -1)) for a in arrays], axis=1)
        yield np.diff(block, axis=0)


def blocks_of_parameters(path: str) -> Iterator[np.ndarray]:
    """H in blocks of up to 65,536 parameters: (parameters, N - 1) each."""
    held: list[np.ndarray] = []
    for array in tensors(path):
        for start in range(0, array.shape[1], PARAMETER_BLOCK):
            column = array[:, start : start + PARAMETER_BLOCK]
            held.append(np.diff(np.reshape(column, (array.shape[0], -1)), axis=0).T)
            if sum(len(block) for block in held) >= PARAMETER_BLOCK:
                yield np.concatenate(held)
                held = []
    if held:
        yield np.concatenate(held)


def answer(singular_values: np.ndarray) -> None:
    """Print the singular values found, greatest first."""
    print(json.dumps({"singular_values": np.sort(singular_values)[::-1].tolist()}))
