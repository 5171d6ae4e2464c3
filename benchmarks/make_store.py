"""Make a log of the benchmark: seeded, written chunk by chunk in little memory.

python make_store.py NAME SIZE FOLDER
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from stores import SEED, STORES, Store, recipe_of
from truth import true_ranks
from zarr.codecs import Crc32cCodec, ZstdCodec

SLAB_BYTES = 32 << 20
DIRECTIONS = 60
DECAY = 0.81
NOISE = 0.002


def make(store: Store, folder: Path) -> None:
    """Write the store into the folder, under a temporary name until it is complete."""
    codecs: dict[str, Any] = {
        "zstd": ZstdCodec(level=0),
        "raw": None,
        "crc32c": Crc32cCodec(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    store.notes(folder).unlink(missing_ok=True)
    part = store.path(folder).with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    group = zarr.open_group(part, mode="w", zarr_format=3)
    group.attrs.update({"gradlog": {"version": 1}, "benchmark": store.name})
    for index, (name, shape) in enumerate(store.tensors):
        chunks = (min(store.chunk_rows, store.rows), min(store.chunk_width, shape[0]), *shape[1:])
        array = group.create_array(
            f"grads/{name}",
            shape=(store.rows, *shape),
            chunks=chunks,
            dtype="uint16" if store.dtype == "bfloat16" else "float32",
            compressors=codecs[store.codec],
            dimension_names=["step", *(f"dim_{axis}" for axis in range(len(shape)))],
            attributes={"gradlog": {"dtype": "bfloat16"}} if store.dtype == "bfloat16" else {},
            config={"write_empty_chunks": True},
        )
        for start in range(0, shape[0], chunks[1]):
            stop = min(shape[0], start + chunks[1])
            block = (stop - start, *shape[1:])
            rng = np.random.default_rng([SEED, index, start])
            row = 0
            for slab in _slabs(store, rng, math.prod(block), chunks[0]):
                if store.dtype == "bfloat16":
                    bits = slab.view(np.uint32)
                    slab = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
                array[row : row + len(slab), start:stop] = slab.reshape(-1, *block)
                row += len(slab)
    step = group.create_array("step", shape=(store.rows,), chunks=(store.rows,), dtype="int64")
    step[:] = np.arange(store.rows)
    shutil.rmtree(store.path(folder), ignore_errors=True)
    part.rename(store.path(folder))
    truth = true_ranks(store, store.path(folder))
    store.notes(folder).write_text(json.dumps({"recipe": recipe_of(store), "truth": truth}))


def _slabs(
    store: Store, rng: np.random.Generator, width: int, chunk_rows: int
) -> Iterator[NDArray[np.float32]]:
    """The rows of `width` parameters, in whole chunks of rows that fit SLAB_BYTES."""
    height = max(1, SLAB_BYTES // (4 * width * chunk_rows)) * chunk_rows
    heights = [min(height, store.rows - row) for row in range(0, store.rows, height)]
    if store.gradients == "training":
        return _training(rng, heights, width)
    if store.gradients == "lowrank":
        return _lowrank(rng, heights, width)
    return _white(rng, heights, width)


def _training(rng: np.random.Generator, heights: list[int], width: int) -> Iterator[NDArray[np.float32]]:
    """AR(1) noise about eight smooth directions, which hold two thirds of the increments' energy."""
    count, decay = 8, np.float32(0.9)
    energies = 0.6 ** np.arange(count)
    periods = np.geomspace(200, 12, count)
    # A cosine of amplitude a and period p has increments of energy 2 a^2 sin(pi / p)^2, and the noise of
    # variance 1 below has increments of energy 2 (1 - decay).
    share = 2 * 2 * (1 - decay) * energies / energies.sum()
    amplitudes = np.sqrt(share / 2) / np.sin(np.pi / periods)
    directions = rng.standard_normal((count, width), dtype=np.float32)
    state = rng.standard_normal(width, dtype=np.float32)
    innovation = np.sqrt(1 - decay**2, dtype=np.float32)
    row = 0
    for height in heights:
        slab = rng.standard_normal((height, width), dtype=np.float32)
        for noise in slab:
            noise *= innovation
            noise += decay * state
            state[:] = noise
        t = np.arange(row, row + height)[:, None]
        smooth = amplitudes * np.cos(2 * np.pi * t / periods + np.arange(count))
        slab += smooth.astype(np.float32) @ directions
        slab *= np.float32(1e-3)
        row += height
        yield slab


def _lowrank(rng: np.random.Generator, heights: list[int], width: int) -> Iterator[NDArray[np.float32]]:
    """Increments of 60 orthogonal directions, energies 0.81^i, and white noise of 0.2 percent of theirs."""
    energies = DECAY ** np.arange(DIRECTIONS)
    energies /= energies.sum()
    basis = np.linalg.qr(rng.standard_normal((width, DIRECTIONS))).Q.T
    basis = (np.sqrt(energies)[:, None] * basis).astype(np.float32)
    noise = np.float32(np.sqrt(NOISE / width))
    state = np.zeros(width)
    for height in heights:
        slab = rng.standard_normal((height, width), dtype=np.float32)
        slab *= noise
        slab += rng.standard_normal((height, DIRECTIONS), dtype=np.float32) @ basis
        for row in slab:
            state += row
            row[:] = state
        yield slab


def _white(rng: np.random.Generator, heights: list[int], width: int) -> Iterator[NDArray[np.float32]]:
    """Independent gradients, every entry independent of the others."""
    for height in heights:
        yield rng.standard_normal((height, width), dtype=np.float32)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    make(STORES[sys.argv[1]].resized(float(sys.argv[2])), Path(sys.argv[3]))
