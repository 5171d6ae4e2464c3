"""Copies into another layout: every bit as stored, read back by plain zarr-python; nothing half-made."""

from __future__ import annotations

import errno
import json
import math
import re
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import add_array, chunk_files, flip, foreign_store, format1_store, network, walk, zip_members
from sweeps import sweep
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.logs.growing_array import GrowingArray

Array = NDArray[Any]
ROWS = 23
MB = 1 << 20


def stored(path: Path, name: str) -> Array:
    """An array of a copy, by plain zarr-python."""
    array = zarr.open_group(path, mode="r")[name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...])


def assert_same_bits(found: Array, expected: Array) -> None:
    """Also of NaN, in whatever byte order."""
    expected = np.ascontiguousarray(expected).astype(expected.dtype.newbyteorder("="))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert np.ascontiguousarray(found).tobytes() == expected.tobytes()


def assert_same_figures(one: Path, other: Path, **options: Any) -> None:
    """Every number of an analysis, to 1e-12; the rest is equal, but for dtypes and free metadata."""

    def same(first: Any, second: Any, where: str) -> None:
        if isinstance(first, dict):
            assert first.keys() == second.keys(), where
            for key in first.keys() - {"path", "cost", "warnings", "attributes", "dtypes", "dtype"}:
                same(first[key], second[key], f"{where}/{key}")
        elif isinstance(first, list):
            assert len(first) == len(second), where
            for number, pair in enumerate(zip(first, second, strict=True)):
                same(*pair, f"{where}/{number}")
        elif isinstance(first, float):
            assert second == pytest.approx(first, rel=1e-12, abs=1e-300), where
        else:
            assert first == second, where

    documents = [
        json.loads(json.dumps(gradlog.analysis_document(gradlog.analyze(path, gradlog.Settings(**options)))))
        for path in (one, other)
    ]
    same(*documents, "")


def codes(summary: gradlog.RechunkSummary) -> list[str]:
    return [warning.code for warning in summary.warnings]


LAYOUTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "raw": lambda _: {"compressors": None},
    "checked": lambda _: {"compressors": Crc32cCodec()},
    "zstd": lambda _: {"compressors": ZstdCodec(level=1)},
    "blosc": lambda _: {"compressors": BloscCodec(cname="lz4")},
    "sharded": lambda draw: {
        "shards": draw(st.integers(1, 3)), "compressors": draw(st.sampled_from([None, ZstdCodec()])),
    },
    "transposed": lambda draw: {"filters": draw(st.randoms())},
    "v2": lambda draw: {"compressors": None, "zarr_format": 2, "order": draw(st.sampled_from("CF"))},
}  # fmt: skip


@settings(max_examples=sweep(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_bit_of_every_layout(tmp_path: Path, data: st.DataObject) -> None:
    """Shapes, chunks, dtypes, codecs, step axes and memory of all kinds."""
    draw = data.draw
    source, out = tmp_path / "run.zarr", tmp_path / "out.zarr"
    shape = (draw(st.integers(1, 40)), *draw(st.lists(st.integers(1, 9), max_size=3)))
    chunks = tuple(draw(st.integers(1, extent + 2)) for extent in shape)
    kind = draw(st.sampled_from(sorted(LAYOUTS)))
    options = {"chunks": chunks, **LAYOUTS[kind](draw)}
    zarr_format = options.pop("zarr_format", 3)
    if "filters" in options:
        options["filters"] = [
            TransposeCodec(order=tuple(options["filters"].sample(range(len(shape)), len(shape))))
        ]
    if "shards" in options:
        options["shards"] = tuple(options["shards"] * size for size in chunks)
    axis = draw(st.integers(0, len(shape) - 1)) if zarr_format == 3 and len(shape) > 1 else 0
    names = [f"axis{number}" for number in range(len(shape))]
    if zarr_format == 3:
        names[axis] = "step"
        options["dimension_names"] = names
    dtype = draw(st.sampled_from(["f2", "f4", "f8"] + ([">f4"] if zarr_format == 2 else [])))
    bits = np.random.default_rng(draw(st.integers(0, 99))).bytes(math.prod(shape) * np.dtype(dtype).itemsize)
    values = np.frombuffer(bits, dtype).reshape(shape)  # NaN of all kinds among them
    foreign_store(source, {"grads/a/w.x": values}, zarr_format=zarr_format, **options)
    first = draw(st.integers(0, shape[axis] - 1))
    try:
        gradlog.rechunk_log(
            source,
            out,
            gradlog.Settings(rows=(first, None)),
            memory=draw(st.sampled_from([100, 2000, 30_000, MB])),
            threads=draw(st.integers(1, 3)),
            chunk_rows=draw(st.none() | st.integers(1, 50)),
            chunk_bytes=draw(st.sampled_from([1, 64, 500, 4 * MB])),
            compress=draw(st.booleans()),
        )
        assert_same_bits(stored(out, "grads/a/w.x"), np.moveaxis(values, axis, 0)[first:])
        if zarr_format == 3:
            array = zarr.open_array(out, path="grads/a/w.x", mode="r")
            rest = [name for name in names if name != "step"]
            assert array.metadata.dimension_names == ("step", *rest)  # type: ignore[union-attr]
        assert stored(out, "step").tolist() == list(range(first, shape[axis]))
        (described,) = gradlog.describe(out).tensors
        assert described.absent_chunks == 0
    except gradlog.MemoryLimitError:
        assert not out.exists()
    finally:
        shutil.rmtree(source)
        shutil.rmtree(out, ignore_errors=True)


def test_a_small_log_is_a_chunk_a_tensor(tmp_path: Path) -> None:
    tensors = network()
    run = format1_store(tmp_path / "run.zarr", tensors)
    done: list[tuple[int, int]] = []
    summary = gradlog.rechunk_log(run, tmp_path / "out.zarr", progress=lambda *told: done.append(told))
    size = sum(values.nbytes for values in tensors.values())
    assert [now for now, _ in done] == sorted(now for now, _ in done)
    assert done[-1] == (size, size)
    assert summary.bytes_written == size + 4 * len(tensors)
    assert (summary.plan.bytes_written, summary.plan.bytes_read) == (summary.bytes_written, size)
    assert (summary.plan.chunks, summary.plan.decodes) == (len(tensors), 1.0)
    assert summary.warnings == ()
    for name, values in tensors.items():
        assert_same_bits(stored(tmp_path / "out.zarr", f"grads/{name}"), values)
        assert len(list((tmp_path / "out.zarr" / "grads" / name).glob("c*"))) == 1
    assert_same_figures(run, tmp_path / "out.zarr")


def test_what_a_plan_says_is_what_is_written(tmp_path: Path) -> None:
    run = foreign_store(
        tmp_path / "run.zarr", {"w": walk(1500, (40, 7), 1), "b": walk(1500, (3,), 2)}, chunks="auto"
    )
    plan = gradlog.plan_rechunk(run, chunk_bytes=10_000, memory=MB)
    assert not (tmp_path / "out.zarr").exists()
    summary = gradlog.rechunk_log(run, tmp_path / "out.zarr", chunk_bytes=10_000, memory=MB)
    assert summary.plan == plan
    described = gradlog.describe(tmp_path / "out.zarr").tensors
    assert [t.chunks for t in plan.tensors] == [t.chunks for t in described]
    assert [t.count for t in plan.tensors] == [t.expected_chunks for t in described]
    files = (tmp_path / "out.zarr" / "grads").glob("*/c.*")
    assert sum(place.stat().st_size for place in files) == plan.bytes_written


@pytest.mark.parametrize(
    "shape", [(512, 524_288), (512, 50_257, 768), (20_000, 16_384), (3_001, 1_000_003), (16, 4096, 1024)]
)
def test_chunks_are_tall_and_hardly_padded(shape: tuple[int, ...]) -> None:
    """No array is made: a plan needs shapes alone."""
    log = gradlog.GradientLog(
        path="run", tensors=(Unwritten("w", shape, (1, *shape[1:])), Unwritten("b", (shape[0], 5), (1, 5))),
        rows=shape[0], step=np.arange(shape[0]),
    )  # fmt: skip
    bias, wide = sorted(gradlog.plan_rechunk(log).tensors, key=lambda tensor: tensor.name)
    assert 1 * MB <= 4 * math.prod(wide.chunks) <= 5 * MB
    assert bias.chunks[0] % wide.chunks[0] == 0
    assert wide.chunks[0] >= min(shape[0], 64)
    for extent, size in zip(shape, wide.chunks, strict=True):
        assert -(-extent // size) * size <= 1.02 * extent
    # All rows of a chunk's columns fit beside each other into the memory that analyses have.
    assert 4 * shape[0] * math.prod(wide.chunks[1:]) <= 512 * MB


@dataclass(frozen=True, eq=False)
class Unwritten(gradlog.Tensor):
    """A tensor of which only the layout is known."""

    extents: tuple[int, ...]
    grid: tuple[int, ...]

    @property
    def rows(self) -> int:
        return self.extents[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.extents[1:]

    @property
    def dtype(self) -> str:
        return "float32"

    @property
    def chunks(self) -> tuple[int, ...]:
        return self.grid

    @property
    def compressed(self) -> bool:
        return True

    def read(self, *_: Any) -> None:
        raise AssertionError


class Counting(Unwritten):
    """One whose chunks are counted as they are read; its entries tell their places."""

    def __init__(self, name: str, extents: tuple[int, ...], grid: tuple[int, ...]) -> None:
        super().__init__(name, extents, grid)
        object.__setattr__(self, "reads", Counter())

    @property
    def chunk_seconds(self) -> float:
        return 0.02

    def values(self) -> Array:
        return np.arange(math.prod(self.extents), dtype=np.float32).reshape(self.extents)

    def read(self, rows: tuple[int, int], box: tuple[slice, ...], out: NDArray[Any], *_: Any) -> None:
        where = (slice(*rows), *box)
        spans = [range(p.start // c, -(-p.stop // c)) for p, c in zip(where, self.grid, strict=True)]
        for chunk in np.ndindex(*map(len, spans)):
            self.reads[tuple(s[i] for s, i in zip(spans, chunk, strict=True))] += 1  # type: ignore[attr-defined]
        out[...] = self.values()[where].reshape(out.shape)


def counting_log(tensor: Counting) -> gradlog.GradientLog:
    return gradlog.GradientLog(path="run", tensors=(tensor,), rows=tensor.rows, step=np.arange(tensor.rows))


@pytest.mark.parametrize(
    ("grid", "memory"),
    [
        ((1, 4000), MB // 2),  # rows that are wide
        ((90, 50), MB // 2),  # columns that are tall
        ((30, 500), MB // 2),
        ((1, 4000), 100_000),  # few rows of a chunk at once: files grow
        ((7, 1000), 200_000),
        ((90, 999), MB),
    ],
)
def test_every_chunk_is_decoded_once(tmp_path: Path, grid: tuple[int, int], memory: int) -> None:
    """Whatever their shape, where a few of them fit into memory: the copy's files grow by rows if need be."""
    tensor = Counting("w", (90, 4000), grid)
    summary = gradlog.rechunk_log(
        counting_log(tensor), tmp_path / "out.zarr", memory=memory, threads=1, chunk_bytes=9000
    )
    assert_same_bits(stored(tmp_path / "out.zarr", "grads/w"), tensor.values())
    assert summary.plan.decodes == pytest.approx(1, abs=0.1)
    assert sum(tensor.reads.values()) / len(tensor.reads) == pytest.approx(summary.plan.decodes, rel=1e-9)  # type: ignore[attr-defined]


def test_chunks_that_are_decoded_again_are_counted_and_told(tmp_path: Path) -> None:
    tensor = Counting("w", (90, 4000), (90, 4000))
    log = counting_log(tensor)
    summary = gradlog.rechunk_log(log, tmp_path / "out.zarr", memory=200_000, threads=1, chunk_bytes=9000)
    assert summary.plan.decodes > 5
    assert set(tensor.reads.values()) == {round(summary.plan.decodes)}  # type: ignore[attr-defined]
    assert codes(summary) == ["chunks-decoded-again"]
    assert f"'w' are decoded {summary.plan.decodes:.3g} times" in summary.warnings[0].message
    assert_same_bits(stored(tmp_path / "out.zarr", "grads/w"), tensor.values())


# What is kept.


def annotated(path: Path) -> Path:
    """A log of format 1 with steps that stand twice, series of several types, and attributes everywhere."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs.update(
        {"gradlog": {"version": 1, "kind": "updates", "every": 5}, "model": "MLP", "n": [1, 2]}
    )
    marks = {"absent_rows": [[2, 4], [9, 20]], "box": "x"}
    add_array(
        group, "grads/block/0.w", walk(ROWS, (6, 5), 1, "float16"), chunks=(1, 6, 5),
        dimension_names=["step", "out", "in"], attributes={"unit": "1/m", "gradlog": marks},
    )  # fmt: skip
    add_array(group, "grads/block/1", walk(ROWS, (), 3, "float64"))
    add_array(group, "step", np.asarray([0, 5, 5, *range(10, 5 * ROWS - 5, 5)], np.int64))
    add_array(
        group, "loss", np.linspace(1, np.nan, ROWS), attributes={"unit": "nat"}, dimension_names=["step"]
    )
    add_array(group, "tokens", np.arange(ROWS + 3, dtype=np.uint64) << 40)
    add_array(group, "skipped", np.arange(ROWS) % 3 == 0)
    add_array(group, "elsewhere", np.zeros((4, 4)))
    return path


def test_attributes_steps_and_series_are_kept(tmp_path: Path) -> None:
    run, out = annotated(tmp_path / "run.zarr"), tmp_path / "out.zarr"
    summary = gradlog.rechunk_log(run, out, gradlog.Settings(rows=(3, 15)))
    assert codes(summary) == ["steps-not-increasing", "arrays-not-copied"]
    assert "elsewhere" in summary.warnings[1].message
    before, after = (zarr.open_group(path, mode="r") for path in (run, out))
    assert dict(after.attrs) == dict(before.attrs)
    array = after["grads/block/0.w"]
    assert isinstance(array, zarr.Array)
    assert dict(array.attrs) == {"unit": "1/m", "gradlog": {"absent_rows": [[0, 1], [6, 11]], "box": "x"}}
    assert array.metadata.dimension_names == ("step", "out", "in")  # type: ignore[union-attr]
    for name in ("grads/block/0.w", "grads/block/1", "step", "loss", "tokens", "skipped"):
        assert_same_bits(stored(out, name), stored(run, name)[3:15])
    loss = after["loss"]
    assert isinstance(loss, zarr.Array)
    assert dict(loss.attrs) == {"unit": "nat"}
    assert "elsewhere" not in after


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_words_as_a_series(tmp_path: Path, zarr_format: Any) -> None:
    run = foreign_store(tmp_path / "run.zarr", {"grads/w": walk(3, (4,), 1)}, zarr_format=zarr_format)
    group = zarr.open_group(run, mode="r+")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words = group.create_array("phase", shape=(3,), dtype=str, chunks=(3,))
        words[:] = np.asarray(["warm", "up", "ünd"], dtype=object)
    summary = gradlog.rechunk_log(run, tmp_path / "out.zarr")
    if codes(summary) == ["series-not-copied"]:  # a version of Zarr that has no such type
        assert "phase" in summary.warnings[0].message
    else:
        assert codes(summary) == []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert stored(tmp_path / "out.zarr", "phase").tolist() == ["warm", "up", "ünd"]


def test_a_series_that_cannot_be_stored_is_told(tmp_path: Path) -> None:
    values = walk(ROWS, (4,), 1)
    odd = np.asarray([{"a": 1}] * ROWS, dtype=object)
    log = gradlog.GradientLog(
        path="memory", tensors=(InMemory("w", values.shape, (4, 4), values, "float32"),), rows=ROWS,
        step=np.arange(ROWS), series={"odd": odd, "loss": np.ones(ROWS)},
    )  # fmt: skip
    summary = gradlog.rechunk_log(log, tmp_path / "out.zarr")
    assert codes(summary) == ["series-not-copied"]
    assert "series `odd` of object" in summary.warnings[0].message
    assert gradlog.describe(tmp_path / "out.zarr").series == ("loss",)
    assert not (tmp_path / "out.zarr" / "odd").exists()


def test_bfloat16_is_copied_as_its_bits(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 1 << 16, (ROWS, 9)).astype(np.uint16)
    finite = np.where((bits & 0x7F80) == 0x7F80, 0, bits).astype(np.uint16)
    run = foreign_store(tmp_path / "marked.zarr", {})
    mark = {"gradlog": {"dtype": "bfloat16"}}
    add_array(zarr.open_group(run), "grads/w", finite, chunks=(4, 2), attributes=mark)
    native = shutil.copytree(run, tmp_path / "native.zarr")
    document = json.loads((native / "grads" / "w" / "zarr.json").read_text())
    document |= {"data_type": "bfloat16", "fill_value": 0.0, "attributes": {}}
    (native / "grads" / "w" / "zarr.json").write_text(json.dumps(document))
    for path in (run, native):
        out = path.with_suffix(".out")
        gradlog.rechunk_log(path, out)
        assert_same_bits(stored(out, "grads/w"), finite)
        assert dict(zarr.open_array(out, path="grads/w", mode="r").attrs) == mark
        assert_same_figures(path, out, predictors=("one-step",), rank="none")


def test_complex_entries_become_two_real_ones(tmp_path: Path) -> None:
    values = walk(ROWS, (6, 5), 1) + 1j * walk(ROWS, (6, 5), 2)
    run = foreign_store(tmp_path / "run.zarr", {"w": values.astype("c8")}, chunks=(5, 4, 3))
    gradlog.rechunk_log(run, tmp_path / "out.zarr", chunk_bytes=80, memory=4000)
    expected = np.stack([values.real, values.imag], axis=-1).astype("f4")
    assert_same_bits(stored(tmp_path / "out.zarr", "grads/w"), expected)
    before, after = (gradlog.analyze(path) for path in (run, tmp_path / "out.zarr"))
    assert before.total.spectrum is not None
    assert after.total.spectrum is not None
    assert after.total.spectrum.rank == before.total.spectrum.rank
    assert after.total.energy == pytest.approx(before.total.energy, rel=1e-12)


def test_packed_entries_become_the_numbers_they_stand_for(tmp_path: Path) -> None:
    packed = np.random.default_rng(1).integers(-999, 999, (ROWS, 7)).astype(np.int16)
    words = {"scale_factor": 0.25, "add_offset": 3.0, "unit": "1"}
    group = zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=2)
    add_array(
        group, "grads/w", packed, chunks=(4, 3), attributes=words | {"_ARRAY_DIMENSIONS": ["step", "x"]}
    )
    gaps = walk(ROWS, (4,), 3)
    gaps[5, 1] = -9.0
    add_array(group, "grads/v", gaps, attributes={"_FillValue": -9.0, "_ARRAY_DIMENSIONS": ["step", "y"]})
    out = tmp_path / "out.zarr"
    gradlog.rechunk_log(tmp_path / "run.zarr", out)
    # Of v2 the fill value, 0, stands for no value where entries are packed.
    expected = np.where(packed == 0, np.nan, packed * 0.25 + 3.0)
    np.testing.assert_array_equal(stored(out, "grads/w"), expected)
    np.testing.assert_array_equal(stored(out, "grads/v"), np.where(gaps == -9, np.nan, gaps).astype("f4"))
    assert (stored(out, "grads/w").dtype, stored(out, "grads/v").dtype) == (np.float64, np.float32)
    array = zarr.open_array(out, path="grads/w", mode="r")
    assert dict(array.attrs) == {"unit": "1"}
    assert array.metadata.dimension_names == ("step", "x")  # type: ignore[union-attr]
    assert_same_figures(tmp_path / "run.zarr", out, nonfinite="drop")


def test_a_single_array_and_a_zip(tmp_path: Path) -> None:
    values = walk(ROWS, (9,), 1)
    array = zarr.create_array(tmp_path / "bare.zarr", shape=values.shape, dtype="f4", chunks=(4, 2))
    array[...] = values
    array.attrs.update({"model": "MLP", "_ARRAY_DIMENSIONS": ["step", "p"]})
    packed = zip_members(tmp_path / "bare.zarr", tmp_path / "run.zip", top="run.zarr")
    for number, source in enumerate((tmp_path / "bare.zarr", packed, array)):
        out = tmp_path / f"out{number}.zarr"
        gradlog.rechunk_log(source, out)
        assert_same_bits(stored(out, "grads/grads"), values)
        assert dict(zarr.open_group(out, mode="r").attrs) == {"model": "MLP", "gradlog": {"version": 1}}


def test_stores_of_ranks_become_one_log(tmp_path: Path) -> None:
    """And the store of one rank stays that of one rank."""
    values = walk(ROWS, (15, 4), 1)
    for rank, (first, last) in enumerate(((0, 8), (8, 15))):
        group = zarr.open_group(tmp_path / "run.zarr" / f"rank-{rank:03}", mode="w")
        group.attrs["gradlog"] = {"version": 1, "run": "7f3a", "rank": rank, "ranks": 2}
        marks = {"global_shape": [15, 4], "offset": [first, 0], "placements": ["Shard(0)"]}
        marks["absent_rows"] = [[3, 4]]
        add_array(group, "grads/w", values[:, first:last], chunks=(1, 3, 4), attributes={"gradlog": marks})
        add_array(group, "step", np.arange(ROWS))
    out = tmp_path / "out.zarr"
    gradlog.rechunk_log(tmp_path / "run.zarr", out)
    assert_same_bits(stored(out, "grads/w"), values)
    assert dict(zarr.open_array(out, path="grads/w", mode="r").attrs) == {
        "gradlog": {"absent_rows": [[3, 4]]}
    }
    assert zarr.open_group(out, mode="r").attrs["gradlog"] == {"version": 1, "run": "7f3a"}
    assert_same_figures(tmp_path / "run.zarr", out)
    gradlog.rechunk_log(tmp_path / "run.zarr" / "rank-001", tmp_path / "rank-001")
    lone = zarr.open_group(tmp_path / "rank-001", mode="r")
    assert (lone.attrs["gradlog"], lone["grads/w"].attrs["gradlog"]) == (group.attrs["gradlog"], marks)


def test_a_sketch_stays_one(tmp_path: Path) -> None:
    run = format1_store(tmp_path / "run.zarr", {"w": walk(ROWS, (300,), 1), "b": walk(ROWS, (5,), 2)})
    gradlog.sketch_log(run, tmp_path / "sketch.zarr", gradlog.Settings(sketch_dim=64))
    gradlog.rechunk_log(tmp_path / "sketch.zarr", tmp_path / "out.zarr", chunk_rows=7, chunk_bytes=900)
    assert_same_figures(tmp_path / "sketch.zarr", tmp_path / "out.zarr")
    assert gradlog.analyze(tmp_path / "out.zarr").run.parameters == 305


@dataclass(frozen=True, eq=False)
class InMemory(Unwritten):
    """Gradients in memory that are called by another dtype's name."""

    held: Array
    called: str

    @property
    def dtype(self) -> str:
        return self.called

    def read(self, rows: tuple[int, int], box: tuple[slice, ...], out: NDArray[Any], *_: Any) -> None:
        out[...] = self.held[slice(*rows), *box].reshape(out.shape)


def test_logs_that_lie_elsewhere(tmp_path: Path) -> None:
    narrow = walk(ROWS, (6, 5), 1, "float16")
    cut = (walk(ROWS, (7,), 2).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    tensors = (
        InMemory("a", narrow.shape, (4, 3, 5), narrow.astype("f4"), "float16"),
        InMemory("b", cut.shape, (4, 7), cut, "bfloat16"),
    )
    step = np.arange(0, 3 * ROWS, 3)
    log = gradlog.GradientLog(
        path="memory", tensors=tensors, rows=ROWS, step=step, series={"loss": np.arange(ROWS) / 7}
    )
    gradlog.rechunk_log(log, tmp_path / "out.zarr")
    assert_same_bits(stored(tmp_path / "out.zarr", "grads/a"), narrow)
    assert_same_bits(stored(tmp_path / "out.zarr", "grads/b"), (cut.view(np.uint32) >> 16).astype(np.uint16))
    assert_same_bits(stored(tmp_path / "out.zarr", "step"), step)
    assert_same_bits(stored(tmp_path / "out.zarr", "loss"), np.arange(ROWS) / 7)


def test_zeros_shrink_where_that_is_asked_for(tmp_path: Path) -> None:
    values = np.zeros((ROWS, 5000), np.float32)
    values[:, :50] = walk(ROWS, (50,), 1)
    run = foreign_store(tmp_path / "run.zarr", {"w": values}, chunks=(1, 700))
    summary = gradlog.rechunk_log(run, tmp_path / "out.zarr", compress=True, chunk_bytes=20_000, memory=MB)
    assert summary.bytes_written < values.nbytes / 10
    (described,) = gradlog.describe(tmp_path / "out.zarr").tensors
    assert described.codecs == ("bytes", "zstd", "crc32c")
    assert_same_bits(stored(tmp_path / "out.zarr", "grads/w"), values)


# What is at fault.


def test_absent_chunks_are_written_and_told(tmp_path: Path) -> None:
    values = walk(ROWS, (9,), 1)
    values[4:8, :3] = 7.5
    run = foreign_store(
        tmp_path / "run.zarr",
        {"w": values},
        chunks=(4, 3),
        fill_value=7.5,
        config={"write_empty_chunks": False},
    )
    assert len(chunk_files(run, "w")) == 17
    summary = gradlog.rechunk_log(run, tmp_path / "out.zarr")
    (warning,) = summary.warnings
    assert warning.code == "chunks-absent"
    assert (
        "1 of 18 chunks is absent: tensor 'w' rows 4-7; written as the store's fill value" in warning.message
    )
    assert_same_bits(stored(tmp_path / "out.zarr", "grads/w"), values)
    refused(
        run, tmp_path / "b.zarr", gradlog.DataError, "'w' rows 4-7", settings=gradlog.Settings(strict=True)
    )


def refused(run: Any, out: Path, kind: type[Exception], *words: str, **options: Any) -> None:
    """In one line, and nothing is left."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(kind) as caught:
        gradlog.rechunk_log(run, out, **options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert sorted(out.parent.iterdir()) == before


def test_damage_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    run = format1_store(tmp_path / "run.zarr", network(), chunks="auto", compressors=Crc32cCodec())
    place = chunk_files(run, "grads/fc.weight")[0]
    flip(place, 9)
    refused(run, tmp_path / "out.zarr", gradlog.DataError, str(run), "fc.weight", "cannot be decoded")
    place.unlink()
    refused(run, tmp_path / "out.zarr", gradlog.DataError, str(run), "fc.weight", "absent")
    left = gradlog.Settings(exclude=("fc.*",))
    gradlog.rechunk_log(run, tmp_path / "out.zarr", left)
    assert [t.name for t in gradlog.describe(tmp_path / "out.zarr").tensors] == ["conv.weight", "scale"]


def test_wrong_usage(tmp_path: Path) -> None:
    run = format1_store(tmp_path / "run.zarr", network())
    refused(run, run, gradlog.UsageError, "already there")
    with pytest.raises(gradlog.UsageError, match="there is no folder"):
        gradlog.rechunk_log(run, tmp_path / "no" / "out.zarr")
    refused(run, run / "out.zarr", gradlog.UsageError, "lies in the log")
    refused(run, run / "grads" / "out.zarr", gradlog.UsageError, "lies in the log")
    refused(run, tmp_path / "out.zarr", gradlog.UsageError, "at least 1", chunk_rows=0)
    refused(
        run,
        tmp_path / "out.zarr",
        gradlog.UsageError,
        "select none",
        settings=gradlog.Settings(rows=(99, None)),
    )


def test_too_little_memory(tmp_path: Path) -> None:
    run = format1_store(tmp_path / "run.zarr", {"w": walk(30, (50,), 1)})
    refused(
        run, tmp_path / "out.zarr", gradlog.MemoryLimitError, str(run), "'w'", "give more memory",
        memory=1, chunk_bytes=10_000,
    )  # fmt: skip


def test_no_room_is_found_out_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = format1_store(tmp_path / "run.zarr", network())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5000))
    monkeypatch.setattr(GrowingArray, "append", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(OSError, match="bytes are needed, 5,000 are free") as caught:
        gradlog.rechunk_log(run, tmp_path / "out.zarr")
    assert caught.value.errno == errno.ENOSPC
    assert [place.name for place in tmp_path.iterdir()] == ["run.zarr"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_ends_early_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    run = foreign_store(tmp_path / "run.zarr", {"w": walk(ROWS, (400,), 1)}, chunks=(1, 400))
    append, count = GrowingArray.append, 0

    def fails(*words: Any) -> int:
        nonlocal count
        count += 1
        if count == 9:
            raise error
        return append(*words)

    monkeypatch.setattr(GrowingArray, "append", fails)
    with pytest.raises(type(error)):
        gradlog.rechunk_log(run, tmp_path / "out.zarr", memory=10_000, chunk_bytes=400)
    assert count >= 9
    assert [place.name for place in tmp_path.iterdir()] == ["run.zarr"]


# The command.


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = annotated(tmp_path / "run.zarr"), tmp_path / "out.zarr"
    words = ["rechunk", str(run), str(out), "--rows", ":20", "--memory", "64M"]
    assert main([*words, "--dry-run"]) == 0
    told = capsys.readouterr()
    assert not out.exists()
    assert "20 rows, 2 tensors, 21 chunks now, 2 then" in told.out
    assert re.search(r"block/0\.w +6x5 +float16 +1x6x5 +20 +20x6x5 +1\n", told.out)
    assert told.err.count("gradmf: warning: ") == 2
    assert main(words) == 0
    told = capsys.readouterr()
    assert f"{out}: 20 rows, 2 tensors, 1.36 kB of updates in 21 chunks to 1.37 kB in 2, " in told.out
    assert told.out.count("\n") == 1
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.err == f"gradmf: error: {out}: already there; choose another path or remove it\n"
    shutil.rmtree(out)
    assert main([*words, "-q", "--chunk-rows", "5", "--compress"]) == 0
    assert capsys.readouterr().out == ""
    assert [t.chunks[0] for t in gradlog.describe(out).tensors] == [5, 5]
    assert main(["rechunk", str(tmp_path / "none.zarr"), str(tmp_path / "x.zarr")]) == 1


# Memory, measured on whole processes as in test_memory.

SCRIPT = """
import sys
from gradmf import gradlog
run, out, memory = sys.argv[1], sys.argv[2], int(sys.argv[3])
print(gradlog.rechunk_log(run, out, memory=memory, threads=2).plan.decodes)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(run: Path, out: Path, memory: int) -> tuple[float, int]:
    """How often chunks were decoded, and the peak bytes of a process that copies the log."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, run, out, str(memory)], capture_output=True, text=True, check=True
    )
    decodes, kilobytes = done.stdout.split()
    return float(decodes), int(kilobytes) << 10


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
@pytest.mark.parametrize("kind", ["raw", "zstd"])
@pytest.mark.parametrize("chunks", [(1, 200_000), (64, 65_536), (64, 4096), (512, 3000)], ids=str)
def test_memory_follows_what_is_granted(tmp_path: Path, kind: str, chunks: tuple[int, int]) -> None:
    """Of a log of 400 MB, whose chunks are all decoded once."""
    base = peak(format1_store(tmp_path / "small.zarr", network()), tmp_path / "a.zarr", 64 * MB)[1]
    codecs = ZstdCodec(level=0) if kind == "zstd" else None
    run = tmp_path / "run.zarr"
    array = zarr.create_array(run, shape=(512, 200_000), chunks=chunks, dtype="f4", compressors=codecs)
    height = max(64, chunks[0])
    noise = np.random.default_rng(1).standard_normal((height, 200_000), dtype="f4")
    for first in range(0, 512, height):
        array[first : first + height] = noise * (1 + first)
    decoding = 4 * math.prod(chunks) * 4 if codecs else 0
    for memory in (64 * MB, 256 * MB):
        out = tmp_path / f"{memory}.zarr"
        decodes, found = peak(run, out, memory)
        assert found - base <= 1.25 * memory + decoding, f"{(found - base) / MB:.0f} MB of {memory / MB:.0f}"
        assert decodes <= 1.1
        copied = zarr.open_array(out, path="grads/grads", mode="r")
        for first in range(0, 200_000, 50_000):
            part = np.s_[:, first : first + 50_000]
            np.testing.assert_array_equal(copied[part], array[part])
        shutil.rmtree(out)
