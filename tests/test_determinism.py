"""The same store gives the same bits, whatever the number of threads and however they are scheduled."""

from __future__ import annotations

import json
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from stores import Array, add_array, foreign_store, walk
from sweeps import WHOLE, mostly_slow

from conftest import PREDICTORS, assert_analysis, read_in_blocks_of_rows
from gradmf import gradlog
from gradmf.gradlog.engine import one_pass, ranges

ONE_STEP = gradlog.DEFAULT_PREDICTORS.index("one-step") + 1  # `zero` stands first


def document(path: Path, options: gradlog.Settings, **resources: Any) -> str:
    """What an analysis says about the data, to the last bit: without how memory was short."""
    found = gradlog.analysis_document(gradlog.analyze(path, options, **resources))
    found["warnings"] = [w for w in found["warnings"] if w["code"] != "chunks-decoded-again"]
    return json.dumps(found, allow_nan=False)


def _mixed(path: Path) -> Path:
    """Grouped and wide tensors, of two dtypes, some in several ranges."""
    group = zarr.open_group(path, mode="w")
    for index, size in enumerate((3, 9000, 1, 700, 70_000, 2048, 5, 5, 33_000)):
        dtype = "float64" if index % 4 == 3 else "float32"
        add_array(group, f"t{index}", walk(150, (size,), index, dtype), chunks=(40 + index, min(size, 8000)))
    return path


def _single(path: Path) -> Path:
    """One wide tensor: products in float32."""
    return foreign_store(path, {"w": walk(200, (120, 700), 1)}, chunks=(50, 30, 700))


def _long(path: Path) -> Path:
    """More rows than parameters: the spectrum over columns, in several blocks of rows."""
    return foreign_store(path, {"a": walk(30_000, (13,), 1), "b": walk(30_000, (1,), 2)}, chunks="auto")


def _tall(path: Path) -> Path:
    """Blocks of rows, so that predictor states are carried on."""
    tensors = {f"t{size}": walk(900, (size,), size) for size in (5, 300, 5000, 9000)}
    group = zarr.open_group(path, mode="w")
    for name, values in tensors.items():
        add_array(group, name, values, chunks=(30, min(values.shape[1], 4500)))
    return path


LOGS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mixed": (_mixed, "exact"),
    "mixed-none": (_mixed, "none"),
    "single": (_single, "exact"),
    "long": (_long, "exact"),
    "tall": (_tall, "none"),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[Callable[[Path], Path], Path]:
    folder = tmp_path_factory.mktemp("logs")
    builders = {builder for builder, _ in LOGS.values()}
    return {builder: builder(folder / f"{builder.__name__}.zarr") for builder in builders}


@pytest.fixture(params=LOGS)
def case(request: pytest.FixtureRequest, stored: dict[Any, Path]) -> tuple[Path, gradlog.Settings]:
    builder, rank = LOGS[request.param]
    return stored[builder], gradlog.Settings(rank=rank)


@pytest.mark.parametrize("block", [1 << 20, ranges.BLOCK_BYTES])
def test_threads(case: tuple[Path, gradlog.Settings], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "BLOCK_BYTES", block)
    path, options = case
    expected = document(path, options, threads=1)
    for threads in (1, 2, 3, 8) if WHOLE else (3,):
        assert document(path, options, threads=threads) == expected, f"{threads} threads"


@pytest.mark.parametrize("memory", mostly_slow([24 << 20, 48 << 20, 100 << 20], [24 << 20]))
def test_memory(case: tuple[Path, gradlog.Settings], memory: int) -> None:
    """Where memory forces other pieces, sums are formed in another order, and differ in the last digits."""
    path, options = case
    expected = gradlog.analyze(path, options, threads=2)
    found = gradlog.analyze(path, options, threads=2, memory=memory)
    for one, other in zip((expected.total, *expected.tensors), (found.total, *found.tensors), strict=True):
        for left, right in zip(one.predictors, other.predictors, strict=True):
            assert left.path_length == pytest.approx(right.path_length, rel=1e-12)
        if one.spectrum is not None and other.spectrum is not None:
            assert [r.rank for r in one.spectrum.rank] == [r.rank for r in other.spectrum.rank]
            energies = one.spectrum.singular_values**2, other.spectrum.singular_values**2
            np.testing.assert_allclose(*energies, rtol=0, atol=1e-7 * one.spectrum.energy)


@pytest.mark.parametrize("threads", mostly_slow([3, 8], [8]))
@pytest.mark.parametrize("when", ["last-blocks-late", "first-blocks-late", "any"])
def test_scheduling(
    case: tuple[Path, gradlog.Settings], threads: int, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that are held up now and then change nothing."""
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 1 << 20)
    read_in_blocks_of_rows(monkeypatch, 4000)
    path, options = case
    expected = document(path, options, threads=1)
    held_up(monkeypatch, when)
    assert document(path, options, threads=threads) == expected


def held_up(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Some tiles begin late, always the same ones."""
    take = one_pass._Pass._take

    def late(self: Any, tile: Any, *others: Any, **how: Any) -> Any:
        block = tile.block
        identity = zlib.crc32(repr((block.range_index, tile.number, block.start)).encode())
        late = {
            "last-blocks-late": block.last,
            "first-blocks-late": not block.start,
            "any": identity % 3 == 0,
        }
        if late[when]:
            time.sleep(1e-3 * (1 + identity % 10))
        return take(self, tile, *others, **how)

    monkeypatch.setattr(one_pass._Pass, "_take", late)


@pytest.mark.parametrize("rank", ["exact", "none"])
def test_dropped_blocks_and_scheduling(tmp_path: Path, rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole blocks of rows are dropped, the first ones among them, and the empty tile comes late."""
    read_in_blocks_of_rows(monkeypatch, 10)
    values = walk(200, (6,), 1)
    for bad in (*range(20), *range(50, 70), 195):
        values[bad, bad % 6] = np.nan
    path = foreign_store(tmp_path / "run.zarr", {"w": values}, chunks=(10, 6))
    kept = values[np.isfinite(values).all(axis=1)]
    held_up(monkeypatch, "first-blocks-late")
    for threads in (1, 2, 4):
        analysis = gradlog.analyze(path, gradlog.Settings(rank=rank, nonfinite="drop"), threads=threads)
        assert_analysis(analysis, {"w": kept})


def test_processes_agree(stored: dict[Any, Path]) -> None:
    """A fresh process says the same: nothing depends on hashes, addresses or what ran before."""
    import subprocess

    script = (
        "import json, sys; from gradmf import gradlog;"
        "d = gradlog.analysis_document(gradlog.analyze(sys.argv[1], threads=3));"
        "print(json.dumps(d, allow_nan=False))"
    )
    expected = document(stored[_mixed], gradlog.Settings(), threads=2)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script, stored[_mixed]], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def vectorised(values: Array) -> tuple[float, np.ndarray[Any, Any]]:
    """One-step path length and shares of a log with more rows than parameters, in float64."""
    doubles = values.astype("f8")
    increments = np.diff(doubles, axis=0)
    energy = (increments**2).sum()
    shares = np.linalg.eigvalsh(increments.T @ increments)[::-1] / energy
    return float((doubles[0] ** 2).sum() + energy), shares


@pytest.mark.parametrize("rows", mostly_slow([16_384, 16_385, 30_000], [16_385]))
@pytest.mark.parametrize("width", [1, 20])
def test_long_logs_over_columns(tmp_path: Path, rows: int, width: int) -> None:
    values = walk(rows, (width,), 3)
    path = foreign_store(tmp_path / "run.zarr", {"a": values[:, : width // 2], "b": values[:, width // 2 :]},
                         chunks="auto")  # fmt: skip
    analysis = gradlog.analyze(path)
    path_length, shares = vectorised(values)
    assert analysis.total.predictors[ONE_STEP].predictor == "one-step"
    assert analysis.total.predictors[ONE_STEP].path_length == pytest.approx(path_length, rel=1e-9)
    assert analysis.total.spectrum is not None
    found = analysis.total.spectrum.singular_values**2 / analysis.total.spectrum.energy
    np.testing.assert_allclose(found, shares, rtol=0, atol=1e-6)
    # The first rows by themselves, in full against the reference.
    head = gradlog.analyze(path, gradlog.Settings(rows=(0, 300)))
    assert_analysis(head, {"a": values[:300, : width // 2], "b": values[:300, width // 2 :]})
    tail = gradlog.analyze(path, gradlog.Settings(rows=(rows - 300, rows)))
    assert_analysis(tail, {"a": values[-300:, : width // 2], "b": values[-300:, width // 2 :]})


@pytest.mark.parametrize("block_rows", [1, 7, 64])
@pytest.mark.parametrize("rank", ["exact", "none"])
def test_blocks_of_rows(tmp_path: Path, block_rows: int, rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """States go from block to block, for every predictor, on both sides of the chunk grid."""
    read_in_blocks_of_rows(monkeypatch, block_rows)
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 1 << 12)
    tensors = {"a": walk(150, (9,), 1), "b": walk(150, (40,), 2), "c": walk(150, (1,), 3)}
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    for height, (name, values) in zip((1, 6, 50), tensors.items(), strict=True):
        add_array(group, name, values, chunks=(height, *values.shape[1:]))
    predictors = (*PREDICTORS, "mean:20", "ema-debiased:0.95", "ema-debiased:0.5")
    for rows in ((0, 150), (3, 150), (7, 92)):
        options = gradlog.Settings(rank=rank, predictors=predictors, rows=rows)
        analysis = gradlog.analyze(tmp_path / "run.zarr", options, threads=3)
        assert_analysis(analysis, {name: values[slice(*rows)] for name, values in tensors.items()})


@pytest.mark.parametrize("rank", ["exact", "none", "incremental"])
@pytest.mark.parametrize("when", ["first", "second", "last"])
def test_a_fault_in_a_thread_ends_the_pass(
    tmp_path: Path, rank: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised in a worker, such as a want of memory, comes out of `analyze`: nothing waits."""
    read_in_blocks_of_rows(monkeypatch, 10)
    path = foreign_store(tmp_path / "run.zarr", {"w": walk(200, (20,), 1)}, chunks=(10, 20))
    take = one_pass._Pass._take

    def failing(self: Any, tile: Any, *others: Any, **how: Any) -> Any:
        block = tile.block
        if {"first": block.start == 0, "second": block.start == 10, "last": block.last}[when]:
            raise MemoryError("no more")
        return take(self, tile, *others, **how)

    monkeypatch.setattr(one_pass._Pass, "_take", failing)
    caught: list[BaseException] = []

    def run() -> None:
        try:
            gradlog.analyze(path, gradlog.Settings(rank=rank), threads=2)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive(), "it waits for a block that nobody gives back"
    assert [type(error) for error in caught] == [MemoryError]
