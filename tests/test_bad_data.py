"""Bad data is never analyzed silently: every fault of a store, and what its error or warning says."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import (
    Array,
    add_array,
    chunk_files,
    cut,
    flip,
    foreign_store,
    format1_store,
    network,
    walk,
    zip_members,
)
from sweeps import sweep
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

from conftest import assert_analysis, read_in_blocks_of_rows
from gradmf import gradlog
from gradmf.gradlog.engine import ranges

ROWS = 23

Case = tuple[Path, tuple[str, ...]]
"""A faulty store, and what its error must name."""


def refused(path: Path, *mentions: str, options: gradlog.Settings | None = None, **resources: Any) -> str:
    """The error of an analysis: plain, short, naming the path and the rest, with exit code 1."""
    with pytest.raises(gradlog.GradmfError) as caught:
        gradlog.analyze(path, options, **resources)
    return plain(caught.value, path, mentions, exit_code=1)


def plain(error: gradlog.GradmfError, path: Path, mentions: tuple[str, ...], exit_code: int) -> str:
    text = str(error)
    assert error.exit_code == exit_code, text
    assert str(path) in text
    for mention in mentions:
        assert mention in text, f"{mention!r} is not in {text!r}"
    assert 1 <= len(text.splitlines()) <= 2
    assert "Traceback" not in text
    assert "/site-packages/" not in text
    return text


# What is no gradient log.


def _missing(folder: Path) -> Case:
    return folder / "nothing.zarr", ("no such file",)


def _empty_folder(folder: Path) -> Case:
    (folder / "empty").mkdir()
    return folder / "empty", ("empty",)


def _folder_of_files(folder: Path) -> Case:
    (folder / "files").mkdir()
    (folder / "files" / "notes.txt").write_text("hello")
    return folder / "files", ("notes.txt",)


def _folder_of_stores(folder: Path) -> Case:
    for name in ("one.zarr", "two.zarr"):
        format1_store(folder / "runs" / name, network(3))
    return folder / "runs", ("2", "one.zarr")


def _text_file(folder: Path) -> Case:
    (folder / "run.txt").write_text("step,loss\n0,1.5\n")
    return folder / "run.txt", ("not a Zarr store",)


def _finished_results(folder: Path) -> Case:
    (folder / "run.json").write_text('{"schema": "gradmf.analyze/1"}')
    return folder / "run.json", ("not a Zarr store", "gradmf compare")


def _part(folder: Path) -> Case:
    part = gradlog.analyze_part(format1_store(folder / "run.zarr", network(3)), gradlog.PartNumber(1, 2))
    gradlog.write_part(part, folder / "part.1")
    return folder / "part.1", ("gradmf merge",)


def _empty_file(folder: Path) -> Case:
    (folder / "run.zip").touch()
    return folder / "run.zip", ("not a Zarr store", "0 bytes")


def _npz(folder: Path) -> Case:
    np.savez(folder / "run.npz", w=np.zeros((3, 2)))
    return folder / "run.npz", ("not a Zarr store", "w.npy")


def _empty_zip(folder: Path) -> Case:
    with zipfile.ZipFile(folder / "run.zip", "w"):
        pass
    return folder / "run.zip", ("not a Zarr store",)


def _zip_of_two_stores(folder: Path) -> Case:
    for name in ("one.zarr", "two.zarr"):
        format1_store(folder / "runs" / name, network(3))
    return zip_members(folder / "runs", folder / "runs.zip"), ("2 stores", "one.zarr")


def _truncated_zip(folder: Path) -> Case:
    path = zip_members(format1_store(folder / "run.zarr", network(3)), folder / "run.zip")
    cut(path, path.stat().st_size // 2)
    return path, ("cut short",)


def _truncated_zip_of_another_name(folder: Path) -> Case:
    path = zip_members(format1_store(folder / "source", network(3)), folder / "run.zarr")
    cut(path, path.stat().st_size // 2)
    return path, ("cut short",)


def _remote(folder: Path) -> Case:
    return Path(f"s3://{folder.name}/run.zarr"), ("no such file",)


def _root_metadata(text: str) -> Callable[[Path], Case]:
    def build(folder: Path) -> Case:
        path = format1_store(folder / "run.zarr", network(3))
        (path / "zarr.json").write_text(text)
        return path, ()

    return build


def _v2_root_metadata(folder: Path) -> Case:
    path = foreign_store(folder / "run.zarr", network(3), zarr_format=2)
    (path / ".zgroup").write_text("{")
    return path, ()


def _empty_group(folder: Path) -> Case:
    zarr.open_group(folder / "run.zarr", mode="w")
    return folder / "run.zarr", ("no gradient arrays", "empty group")


def _only_integers(folder: Path) -> Case:
    return foreign_store(folder / "run.zarr", {"counts": np.zeros((3, 2), "i4")}), ("no gradient", "counts")


def _only_series(folder: Path) -> Case:
    return foreign_store(folder / "run.zarr", {"loss": np.zeros(3, "f4")}), ("no gradient", "loss")


def _only_0d(folder: Path) -> Case:
    return foreign_store(folder / "run.zarr", {"x": np.float32(3) * np.ones(())}), ("no gradient", "x")


def _bare_integers(folder: Path) -> Case:
    zarr.create_array(folder / "bare.zarr", shape=(3, 2), dtype="i4")
    return folder / "bare.zarr", ("int32",)


def _marked_without(*names: str, mention: str) -> Callable[[Path], Case]:
    def build(folder: Path) -> Case:
        path = format1_store(folder / "run.zarr", network(3))
        group = zarr.open_group(path, mode="r+")
        for name in names:
            del group[name]
        return path, (mention,)

    return build


def _declared(value: Any, mention: str) -> Callable[[Path], Case]:
    def build(folder: Path) -> Case:
        path = format1_store(folder / "run.zarr", network(3))
        zarr.open_group(path, mode="r+").attrs["gradlog"] = value
        return path, (mention, "1")

    return build


def _step_of(values: Array) -> Callable[[Path], Case]:
    def build(folder: Path) -> Case:
        path = format1_store(folder / "run.zarr", network(3))
        group = zarr.open_group(path, mode="r+")
        del group["step"]
        add_array(group, "step", values)
        return path, ("step",)

    return build


def _marked_integers(folder: Path) -> Case:
    return format1_store(folder / "run.zarr", {"w": np.zeros((3, 2), "i4")}), ("'w'", "int32")


def _marked_0d(folder: Path) -> Case:
    path = format1_store(folder / "run.zarr", network(3))
    add_array(zarr.open_group(path, mode="r+"), "grads/lonely", np.ones((), "f4"))
    return path, ("'lonely'",)


def _nothing_committed(folder: Path) -> Case:
    return format1_store(folder / "run.zarr", network(3), step=[], chunks="auto"), ("no committed rows",)


def _tensor_metadata(damage: Callable[[Path], None], *mentions: str) -> Callable[[Path], Case]:
    def build(folder: Path) -> Case:
        path = format1_store(folder / "run.zarr", network(3))
        damage(path / "grads" / "fc.weight" / "zarr.json")
        return path, ("fc.weight", *mentions)

    return build


def _edited(**changes: Any) -> Callable[[Path], None]:
    def edit(place: Path) -> None:
        place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))

    return edit


def _damaged_zip_member(name: str) -> Callable[[Path], Case]:
    def build(folder: Path) -> Case:
        path = zip_members(format1_store(folder / "run.zarr", network(3)), folder / "run.zip")
        with zipfile.ZipFile(path) as archive:
            found = archive.getinfo(name)
        flip(path, found.header_offset + 30 + len(name) + found.file_size // 2)
        return path, (name.split("/")[1],) if "/" in name else ()

    return build


NO_LOGS: dict[str, Callable[[Path], Case]] = {
    "missing": _missing,
    "empty-folder": _empty_folder,
    "folder-of-files": _folder_of_files,
    "folder-of-stores": _folder_of_stores,
    "text-file": _text_file,
    "finished-results": _finished_results,
    "part": _part,
    "empty-file": _empty_file,
    "npz": _npz,
    "empty-zip": _empty_zip,
    "zip-of-two-stores": _zip_of_two_stores,
    "truncated-zip": _truncated_zip,
    "truncated-zip-named-zarr": _truncated_zip_of_another_name,
    "remote": _remote,
    "root-garbage": _root_metadata("not json"),
    "root-empty": _root_metadata(""),
    "root-no-object": _root_metadata("[1, 2]"),
    "root-no-keys": _root_metadata("{}"),
    "root-unknown-node": _root_metadata('{"zarr_format": 3, "node_type": "table"}'),
    "root-format-9": _root_metadata('{"zarr_format": 9, "node_type": "group"}'),
    "v2-root-garbage": _v2_root_metadata,
    "empty-group": _empty_group,
    "only-integers": _only_integers,
    "only-series": _only_series,
    "only-0d": _only_0d,
    "bare-integers": _bare_integers,
    "no-step": _marked_without("step", mention="step"),
    "no-grads": _marked_without("grads", mention="grads"),
    "version-2": _declared({"version": 2}, "2"),
    "version-text": _declared({"version": "1"}, "'1'"),
    "version-true": _declared({"version": True}, "True"),
    "version-missing": _declared({}, "None"),
    "version-list": _declared([1], "None"),
    "step-float": _step_of(np.arange(3.0) + 0.5),
    "step-2d": _step_of(np.zeros((3, 1), np.int64)),
    "step-longer": _step_of(np.arange(5)),
    "marked-integers": _marked_integers,
    "marked-0d": _marked_0d,
    "nothing-committed": _nothing_committed,
    "tensor-without-metadata": _tensor_metadata(lambda place: place.unlink()),
    "tensor-garbage": _tensor_metadata(lambda place: place.write_text("{")),
    "tensor-unknown-codec": _tensor_metadata(_edited(codecs=[{"name": "bytes"}, {"name": "zip9"}])),
    "tensor-unknown-dtype": _tensor_metadata(_edited(data_type="float8_e4m3")),
    "tensor-unknown-grid": _tensor_metadata(_edited(chunk_grid={"name": "hexagonal", "configuration": {}})),
    "zip-damaged-chunk": _damaged_zip_member("grads/fc.weight/c/0/0/0"),
    "zip-damaged-metadata": _damaged_zip_member("grads/fc.weight/zarr.json"),
    "zip-damaged-root": _damaged_zip_member("zarr.json"),
}


@pytest.mark.parametrize("build", NO_LOGS.values(), ids=NO_LOGS.keys())
def test_no_gradient_log(tmp_path: Path, build: Callable[[Path], Case]) -> None:
    path, mentions = build(tmp_path)
    refused(path, *mentions)


def test_remote_address() -> None:
    with pytest.raises(gradlog.UsageError, match=r"^ftp://bucket/run\.zarr: no store is read there"):
        gradlog.analyze("ftp://bucket/run.zarr")


def test_errors_are_builtin_errors_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        gradlog.analyze(tmp_path / "nothing")
    with pytest.raises(ValueError, match="empty"):
        gradlog.analyze(_empty_group(tmp_path)[0])


def test_a_foreign_tensor_without_metadata_is_told(tmp_path: Path) -> None:
    """Chunks without metadata are a tensor that was lost: never left out without a word."""
    path = foreign_store(tmp_path / "run.zarr", network(5))
    (path / "fc.weight" / "zarr.json").unlink()
    try:
        analysis = gradlog.analyze(path)
    except gradlog.DataError as error:
        assert "fc.weight" in str(error)  # noqa: PT017
    else:
        assert any("fc.weight" in warning.message for warning in analysis.warnings)


# Chunks that cannot be decoded.

CODECS: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "crc32c": {"compressors": Crc32cCodec()},
    "zstd": {"compressors": ZstdCodec(level=1)},
    "zstd-checksum": {"compressors": ZstdCodec(level=1, checksum=True)},
}
DAMAGE: dict[str, Callable[[Path], None]] = {
    "truncated": lambda place: cut(place, place.stat().st_size // 2),
    "one-byte-short": lambda place: cut(place, -1),
    "emptied": lambda place: cut(place, 0),
    "longer": lambda place: place.write_bytes(place.read_bytes() + b"\0" * 8),
    "garbage": lambda place: place.write_bytes(b"<html>404</html>"),
}


def damaged_log(path: Path, chunk: str, damage: Callable[[Path], None], marked: bool, **options: Any) -> Path:
    """Two tensors; a chunk of 'b' (grid 5x2 of 5 rows and 3 columns) is damaged."""
    tensors = {"a": walk(ROWS, (4,), 1), "b": walk(ROWS, (6,), 2)}
    (format1_store if marked else foreign_store)(path, tensors, **{"chunks": (5, 3), **options})
    damage(path / ("grads/b" if marked else "b") / "c" / chunk)
    return path


@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_chunk(tmp_path: Path, codec: str, damage: str, marked: bool) -> None:
    if (codec, damage) in {("zstd", "longer"), ("zstd-checksum", "longer")}:
        pytest.skip("zstd ends a frame by itself: what follows is never read")
    path = damaged_log(tmp_path / "run.zarr", "2/1", DAMAGE[damage], marked, **CODECS[codec])
    refused(path, "'b'", "2/1", "10-14")
    refused(path, "'b'", "2/1", "10-14", options=gradlog.Settings(rank="none"))
    assert gradlog.analyze(path, gradlog.Settings(exclude=("b",))).run.tensors == 1
    assert gradlog.analyze(path, gradlog.Settings(rows=(15, None))).run.rows == ROWS - 15
    assert gradlog.analyze(path, gradlog.Settings(rows=(0, 10))).run.rows == 10


@pytest.mark.parametrize("codec", ["crc32c", "zstd-checksum"])
@pytest.mark.parametrize("position", [0, 7, -5, -1])
@pytest.mark.parametrize(("chunk", "rows"), [("1/0", "5-9"), ("4/0", "20-22")], ids=["inner", "edge"])
def test_flipped_byte_under_a_checksum(
    tmp_path: Path, codec: str, position: int, chunk: str, rows: str
) -> None:
    """Also where the array ends within the chunk."""
    path = damaged_log(
        tmp_path / "run.zarr", chunk, lambda place: flip(place, position), True, **CODECS[codec]
    )
    refused(path, "'b'", chunk, rows)


@pytest.mark.parametrize("codec", ["crc32c", "zstd-checksum"])
def test_flipped_byte_in_a_chunk_of_which_a_part_is_read(tmp_path: Path, codec: str) -> None:
    """A checksum covers the whole chunk, and so it is checked wherever the rows asked for begin and end."""
    path = damaged_log(tmp_path / "run.zarr", "2/1", lambda place: flip(place, 3), True, **CODECS[codec])
    for rows in ((12, None), (None, 11), (11, 13)):
        refused(path, "'b'", "2/1", "10-14", options=gradlog.Settings(rows=rows))


@pytest.mark.parametrize("codec", ["crc32c", "zstd-checksum"])
def test_flipped_byte_in_a_chunk_at_the_edge_of_the_parameters(tmp_path: Path, codec: str) -> None:
    tensors = {"w": walk(20, (7, 8), 1)}
    path = format1_store(tmp_path / "run.zarr", tensors, chunks=(5, 4, 3), **CODECS[codec])
    for place in chunk_files(path, "grads/w"):
        flip(place, 9)
        chunk = place.relative_to(path / "grads" / "w" / "c").as_posix()
        refused(path, "'w'", chunk)
        flip(place, 9)
    assert_analysis(gradlog.analyze(path), tensors)


def test_flipped_byte_in_a_chunk_taken_in_pieces(tmp_path: Path) -> None:
    """Where memory is short, a chunk is decoded piece by piece."""
    values = walk(60, (40_000,), 1)
    path = format1_store(tmp_path / "run.zarr", {"w": values}, chunks=(20, 40_000), **CODECS["crc32c"])
    analysis = gradlog.analyze(path, memory=2 << 20)
    assert "chunks-decoded-again" in [warning.code for warning in analysis.warnings]
    flip(path / "grads" / "w" / "c" / "1" / "0", 1234)
    refused(path, "'w'", "1/0", "20-39", memory=2 << 20)


@pytest.mark.parametrize("chunk", ["1/0", "2/0"], ids=["inner", "edge"])
@pytest.mark.parametrize("at", [2, 70, 130])
def test_flipped_byte_in_a_shard(tmp_path: Path, chunk: str, at: int) -> None:
    path = sharded_log(tmp_path / "run.zarr")
    flip(path / "grads" / "b" / "c" / chunk, at)
    refused(path, "'b'", options=gradlog.Settings(rows=(0, None) if at < 128 else (None, None)))


def test_flipped_byte_in_the_log_that_we_write(tmp_path: Path) -> None:
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=4) as writer:
        for step in range(10):
            writer.append(step, {"w": np.full((3, 2), step + 1, "f4")})
    for place in chunk_files(tmp_path / "run.zarr", "grads/w"):
        whole = place.read_bytes()
        for position in range(0, len(whole), 5):
            flip(place, position)
            refused(tmp_path / "run.zarr", "'w'")
            place.write_bytes(whole)
    assert gradlog.analyze(tmp_path / "run.zarr").run.rows == 10


def sharded_log(path: Path, *, checked: bool = True, start: bool = False) -> Path:
    codec = ShardingCodec(
        chunk_shape=(5, 3),
        codecs=[BytesCodec(), Crc32cCodec()] if checked else [BytesCodec()],
        index_codecs=[BytesCodec(), Crc32cCodec()] if checked else [BytesCodec()],
        index_location="start" if start else "end",  # type: ignore[arg-type]
    )
    tensors = {"a": walk(ROWS, (4,), 1), "b": walk(ROWS, (6,), 2)}
    return format1_store(path, tensors, chunks=(10, 6), serializer=codec, compressors=None)


@pytest.mark.parametrize("start", [False, True], ids=["index-at-end", "index-at-start"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda place: cut(place, place.stat().st_size // 2),
        lambda place: cut(place, 10),
        lambda place: cut(place, 0),
        lambda place: flip(place, place.stat().st_size // 2),
        lambda place: flip(place, 2),
        lambda place: flip(place, -2),
    ],
    ids=["half", "10-bytes", "emptied", "flip-middle", "flip-head", "flip-tail"],
)
def test_damaged_shard(tmp_path: Path, start: bool, damage: Callable[[Path], None]) -> None:
    path = sharded_log(tmp_path / "run.zarr", start=start)
    damage(path / "grads" / "b" / "c" / "1" / "0")
    refused(path, "'b'")
    assert gradlog.analyze(path, gradlog.Settings(rows=(0, 10))).run.rows == 10


@pytest.mark.parametrize("start", [False, True], ids=["index-at-end", "index-at-start"])
@pytest.mark.parametrize("keep", [0, 10, 100, 200])
def test_truncated_shard_without_checksums(tmp_path: Path, start: bool, keep: int) -> None:
    """Even without a checksum, a shard whose index points past its end is damaged."""
    path = sharded_log(tmp_path / "run.zarr", checked=False, start=start)
    cut(path / "grads" / "b" / "c" / "1" / "0", keep)
    refused(path, "'b'")


INDEX_ENTRIES = {
    "past-the-end": (0, 1 << 20),
    "terabyte": (0, 0xFF_0000_0040),
    "far-away": (1 << 62, 64),
    "wraps-around": (2**64 - 2, 5),
    "nothing": (0, 0),
    "short": (0, 7),
}


def test_broken_shard_indexes(tmp_path: Path) -> None:
    """An index without a checksum may say anything; no entry of it may end the process or print a trace."""
    good = format1_store(tmp_path / "good.zarr", network())
    paths = []
    for name, (offset, length) in INDEX_ENTRIES.items():
        for compressor in (Crc32cCodec(), ZstdCodec()):
            path = tmp_path / f"{name}-{type(compressor).__name__}.zarr"
            codec = ShardingCodec(
                chunk_shape=(4, 4), codecs=[BytesCodec(), compressor], index_codecs=[BytesCodec()]
            )
            foreign_store(path, {"w": walk(24, (8,), 1)}, chunks=(8, 8), serializer=codec, compressors=None)
            place = path / "w" / "c" / "2" / "0"
            data = bytearray(place.read_bytes())
            data[-64:-48] = struct.pack("<QQ", offset, length)
            place.write_bytes(bytes(data))
            paths.append(path)
    done = run_cli("analyze", *paths, good, "--format", "jsonl")
    assert done.returncode == 1, done.stderr[-500:]
    assert [json.loads(line)["run"]["path"] for line in done.stdout.splitlines()] == [str(good)]
    assert all(line.startswith("gradmf: error: ") for line in done.stderr.splitlines()), done.stderr[-500:]
    for path in paths:
        (told,) = [line for line in done.stderr.splitlines() if f"{path}:" in line]
        assert "'w'" in told


# Absent chunks.


def test_absent_chunk_of_format_1(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", network(), chunks="auto")
    tensors = {"a": walk(ROWS, (4,), 1), "b": walk(ROWS, (6,), 2)}
    path = format1_store(tmp_path / "run.zarr", tensors, chunks=(5, 3))
    (path / "grads" / "b" / "c" / "1" / "0").unlink()
    refused(path, "'b'", "5-9", "1 of")
    (path / "grads" / "b" / "c" / "4" / "1").unlink()
    refused(path, "'b'", "5-22", "2 of 20 chunks")
    (path / "grads" / "a" / "c" / "0" / "0").unlink()
    refused(path, "'a'", "0-4", "'b'", "3 of 20 chunks")
    refused(path, "'b'", "20-22", "1 of", options=gradlog.Settings(rows=(10, None)))
    for rows in ((10, 20), (12, 13)):
        analysis = gradlog.analyze(path, gradlog.Settings(rows=rows))
        assert_analysis(analysis, {name: values[slice(*rows)] for name, values in tensors.items()})
    refused(path, "'a'", "0-4", options=gradlog.Settings(exclude=("b",)))


def test_absent_step_chunk_of_format_1(tmp_path: Path) -> None:
    """Zarr would read step 0 for every row."""
    path = format1_store(tmp_path / "run.zarr", network(23), step=range(100, 123))
    (path / "step" / "c" / "0").unlink()
    refused(path, "step")


def test_absent_step_chunk_of_a_single_row(tmp_path: Path) -> None:
    """Zarr writers skip a chunk that holds nothing but step 0: it is read, with a warning."""
    tensors = network(1)
    path = format1_store(tmp_path / "run.zarr", tensors, step=[0])
    shutil.rmtree(path / "step" / "c", ignore_errors=True)
    analysis = gradlog.analyze(path)
    assert_analysis(analysis, tensors)
    assert analysis.steps.step.tolist() == [0]
    assert [warning.code for warning in analysis.warnings] == ["chunks-absent"]


def test_damaged_step_chunk(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", network())
    cut(path / "step" / "c" / "0", 13)
    refused(path, "step")


def test_absent_chunks_of_a_foreign_store(tmp_path: Path) -> None:
    tensors = {"a": walk(ROWS, (4,), 1), "b": walk(ROWS, (6,), 2)}
    path = foreign_store(tmp_path / "run.zarr", tensors, chunks=(5, 3))
    (path / "b" / "c" / "1" / "0").unlink()
    (path / "b" / "c" / "2" / "0").unlink()
    tensors["b"][5:15, :3] = 0
    analysis = gradlog.analyze(path)
    assert_analysis(analysis, tensors)
    (warning,) = analysis.warnings
    assert warning.code == "chunks-absent"
    for mention in ("2 of 20", "'b'", "5-14"):
        assert mention in warning.message
    refused(path, "'b'", "5-14", "2 of 20", options=gradlog.Settings(strict=True))
    selected = gradlog.analyze(path, gradlog.Settings(strict=True, rows=(15, None)))
    assert selected.warnings == ()
    assert gradlog.analyze(path, gradlog.Settings(strict=True, exclude=("b",))).warnings == ()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zero_chunks_that_zarr_skips(tmp_path: Path, zarr_format: int) -> None:
    values = walk(ROWS, (6,), 1)
    values[5:10] = 0
    path = foreign_store(
        tmp_path / "run.zarr", {"w": values}, zarr_format=zarr_format, chunks=(5, 3),
        config={"write_empty_chunks": False},
    )  # fmt: skip
    analysis = gradlog.analyze(path)
    assert_analysis(analysis, {"w": values})
    assert [w.code for w in analysis.warnings] == ["chunks-absent"]
    packed = gradlog.analyze(zip_members(path, tmp_path / "run.zip", top="run.zarr"))
    assert [w.code for w in packed.warnings] == ["chunks-absent"]
    assert "2 of 10" in packed.warnings[0].message


@pytest.mark.parametrize("fill", [0.5, np.nan, np.inf])
def test_absent_chunks_read_as_the_fill_value(tmp_path: Path, fill: float) -> None:
    values = walk(ROWS, (6,), 1)
    path = foreign_store(tmp_path / "run.zarr", {"w": values}, chunks=(5, 6), fill_value=fill)
    (path / "w" / "c" / "1" / "0").unlink()
    if np.isfinite(fill):
        values[5:10] = fill
        assert_analysis(gradlog.analyze(path), {"w": values})
    else:
        # Not only "30 entries are NaN": the chunk is named, and what would leave its rows out.
        refused(
            path,
            "'w' rows 5-9",
            "1 of 5 chunks is absent",
            "fill value of 'w' is not finite",
            "--nonfinite drop",
        )
        dropped = gradlog.analyze(path, gradlog.Settings(nonfinite="drop"))
        assert_analysis(dropped, {"w": np.delete(values, slice(5, 10), axis=0)})
        assert [warning.code for warning in dropped.warnings] == ["chunks-absent", "steps-dropped"]


@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
@pytest.mark.parametrize("start", [False, True], ids=["index-at-end", "index-at-start"])
def test_absent_inner_chunk_and_absent_shard(tmp_path: Path, marked: bool, start: bool) -> None:
    """Writing only some inner chunks leaves the others out of the shard's index."""
    path = tmp_path / "run.zarr"
    group = zarr.open_group(path, mode="w")
    codec = ShardingCodec(chunk_shape=(5, 3), index_location="start" if start else "end")  # type: ignore[arg-type]
    values = walk(ROWS, (6,), 2)
    values[5:10, 3:] = 0
    array = group.create_array(
        "grads/w", shape=values.shape, dtype="f4", chunks=(10, 6), serializer=codec, compressors=None
    )
    array[...] = values
    if marked:
        group.attrs["gradlog"] = {"version": 1}
        add_array(group, "step", np.arange(ROWS))
        refused(path, "'w'", "5-9", "1 of 10 chunks")
    else:
        analysis = gradlog.analyze(path)
        assert_analysis(analysis, {"w": values})
        assert [w.code for w in analysis.warnings] == ["chunks-absent"]
        assert "1 of 10" in analysis.warnings[0].message
    (path / "grads" / "w" / "c" / "2" / "0").unlink()
    if marked:
        refused(path, "'w'", "5-22", "3 of 10 chunks")
        assert gradlog.analyze(path, gradlog.Settings(rows=(10, 20))).run.rows == 10
    else:
        values[20:] = 0
        analysis = gradlog.analyze(path)
        assert_analysis(analysis, {"w": values})
        assert "3 of 10" in analysis.warnings[0].message


def test_the_partly_uncommitted_chunk_must_be_there(tmp_path: Path) -> None:
    stored = {"w": walk(ROWS, (6,), 2)}
    path = format1_store(tmp_path / "run.zarr", stored, step=range(12), chunks=(5, 6))
    (path / "grads" / "w" / "c" / "3" / "0").unlink()
    assert_analysis(gradlog.analyze(path), {"w": stored["w"][:12]})
    (path / "grads" / "w" / "c" / "2" / "0").unlink()
    refused(path, "'w'", "10-11", "1 of 3 chunks")


@pytest.mark.parametrize("options", [{}, {"shards": (10, 6)}, {"zarr_format": 2}], ids=str)
def test_inventory_counts(tmp_path: Path, options: dict[str, Any]) -> None:
    path = foreign_store(tmp_path / "run.zarr", {"w": walk(ROWS, (6,), 2)}, chunks=(5, 3), **options)
    (tensor,) = gradlog.describe(path).tensors
    assert (tensor.expected_chunks, tensor.absent_chunks) == (10, 0)
    assert tensor.raw_bytes == ROWS * 6 * 4
    on_disk = sum(place.stat().st_size for place in (path / "w").rglob("*") if place.is_file())
    assert 0 < tensor.stored_bytes <= on_disk


# Entries that are not finite.

NONFINITE = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def stored_as(values: Array, dtype: str) -> tuple[Array, dict[str, Any]]:
    """Values as a store holds them, and the options of their array."""
    if dtype == "bfloat16":
        bits = (values.astype("f4").view("u4") >> 16).astype("u2")
        return bits, {"attributes": {"gradlog": {"dtype": "bfloat16"}}}
    return values.astype(dtype), {}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("bad", NONFINITE.values(), ids=NONFINITE.keys())
@pytest.mark.parametrize("rank", ["exact", "none"])
def test_nonfinite(tmp_path: Path, dtype: str, bad: float, rank: str) -> None:
    tensors = {name: np.round(walk(ROWS, (6,), seed), 1).astype("f2") for seed, name in enumerate("ab")}
    path = tmp_path / "run.zarr"
    group = zarr.open_group(path, mode="w")
    group.attrs["gradlog"] = {"version": 1}
    meant = {}
    for name, values in tensors.items():
        spoilt = values.astype("f8")
        if name == "b":
            spoilt[7, 2] = spoilt[7, 5] = spoilt[12, 0] = bad
        bits, options = stored_as(spoilt, dtype)
        add_array(group, f"grads/{name}", bits, chunks=(5, 3), **options)
        if dtype == "bfloat16":
            bits = (bits.astype("u4") << 16).view("f4")
        meant[name] = np.delete(bits, [7, 12], axis=0)
    add_array(group, "step", np.arange(100, 100 + ROWS))
    text = refused(path, "'b'", "row 7", "step 107", options=gradlog.Settings(rank=rank))
    assert "3 entries" in text
    analysis = gradlog.analyze(path, gradlog.Settings(nonfinite="drop", rank=rank))
    assert_analysis(analysis, meant)
    assert analysis.run.rows == ROWS - 2
    assert analysis.steps.step.tolist() == [s for s in range(100, 100 + ROWS) if s not in (107, 112)]
    (warning,) = analysis.warnings
    assert warning.code == "steps-dropped"
    for mention in ("107", "112", "2 steps"):
        assert mention in warning.message
    assert gradlog.analyze(path, gradlog.Settings(exclude=("b",))).warnings == ()
    assert gradlog.analyze(path, gradlog.Settings(rows=(13, None))).warnings == ()


@pytest.mark.parametrize("width", [3, 5000, 40_000])
def test_nonfinite_anywhere_in_a_row(tmp_path: Path, width: int) -> None:
    """First, last and every tile's borders, grouped or wide; the first row too."""
    for column in {0, 1, width - 1, min(511, width - 1), min(512, width - 1), min(4096, width - 1)}:
        for row in (0, 1, 9):
            values = walk(10, (width,), 1)
            values[row, column] = np.nan
            path = foreign_store(tmp_path / f"{width}-{column}-{row}.zarr", {"w": values})
            refused(path, "'w'", f"row {row} ", "1 entr")


def test_the_first_bad_row_of_all_tensors_is_named(tmp_path: Path) -> None:
    tensors = network()
    tensors["scale"][3] = np.nan
    tensors["conv.weight"][9] = np.inf
    path = format1_store(tmp_path / "run.zarr", tensors)
    refused(path, "'scale'", "row 3", "49 entries")
    refused(path, "'conv.weight'", "row 9", options=gradlog.Settings(rows=(4, None)))


def test_rows_counts_from_the_log_and_not_from_the_selection(tmp_path: Path) -> None:
    tensors = {"w": walk(ROWS, (6,), 2)}
    tensors["w"][12] = np.nan
    path = format1_store(tmp_path / "run.zarr", tensors, step=range(0, 10 * ROWS, 10))
    refused(path, "row 12", "step 120", options=gradlog.Settings(rows=(7, None)))


def test_all_rows_bad(tmp_path: Path) -> None:
    tensors = network()
    tensors["fc.bias"][:, 1] = np.nan
    path = format1_store(tmp_path / "run.zarr", tensors)
    refused(path, "no row is left", options=gradlog.Settings(nonfinite="drop"))
    tensors["fc.bias"][8, 1] = 0.5
    path = format1_store(tmp_path / "one.zarr", tensors)
    analysis = gradlog.analyze(path, gradlog.Settings(nonfinite="drop"))
    assert_analysis(analysis, {name: values[8:9] for name, values in tensors.items()})


def test_nonfinite_warnings_of_drop_list_many_steps(tmp_path: Path) -> None:
    values = walk(200, (3,), 1)
    values[::2, 0] = np.nan
    path = format1_store(tmp_path / "run.zarr", {"w": values})
    analysis = gradlog.analyze(path, gradlog.Settings(nonfinite="drop"))
    assert_analysis(analysis, {"w": values[1::2]})
    assert "100 steps" in analysis.warnings[0].message
    assert analysis.steps.step.tolist() == list(range(1, 200, 2))


@settings(max_examples=sweep(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), rank=st.sampled_from(["exact", "none"]), threads=st.integers(1, 4))
def test_drop_is_as_if_never_logged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rank: str, threads: int
) -> None:
    rows = data.draw(st.integers(1, 40))
    bad = data.draw(st.sets(st.integers(0, rows - 1)))
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    block_rows = data.draw(st.sampled_from([1, 4, 1 << 14]))
    tensors = {f"t{index}": walk(rows, (size,), index) for index, size in enumerate(sizes)}
    for row in bad:
        name = data.draw(st.sampled_from(sorted(tensors)))
        tensors[name][row, data.draw(st.integers(0, tensors[name].shape[1] - 1))] = np.nan
    path = tmp_path_factory.mktemp("drop") / "run.zarr"
    group = zarr.open_group(path, mode="w")
    for name, values in tensors.items():
        height = data.draw(st.integers(1, rows))
        add_array(group, name, values, chunks=(height, values.shape[1]))
    options = gradlog.Settings(nonfinite="drop", rank=rank)
    with pytest.MonkeyPatch.context() as patch:
        read_in_blocks_of_rows(patch, block_rows)
        patch.setattr(ranges, "TILE_WIDTH", 16)
        if len(bad) == rows:
            refused(path, "no row is left", options=options, threads=threads)
            return
        analysis = gradlog.analyze(path, options, threads=threads)
    kept = [row for row in range(rows) if row not in bad]
    assert_analysis(analysis, {name: values[kept] for name, values in tensors.items()})
    assert analysis.steps.step.tolist() == kept


# Lengths.


def test_foreign_lengths_that_differ(tmp_path: Path) -> None:
    tensors = {"a": walk(20, (4,), 1), "b": walk(17, (6,), 2), "c": walk(19, (1,), 3)}
    path = foreign_store(tmp_path / "run.zarr", tensors)
    refused(path, "'b'", "17", "'a'", "20")
    analysis = gradlog.analyze(path, gradlog.Settings(truncate=True))
    assert_analysis(analysis, {name: values[:17] for name, values in tensors.items()})
    (warning,) = analysis.warnings
    assert warning.code == "truncated"
    assert "17" in warning.message


@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
def test_tensor_shorter_than_step(tmp_path: Path, marked: bool) -> None:
    tensors = {"a": walk(20, (4,), 1), "b": walk(17, (6,), 2)}
    path = tmp_path / "run.zarr"
    if marked:
        format1_store(path, tensors)
    else:
        foreign_store(path, tensors)
        add_array(zarr.open_group(path, mode="r+"), "step", np.arange(20))
    refused(path, "'b'", "17", "20")
    analysis = gradlog.analyze(path, gradlog.Settings(truncate=True))
    assert_analysis(analysis, {name: values[:17] for name, values in tensors.items()})
    assert [warning.code for warning in analysis.warnings] == ["truncated"]


def test_truncate_where_nothing_differs(tmp_path: Path) -> None:
    tensors = network()
    path = foreign_store(tmp_path / "run.zarr", tensors)
    analysis = gradlog.analyze(path, gradlog.Settings(truncate=True))
    assert_analysis(analysis, tensors)
    assert analysis.warnings == ()


def test_truncate_to_nothing(tmp_path: Path) -> None:
    path = foreign_store(
        tmp_path / "run.zarr", {"a": walk(20, (4,), 1), "b": np.zeros((0, 3), "f4")}, chunks="auto"
    )
    refused(path, "'b'")
    refused(path, "no committed rows", options=gradlog.Settings(truncate=True))


# Logs that are good and degenerate.


@pytest.mark.parametrize("parameters", [1, 5, 5000])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows(tmp_path: Path, rows: int, parameters: int) -> None:
    tensors = {"w": walk(rows, (parameters,), 1), "v": walk(rows, (1,), 2)}
    analysis = gradlog.analyze(foreign_store(tmp_path / "run.zarr", tensors))
    assert_analysis(analysis, tensors)
    if rows == 1:
        for scope in (analysis.total, *analysis.tensors):
            assert all(p.kappa == 1 for p in scope.predictors)
            assert scope.spectrum is not None
            assert scope.spectrum.energy == 0
            assert scope.spectrum.singular_values.size == 0
            assert all(r.rank == r.lower == r.upper == r.residual == 0 for r in scope.spectrum.rank)
            assert scope.spectrum.effective_rank is scope.spectrum.participation_ratio is None
    json.dumps(gradlog.analysis_document(analysis), allow_nan=False)


@pytest.mark.parametrize("rows", [1, 2, 20])
def test_all_zero_tensor(tmp_path: Path, rows: int) -> None:
    tensors = {"dead": np.zeros((rows, 7), "f4"), "w": walk(rows, (9,), 2)}
    analysis = gradlog.analyze(foreign_store(tmp_path / "run.zarr", tensors))
    assert_analysis(analysis, tensors)
    dead = analysis.tensors[0]
    assert dead.name == "dead"
    assert dead.energy == 0
    assert dead.best is None
    for predictor in dead.predictors:
        assert predictor.path_length == 0
        assert predictor.kappa is predictor.scaled_kappa is predictor.scale is None
    assert dead.spectrum is not None
    assert [rank.rank for rank in dead.spectrum.rank] == [0, 0, 0]
    assert dead.spectrum.stable_rank is dead.spectrum.effective_rank is None


@pytest.mark.parametrize("rank", ["exact", "none"])
def test_all_zero_model(tmp_path: Path, rank: str) -> None:
    tensors = {"a": np.zeros((9, 7), "f8"), "b": np.zeros((9, 5000), "f4")}
    analysis = gradlog.analyze(foreign_store(tmp_path / "run.zarr", tensors), gradlog.Settings(rank=rank))
    assert_analysis(analysis, tensors)
    assert analysis.total.best is None
    document = json.loads(json.dumps(gradlog.analysis_document(analysis), allow_nan=False))
    assert document["total"]["predictors"][0]["kappa"] is None
    assert document["steps"]["cosine"] == [None] * 9


def test_zero_rows_between_others(tmp_path: Path) -> None:
    values = walk(ROWS, (6,), 1)
    values[[0, 4, 5, 22]] = 0
    analysis = gradlog.analyze(format1_store(tmp_path / "run.zarr", {"w": values}))
    assert_analysis(analysis, {"w": values})
    assert np.isnan(analysis.steps.kappa["one-step"][[0, 4, 5, 22]]).all()
    assert np.isnan(analysis.steps.cosine[[0, 1, 4, 5, 6, 22]]).all()


WIDTHS = {"narrow": (12, 5), "wide": (12, 9000), "single-precision": (140, 40_000)}


@pytest.mark.parametrize("shape", WIDTHS.values(), ids=WIDTHS.keys())
def test_increments_past_float32(tmp_path: Path, shape: tuple[int, int]) -> None:
    """At 3e38 and back, increments overflow float32: the ranks are refused, path lengths are right."""
    values = (np.random.default_rng(3).uniform(-1, 1, shape) * 3e38).astype("f4")
    path = foreign_store(tmp_path / "run.zarr", {"w": values})
    refused(path, "'w'", "exceed", "--rank none")
    analysis = gradlog.analyze(path, gradlog.Settings(rank="none"))
    increments = np.diff(values.astype("f8"), axis=0, prepend=0)
    one_step = next(p for p in analysis.total.predictors if p.predictor == "one-step")
    assert one_step.path_length == pytest.approx((increments**2).sum(), rel=1e-6)


@pytest.mark.parametrize("shape", WIDTHS.values(), ids=WIDTHS.keys())
@pytest.mark.parametrize("size", [7e37, 1e-30, 1e-40, 1e-44])
def test_float32_at_its_ends(tmp_path: Path, shape: tuple[int, int], size: float) -> None:
    """Squares overflow or vanish in float32; all of it is finite in float64."""
    rng = np.random.default_rng(3)
    values = (rng.uniform(-1, 1, shape) * size).astype("f4")
    assert np.isfinite(values).all()
    analysis = gradlog.analyze(foreign_store(tmp_path / "run.zarr", {"w": values}))
    if np.prod(shape) < 1e6:
        assert_analysis(analysis, {"w": values})
        return
    doubles = values.astype("f8")
    assert analysis.total.energy == pytest.approx((doubles**2).sum(), rel=1e-9)
    increments = np.diff(doubles, axis=0)
    expected = np.linalg.eigvalsh(increments @ increments.T)[::-1] / (increments**2).sum()
    assert analysis.total.spectrum is not None
    shares = analysis.total.spectrum.singular_values**2 / analysis.total.spectrum.energy
    np.testing.assert_allclose(shares, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rank", ["exact", "none"])
@pytest.mark.parametrize("width", [3, 5000])
@pytest.mark.parametrize("size", [1e200, 1e154])
def test_float64_squares_that_overflow(tmp_path: Path, rank: str, width: int, size: float) -> None:
    values = walk(9, (width,), 1, "float64") * size
    path = foreign_store(tmp_path / "run.zarr", {"w": values, "v": walk(9, (3,), 2, "float64")})
    refused(path, "'w'", "overflow", options=gradlog.Settings(rank=rank))


@pytest.mark.parametrize("rank", ["exact", "none"])
@pytest.mark.parametrize("size", [1e150, 1e-140])
@pytest.mark.parametrize("width", [3, 5000])
def test_float64_that_just_fits(tmp_path: Path, rank: str, size: float, width: int) -> None:
    values = walk(9, (width,), 1, "float64") * size
    path = foreign_store(tmp_path / "run.zarr", {"w": values})
    assert_analysis(gradlog.analyze(path, gradlog.Settings(rank=rank)), {"w": values})


@pytest.mark.parametrize("size", [1e-156, 1e-160, 1e-200, 5e-324])
@pytest.mark.parametrize("rank", ["exact", "none"])
def test_float64_squares_that_vanish(tmp_path: Path, size: float, rank: str) -> None:
    """Squares below float64's normal numbers hold no digits: a clear error, or right figures, never zeros."""
    values = np.sign(walk(9, (50,), 1, "float64")) * size
    path = foreign_store(tmp_path / "run.zarr", {"w": values})
    try:
        analysis = gradlog.analyze(path, gradlog.Settings(rank=rank))
    except gradlog.DataError as error:
        plain(error, path, ("'w'",), 1)
    else:
        assert analysis.total.predictors[0].kappa == 1
        scaled = gradlog.analyze(foreign_store(tmp_path / "scaled.zarr", {"w": values / size}))
        for found, expected in zip(analysis.total.predictors, scaled.total.predictors, strict=True):
            assert found.kappa == pytest.approx(expected.kappa, rel=1e-6)


@pytest.mark.parametrize("rank", ["exact", "none"])
def test_rows_and_tensors_of_very_different_size(tmp_path: Path, rank: str) -> None:
    sizes = 10.0 ** np.linspace(-12, 12, 30)
    rng = np.random.default_rng(4)
    tensors = {
        "rows": rng.standard_normal((30, 50)) * sizes[:, None],
        "back": rng.standard_normal((30, 5000)) * sizes[::-1, None],
        "tiny": rng.standard_normal((30, 7)) * 1e-20,
        "huge": rng.standard_normal((30, 7)) * 1e15,
    }
    path = foreign_store(tmp_path / "run.zarr", tensors)
    assert_analysis(gradlog.analyze(path, gradlog.Settings(rank=rank)), tensors)
    single = {name: values.astype("f4") for name, values in tensors.items()}
    path = foreign_store(tmp_path / "single.zarr", single)
    assert_analysis(gradlog.analyze(path, gradlog.Settings(rank=rank)), single)


def test_a_step_that_dwarfs_the_next(tmp_path: Path) -> None:
    """Kappa of one step is a ratio that float64 may not hold: null in JSON, and nothing is printed."""
    values = np.array([[1e100], [1e-100], [1e100]])
    analysis = gradlog.analyze(foreign_store(tmp_path / "run.zarr", {"w": values}))
    document = gradlog.analysis_document(analysis)
    assert document["steps"]["kappa"]["one-step"][1] is None
    json.dumps(document, allow_nan=False)


# Requests that make no sense.


@pytest.mark.parametrize(
    ("options", "mention"),
    [
        ({"predictors": ("two-step",)}, "two-step"),
        ({"predictors": ("ema",)}, "ema"),
        ({"predictors": ("ema:1",)}, "ema:1"),
        ({"predictors": ("ema:-0.1",)}, "ema:-0.1"),
        ({"predictors": ("ema:nan",)}, "ema:nan"),
        ({"predictors": ("ema:x",)}, "ema:x"),
        ({"predictors": ("mean:0",)}, "mean:0"),
        ({"predictors": ("mean:1.5",)}, "mean:1.5"),
        ({"predictors": ("one-step:3",)}, "one-step:3"),
        ({"predictors": ("",)}, "''"),
        ({"epsilons": (1.0,)}, "1.0"),
        ({"epsilons": (-0.1,)}, "-0.1"),
        ({"epsilons": (float("nan"),)}, "nan"),
        ({"rank": "fast"}, "fast"),
        ({"nonfinite": "ignore"}, "ignore"),
        ({"tensors": ("nope*",)}, "nope*"),
        ({"exclude": ("*",)}, "excluded"),
        ({"rows": (5, 5)}, "5:5"),
        ({"rows": (100, None)}, "100:"),
        ({"rows": (3, 2)}, "3:2"),
    ],
    ids=str,
)
def test_usage_errors(tmp_path: Path, options: dict[str, Any], mention: str) -> None:
    path = format1_store(tmp_path / "run.zarr", network())
    with pytest.raises(gradlog.UsageError) as caught:
        gradlog.analyze(path, gradlog.Settings(**options))
    assert caught.value.exit_code == 2
    assert mention in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("rank", ["exact", "none"])
@pytest.mark.parametrize("size", [(300, 3000), (3000, 300), (3000, 20), (40, 100_000), (20_000, 1)], ids=str)
def test_the_memory_that_an_error_asks_for_is_enough(
    tmp_path: Path, rank: str, size: tuple[int, int]
) -> None:
    path = foreign_store(
        tmp_path / "run.zarr", {"w": walk(*_shaped(size), 1)}, chunks=(size[0] // 4, size[1])
    )
    options = gradlog.Settings(rank=rank, predictors=("one-step", "mean:50"))
    with pytest.raises(gradlog.MemoryLimitError) as caught:
        gradlog.analyze(path, options, memory=10_000)
    text = plain(caught.value, path, ("--memory",), exit_code=2)
    wanted = text.split("give --memory ")[1].split(",")[0].split()[0]
    units = {"K": 10, "M": 20, "G": 30}
    assert wanted[-1] in units
    assert gradlog.analyze(path, options, memory=int(wanted[:-1]) << units[wanted[-1]]).run.rows == size[0]


def _shaped(size: tuple[int, int]) -> tuple[int, tuple[int]]:
    return size[0], (size[1],)


# The command line tells the same, a line or two each, and goes on with the next run.


def run_cli(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gradmf", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1", **environment},
        timeout=120,
    )


def test_command_line(tmp_path: Path) -> None:
    cases = []
    for name, build in NO_LOGS.items():
        (tmp_path / name).mkdir()
        cases.append(build(tmp_path / name))
    damaged = damaged_log(
        tmp_path / "damaged.zarr", "2/1", lambda place: flip(place, 3), True, **CODECS["crc32c"]
    )
    cases.append((damaged, ("'b'", "2/1", "10-14")))
    absent = damaged_log(tmp_path / "absent.zarr", "2/1", lambda place: place.unlink(), True)
    cases.append((absent, ("'b'", "10-14")))
    tensors = network()
    tensors["scale"][3] = np.nan
    cases.append((format1_store(tmp_path / "nan.zarr", tensors), ("'scale'", "row 3")))
    good = format1_store(tmp_path / "good.zarr", network())
    half = len(cases) // 2
    paths = [path for path, _ in cases]
    done = run_cli("analyze", *paths[:half], good, *paths[half:], "--format", "jsonl")
    assert done.returncode == 1, done.stderr
    assert [json.loads(line)["run"]["path"] for line in done.stdout.splitlines()] == [str(good)]
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(cases) <= len(lines) <= 2 * len(cases)
    for path, mentions in cases:
        (told,) = [line for line in lines if f"{path}:" in line or f"{path}'" in line]
        assert told.startswith("gradmf: error: ")
        assert all(mention in told for mention in mentions), told


def test_command_line_keeps_libraries_quiet(tmp_path: Path) -> None:
    """What zarr and zarrs warn about while they fall back is none of the user's business."""
    import numcodecs

    path = tmp_path / "run.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    add_array(group, "lz4", walk(9, (6,), 1), compressors=numcodecs.LZ4())
    add_array(group, "zstd", walk(9, (6,), 1), compressors=numcodecs.Zstd(checksum=True))
    (path / ".DS_Store").write_bytes(b"\0")
    packed = zip_members(path, tmp_path / "run.zip", top="run.zarr")
    done = run_cli("analyze", path, packed, "--format", "csv", PYTHONWARNINGS="default")
    assert (done.returncode, done.stderr) == (0, "")


def test_command_line_usage(tmp_path: Path) -> None:
    good = format1_store(tmp_path / "good.zarr", network())
    for arguments in (("--predictor", "two-step"), ("--rows", "100:"), ("--tensor", "nope")):
        done = run_cli("analyze", good, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert 1 <= len(done.stderr.splitlines()) <= 2
        assert "Traceback" not in done.stderr
