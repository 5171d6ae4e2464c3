"""Packed chunks, read from their files: what zarr-python gives, or its error."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import format1_store
from sweeps import sweep
from test_uncompressed_chunks import boxes, chunk_files, stored, stored_with_gaps

from gradmf import gradlog
from gradmf.gradlog.logs import packed_chunks
from gradmf.gradlog.logs.packed_chunks import PackedChunks
from gradmf.gradlog.logs.zarr_tensor import ZarrTensor

ENCODINGS: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": zarr.codecs.ZstdCodec()},
    "zstd with its checksum": {"compressors": zarr.codecs.ZstdCodec(checksum=True)},
    "blosc": {"compressors": zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")},
    "v2 zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd()},
    "v2 blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc()},
}


@given(
    boxes(),
    st.sampled_from(["float16", "float32", "float64", "uint16", "complex64"]),
    st.sampled_from(list(ENCODINGS)),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
@settings(max_examples=sweep(100), deadline=None)
def test_any_box_of_any_layout(
    tmp_path_factory: pytest.TempPathFactory,
    box: tuple[tuple[int, ...], tuple[int, ...], tuple[slice, ...]],
    dtype: str,
    encoding: str,
    seed: int,
    large: bool,
) -> None:
    """Against what zarr-python gives, absent chunks included; small chunks are taken for large ones, too."""
    shape, chunks, where = box
    array = stored_with_gaps(
        tmp_path_factory.mktemp("boxes"), shape, chunks, np.dtype(dtype), seed, **ENCODINGS[encoding]
    )
    packed = PackedChunks.of(array)
    assert packed is not None
    out = np.empty([part.stop - part.start for part in where], dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_chunks, "SMALL", 0 if large else packed_chunks.SMALL)
        packed.read(where, out, room=(seed % 5) * packed.held_bytes)
    np.testing.assert_array_equal(out, array[where])


@pytest.mark.parametrize(
    ("dtype", "more"),
    [
        ("<f4", {"compressors": numcodecs.Zlib(), "zarr_format": 2}),
        ("<f4", {"compressors": numcodecs.Zstd(), "zarr_format": 2, "order": "F"}),
        ("<f4", {"compressors": numcodecs.Zstd(), "zarr_format": 2, "filters": numcodecs.Delta("<f4")}),
        (">f4", {"compressors": numcodecs.Zstd(), "zarr_format": 2}),
        ("<f4", {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]}),
        ("<f4", {"compressors": zarr.codecs.GzipCodec()}),
        ("<f4", {"compressors": zarr.codecs.ZstdCodec(), "serializer": zarr.codecs.BytesCodec(endian="big")}),
    ],
)
def test_others_are_left_to_others(tmp_path: Path, dtype: str, more: dict[str, Any]) -> None:
    values = np.random.default_rng(0).standard_normal((6, 5)).astype(dtype)
    assert PackedChunks.of(stored(tmp_path / "a", values, (1, 5), **more)) is None


def test_chunks_that_numcodecs_refuses_are_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_chunks, "LARGEST", 40)
    values = np.zeros((6, 10), np.float32)
    assert PackedChunks.of(stored(tmp_path / "a", values, (1, 10), **ENCODINGS["zstd"])) is not None
    assert PackedChunks.of(stored(tmp_path / "b", values, (2, 10), **ENCODINGS["zstd"])) is None


@pytest.mark.parametrize("encoding", list(ENCODINGS))
@pytest.mark.parametrize("size", [1, 255, 256, 300, 65_791, 65_792, 70_000])
def test_sizes_in_headers(encoding: str, size: int, tmp_path: Path) -> None:
    """They choose between unpacking right into place and finding out; every width of the field."""
    values = np.random.default_rng(size).integers(0, 250, (1, size)).astype(np.uint8)
    stored(tmp_path / "a", values, (1, size), **ENCODINGS[encoding])
    packed = np.frombuffer(chunk_files(tmp_path / "a")[0].read_bytes(), np.uint8)
    told = packed_chunks.blosc_size if encoding.endswith("blosc") else packed_chunks.zstd_size
    assert told(packed) == size
    assert told(packed[:3]) is None


def test_a_frame_that_does_not_tell_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a program writes it that packs a stream: three blocks of one repeated byte, without the field."""
    monkeypatch.setattr(packed_chunks, "SMALL", 0)
    values = np.zeros((2, 24), np.float32)
    array = stored(tmp_path / "a", values + 1, (1, 24), **ENCODINGS["zstd"])
    block = (96 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\x00"
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, 0x08]) + block
    chunk_files(tmp_path / "a")[1].write_bytes(frame)
    assert packed_chunks.zstd_size(np.frombuffer(frame, np.uint8)) is None
    packed = PackedChunks.of(array)
    assert packed is not None
    out = np.full((2, 24), 7, np.float32)
    packed.read((slice(0, 2), slice(0, 24)), out)
    np.testing.assert_array_equal(out, [[1] * 24, [0] * 24])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("reader", ["small", "large", "zarr-python", "shards"])
def test_a_header_that_claims_more_than_there_can_be(
    version: int, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for the 32 TiB that it speaks of."""
    if reader != "small":
        monkeypatch.setattr(packed_chunks, "LARGEST" if reader == "zarr-python" else "SMALL", 0)
    values = np.random.default_rng(6).standard_normal((6, 500)).astype(np.float32)
    encoding = dict(ENCODINGS["zstd" if version == 3 else "v2 zstd"])
    if reader == "shards":
        if version == 2:
            return
        encoding["shards"] = (2, 500)
    zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=version)
    stored(tmp_path / "run.zarr" / "w", values, (1, 500), **encoding)
    path = chunk_files(tmp_path / "run.zarr" / "w")[1]
    data = path.read_bytes()
    size = packed_chunks.zstd_size(np.frombuffer(data, np.uint8))
    assert size == 2000
    assert data[4] >> 5 == 0b011  # two bytes tell it
    if reader == "shards":  # as long as it was: the index stands
        head = data[:4] + bytes([data[4] | 0xC0]) + (1 << 45).to_bytes(8, "little")
        path.write_bytes(head + data[len(head) :])
    else:
        path.write_bytes(data[:4] + bytes([data[4] | 0xC0]) + (1 << 45).to_bytes(8, "little") + data[7:])
    with pytest.raises(
        gradlog.DataError, match=r"^[^\n]*tensor 'w': chunk [12]/0 .* cannot be decoded: [^\n]*$"
    ):
        gradlog.analyze(tmp_path / "run.zarr")


def test_nothing_is_written_once_reading_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that unpack are waited for: the place is zarr-python's to fill then."""
    monkeypatch.setattr(packed_chunks, "SMALL", 0)
    monkeypatch.setattr(packed_chunks, "available_processors", lambda: 4)
    values = np.random.default_rng(5).standard_normal((64, 5000)).astype(np.float32)
    array = stored(tmp_path / "a", values, (1, 5000), **ENCODINGS["zstd"])
    chunk_files(tmp_path / "a")[0].write_bytes(b"nothing")
    packed = PackedChunks.of(array)
    assert packed is not None
    out = np.zeros((64, 5000), np.float32)
    with pytest.raises((ValueError, RuntimeError)):
        packed.read((slice(0, 64), slice(0, 5000)), out, room=1 << 30)
    left = out.copy()
    time.sleep(0.05)
    np.testing.assert_array_equal(out, left)


def test_a_naive_dump_is_read_so(tmp_path: Path) -> None:
    """What zarr.create_array makes of nothing but a shape, a row a chunk; figures as by zarr-python."""
    values = np.random.default_rng(1).standard_normal((30, 4, 5)).astype(np.float32)
    path = format1_store(tmp_path / "run.zarr", {"w": values}, chunks=(1, 4, 5))
    tensor = gradlog.open_log(path).tensors[0]
    assert isinstance(tensor, ZarrTensor)
    packed = isinstance(tensor.fast, PackedChunks)
    assert packed == bool(tensor.array.compressors)
    if packed:
        assert tensor.reader == "direct"
        found = gradlog.analyze(path)
        tensor.distrust()
        assert tensor.reader == "zarr-python"
        assert found.total.predictors[0].path_length == pytest.approx(np.square(values).sum(), rel=1e-6)


@pytest.mark.parametrize("encoding", list(ENCODINGS))
@pytest.mark.parametrize("damage", ["empty", "cut", "half", "longer", "of another", "not packed"])
@pytest.mark.parametrize("small", [0, packed_chunks.SMALL])
def test_damaged_files(
    tmp_path: Path, encoding: str, damage: str, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by zarr-python: its values where it has any, and one line where it refuses."""
    monkeypatch.setattr(packed_chunks, "SMALL", small)
    random = np.random.default_rng(3)
    values = random.standard_normal((6, 25)).astype(np.float32)
    version = ENCODINGS[encoding].get("zarr_format", 3)
    zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=version)
    array = stored(tmp_path / "run.zarr" / "w", values, (1, 25), **ENCODINGS[encoding])
    other = stored(tmp_path / "other", values[:, :24], (1, 24), **ENCODINGS[encoding])
    path = chunk_files(tmp_path / "run.zarr" / "w")[1]
    data = path.read_bytes()
    path.write_bytes({
        "empty": b"", "cut": data[:-3], "half": data[: len(data) // 2], "longer": data + bytes(5000),
        "of another": chunk_files(tmp_path / "other")[1].read_bytes(), "not packed": values[1].tobytes(),
    }[damage])  # fmt: skip
    assert other.shape == (6, 24)
    try:
        # By itself Blosc reads past the end of what was cut short.
        refused = encoding.endswith("blosc") and damage in ("cut", "half")
        expected = None if refused else np.asarray(array[:])
    except Exception:
        expected = None
    if expected is None:
        with pytest.raises(gradlog.DataError, match=r"tensor 'w': chunk .* cannot be decoded"):
            gradlog.analyze(tmp_path / "run.zarr")
    else:
        energy = gradlog.analyze(tmp_path / "run.zarr").total.predictors[0].path_length
        assert energy == pytest.approx(np.square(expected.astype(np.float64)).sum(), rel=1e-6)
