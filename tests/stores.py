"""Stores for the tests beyond conftest's: many layouts of plain zarr-python, and ways to damage them."""

from __future__ import annotations

import contextlib
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = Mapping[str, Array]


def walk(rows: int, shape: Sequence[int], seed: int, dtype: str = "float32") -> Array:
    """(rows, *shape) a drift and noise: predictors differ, and the spectrum decays."""
    rng = np.random.default_rng(seed)
    width = int(np.prod(shape, dtype=int))
    drift = np.cumsum(rng.standard_normal((rows, 3)), axis=0) @ rng.standard_normal((3, width))
    values = 0.2 * drift + 0.1 * rng.standard_normal((rows, width)) + rng.standard_normal(width)
    return values.reshape(rows, *shape).astype(dtype)


def network(rows: int = 23, dtype: str = "float32") -> dict[str, Array]:
    """A small model: a matrix, a bias, a single number and a convolution."""
    shapes = {"conv.weight": (4, 3, 2, 2), "fc.bias": (7,), "fc.weight": (7, 9), "scale": (1,)}
    return {name: walk(rows, shape, seed, dtype) for seed, (name, shape) in enumerate(shapes.items())}


@contextlib.contextmanager
def unspecified() -> Iterator[None]:
    """Write what the v3 specification lacks (consolidated metadata, some codecs) with no word about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def add_array(group: zarr.Group, name: str, values: Array, **options: Any) -> zarr.Array[Any]:
    """One array with its values; every chunk is stored unless `config` says otherwise."""
    options = {
        "chunks": tuple(max(1, size) for size in values.shape),
        "config": {"write_empty_chunks": True},
        **options,
    }
    with unspecified():
        array = group.create_array(
            name, shape=values.shape, dtype=options.pop("dtype", values.dtype), **options
        )
        array[...] = values
    return array


def foreign_store(path: Path, tensors: Tensors, *, zarr_format: int = 3, **options: Any) -> Path:
    """A group of arrays without `step` and without a declared format."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    for name, values in tensors.items():
        add_array(group, name, values, **options)
    return path


def format1_store(path: Path, tensors: Tensors, *, step: Sequence[int] | None = None, **options: Any) -> Path:
    """A log of format 1 by plain zarr-python: every chunk stored, `step` too."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs["gradlog"] = {"version": 1}
    for name, values in tensors.items():
        add_array(group, f"grads/{name}", values, **options)
    rows = len(next(iter(tensors.values())))
    add_array(group, "step", np.asarray(range(rows) if step is None else step, dtype=np.int64))
    return path


def rows_apart(shape: Sequence[int], rows: int, columns: int | None = None) -> tuple[int, ...]:
    """Chunks of `rows` rows, and of `columns` entries along the last axis."""
    if columns is None or len(shape) < 2:
        return (rows, *shape[1:])
    return (rows, *shape[1:-1], columns)


def zip_members(source: Path, target: Path, *, top: str = "", compression: int = zipfile.ZIP_STORED) -> Path:
    """Like `zip -r`: every file and folder of `source`, below the folder `top`."""
    with zipfile.ZipFile(target, "w", compression) as archive:
        for place in sorted(source.rglob("*")):
            name = f"{top}/{place.relative_to(source)}" if top else str(place.relative_to(source))
            archive.write(place, name)
    return target


def zip_store(source: Path, target: Path) -> Path:
    """The store written by zarr's own ZipStore."""
    store = zarr.storage.ZipStore(target, mode="w")
    files = [place for place in sorted(source.rglob("*")) if place.is_file()]
    try:
        for place in files:
            buffer = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(place.read_bytes())
            zarr.core.sync.sync(store.set(place.relative_to(source).as_posix(), buffer))
    finally:
        store.close()
    return target


def chunk_files(path: Path, tensor: str) -> list[Path]:
    """The chunk objects of a tensor of a v3 folder store, in the order of their coordinates."""
    places = [*(path / tensor).glob("c.*"), *(path / tensor / "c").rglob("*")]
    files = [place for place in places if place.is_file()]
    return sorted(
        files, key=lambda place: [int(n) for n in re.findall(r"\d+", str(place.relative_to(path / tensor)))]
    )


def flip(place: Path, at: int) -> None:
    """Invert a byte of a file; negative positions count from the end."""
    data = bytearray(place.read_bytes())
    data[at] ^= 0xFF
    place.write_bytes(bytes(data))


def cut(place: Path, size: int) -> None:
    """Keep the first `size` bytes of a file; a negative size takes that many off the end."""
    place.write_bytes(place.read_bytes()[:size])


def copy(source: Path, target: Path) -> Path:
    """A copy of a folder store to damage."""
    return Path(shutil.copytree(source, target))
