"""The gradient logs of the benchmark: seeded, made once, written chunk by chunk in little memory.

NumPy and Zarr are imported inside the functions: run.py reads the table below in a process that must stay
small (see measure.py), and has the stores made by `python stores.py NAME SIZE FOLDER`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = 20
RECIPE = 1
"""Part of what identifies a store: raise it when the makers below change, and stores are made anew."""
SLAB_BYTES = 32 << 20
DIRECTIONS = 60
DECAY = 0.81
NOISE = 0.002


@dataclass(frozen=True)
class Store:
    """A log to make: its layout, and what kind of gradients it holds."""

    name: str
    shows: str
    rows: int
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    chunk_rows: int
    chunk_width: int
    codec: Literal["zstd", "raw", "crc32c"]
    gradients: Literal["training", "lowrank", "white"]
    scales: Literal["parameters", "tensors", "rows", "nothing"]
    options: tuple[str, ...] = ()
    size: float = 1.0

    @property
    def parameters(self) -> int:
        """D, over all tensors."""
        return sum(math.prod(shape) for _, shape in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of the float32 gradients, uncompressed."""
        return 4 * self.rows * self.parameters

    @property
    def label(self) -> str:
        """The name, with the size where it isn't 1."""
        return self.name if self.size == 1 else f"{self.name}@{self.size:g}"

    def resized(self, size: float) -> Store:
        """The same kind of store, `size` times as large."""
        if self.scales == "nothing" or size == 1:
            return self
        if self.scales == "rows":
            return replace(self, size=size, rows=max(2, round(self.rows * size)))
        if self.scales == "tensors":
            count = max(1, round(len(self.tensors) * size))
            shape = self.tensors[0][1]
            return replace(self, size=size, tensors=_alike(count, shape))
        ((name, (width,)),) = self.tensors
        width = max(4096, round(width * size / 4096) * 4096)
        return replace(self, size=size, tensors=((name, (width,)),))

    def path(self, folder: Path) -> Path:
        """Where the store stands in the work folder."""
        return folder / f"{self.name}-{self.size:g}.zarr"

    def notes(self, folder: Path) -> Path:
        """The file beside the store, written last: how it was made, and the true ranks where known."""
        return self.path(folder).with_suffix(".json")


def _alike(count: int, shape: tuple[int, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((f"layers.{i:03d}.bias", shape) for i in range(count))


_WIDE = Store(
    name="wide-zstd",
    shows="1 GiB, N = 512, one tensor of 524,288, chunks (64, 65536), zstd",
    rows=512,
    tensors=(("weight", (524_288,)),),
    chunk_rows=64,
    chunk_width=65_536,
    codec="zstd",
    gradients="training",
    scales="parameters",
)
_LONG = Store(
    name="long-lowrank",
    shows="2.6 GB, N = 40,000, D = 16,384, increments of 60 directions and 0.2 percent noise, zstd",
    rows=40_000,
    tensors=(("weight", (16_384,)),),
    chunk_rows=64,
    chunk_width=16_384,
    codec="zstd",
    gradients="lowrank",
    scales="rows",
    options=("--memory", "1G"),
)
STORES = {
    store.name: store
    for store in (
        _WIDE,
        replace(
            _WIDE,
            name="wide-raw",
            shows="1 GiB, N = 512, one tensor of 524,288, chunks (64, 65536), uncompressed",
            codec="raw",
        ),
        replace(
            _WIDE,
            name="tall-chunks",
            shows="1 GiB, N = 256, one tensor of 1,048,576, one chunk a row, zstd",
            rows=256,
            tensors=(("weight", (1_048_576,)),),
            chunk_rows=1,
            chunk_width=1_048_576,
        ),
        replace(
            _WIDE,
            name="many-small",
            shows="59 MB, N = 128, 150 tensors of 768, one chunk a row and tensor, zstd",
            rows=128,
            tensors=_alike(150, (768,)),
            chunk_rows=1,
            chunk_width=768,
            scales="tensors",
        ),
        replace(
            _WIDE,
            name="small",
            shows="3 MB, N = 200, 12 tensors, uncompressed with checksums",
            rows=200,
            tensors=tuple(
                (f"layers.{i}.{name}", shape)
                for i in range(4)
                for name, shape in (("weight", (30, 30)), ("bias", (30,)), ("scale", (30,)))
            ),
            codec="crc32c",
            scales="nothing",
        ),
        _LONG,
        replace(
            _LONG,
            name="long-lowrank-200k",
            shows="13 GB, as long-lowrank with N = 200,000",
            rows=200_000,
        ),
        replace(
            _LONG,
            name="long-white",
            shows="1.3 GB, N = 20,000, D = 16,384, white noise, zstd",
            rows=20_000,
            gradients="white",
        ),
    )
}


def named(text: str, size: float) -> Store:
    """The store of a name such as ``wide-zstd`` (at `size`) or ``wide-zstd@0.25``, else KeyError."""
    name, at, own = text.partition("@")
    return STORES[name].resized(float(own) if at else size)


def is_made(store: Store, folder: Path) -> bool:
    """Whether the store stands complete in the folder, made by this recipe."""
    try:
        notes = json.loads(store.notes(folder).read_text())
    except (OSError, ValueError):
        return False
    return bool(notes["recipe"] == _recipe(store) and store.path(folder).is_dir())


def known_truth(store: Store, folder: Path) -> dict[str, list[int]]:
    """The least and greatest value that r* can truly have, by eps; empty where nobody worked it out."""
    truth: dict[str, list[int]] = json.loads(store.notes(folder).read_text())["truth"]
    return truth


def make(store: Store, folder: Path) -> None:
    """Write the store into the folder, under a temporary name until it is complete."""
    import numpy as np
    import zarr
    from truth import true_ranks
    from zarr.codecs import Crc32cCodec, ZstdCodec

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
            dtype="float32",
            compressors=codecs[store.codec],
            dimension_names=["step", *(f"dim_{axis}" for axis in range(len(shape)))],
            config={"write_empty_chunks": True},
        )
        for start in range(0, shape[0], chunks[1]):
            stop = min(shape[0], start + chunks[1])
            block = (stop - start, *shape[1:])
            rng = np.random.default_rng([SEED, index, start])
            row = 0
            for slab in _slabs(store, rng, math.prod(block), chunks[0]):
                array[row : row + len(slab), start:stop] = slab.reshape(-1, *block)
                row += len(slab)
    step = group.create_array("step", shape=(store.rows,), chunks=(store.rows,), dtype="int64")
    step[:] = np.arange(store.rows)
    shutil.rmtree(store.path(folder), ignore_errors=True)
    part.rename(store.path(folder))
    truth = true_ranks(store, store.path(folder))
    store.notes(folder).write_text(json.dumps({"recipe": _recipe(store), "truth": truth}))


def _recipe(store: Store) -> dict[str, Any]:
    recipe = {"recipe": RECIPE, "seed": SEED, **asdict(store)}
    return {name: recipe[name] for name in recipe if name not in ("shows", "options")} | {
        "tensors": [[name, list(shape)] for name, shape in store.tensors]
    }


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
    import numpy as np

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
    import numpy as np

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
    import numpy as np

    for height in heights:
        yield rng.standard_normal((height, width), dtype=np.float32)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    make(STORES[sys.argv[1]].resized(float(sys.argv[2])), Path(sys.argv[3]))
