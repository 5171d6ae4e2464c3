"""What the writer puts on the disk when: whole chunks, each once, and rows that count only then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import Array, chunk_files, format1_store, walk
from sweeps import sweep

from conftest import assert_analysis
from gradmf import gradlog
from gradmf.gradlog.logs import object_file, stored_array

ROWS = 37
MIXED = {
    "large": walk(ROWS, (300, 40), 1),
    "bias": walk(ROWS, (40,), 2),
    "scale": walk(ROWS, (), 3, "float64"),
}


def row(tensors: dict[str, Array], index: int) -> dict[str, Array]:
    return {name: values[index] for name, values in tensors.items()}


def heights(path: Path) -> dict[str, int]:
    return {tensor.name: tensor.chunks[0] for tensor in gradlog.open_log(path).tensors}


def test_rows_of_large_tensors_are_chunks_and_those_of_small_ones_are_gathered(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with gradlog.create_log(path, chunk_bytes=40_000) as log:
        for index in range(ROWS):
            log.append(index, row(MIXED, index), loss=index / 3)
            assert len(chunk_files(path, "grads/large")) == 2 * (index + 1)  # 48,000 bytes a row
            assert len(chunk_files(path, "grads/bias")) == (index + 1) // 16
            assert log.committed == 16 * ((index + 1) // 16)
    assert heights(path) == {"large": 1, "bias": 16, "scale": 16}
    group = zarr.open_group(path, mode="r")
    for name, values in MIXED.items():
        np.testing.assert_array_equal(group[f"grads/{name}"][...], values)  # type: ignore[index]
    assert_analysis(gradlog.analyze(path), MIXED)


def test_memory_of_what_is_gathered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest tensors first, as far as there is room."""
    monkeypatch.setattr(
        "gradmf.gradlog.logs.writer.GATHERED_BYTES", 16 * 4 * (10 + 20 + 30) + 8 * 4 * 40 + 600
    )
    gradients = {f"w{size}": np.ones(size, np.float32) for size in (40, 30, 10, 20, 50)}
    with gradlog.create_log(tmp_path / "run.zarr") as log:
        log.append(0, gradients)
    assert heights(tmp_path / "run.zarr") == {"w10": 16, "w20": 16, "w30": 16, "w40": 8, "w50": 1}


@pytest.mark.parametrize("flush_every", [1, 5, 16])
def test_no_chunk_of_a_gradient_is_written_again(tmp_path: Path, flush_every: int) -> None:
    path = tmp_path / "run.zarr"
    written: dict[Path, os.stat_result] = {}
    with gradlog.create_log(path, chunk_bytes=40_000, flush_every=flush_every) as log:
        for index in range(ROWS):
            log.append(index, row(MIXED, index))
            for name in MIXED:
                for place in chunk_files(path, f"grads/{name}"):
                    now = place.stat()
                    before = written.setdefault(place, now)
                    assert (before.st_ino, before.st_mtime_ns) == (now.st_ino, now.st_mtime_ns)
            assert log.committed >= index + 1 - (index + 1) % flush_every
    assert gradlog.open_log(path).rows == ROWS


def test_flush_commits_an_unfinished_chunk_and_replaces_it_later(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with gradlog.create_log(path) as log:
        for index in range(ROWS):
            log.append(index, row(MIXED, index))
            if index in (4, 11, 20):
                log.flush()
                assert log.committed == index + 1
                part = {name: values[: index + 1] for name, values in MIXED.items()}
                assert_analysis(gradlog.analyze(path), part)
    assert_analysis(gradlog.analyze(path), MIXED)


@settings(max_examples=sweep(60), deadline=None)
@given(
    shape=st.lists(st.integers(1, 400), min_size=1, max_size=4).map(tuple),
    entries=st.integers(0, 5000),
)
def test_chunks_divide_a_tensor(shape: tuple[int, ...], entries: int) -> None:
    chunk = stored_array.even_chunks(shape, entries)
    assert np.prod(chunk) <= max(1, entries) or all(size == 1 for size in chunk)
    stored = np.prod([size * -(-extent // size) for extent, size in zip(shape, chunk, strict=True)])
    assert stored <= 1.02 * np.prod(shape)


@pytest.mark.parametrize(("shape", "chunk"), [((50257, 768), (1359, 768)), ((3, 700, 768), (1, 700, 768))])
def test_chunks_of_real_tensors(shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    assert stored_array.even_chunks(shape, 1 << 20) == chunk


def test_padding_on_disk(tmp_path: Path) -> None:
    values = {"w": walk(3, (1037, 61), 1), "v": walk(3, (3, 611), 2)}
    with gradlog.create_log(tmp_path / "run.zarr", flush_every=1, chunk_bytes=5000) as log:
        for index in range(3):
            log.append(index, row(values, index))
    for name, array in values.items():
        size = sum(place.stat().st_size for place in chunk_files(tmp_path / "run.zarr", f"grads/{name}"))
        assert size <= 1.025 * array.nbytes


def test_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file before its name, and all names before `step` counts the rows."""
    events: list[str] = []
    names: dict[int, str] = {}
    real_open, real_fsync, real_replace = os.open, os.fsync, os.replace

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        file = real_open(path, *arguments, **options)
        names[file] = str(path)
        return file

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", lambda file: (events.append(f"sync {names[file]}"), real_fsync(file))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(f"name {b}"), real_replace(a, b))[1])
    path = tmp_path / "run.zarr"
    with gradlog.create_log(path, fsync=True, chunk_rows=2) as log:
        for index in range(4):
            log.append(index, {"a/w": np.ones(3)})
    for at, event in enumerate(events):
        if event.startswith("name "):
            assert events[at - 1] == f"sync {event[5:]}.partial"
    first, last = (events.index(f"name {path}/{key}") for key in ("grads/a/w/c.0.0", "grads/a/w/c.1.0"))
    folder = [at for at, event in enumerate(events) if event == f"sync {path}/grads/a/w"]
    steps = [at for at, event in enumerate(events) if event == f"name {path}/step/zarr.json"]
    assert any(first < at < steps[1] for at in folder)
    assert any(last < at < steps[2] for at in folder)
    events.clear()
    with gradlog.create_log(tmp_path / "other.zarr") as log:
        log.append(0, {"w": np.ones(3)})
    assert not [event for event in events if event.startswith("sync")]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    told = r"run\.zarr: somebody else is writing this log"
    with gradlog.create_log(path) as log:
        log.append(0, {"w": [1.0]})
        log.flush()
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(gradlog.UsageError, match=told):
                gradlog.create_log(path, **options)  # type: ignore[arg-type]
        script = f"from gradmf import gradlog; gradlog.create_log({str(path)!r}, resume=True)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "somebody else is writing this log" in done.stderr
        log.append(1, {"w": [2.0]})
    with gradlog.create_log(path, resume=True) as log:
        log.append(2, {"w": [3.0]})
    assert gradlog.open_log(path).rows == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_a_worker_process_does_not_keep_the_log(tmp_path: Path) -> None:
    """Data loaders fork while a log is open, and may outlive a trainer that was killed."""
    log = gradlog.create_log(tmp_path / "run.zarr")
    log.append(0, {"w": [1.0]})
    log.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        log.close()
        gradlog.create_log(tmp_path / "run.zarr", resume=True).close()
    finally:
        os.close(writing)
        os.waitpid(child, 0)
        os.close(reading)


def test_what_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    box = {"global_shape": [4, 2], "offset": [2, 0]}
    with gradlog.create_log(path, declared={"run": "x", "rank": 1}, boxes={"w": box}) as log:
        log.append(0, {"w": np.ones((2, 2)), "b": [1.0]})
    group = zarr.open_group(path, mode="r")
    assert group.attrs["gradlog"] == {"version": 1, "run": "x", "rank": 1}
    assert group["grads/w"].attrs["gradlog"] == box
    assert "gradlog" not in group["grads/b"].attrs
    gradlog.create_log(path, resume=True, declared={"run": "x", "rank": 1}).close()
    with pytest.raises(gradlog.UsageError, match=r"its `gradlog` says rank 1, and what goes on with it 2"):
        gradlog.create_log(path, resume=True, declared={"run": "x", "rank": 2})


def test_a_log_of_uneven_chunks_is_resumed(tmp_path: Path) -> None:
    values = {"w": walk(9, (2,), 1), "b": walk(9, (3,), 2)}
    path = format1_store(tmp_path / "run.zarr", {n: v[:8] for n, v in values.items()}, chunks=(3, 2))
    with gradlog.create_log(path, resume=True) as log:
        log.append(8, row(values, 8))
    assert_analysis(gradlog.analyze(path), values)


def plain(value: Any) -> Any:
    """What older versions of zarr-python hold as an enumeration, or as a number of NumPy."""
    return value.item() if isinstance(value, np.generic) else getattr(value, "value", str(value))


def test_metadata_is_what_zarr_writes(tmp_path: Path) -> None:
    """Nothing in it differs from an array that zarr-python made, whatever its attributes hold."""
    path = tmp_path / "run.zarr"
    with gradlog.create_log(path, boxes={"ROWS": {"global_shape": ["ROWS"]}}) as log:
        for index in range(3):
            log.append(index, {"ROWS": np.ones((2, 3), np.float32)})
    found = json.loads((path / "grads/ROWS/zarr.json").read_text())
    assert found["attributes"] == {"gradlog": {"global_shape": ["ROWS"]}}
    array = zarr.create_array(
        zarr.storage.MemoryStore(), shape=(3, 2, 3), chunks=(16, 2, 3), dtype="float32", fill_value=0,
        compressors=zarr.codecs.Crc32cCodec(), dimension_names=("step", "dim_0", "dim_1"),
        chunk_key_encoding={"name": "default", "separator": "."},
    )  # fmt: skip
    made = array.metadata.to_dict()
    for key in ("shape", "data_type", "fill_value", "dimension_names", "zarr_format", "node_type"):
        assert json.loads(json.dumps(made[key], default=plain)) == found[key]
    assert zarr.open_array(path, path="grads/ROWS", mode="r").metadata.to_dict()["codecs"] == made["codecs"]


def test_a_full_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that cannot be written leaves no half behind, and the error names it."""

    def half(file: int, _: Any) -> None:
        os.write(file, b"half")
        raise OSError(28, os.strerror(28))

    with gradlog.create_log(tmp_path / "run.zarr", flush_every=1) as log:
        log.append(0, {"w": [1.0]})
        with monkeypatch.context() as patch:
            patch.setattr(object_file, "_write", half)
            with pytest.raises(OSError, match=r"No space left on device.*run\.zarr/grads/w/c\.1\.0"):
                log.append(1, {"w": [2.0]})
        assert not list(tmp_path.rglob("*.partial"))
        log.append(1, {"w": [2.0]})
    assert gradlog.open_log(tmp_path / "run.zarr").rows == 2


def test_lost_metadata_is_told(tmp_path: Path) -> None:
    with gradlog.create_log(tmp_path / "run.zarr") as log:
        log.append(0, {"w": [1.0], "b": [2.0]})
    (tmp_path / "run.zarr/grads/w/zarr.json").unlink()
    with pytest.raises(gradlog.DataError, match=r"run\.zarr: tensor 'w' has no metadata"):
        gradlog.analyze(tmp_path / "run.zarr")
