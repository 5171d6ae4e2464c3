"""Plans of logs that nobody has recorded, and for workers that nobody has started."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec, ZstdCodec

from conftest import write_store
from documents import ROOT
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.cluster import part_tasks
from gradmf.gradlog.cluster.cluster import parts_of_size
from gradmf.gradlog.engine import ranges
from gradmf.gradlog.engine.parameter_range import ParameterRange
from gradmf.gradlog.engine.range_table import Ranges
from gradmf.gradlog.engine.splitting import split
from gradmf.gradlog.logs.store import zarrs_is_installed
from gradmf.gradlog.runs.preparation import prepare

LARGE = ROOT / "docs" / "shapes-70b.json"
SHAPES = {"a": (300, 40), "b": (7,), "c/weight": (20, 30, 50)}


def declared(folder: Path, **fields: Any) -> Path:
    """A file that declares a log, with these fields in place of others."""
    path = folder / "shapes.json"
    document = {"rows": 60, "dtype": "float32", "tensors": SHAPES, **fields}
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))
    return path


def figures(description: gradlog.PlanDescription) -> dict[str, Any]:
    """All but where the log lies, and what is to be minded."""
    return {**dataclasses.asdict(description), "path": "", "warnings": ()}


CODECS: dict[str, Any] = {"none": (), "crc32c": (Crc32cCodec(),), "zstd": (ZstdCodec(),)}


@pytest.mark.parametrize("workers", [None, 4])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_a_declared_log_is_planned_as_the_store_would_be(
    tmp_path: Path, dtype: str, codec: str, workers: int | None
) -> None:
    if codec == "zstd" and not zarrs_is_installed():
        pytest.skip("zarrs is not installed")
    chunks = {"a": (8, 100, 40), "b": (60, 7), "c/weight": (4, 20, 7, 50)}
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    group.attrs["gradlog"] = {"version": 1}
    for name, shape in SHAPES.items():
        array = group.create_array(
            f"grads/{name}", shape=(60, *shape), chunks=chunks[name], compressors=CODECS[codec],
            dtype="uint16" if dtype == "bfloat16" else dtype,
        )  # fmt: skip
        if dtype == "bfloat16":
            array.attrs["gradlog"] = {"dtype": "bfloat16"}
    group.create_array("step", shape=(60,), dtype="int64")[...] = np.arange(60)
    codecs = [] if codec == "none" else [codec]
    log = gradlog.declared_log(declared(tmp_path, dtype=dtype, chunks=chunks, codecs=codecs))
    stored = gradlog.open_log(tmp_path / "run.zarr")
    full = dataclasses.replace(stored, format_version=None)
    for memory, rank in itertools.product((16 << 20, 1 << 30), ("auto", "none")):
        asked = gradlog.Settings(rank=rank)
        found = gradlog.describe_plan(log, asked, memory=memory, workers=workers)
        expected = gradlog.describe_plan(full, asked, memory=memory, workers=workers)
        assert figures(found) == figures(expected)


def test_names_stand_for_a_tensor_each(tmp_path: Path) -> None:
    tensors = {"h.{0:3}.w{1:3}": [4, 5], "end": []}
    log = gradlog.declared_log(declared(tmp_path, tensors=tensors, chunks={"h.{0:3}.w{1:3}": [9, 2, 5]}))
    assert [tensor.name for tensor in log.tensors] == [
        "end", "h.0.w1", "h.0.w2", "h.1.w1", "h.1.w2", "h.2.w1", "h.2.w2",
    ]  # fmt: skip
    assert {tensor.chunks for tensor in log.tensors} == {(1,), (9, 2, 5)}
    assert log.parameters == 6 * 20 + 1


def test_chunks_are_cut_as_they_are_written(tmp_path: Path) -> None:
    path = declared(tmp_path, tensors={"w": [3000, 200]}, chunk_bytes=400_000)
    with gradlog.create_log(tmp_path / "run.zarr", chunk_bytes=400_000) as log:
        log.append(0, {"w": np.zeros((3000, 200), dtype=np.float32)})
    (written,) = gradlog.open_log(tmp_path / "run.zarr").tensors
    (found,) = gradlog.declared_log(path).tensors
    assert found.chunks == written.chunks
    (tall,) = gradlog.declared_log(declared(tmp_path, tensors={"w": [3000, 200]}, chunk_rows=50)).tensors
    assert tall.chunks[0] == 50
    assert math.prod(tall.chunks) * 4 <= 4 << 20


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"rows": None}, "'rows' is missing"),
        ({"rows": 0}, "rows is 0, not a whole number from 1"),
        ({"rows": "many"}, "rows is 'many', not a whole number from 1"),
        ({"dtype": "int8"}, "dtype is 'int8': known are bfloat16, float16, float32, float64"),
        ({"codec": ["zstd"]}, "field 'codec' is unknown: known are rows, dtype, chunk_bytes,"),
        ({"codecs": ["rar"]}, "codecs is 'rar': known are crc32c, zstd"),
        ({"codecs": "zstd"}, "codecs is 'zstd', not a list"),
        ({"remote": 1}, "remote is 1, not true or false"),
        ({"chunk_bytes": 0}, "chunk_bytes is 0, not a whole number from 1"),
        ({"chunk_rows": 61}, "chunk_rows is 61, not a whole number from 1 to 60"),
        ({"chunks": {"x": [1, 1]}}, "chunks.x is of no tensor"),
        ({"chunks": {"a": [1, 1]}}, "chunks.a has 2 extents, not 3: rows, and the tensor's axes"),
        ({"chunks": {"a": [1, 0, 1]}}, "chunks.a[1] is 0, not a whole number from 1"),
        ({"tensors": {}}, "tensors is an empty object: give each tensor's shape by its name"),
        ({"tensors": [[3, 4]]}, "tensors is a list of 1, not an object"),
        ({"tensors": {"w": [3, -4]}}, "tensors.w[1] is -4, not a whole number"),
        ({"tensors": {"w": 3}}, "tensors.w is 3, not a list"),
        ({"tensors": {"w": [0]}}, "tensors holds 0 parameters, not from 1 to"),
        ({"tensors": {"w": [1 << 50]}}, "tensors holds 1,125,899,906,842,624 parameters, not from 1 to"),
        ({"tensors": {"w{0:2}": [1], "w1": [2]}}, "tensors holds 'w1' twice"),
        ({"tensors": {"w{0:9999999}": [1]}}, "tensors holds more than 1,000,000"),
    ],
)
def test_what_a_file_should_not_hold(
    tmp_path: Path, fields: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = declared(tmp_path, **fields)
    assert main(["analyze", "--plan", "--like", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gradmf: error: {path}: {told}")


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("{", "[]", "3", '{"rows": 3}', "\x80"):
        path = tmp_path / "shapes.json"
        path.write_bytes(text.encode("latin-1"))
        assert main(["analyze", "--plan", "--like", str(path)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"gradmf: error: {path}: ")
    for place in (tmp_path / "none.json", tmp_path):
        assert main(["analyze", "--plan", "--like", str(place)]) == 1
        assert capsys.readouterr().err.startswith(f"gradmf: error: {place}: ")


def test_a_declared_log_cannot_be_read(tmp_path: Path) -> None:
    log = gradlog.declared_log(declared(tmp_path))
    with pytest.raises(gradlog.DataError, match=r"shapes.json: tensor 'a' is declared, and not recorded"):
        gradlog.analyze(log)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--plan"], "Missing argument 'RUN...'"),
        (["--like", "x.json"], "--like goes with --plan"),
        (["run.zarr", "--plan", "--like", "x.json"], "--like goes with --plan, in place of RUN"),
        (["run.zarr", "--workers", "3"], "--workers goes with --plan"),
        (["run.zarr", "--plan", "--workers", "3", "--scratch", "."], "--workers goes with --plan"),
        (["run.zarr", "--plan", "--workers", "0"], "--workers"),
        (["run.zarr", "--plan", "--workers", "3", "--project", "64"], "--project"),
    ],
)
def test_words_that_do_not_go_together(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", *words]) == 2
    assert told in capsys.readouterr().err


def test_metadata_alone_is_read_for_workers(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "run.zarr", shape=(40, 5000), chunks=(8, 500), dtype="float32")
    assert [w.code for w in gradlog.describe_plan(tmp_path / "run.zarr").warnings] == ["chunks-absent"]
    described = gradlog.describe_plan(tmp_path / "run.zarr", workers=3)
    assert described.warnings == ()
    assert described.cluster is not None
    assert described.cluster.chunks == 50


def cluster_of(path: Path, workers: int, **asked: Any) -> gradlog.ClusterEstimate:
    found = gradlog.describe_plan(
        gradlog.declared_log(path), gradlog.Settings(**asked), workers=workers, memory=8 << 30
    ).cluster
    assert found is not None
    return found


def test_more_workers_share_what_can_be_shared(tmp_path: Path) -> None:
    few, many = (cluster_of(LARGE, workers) for workers in (64, 4096))
    assert few.parts == many.parts == parts_of_size(141_107_412_992_000, 1000)
    assert few.work == many.work
    assert few.read_bytes == many.read_bytes == 141_107_412_992_000
    assert few.stages.products / many.stages.products == pytest.approx(64)
    assert few.worker_bytes / many.worker_bytes == pytest.approx(64, rel=0.01)
    assert few.stages.at_end == many.stages.at_end
    assert few.bottleneck == "products"
    assert cluster_of(LARGE, 64, rank="none").bottleneck == "reading"
    narrow = cluster_of(declared(tmp_path, rows=9000, tensors={"w": [9100]}), 4)
    assert narrow.bottleneck == "at_end"
    assert narrow.work.spectra == 0


def test_a_cluster_in_words_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = declared(tmp_path)
    assert main(["analyze", "--plan", "--like", str(path), "--workers", "3", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    cluster = document["cluster"]
    assert cluster["parts"] == 1
    assert cluster["read_bytes"] is None
    assert set(cluster) == {field.name for field in dataclasses.fields(gradlog.ClusterEstimate)}
    text = (ROOT / "docs" / "scale.md").read_text()
    for name in (*cluster, *cluster["work"], *cluster["stages"], *cluster["levels"][0]):
        assert f"`{name}`" in text
    assert "1 workers take a part each and 2 none" in " ".join(document["words"])
    assert main(["analyze", "--plan", "--like", str(path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["cluster"] is None


@pytest.mark.parametrize("rank", ["exact", "none"])
def test_what_parts_hand_on_is_about_what_was_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    """Bytes of pickled states, where matrices are most of it."""
    monkeypatch.setattr("gradmf.gradlog.cluster.cluster.PART_BYTES", 2 << 20)
    monkeypatch.setattr("gradmf.gradlog.cluster.cluster.SUMS_SHARE", 1)
    rng = np.random.default_rng(0)
    shapes = {"a": 9000, "b": 3000, "c": 20_000, "d": 500}
    tensors = {name: rng.standard_normal((200, size)).astype(np.float32) for name, size in shapes.items()}
    chunks = {name: (50, min(size, 1000)) for name, size in shapes.items()}
    path = write_store(tmp_path / "run.zarr", tensors, chunks=chunks)
    asked = gradlog.Settings(rank=rank)
    cluster = gradlog.describe_plan(path, asked, workers=2).cluster
    assert cluster is not None
    assert cluster.parts > 8
    handed: list[int] = []
    add = part_tasks.add_parts

    def watched(parts: Any, common: Any) -> Any:
        taken = list(parts)
        handed.extend(len(pickle.dumps(part)) for part in taken)
        return add(taken, common)

    monkeypatch.setattr(part_tasks, "add_parts", watched)
    with gradlog.on_cluster():
        gradlog.analyze(path, asked)
    assert len(handed) == sum(level.states for level in cluster.levels[:-1])
    expected = sum(level.bytes for level in cluster.levels[:-1])
    assert 0.5 < sum(handed) / expected < 2


def large_plan() -> Any:
    return prepare(gradlog.declared_log(LARGE), gradlog.Settings(rank="exact"), 8, 1 << 30)


def test_ranges_of_a_large_model_are_held_and_sent_as_numbers() -> None:
    ready = large_plan()
    table = ready.plan.ranges
    assert len(table) > 500_000
    assert len(pickle.dumps(table)) < 30 * len(table)
    assert len(table.alike) < 10_000
    assert sum(count * item.width for item, count in table.alike) == ready.log.parameters
    assert int(table.row_bytes(ready.tensors).sum()) == 2 * ready.log.parameters
    parts = split(ready.plan, ready.tensors, 4096)
    assert sum(len(part.ranges) for part in parts) == len(table)
    assert sum(part.decoded_bytes for part in parts) == ready.plan.decoded_bytes
    assert max(p.decoded_bytes for p in parts) < 1.1 * min(p.decoded_bytes for p in parts)
    assert parts[1].ranges[0] == table[len(parts[0].ranges)]
    assert pickle.loads(pickle.dumps(parts[7].ranges)) == parts[7].ranges


def test_a_table_is_a_sequence_of_ranges() -> None:
    log = gradlog.declared_log(ROOT / "docs" / "shapes-1b.json")
    ready = prepare(log, gradlog.Settings(rank="none"), 8, 1 << 30)
    table = ready.plan.ranges
    some = [0, 1, 7, len(table) // 2, len(table) - 1]
    every = list(table)
    assert len(every) == len(table)
    assert [table[at] for at in some] == [every[at] for at in some]
    assert table[-1] == every[-1]
    with pytest.raises(IndexError):
        table[len(table)]
    for first, last in [(0, 5), (3, 3), (7, len(table) - 2), (len(table) - 3, len(table) + 9)]:
        assert list(table[first:last]) == every[first:last]
    assert table[: len(table)] == table
    assert table[1:] != table
    assert Ranges() == Ranges(())
    assert sum(count for _, count in table.alike) == len(table)
    assert all(isinstance(item, ParameterRange) for item, _ in table.alike)


Box = tuple[tuple[int, int], ...]


def boxes_by_hand(box: Box, chunks: Sequence[int], wanted: int) -> Iterator[Box]:
    """A box cut along chunk borders, one after the other."""
    width = math.prod(last - first for first, last in box)
    if width > wanted:
        for axis, ((first, last), size) in enumerate(zip(box, chunks, strict=True)):
            if last - first > size:
                step = size * max(1, wanted // (size * (width // (last - first))))
                for start in range(first, last, step):
                    cut = (start, min(start + step, last))
                    yield from boxes_by_hand((*box[:axis], cut, *box[axis + 1 :]), chunks, wanted)
                return
    yield box


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=3),
    wanted=st.integers(1, 3000),
)
def test_boxes_are_those_cut_one_after_the_other(sizes: list[tuple[int, int]], wanted: int) -> None:
    shape = tuple(extent for extent, _ in sizes)
    chunks = [min(extent, chunk) for extent, chunk in sizes]
    found = ranges._grid_boxes(shape, chunks, wanted)
    expected = list(boxes_by_hand(tuple((0, extent) for extent in shape), chunks, wanted))
    assert [
        tuple((at, at + extent) for at, extent in zip(start, found.shapes[kind], strict=True))
        for start, kind in zip(found.starts.tolist(), found.kinds.tolist(), strict=True)
    ] == expected
