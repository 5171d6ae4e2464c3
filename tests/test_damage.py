"""Damaged chunks: what plain zarr-python refuses is refused, and what it reads gives its numbers.

Layouts by codec, format, shards, edges and order, each with many flips, cuts, gaps and surplus bytes, held
against zarr-python's own reading of the same store. The one exception is Blosc, which reads past the end of a
chunk that is shorter than its header says: that is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from stores import add_array, unspecified
from sweeps import WHOLE
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

from gradmf import gradlog
from gradmf.gradlog.logs.log import Tensor

ROWS, SHAPE = 11, (6, 5)
CHUNKS, SHARDS = (4, 4, 2), (8, 8, 4)
"""Neither divides the array, and shards reach past the parameters."""

V3: dict[str, list[Any]] = {
    "raw": [],
    "crc32c": [Crc32cCodec()],
    "zstd": [ZstdCodec(level=1)],
    "zstd-checksum": [ZstdCodec(level=1, checksum=True)],
    "zstd-crc32c": [ZstdCodec(level=1), Crc32cCodec()],
    "gzip": [GzipCodec(level=1)],
    "blosc": [BloscCodec(cname="lz4", typesize=4, shuffle="shuffle")],
    "blosc-zstd": [BloscCodec(cname="zstd", typesize=4, shuffle="bitshuffle")],
    "blosc-crc32c": [BloscCodec(cname="lz4", typesize=4, shuffle="shuffle"), Crc32cCodec()],
}
V2: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "zstd": {"compressors": numcodecs.Zstd(1)},
    "blosc": {"compressors": numcodecs.Blosc()},
    "zlib": {"compressors": numcodecs.Zlib(1)},
    "gzip": {"compressors": numcodecs.GZip(1)},
    "bz2": {"compressors": numcodecs.BZ2(1)},
    "lz4": {"compressors": numcodecs.LZ4()},
    "shuffle-zlib": {"compressors": numcodecs.Zlib(1), "filters": [numcodecs.Shuffle(4)]},
    "shuffle-zstd": {"compressors": numcodecs.Zstd(1), "filters": [numcodecs.Shuffle(4)]},
    "delta-blosc": {"compressors": numcodecs.Blosc(), "filters": [numcodecs.Delta("<f4")]},
    "fletcher32": {"compressors": numcodecs.Zlib(1), "filters": [numcodecs.Fletcher32()]},
    "raw-fortran": {"compressors": None, "order": "F"},
    "zstd-fortran": {"compressors": numcodecs.Zstd(1), "order": "F"},
}
TRANSPOSED = {"filters": [TransposeCodec(order=(2, 0, 1))]}


def layouts() -> dict[str, dict[str, Any]]:
    """Options of each layout, by name."""
    found: dict[str, dict[str, Any]] = {}
    for name, codecs in V3.items():
        found[f"v3-{name}"] = {"compressors": codecs}
        found[f"shards-{name}"] = {"compressors": codecs, "shards": SHARDS}
        found[f"shards-in-{name}"] = {
            "serializer": ShardingCodec(chunk_shape=CHUNKS, codecs=[BytesCodec(), ZstdCodec(level=1)]),
            "chunks": SHARDS,
            "compressors": codecs,
        }
    found["v3-transposed"] = {"compressors": [ZstdCodec(level=1), Crc32cCodec()], **TRANSPOSED}
    found["shards-transposed"] = {"compressors": [Crc32cCodec()], "shards": SHARDS, **TRANSPOSED}
    try:
        from zarr.codecs import numcodecs as extra
    except ImportError:
        pass
    else:
        with unspecified():
            for word in ("Zlib", "BZ2", "LZ4", "Adler32", "CRC32", "Fletcher32"):
                found[f"v3-{word}"] = {"compressors": [getattr(extra, word)()]}
                found[f"shards-{word}"] = {"compressors": [getattr(extra, word)()], "shards": SHARDS}
    found |= {f"v2-{name}": {"zarr_format": 2, **options} for name, options in V2.items()}
    return found


LAYOUTS = layouts()


def store(path: Path, options: dict[str, Any], seed: int) -> np.ndarray[Any, Any]:
    """Write an array in one layout, of values that compress; returns them as zarr-python reads them."""
    rng = np.random.default_rng(seed)
    values = (np.round(rng.standard_normal((ROWS, *SHAPE)) * 8) / 8).astype("f4")
    options = {"chunks": CHUNKS, **options}
    group = zarr.open_group(path, mode="w", zarr_format=options.pop("zarr_format", 3))
    return np.asarray(add_array(group, "w", values, **options)[...])


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes of an object with one fault: a bit flipped, cut short, surplus bytes, a gap, nothing left."""
    kind = int(rng.integers(7))
    found, at = bytearray(data), int(rng.integers(len(data)))
    if kind <= 1:
        found[at] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        del found[at:]
    elif kind == 3:
        found += rng.bytes(int(rng.integers(1, 9)))
    elif kind == 4:
        found += bytes(int(rng.integers(1, 9)))
    elif kind == 5:
        del found[at : at + int(rng.integers(1, 5))]
    else:
        found[at : at + 4] = rng.bytes(len(found[at : at + 4]))
    return bytes(found)


PLAIN = {"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}


def plainly(path: Path, where: Any = ...) -> np.ndarray[Any, Any] | None:
    """What zarr-python reads of a box, None where it refuses."""
    with zarr.config.set(PLAIN), unspecified():
        try:
            return np.asarray(zarr.open_group(path, mode="r")["w"][where])  # type: ignore[index]
        except Exception:
            return None


BOXES = [
    ((0, ROWS), (slice(0, 6), slice(0, 5))),
    ((0, ROWS), (slice(0, 4), slice(0, 4))),
    ((0, 8), (slice(4, 6), slice(4, 5))),
    ((3, 9), (slice(1, 5), slice(0, 5))),
    ((8, ROWS), (slice(0, 6), slice(2, 3))),
]


def boxes(path: Path) -> Iterator[tuple[tuple[slice, ...], np.ndarray[Any, Any] | None]]:
    """What gradmf reads of several boxes, None where it refuses."""
    try:
        (tensor,) = gradlog.open_log(path).tensors
    except gradlog.DataError:
        yield (slice(0, ROWS), *BOXES[0][1]), None
        return
    for rows, box in BOXES:
        yield (slice(*rows), *box), read(tensor, rows, box)


def read(tensor: Tensor, rows: tuple[int, int], box: tuple[slice, ...]) -> np.ndarray[Any, Any] | None:
    shape = (rows[1] - rows[0], *(part.stop - part.start for part in box))
    out = np.full((shape[0], int(np.prod(shape[1:]))), 777, "f4")
    try:
        tensor.read(rows, box, out)
    except gradlog.DataError:
        return None
    return out.reshape(shape)


def is_short_blosc(data: bytes) -> bool:
    """Whether a chunk of Blosc holds fewer bytes than its header says."""
    return len(data) < max(16, int.from_bytes(data[12:16], "little"))


def compare(path: Path, name: str, place: Path, data: bytes) -> str:
    """Hold gradmf against zarr-python on a store of which one object was replaced; what happened."""
    whole = plainly(path)
    outcome = "refused" if whole is None else "read"
    for where, found in boxes(path):
        what = f"{name}: {place.name}: {where}"
        # Of a shard without its index zarr-python reads a part, as if it were absent, and refuses the whole.
        alone = plainly(path, where) if whole is None or found is None else whole[where]
        if found is not None:
            assert alone is not None, f"{what} was read where zarr-python refuses it"
            np.testing.assert_array_equal(found, alone, err_msg=what)
        elif alone is not None:
            assert "blosc" in name, f"{what} was refused where zarr-python reads it"
            assert is_short_blosc(data) or "shards" in name
            outcome = "short Blosc refused"
    return outcome


def sweep(tmp_path: Path, name: str, trials: int, seed: int, objects: int | None = None) -> dict[str, int]:
    """Damage objects of a layout, all or so many, `trials` times each; how often they were refused."""
    path = tmp_path / "run.zarr"
    rng = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    values = store(path, LAYOUTS[name], seed)
    for where, found in boxes(path):
        np.testing.assert_array_equal(found, values[where], err_msg=f"{name}, undamaged")
    outcomes: dict[str, int] = {}
    places = [p for p in sorted((path / "w").rglob("*")) if p.is_file() and p.name[:1].isdigit()]
    count = len(places) if objects is None else min(objects, len(places))
    for place in (places[at] for at in sorted(rng.permutation(len(places))[:count])):
        data = place.read_bytes()
        for _ in range(trials):
            bad = damaged(data, rng)
            place.write_bytes(bad)
            outcome = compare(path, name, place, bad)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        place.write_bytes(data)
    return outcomes


@pytest.mark.parametrize("name", LAYOUTS)
def test_damage_is_what_zarr_python_says(tmp_path: Path, name: str) -> None:
    outcomes = sweep(tmp_path, name, trials=2, seed=0, objects=None if WHOLE else 2)
    assert sum(outcomes.values()) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_much_damage_is_what_zarr_python_says(tmp_path: Path, name: str) -> None:
    for seed in (1, 2, 3):
        sweep(tmp_path, name, trials=12, seed=seed)
