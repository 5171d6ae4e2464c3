"""Chunks stored as their entries are, read from their files: what zarr-python gives, or an error."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import sweep

from gradmf import gradlog
from gradmf.gradlog.logs import uncompressed_chunks
from gradmf.gradlog.logs.uncompressed_chunks import UncompressedChunks


def stored(
    place: Path, values: np.ndarray[Any, Any], chunks: tuple[int, ...], **more: Any
) -> zarr.Array[Any]:
    more = {"zarr_format": 3, "compressors": None} | more
    array = zarr.create_array(
        place,
        shape=values.shape,
        chunks=chunks,
        dtype=values.dtype,
        fill_value=more.pop("fill_value", 0),
        **more,
    )
    array[...] = values
    return array


ENCODINGS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2},
    "v3": {"zarr_format": 3},
    "checked": {"compressors": zarr.codecs.Crc32cCodec()},
}


def chunk_files(place: Path) -> list[Path]:
    return sorted(
        path for path in place.rglob("*") if path.is_file() and not path.name.startswith((".z", "zarr"))
    )


def stored_with_gaps(
    place: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any], seed: int, **more: Any
) -> zarr.Array[Any]:
    """An array of noise, of which every fifth chunk is absent."""
    random = np.random.default_rng(seed)
    values = (100 * random.standard_normal(shape)).astype(dtype)
    array = stored(place / "a", values, chunks, **more, fill_value=3)
    for path in chunk_files(place):
        if random.random() < 0.2:
            path.unlink()
    return array


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[slice, ...]]:
    """Shape, chunks, and a box of an array."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    chunks = tuple(draw(st.integers(1, extent + 2)) for extent in shape)
    where = []
    for extent in shape:
        start = draw(st.integers(0, extent - 1))
        where.append(slice(start, draw(st.integers(start, extent))))
    return shape, chunks, tuple(where)


@given(
    boxes(),
    st.sampled_from(["float16", "float32", "float64", "uint16", "complex64"]),
    st.sampled_from(list(ENCODINGS)),
    st.sampled_from([(1 << 14, 4096, 1 << 20), (0, 0, 8), (8, 16, 64), (1 << 14, 0, 16)]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=sweep(150), deadline=None)
def test_any_box_of_any_layout(
    tmp_path_factory: pytest.TempPathFactory,
    box: tuple[tuple[int, ...], tuple[int, ...], tuple[slice, ...]],
    dtype: str,
    encoding: str,
    limits: tuple[int, int, int],
    seed: int,
) -> None:
    """Against what zarr-python gives, absent chunks included; limits take every way through."""
    shape, chunks, where = box
    array = stored_with_gaps(
        tmp_path_factory.mktemp("boxes"), shape, chunks, np.dtype(dtype), seed, **ENCODINGS[encoding]
    )
    direct = UncompressedChunks.of(array)
    assert direct is not None
    assert direct.checked == (encoding == "checked")
    out = np.empty([part.stop - part.start for part in where], dtype)
    with pytest.MonkeyPatch.context() as patched:
        for name, limit in zip(("SHORT_ROW", "LEAST_PIECE", "EXTENT_BYTES"), limits, strict=True):
            patched.setattr(uncompressed_chunks, name, limit)
        patched.setattr(uncompressed_chunks, "MOST_PIECES", 1 + seed % 5)
        patched.setattr(uncompressed_chunks, "WAITING_SECONDS", seed % 2 - 0.5)
        direct.read(where, out)
    np.testing.assert_array_equal(out, array[where])


@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_a_system_that_gives_little_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Of chunks of more than 2 GB systems give a part: here 5 bytes, of whole chunks and of pieces."""
    values = np.arange(2 * 12 * 7, dtype=np.float32).reshape(2, 12, 7)
    direct = UncompressedChunks.of(stored(tmp_path / "a", values, (1, 12, 7), **ENCODINGS[encoding]))
    assert direct is not None
    given_back = os.preadv

    def preadv(file: int, buffers: list[memoryview], offset: int) -> int:
        return given_back(file, [buffers[0][:5]], offset)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "readv", lambda file, buffers: given_back(file, [buffers[0][:5]], 0))
    for rows, first in itertools.product((1, 12), (0, 3)):
        out = np.empty((2, rows, 7 - first), np.float32)
        direct.read((slice(0, 2), slice(0, rows), slice(first, 7)), out)
        np.testing.assert_array_equal(out, values[:, :rows, first:])


@pytest.mark.parametrize("more", [-1, 1, -100], ids=["shorter", "longer", "empty"])
@pytest.mark.parametrize("chunks", [(1, 25), (3, 10)], ids=str)
@pytest.mark.parametrize("encoding", ["v3", "checked"])
def test_files_of_another_size(tmp_path: Path, more: int, chunks: tuple[int, int], encoding: str) -> None:
    """Refused by name, as zarr-python refuses them."""
    random = np.random.default_rng(3)
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    values = random.standard_normal((6, 25)).astype(np.float32)
    array = stored(tmp_path / "run.zarr" / "w", values, chunks, **ENCODINGS[encoding])
    assert group["w"].shape == (6, 25)
    path = chunk_files(tmp_path / "run.zarr" / "w")[1]
    data = path.read_bytes()
    path.write_bytes(data + b"x" if more > 0 else data[: max(0, len(data) + more)])
    direct = UncompressedChunks.of(array)
    assert direct is not None
    with pytest.raises(ValueError, match=rf"it has {path.stat().st_size} bytes, not {len(data)}"):
        direct.read((slice(0, 6), slice(0, 25)), np.empty((6, 25), np.float32))
    with pytest.raises(gradlog.DataError, match=r"tensor 'w': chunk .* cannot be decoded"):
        gradlog.analyze(tmp_path / "run.zarr")


def test_a_slow_disk_is_asked_from_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 50 ms a chunk, one after another would take 5 s."""
    values = np.random.default_rng(5).standard_normal((100, 6)).astype(np.float32)
    direct = UncompressedChunks.of(stored(tmp_path / "a", values, (1, 6)))
    assert direct is not None
    at_once, most, lock = 0, 0, threading.Lock()
    opened = os.open
    gate = threading.Event()

    def slow(*arguments: Any, **named: Any) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        gate.wait(0.05)
        with lock:
            at_once -= 1
        return opened(*arguments, **named)

    monkeypatch.setattr(os, "open", slow)
    out = np.empty_like(values)
    direct.read((slice(0, 100), slice(0, 6)), out)
    np.testing.assert_array_equal(out, values)
    assert most > 4


@pytest.mark.parametrize(
    ("chunks", "where"),
    [
        ((1, 40), (slice(0, 6), slice(0, 40))),
        ((1, 10), (slice(0, 6), slice(0, 40))),
        ((4, 40), (slice(0, 6), slice(0, 40))),
        ((4, 40), (slice(1, 2), slice(3, 30))),
        ((3, 16), (slice(0, 3), slice(16, 17))),
    ],
    ids=["whole", "side by side", "edge", "inside", "column"],
)
@pytest.mark.parametrize("extent", [8, 1 << 20], ids=["in pieces", "at once"])
def test_one_wrong_bit_anywhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunks: tuple[int, int],
    where: tuple[slice, slice],
    extent: int,
) -> None:
    """In what is wanted of a chunk, in its rest, and in the checksum itself: refused, as by zarr-python."""
    monkeypatch.setattr(uncompressed_chunks, "EXTENT_BYTES", extent)
    values = np.random.default_rng(7).standard_normal((6, 40)).astype(np.float32)
    array = stored(tmp_path / "a", values, chunks, **ENCODINGS["checked"])
    direct = UncompressedChunks.of(array)
    assert direct is not None
    first = [part.start // size for part, size in zip(where, chunks, strict=True)]
    path = tmp_path / "a" / array.metadata.encode_chunk_key(tuple(first))
    good = path.read_bytes()
    out = np.empty([part.stop - part.start for part in where], np.float32)
    for at in (*range(0, len(good), 13), *range(len(good) - 4, len(good))):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="it does not match its checksum"):
            direct.read(where, out)
        with pytest.raises(ValueError, match="checksum"):
            array[where]
    path.write_bytes(good)
    direct.read(where, out)
    np.testing.assert_array_equal(out, values[where])


def test_what_a_writer_makes_is_read_from_its_files(tmp_path: Path) -> None:
    """By default with checksums: no part of a chunk without the rest, which takes no memory."""
    random = np.random.default_rng(11)
    rows = [
        {"w": random.standard_normal((30, 7)), "b": random.standard_normal(5).astype(np.float16)}
        for _ in range(40)
    ]
    with gradlog.create_log(tmp_path / "run.zarr") as log:
        for step, row in enumerate(rows):
            log.append(step, row)
    tensors = gradlog.open_log(tmp_path / "run.zarr").tensors
    for tensor in tensors:
        assert (tensor.reader, tensor.codecs) == ("direct", ("bytes", "crc32c"))
        assert (tensor.read_in_part, tensor.compressed, tensor.decoding_bytes) == (False, True, 0)
        box = tuple(slice(1, extent) for extent in tensor.shape)
        out = np.empty((22, *(extent - 1 for extent in tensor.shape)), np.float32)
        tensor.read((9, 31), box, out.reshape(22, -1))
        np.testing.assert_array_equal(
            out, np.stack([row[tensor.name] for row in rows[9:31]])[:, *box].astype("f4")
        )
    assert gradlog.analyze(tmp_path / "run.zarr").cost.reader == "direct"


def test_a_checksum_in_python_alone_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncompressed_chunks.google_crc32c, "implementation", "python")
    values = np.ones((6, 4), np.float32)
    assert UncompressedChunks.of(stored(tmp_path / "a", values, (1, 4), **ENCODINGS["checked"])) is None
    assert UncompressedChunks.of(stored(tmp_path / "b", values, (1, 4))) is not None


@pytest.mark.parametrize(
    ("dtype", "more"),
    [
        (">f4", {"zarr_format": 2}),
        ("float32", {"serializer": zarr.codecs.BytesCodec(endian="big")}),
        ("float32", {"compressors": [zarr.codecs.Crc32cCodec(), zarr.codecs.Crc32cCodec()]}),
        ("float32", {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]}),
        (
            "float32",
            {
                "serializer": zarr.codecs.BytesCodec(endian="big"),
                "compressors": zarr.codecs.Crc32cCodec(),
            },
        ),
        ("float32", {"filters": zarr.codecs.TransposeCodec(order=(1, 0))}),
        ("float32", {"zarr_format": 2, "order": "F"}),
        ("float32", {"shards": (6, 4)}),
    ],
    ids=["big-v2", "big-v3", "checked-twice", "packed", "big-checked", "transposed", "fortran", "sharded"],
)
def test_what_is_encoded_is_left_to_others(tmp_path: Path, dtype: str, more: dict[str, Any]) -> None:
    values = np.random.default_rng(1).standard_normal((6, 4)).astype(dtype)
    zarr.open_group(tmp_path / "run.zarr", mode="w")
    array = stored(tmp_path / "run.zarr" / "w", values, (2, 2), **more)
    assert UncompressedChunks.of(array) is None
    found = gradlog.analyze(tmp_path / "run.zarr")
    assert found.total.energy == pytest.approx(float(np.sum(np.square(values.astype(float)))), rel=1e-6)
