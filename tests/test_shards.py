"""Shards and chunks of a bucket, put into their place from what was fetched: what zarr-python gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import sweep
from test_uncompressed_chunks import chunk_files, stored

from gradmf.gradlog.logs import remote_chunks
from gradmf.gradlog.logs.places.remote_store import RemoteStore
from gradmf.gradlog.logs.remote_chunks import RemoteChunks
from gradmf.gradlog.logs.shards import Shards
from gradmf.gradlog.logs.uncompressed_chunks import entry_layout

INSIDE: dict[str, list[Any]] = {
    "as they are": [],
    "with a checksum": [zarr.codecs.Crc32cCodec()],
    "zstd": [zarr.codecs.ZstdCodec()],
    "blosc": [zarr.codecs.BloscCodec()],
}


class Folder:
    """What a bucket would give, of a folder's files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fetched: list[str] = []

    def fetch(self, key: str) -> tuple[bytes, int] | None:
        self.fetched.append(key)
        path = self.root / key
        return (path.read_bytes(), path.stat().st_size) if path.exists() else None

    def check(self) -> None:
        """Nothing was given up."""


def fetched_whole(array: zarr.Array[Any], folder: Folder) -> RemoteChunks:
    entries, content = entry_layout(array), remote_chunks._content(array)
    assert entries is not None
    assert content is not None
    key, _, dtype, fill = entries
    store = cast("RemoteStore", folder)
    return RemoteChunks("", key, content.shape, dtype, fill, store=store, content=content)


def sharded(path: Path, values: np.ndarray[Any, Any], inside: str, **more: Any) -> zarr.Array[Any]:
    chunks, shards = more.pop("chunks", (2, 3)), more.pop("shards", (4, 6))
    return stored(path, values, chunks, shards=shards, compressors=INSIDE[inside], **more)


@given(
    st.tuples(st.integers(1, 11), st.integers(1, 13)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(list(INSIDE)),
    st.sampled_from(["float16", "float32", "float64", "uint16"]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=sweep(80), deadline=None)
def test_any_box_of_any_layout(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int],
    chunks: tuple[int, int],
    times: tuple[int, int],
    inside: str,
    dtype: str,
    at_start: bool,
    seed: int,
) -> None:
    """With shards and chunks that are absent, and the index at either end."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape).astype(dtype)
    values[: shape[0] // 2, : shape[1] // 2] = 0
    path = tmp_path_factory.mktemp("shards") / "a"
    shards = (chunks[0] * times[0], chunks[1] * times[1])
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=chunks,
        codecs=[zarr.codecs.BytesCodec(), *INSIDE[inside]],
        index_location="start" if at_start else "end",
    )
    array = zarr.create_array(
        path, shape=shape, chunks=shards, dtype=dtype, serializer=codec, compressors=None, filters=None
    )
    array[...] = values
    for file in chunk_files(path):
        if random.random() < 0.2:
            file.unlink()
    folder = Folder(path)
    reader = fetched_whole(array, folder)
    assert isinstance(reader.content, Shards)
    first, last = (random.integers(0, np.array(shape) + 1) for _ in range(2))
    where = tuple(slice(int(min(a, b)), int(max(a, b))) for a, b in zip(first, last, strict=True))
    out = np.full([part.stop - part.start for part in where], 7, dtype)
    reader.read(where, out, 1 << 20)
    np.testing.assert_array_equal(out, array[where])
    assert len(folder.fetched) == len(set(folder.fetched))


@pytest.mark.parametrize("inside", list(INSIDE))
def test_chunks_without_shards(inside: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    array = stored(tmp_path / "a", values, (2, 3), compressors=INSIDE[inside])
    reader = fetched_whole(array, Folder(tmp_path / "a"))
    out = np.empty((4, 5), np.float32)
    reader.read((slice(2, 6), slice(0, 5)), out, 0)
    np.testing.assert_array_equal(out, values[2:6])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("cut", "does not match its checksum|without its whole index|past the end"),
        ("index", "does not match its checksum"),
        ("chunk", "does not match its checksum"),
        ("short", "without its whole index"),
    ],
)
def test_damaged_shards_are_refused(damage: str, told: str, tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal((8, 12)).astype(np.float32)
    array = sharded(tmp_path / "a", values, "with a checksum")
    file = chunk_files(tmp_path / "a")[0]
    data = bytearray(file.read_bytes())
    if damage in ("index", "chunk"):
        data[-9 if damage == "index" else 5] ^= 1
    file.write_bytes(data[: {"cut": -7, "short": 20}.get(damage)])
    reader = fetched_whole(array, Folder(tmp_path / "a"))
    with pytest.raises(ValueError, match=told):
        reader.read((slice(0, 8), slice(0, 12)), np.empty((8, 12), np.float32), 0)


def test_an_index_without_a_checksum_may_say_anything(tmp_path: Path) -> None:
    values = np.random.default_rng(2).standard_normal((4, 6)).astype(np.float32)
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=(2, 3), codecs=[zarr.codecs.BytesCodec()], index_codecs=[zarr.codecs.BytesCodec()]
    )
    array = zarr.create_array(
        tmp_path / "a", shape=(4, 6), chunks=(4, 6), dtype="f4", serializer=codec, compressors=None
    )
    array[...] = values
    (file,) = chunk_files(tmp_path / "a")
    data = bytearray(file.read_bytes())
    data[-64:-56] = (1 << 40).to_bytes(8, "little")
    file.write_bytes(data)
    reader = fetched_whole(array, Folder(tmp_path / "a"))
    with pytest.raises(ValueError, match="past the end of its shard"):
        reader.read((slice(0, 4), slice(0, 6)), np.empty((4, 6), np.float32), 0)


def test_others_are_left_to_others(tmp_path: Path) -> None:
    values = np.zeros((4, 6), np.float32)
    twice = [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]
    gzip = stored(tmp_path / "a", values, (2, 3), shards=(4, 6), compressors=[zarr.codecs.GzipCodec()])
    both = stored(tmp_path / "b", values, (2, 3), shards=(4, 6), compressors=twice)
    assert Shards.of(gzip) is None
    assert Shards.of(both) is None
    assert Shards.of(stored(tmp_path / "c", values, (2, 3))) is None
