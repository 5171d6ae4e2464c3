"""Stores of the ranks of one run, read as one log: the numbers of one store, and every fault by its name."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from click.shell_completion import CompletionItem
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stores import add_array, chunk_files, copy, flip, format1_store, walk, zip_members, zip_store
from sweeps import sweep

from conftest import assert_analysis, read_in_blocks_of_rows
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.cli.options.completing import runs as completed_runs
from gradmf.gradlog.documents.plain_values import plain_values
from gradmf.gradlog.logs.rank_grid import PlacedChunks, common_chunks
from gradmf.gradlog.logs.zarr_tensor import ZarrTensor

Array = np.ndarray[Any, Any]
Box = tuple[tuple[int, int], ...]
"""(start, stop) along each axis."""


def shares(extent: int, count: int) -> list[tuple[int, int]]:
    """(start, stop) of each process's share of an axis, as torch.chunk makes them: the last may be empty."""
    size = -(-extent // count)
    return [(min(extent, at * size), min(extent, (at + 1) * size)) for at in range(count)]


def boxes_of(shape: Sequence[int], mesh: Sequence[int]) -> list[Box | None]:
    """What each rank of a mesh holds of a tensor whose axis i is sharded over the mesh's axis i.

    None for nothing: of a tensor of fewer axes the first ranks hold all.
    """
    pairs = itertools.zip_longest(shape, mesh[: len(shape)], fillvalue=1)
    boxes = list(itertools.product(*(shares(extent, count) for extent, count in pairs)))
    held: list[Box | None] = [box if all(a < b for a, b in box) else None for box in boxes]
    return held + [None] * (math.prod(mesh) - len(held))


def share_of(values: Array, box: Box | None) -> Array | None:
    """(rows, *box) of the gradients (rows, *shape) of a tensor."""
    return None if box is None else values[:, *(slice(*ends) for ends in box)]


def rank_root(path: Path, rank: int, ranks: int, **declared: Any) -> zarr.Group:
    """The root of one rank's store."""
    group = zarr.open_group(path / f"rank-{rank:03}", mode="w")
    told = {"version": 1, "run": "7f3a", "rank": rank, "ranks": ranks, **declared}
    group.attrs.update({"gradlog": told, "model": "mlp"})
    return group


def add_box(group: zarr.Group, name: str, values: Array, box: Box, **options: Any) -> None:
    """A rank's part of a tensor. values : (rows, *shape) of the whole one"""
    part = share_of(values, box)
    assert part is not None
    declared: dict[str, Any] = {
        "global_shape": list(values.shape[1:]),
        "offset": [start for start, _ in box],
        "placements": ["Shard(0)"],
    }
    if values.dtype == np.uint16:
        declared["dtype"] = "bfloat16"
    add_array(group, f"grads/{name}", part, attributes={"gradlog": declared}, **options)


def write_set(
    path: Path,
    tensors: Mapping[str, Array],
    mesh: Sequence[int] = (4,),
    chunks: Mapping[str, tuple[int, ...]] | None = None,
    step: Sequence[int] | None = None,
    **options: Any,
) -> Path:
    """A set of stores by plain zarr-python, with a series in each. chunks : of all of a tensor's boxes"""
    ranks = math.prod(mesh)
    rows = len(next(iter(tensors.values())))
    for rank, coordinate in enumerate(np.ndindex(*mesh)):
        place = {"shape": list(mesh), "names": ["fsdp", "tp"][: len(mesh)], "coordinate": list(coordinate)}
        group = rank_root(path, rank, ranks, mesh=place)
        for name, values in tensors.items():
            box = boxes_of(values.shape[1:], mesh)[rank]
            if box is not None:
                options["chunks"] = (chunks or {}).get(name, (rows, *(b - a for a, b in box)))
                add_box(group, name, values, box, **options)
        add_array(group, "step", np.asarray(range(rows) if step is None else step, np.int64))
        add_array(group, "loss", np.linspace(2, 1, rows) + 100 * rank)
    return path


def model(rows: int = 24) -> dict[str, Array]:
    """What FSDP shards unevenly: 15 rows over 4 ranks, a bias of fewer entries than ranks, float16."""
    return {
        "blocks.0.weight": walk(rows, (15, 8), 1),
        "blocks.1.weight": walk(rows, (16, 6, 2), 2),
        "norm": walk(rows, (3,), 3, "float16"),
        "head": walk(rows, (9,), 4, "float64"),
    }


def single(path: Path, tensors: Mapping[str, Array], **options: Any) -> Path:
    """The same in one store, with the same losses as those of rank 0."""
    format1_store(path, tensors, **options)
    rows = len(next(iter(tensors.values())))
    add_array(zarr.open_group(path), "loss", np.linspace(2, 1, rows))
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One run as a set of 4 ranks and as a single store."""
    folder = tmp_path_factory.mktemp("sets")
    return SimpleNamespace(
        ranks=write_set(folder / "run.zarr", model()), single=single(folder / "single.zarr", model())
    )


def figures(analysis: gradlog.Analysis) -> dict[str, Any]:
    """All that an analysis says, but for where it was read."""
    document = gradlog.analysis_document(analysis)
    for word in ("path", "attributes"):
        document["run"].pop(word)
    found: dict[str, Any] = plain_values(document)
    return found


# The numbers


@pytest.mark.parametrize(
    "asked",
    [
        gradlog.Settings(),
        gradlog.Settings(rows=(3, 20), exclude=("head",), rank="none"),
        gradlog.Settings(tensors=("blocks.*",), rank="incremental"),
        gradlog.Settings(rank="sketch", sketch_dim=64),
        gradlog.Settings(project=64, rank="none"),
        gradlog.Settings(subspace=3, window=10),
    ],
    ids=["all", "rows", "incremental", "sketch", "projected", "subspaces"],
)
def test_figures_are_those_of_one_store_to_the_last_bit(
    stores: SimpleNamespace, asked: gradlog.Settings
) -> None:
    found, expected = (gradlog.analyze(run, asked) for run in (stores.ranks, stores.single))
    assert figures(found) == figures(expected)
    if asked.project is None:
        assert found.run.attributes["gradlog"] == {
            "version": 1, "run": "7f3a", "ranks": 4, "mesh": {"shape": [4], "names": ["fsdp"]},
        }  # fmt: skip
    assert found.run.attributes["model"] == "mlp"


def test_figures_are_those_of_the_definitions(stores: SimpleNamespace) -> None:
    assert_analysis(gradlog.analyze(stores.ranks), model())


def test_in_blocks_of_rows_too(
    stores: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in_blocks_of_rows(monkeypatch, 8)
    ranks = write_set(
        tmp_path / "run.zarr", model(), chunks={name: (4, 4, 5, 3)[: v.ndim] for name, v in model().items()}
    )
    asked = gradlog.Settings(rank="none")
    found, expected = (gradlog.analyze(run, asked) for run in (ranks, stores.single))
    for own, other in zip(found.total.predictors, expected.total.predictors, strict=True):
        assert own.path_length == pytest.approx(other.path_length, rel=1e-12)


DTYPES = ("float16", "float32", "float64", "bfloat16")


@st.composite
def sharded(
    draw: st.DrawFn,
) -> tuple[dict[str, Array], tuple[int, ...], dict[str, tuple[int, ...]], dict[str, Any]]:
    """Tensors of up to three axes, of uneven shares, a mesh, chunks that need not fit, and codecs."""
    mesh = draw(st.sampled_from([(1,), (2,), (3,), (4,), (5,), (2, 2), (3, 2), (1, 3)]))
    rows = draw(st.integers(1, 9))
    tensors, chunks = {}, {}
    for number in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(st.integers(1, 9), min_size=0, max_size=3)))
        dtype = draw(st.sampled_from(DTYPES))
        values = walk(rows, shape, draw(st.integers(0, 99)), "float32" if dtype == "bfloat16" else dtype)
        if dtype == "bfloat16":
            values = (values.view(np.uint32) >> 16).astype(np.uint16)
        tensors[f"t{number}"] = values
        chunks[f"t{number}"] = tuple(draw(st.integers(1, 10)) for _ in values.shape)
    compressed = draw(st.booleans())
    return tensors, mesh, chunks, {} if compressed else {"compressors": ()}


def widened(values: Array) -> Array:
    return (values.astype(np.uint32) << 16).view(np.float32) if values.dtype == np.uint16 else values


@settings(max_examples=sweep(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=sharded(), data=st.data())
def test_whatever_the_shares_and_chunks(tmp_path: Path, case: Any, data: st.DataObject) -> None:
    """Every box of rows reads back bit by bit, and the figures are those of one store."""
    tensors, mesh, chunks, codecs = case
    for place in tmp_path.iterdir():
        shutil.rmtree(place)
    path = write_set(tmp_path / "run.zarr", tensors, mesh, chunks, **codecs)
    log = gradlog.open_log(path)
    assert [tensor.name for tensor in log.tensors] == sorted(tensors)
    rows = log.rows
    for tensor in log.tensors:
        whole = widened(tensors[tensor.name])
        assert tensor.shape == whole.shape[1:]
        box = tuple(
            slice(start, data.draw(st.integers(start + 1, extent)))
            for extent in tensor.shape
            for start in [data.draw(st.integers(0, extent - 1))]
        )
        first = data.draw(st.integers(0, rows - 1))
        last = data.draw(st.integers(first + 1, rows))
        expected = whole[first:last, *box].reshape(last - first, -1)
        beside = data.draw(st.sampled_from([0, 3]))  # columns of others in the block
        block = np.full((last - first, expected.shape[1] + beside), 7, tensor.compute_dtype)
        tensor.read((first, last), box, block[:, beside:])
        np.testing.assert_array_equal(block[:, beside:], expected.astype(tensor.compute_dtype))
        assert (block[:, :beside] == 7).all()
        inventory = tensor.inventory(rows, sizes=True)
        assert inventory.absent == ()
        assert inventory.stored_bytes
    found = gradlog.analyze(path)
    assert_analysis(found, {name: widened(values) for name, values in tensors.items()})


def test_long_batches_and_strides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes whose place is no piece of a block go through memory a few chunks of rows at a time."""
    monkeypatch.setattr("gradmf.gradlog.logs.rank_tensor.BATCH_BYTES", 300)
    values = {"w": walk(23, (6, 10), 1)}
    path = write_set(tmp_path / "run.zarr", values, (2, 2), {"w": (4, 2, 3)})
    (tensor,) = gradlog.open_log(path).tensors
    assert tensor.in_place
    read: list[tuple[int, int]] = []
    plain = ZarrTensor.read

    def noting(self: Any, rows: tuple[int, int], *others: Any) -> None:
        read.append(rows)
        plain(self, rows, *others)

    monkeypatch.setattr(ZarrTensor, "read", noting)
    out = np.empty((19, 60), np.float32)
    tensor.read((3, 22), (slice(0, 6), slice(0, 10)), out)
    np.testing.assert_array_equal(out, values["w"][3:22].reshape(19, 60))
    assert read[:5] == [(3, 4), (4, 8), (8, 12), (12, 16), (16, 20)]


def test_complex_entries(tmp_path: Path) -> None:
    values = (walk(9, (5, 3), 1) + 1j * walk(9, (5, 3), 2)).astype(np.complex64)
    path = write_set(tmp_path / "run.zarr", {"w": values}, (2,), {"w": (2, 2, 2)})
    (tensor,) = gradlog.open_log(path).tensors
    assert tensor.shape == (5, 3, 2)
    assert_analysis(gradlog.analyze(path), {"w": values.view(np.float32).reshape(9, 5, 3, 2)})


@pytest.mark.parametrize(
    "options",
    [
        {"zarr_format": 2, "compressors": None},
        {"zarr_format": 2},
        {"shards": (8, 4, 8), "chunks": (4, 2, 4)},
        {"compressors": (zarr.codecs.Crc32cCodec(),)},
    ],
    ids=["v2", "v2 compressed", "sharded", "crc32c"],
)
def test_ranks_in_other_layouts(tmp_path: Path, options: dict[str, Any]) -> None:
    """Rank 1 is stored in another way than rank 0."""
    values = walk(16, (8, 8), 1)
    options = {"chunks": (4, 4, 8), **options}
    for rank in range(2):
        own = options if rank else {"chunks": (5, 3, 8)}
        zarr_format: Any = own.pop("zarr_format", 3)
        group = zarr.open_group(tmp_path / f"rank-{rank:03}", mode="w", zarr_format=zarr_format)
        group.attrs["gradlog"] = {"version": 1, "run": "x", "rank": rank, "ranks": 2}
        add_box(group, "w", values, ((4 * rank, 4 * rank + 4), (0, 8)), **own)
        add_array(group, "step", np.arange(16))
    assert_analysis(gradlog.analyze(tmp_path), {"w": values})
    assert gradlog.describe(tmp_path).warnings == ()


def test_by_way_of_scratch_files(tmp_path: Path) -> None:
    """Chunks of all rows, of which memory holds a part: they go through files once, boxes and all."""
    values = {"w": walk(600, (40, 100), 1)}
    path = write_set(tmp_path / "run.zarr", values, (4,), {"w": (600, 10, 100)})
    asked = gradlog.Settings(rank="none")
    expected = gradlog.analyze(path, asked)
    with_files = gradlog.analyze(path, asked, memory=4 << 20, scratch=tmp_path)
    assert with_files.total.energy == pytest.approx(expected.total.energy, rel=1e-12)
    for own, other in zip(with_files.total.predictors, expected.total.predictors, strict=True):
        assert own.path_length == pytest.approx(other.path_length, rel=1e-12)


# The grid that plans cut along


def of_boxes(shape: tuple[int, ...], parts: Sequence[tuple[Box, tuple[int, ...]]]) -> tuple[int, ...]:
    return common_chunks(
        shape,
        [
            PlacedChunks(tuple(a for a, _ in box), tuple(b - a for a, b in box), chunks)
            for box, chunks in parts
        ],
    )


def cut_chunks(size: int, axis: int, parts: Sequence[tuple[Box, tuple[int, ...]]]) -> int:
    """Entries of chunks that lines of a grid of `size` along an axis fall within, counted one by one."""
    total = 0
    for box, chunks in parts:
        start, stop = box[axis]
        across = math.prod(b - a for at, (a, b) in enumerate(box) if at != axis)
        for at in range(start, stop, chunks[axis + 1]):
            end = min(at + chunks[axis + 1], stop)
            total += sum((end - at) * across for line in range(at + 1, end) if line % size == 0)
    return total


@settings(max_examples=sweep(200), deadline=None)
@given(st.data())
def test_the_grid_is_the_finest_that_cuts_no_chunk(data: st.DataObject) -> None:
    extent, ranks = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 6))
    width = data.draw(st.integers(1, 4))
    parts: list[tuple[Box, tuple[int, ...]]] = [
        (((a, b), (0, width)), (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12)), width))
        for a, b in shares(extent, ranks)
        if a < b
    ]
    height, rows, columns = of_boxes((extent, width), parts)
    heights = [chunks[0] for _, chunks in parts]
    assert height in (math.lcm(*heights), max(heights))
    assert columns == width
    assert cut_chunks(rows, 0, parts) == 0
    tried = {min(extent, n * c) for _, (_, c, _) in parts for n in range(1, 33)} | {
        b - a for ((a, b), _), _ in parts
    }
    assert rows == min(size for size in {*tried, extent} if cut_chunks(size, 0, parts) == 0)


@pytest.mark.parametrize("most", [1, 6, 20, 30, 50])
def test_where_every_grid_cuts_chunks_it_cuts_the_least(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Shares of 23 in chunks of 5: no grid finer than a share leaves all chunks whole."""
    monkeypatch.setattr("gradmf.gradlog.logs.rank_grid.MOST_PARAMETERS", most)
    parts: list[tuple[Box, tuple[int, ...]]] = [(((a, b),), (1, 5)) for a, b in shares(92, 4)]
    _, found = of_boxes((92,), parts)
    if most < 5:
        assert found == 5  # a chunk that is larger than asked for stays one
    elif most >= 23:
        assert found == 23
    else:
        allowed = range(5, most + 1, 5)
        assert cut_chunks(found, 0, parts) == min(cut_chunks(size, 0, parts) for size in allowed)


def decoded(path: Path, asked: gradlog.Settings, monkeypatch: pytest.MonkeyPatch) -> float:
    """Bytes of chunks that an analysis decodes, over those that are stored."""
    total = 0
    plain = ZarrTensor.read

    def counting(self: ZarrTensor, rows: tuple[int, int], box: tuple[slice, ...], *others: Any) -> None:
        nonlocal total
        ends = [rows, *((part.start, part.stop) for part in box)]
        touched = [
            min(-(-b // c) * c, e) - a // c * c
            for (a, b), c, e in zip(ends, self.chunks, (self.rows, *self.shape), strict=True)
        ]
        total += math.prod(touched) * self.entry_bytes
        plain(self, rows, box, *others)

    with monkeypatch.context() as patch:
        patch.setattr(ZarrTensor, "read", counting)
        analysis = gradlog.analyze(path, asked, memory=24 << 20)
    assert not [w for w in analysis.warnings if w.code == "chunks-decoded-again"]
    return total / (analysis.run.rows * analysis.run.parameters * 4)


@pytest.mark.parametrize("height", [64, 65], ids=["whole chunks", "cut chunks"])
@pytest.mark.parametrize("rank", ["none", "exact"])
def test_each_chunk_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int, rank: Any
) -> None:
    """4 ranks, with less memory than the gradients take: 8 chunks a share, or 8 and a rest of one row."""
    values = {"w": walk(40, (4 * height, 500), 1), "b": walk(40, (70,), 2)}
    path = write_set(tmp_path / "run.zarr", values, (4,), {"w": (4, 8, 500), "b": (40, 18)})
    assert decoded(path, gradlog.Settings(rank=rank), monkeypatch) == pytest.approx(1.0, abs=1e-9)


# Every command


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str | Path) -> SimpleNamespace:
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return call


def documents(run: Any, *arguments: str | Path) -> Any:
    ran = run(*arguments, "--format", "json")
    assert (ran.code, ran.err) == (0, ""), ran.err
    return json.loads(ran.out)


def test_analyze_takes_tensors_and_rows(run: Any, stores: SimpleNamespace) -> None:
    words = ("--tensor", "blocks.*", "--rows", "2:20", "--search", "--tensor-steps")
    found, expected = (documents(run, "analyze", path, *words) for path in (stores.ranks, stores.single))
    assert found["run"].pop("attributes")["gradlog"]["ranks"] == 4
    for document in (found, expected):
        document["run"].pop("path")
    expected["run"].pop("attributes")
    assert found == expected


def test_a_set_is_compared_with_itself(run: Any, stores: SimpleNamespace) -> None:
    document = documents(run, "compare", stores.ranks, stores.single)
    changes = [change for scope in (document["total"], *document["tensors"]) for change in scope["changes"]]
    assert changes
    assert all(change["absolute"] in (0, None) for change in changes)
    table = run("compare", stores.ranks, stores.single)
    assert table.code == 0


@pytest.mark.parametrize("command", ["bounds", "advise"])
def test_bounds_and_advise(run: Any, stores: SimpleNamespace, command: str) -> None:
    found, expected = (documents(run, command, path) for path in (stores.ranks, stores.single))
    for document in (found, expected):
        document.pop("run")
        document.pop("path", None)
    assert found == expected


def test_sketch(run: Any, stores: SimpleNamespace, tmp_path: Path) -> None:
    for name, path in (("a", stores.ranks), ("b", stores.single)):
        assert run("sketch", path, tmp_path / name, "--dim", 64).code == 0
    first, second = (
        {p.relative_to(s): p.read_bytes() for p in s.rglob("*") if p.is_file() and p.name != "zarr.json"}
        for s in (tmp_path / "a", tmp_path / "b")
    )
    assert first
    assert first == second
    assert run("analyze", tmp_path / "a").code == 0


def test_parts_are_merged(run: Any, stores: SimpleNamespace, tmp_path: Path) -> None:
    parts = [tmp_path / f"{number}.part" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        assert run("analyze", stores.ranks, "--part", f"{number}/2", "-o", part).code == 0
    merged, whole = documents(run, "merge", *parts), documents(run, "analyze", stores.ranks)
    assert merged["total"]["energy"] == pytest.approx(whole["total"]["energy"], rel=1e-12)
    assert merged["run"]["attributes"]["gradlog"]["ranks"] == 4


def test_rechunk_makes_one_store(run: Any, stores: SimpleNamespace, tmp_path: Path) -> None:
    assert run("rechunk", stores.ranks, tmp_path / "one.zarr").code == 0
    log = gradlog.open_log(tmp_path / "one.zarr")
    assert log.ranks is None
    assert log.warnings == ()
    assert [tensor.dtype for tensor in log.tensors] == ["float32", "float32", "float64", "float16"]
    found, expected = (gradlog.analyze(path) for path in (tmp_path / "one.zarr", stores.single))
    assert found.total.energy == pytest.approx(expected.total.energy, rel=1e-12)


def test_info(run: Any, stores: SimpleNamespace) -> None:
    document = documents(run, "info", stores.ranks)
    assert (document["ranks"], document["rows"], document["series"]) == (4, 24, ["loss"])
    assert {tensor["name"]: tensor["boxes"] for tensor in document["tensors"]} == {
        "blocks.0.weight": 4, "blocks.1.weight": 4, "head": 3, "norm": 3,
    }  # fmt: skip
    assert document["left_out"] == {}
    alone = documents(run, "info", stores.single)
    assert (alone["ranks"], {tensor["boxes"] for tensor in alone["tensors"]}) == (None, {1})
    assert document["raw_bytes"] == alone["raw_bytes"]
    told = run("info", stores.ranks).out
    assert "gradient log format 1, Zarr v3, a set of 4 ranks\n" in told
    assert "boxes" in told
    assert "boxes" not in run("info", stores.single).out


def test_rank_0_gives_the_series(stores: SimpleNamespace) -> None:
    log = gradlog.open_log(stores.ranks)
    np.testing.assert_array_equal(log.series["loss"][0:24], np.linspace(2, 1, 24))


# Ways to say where it is


def given_as(path: Path, folder: Path) -> Iterator[tuple[str, Any]]:
    yield "path", path
    yield "slash", f"{path}/"
    yield "url", path.as_uri()
    yield "zip -r", zip_members(path, folder / "top.zip", top="run.zarr")
    yield "zip of the inside", zip_members(path, folder / "flat.zip")
    yield "ZipStore", zip_store(path, folder / "store.zip")
    yield "store", zarr.storage.LocalStore(path, read_only=True)
    memory = zarr.storage.MemoryStore()
    for file in path.rglob("*"):
        if file.is_file():
            data = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(file.read_bytes())
            zarr.core.sync.sync(memory.set(file.relative_to(path).as_posix(), data))
    yield "memory", memory
    whole = copy(path, folder / "grouped")
    zarr.open_group(whole, mode="a").attrs["note"] = "by hand"
    yield "a folder with a group", whole
    yield "group", zarr.open_group(whole, mode="r")
    yield "zip with a group", zip_members(whole, folder / "grouped.zip", top="run.zarr")
    yield "metadata", whole / "zarr.json"


def test_however_it_is_given(stores: SimpleNamespace, tmp_path: Path) -> None:
    expected = gradlog.analyze(stores.single).total.energy
    for way, source in given_as(stores.ranks, tmp_path):
        log = gradlog.open_log(source)
        assert log.ranks == 4, way
        assert gradlog.analyze(source).total.energy == pytest.approx(expected, rel=1e-12), way
        assert log.attributes.get("note") == ("by hand" if "group" in way or way == "metadata" else None), way
        assert log.attributes["model"] == "mlp"


def test_runs_of_a_glob_are_one_each(run: Any, stores: SimpleNamespace) -> None:
    found = documents(run, "analyze", stores.ranks, stores.single)
    assert [document["run"]["path"] for document in found] == [str(stores.ranks), str(stores.single)]


def test_shells_complete_it(stores: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(stores.ranks, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    (found,) = completed_runs(None, None, "ru")  # type: ignore[arg-type]
    assert isinstance(found, CompletionItem)
    assert (found.value, found.type) == ("run", "plain")


def test_one_rank_by_itself_is_told_as_such(run: Any, stores: SimpleNamespace) -> None:
    ran = run("analyze", stores.ranks / "rank-001", "--format", "json")
    document = json.loads(ran.out)
    assert ran.code == 0
    assert [warning["code"] for warning in document["warnings"]] == ["rank-alone"]
    assert "rank 1 of 4, read by itself" in ran.err
    assert "this rank's part of the tensors alone" in ran.err
    parts = {name: share_of(values, boxes_of(values.shape[1:], (4,))[1]) for name, values in model().items()}
    part = {name: values for name, values in parts.items() if values is not None}
    assert_analysis(gradlog.analyze(stores.ranks / "rank-001"), part)


def test_a_run_of_one_rank_needs_no_word(tmp_path: Path) -> None:
    path = write_set(tmp_path / "run.zarr", model(), (1,))
    for place in (path, path / "rank-000"):
        assert gradlog.open_log(place).warnings == ()


def test_a_rank_may_hold_nothing(tmp_path: Path) -> None:
    """Also the first, whose series are taken all the same."""
    values = {"w": walk(8, (6, 2), 1)}
    group = rank_root(tmp_path, 0, 2)
    add_array(group, "step", np.arange(8))
    add_array(group, "loss", np.ones(8))
    group = rank_root(tmp_path, 1, 2)
    add_box(group, "w", values["w"], ((0, 6), (0, 2)))
    add_array(group, "step", np.arange(8))
    assert_analysis(gradlog.analyze(tmp_path), values)
    assert list(gradlog.open_log(tmp_path).series) == ["loss"]
    with pytest.raises(gradlog.DataError, match="no gradient arrays"):
        gradlog.open_log(tmp_path / "rank-000")


def test_arrays_without_entries_are_no_boxes(tmp_path: Path) -> None:
    values = walk(8, (3, 2), 1)
    for rank, box in enumerate([((0, 2), (0, 2)), ((2, 3), (0, 2)), ((3, 3), (0, 2))]):
        group = rank_root(tmp_path, rank, 3)
        declared = {"global_shape": [3, 2], "offset": [box[0][0], 0], "placements": ["Shard(dim=0)"]}
        part = values[:, slice(*box[0])]
        add_array(group, "grads/w", part, chunks=(8, 1, 2), attributes={"gradlog": declared})
        add_array(group, "step", np.arange(8))
    assert_analysis(gradlog.analyze(tmp_path), {"w": values})
    assert gradlog.describe(tmp_path).tensors[0].boxes == 2


def test_the_writer_makes_sets(tmp_path: Path) -> None:
    values = {"w": walk(20, (7, 3), 1), "b": walk(20, (2,), 2)}
    for rank in range(3):
        held = {name: boxes_of(v.shape[1:], (3,))[rank] for name, v in values.items()}
        boxes = {name: box for name, box in held.items() if box is not None}
        marks = {
            name: {
                "global_shape": list(values[name].shape[1:]), "offset": [a for a, _ in box],
                "placements": ["Shard(0)"],
            }
            for name, box in boxes.items()
        }  # fmt: skip
        parts = {name: share_of(values[name], box) for name, box in boxes.items()}
        log = gradlog.create_log(
            tmp_path / f"rank-{rank:03}", declared={"run": "x", "rank": rank, "ranks": 3}, boxes=marks
        )
        for step in range(20):
            log.append(step, {name: part[step] for name, part in parts.items() if part is not None}, loss=1.0)
        log.close()
    assert_analysis(gradlog.analyze(tmp_path), values)


def test_the_guide_writes_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block of docs/distributed.md, for each rank, with the rows written behind it."""
    guide = (Path(__file__).parent.parent / "docs" / "distributed.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    values = walk(6, (15, 8), 1)
    for rank in range(4):
        names = {
            "rank": rank, "ranks": 4, "run_id": "7f3a", "rows": 6, "part": values[0, 4 * rank : 4 * rank + 4],
        }  # fmt: skip
        exec(block, names)
        names["array"][...] = values[:, 4 * rank : 4 * rank + 4]  # type: ignore[index]
        add_array(names["group"], "step", np.arange(6))  # type: ignore[arg-type]
    assert_analysis(gradlog.analyze(tmp_path / "run.zarr"), {"fc.weight": values})


# Rows


def test_the_common_prefix_is_read(run: Any, tmp_path: Path) -> None:
    long = model(12)
    path = write_set(tmp_path / "run.zarr", long, (2,))
    short = write_set(tmp_path / "short.zarr", {name: values[:9] for name, values in long.items()}, (2,))
    shutil.rmtree(path / "rank-001")
    shutil.copytree(short / "rank-001", path / "rank-001")
    log = gradlog.open_log(path)
    (warning,) = log.warnings
    assert (log.rows, warning.code) == (9, "ranks-uneven")
    assert warning.message.startswith("rank-001 has 9 committed rows and rank-000 12: only the first 9 rows")
    assert_analysis(gradlog.analyze(path), {name: values[:9] for name, values in long.items()})
    assert "ranks-uneven" not in run("analyze", short).err


def test_other_training_steps_are_an_error(tmp_path: Path) -> None:
    path = write_set(tmp_path / "run.zarr", model(6), (2,), step=[0, 1, 2, 5, 6, 7])
    zarr.open_group(path / "rank-001")["step"][...] = np.array([0, 1, 2, 4, 6, 7])
    fails(
        path, r": row 3 has training step 5 in rank-000 and 4 in rank-001: the ranks did not record the same"
    )


def test_steps_that_repeat_are_told_once(tmp_path: Path) -> None:
    path = write_set(tmp_path / "run.zarr", model(6), (2,), step=[0, 1, 2, 1, 2, 3])
    (warning,) = gradlog.open_log(path).warnings
    assert warning.code == "steps-not-increasing"
    kept = gradlog.analyze(path, gradlog.Settings(repeated="last"))
    assert kept.steps.step.tolist() == [0, 1, 2, 3]


def test_truncation_is_told_with_the_rank(tmp_path: Path) -> None:
    path = write_set(tmp_path / "run.zarr", {"w": walk(9, (4,), 1)}, (2,), {"w": (3, 2)})
    zarr.open_group(path / "rank-001")["grads/w"].resize((6, 2))
    fails(path, r"/rank-001: tensor 'w' has 6 rows and `step` says 9; --truncate analyzes the first 6 rows")
    log = gradlog.open_log(path, truncate=True)
    assert log.rows == 6
    assert [warning.code for warning in log.warnings] == ["truncated", "ranks-uneven"]
    assert log.warnings[0].message.startswith("rank-001: tensor 'w' has 6 rows")


# Faults


def fails(path: Path, match: str, *arguments: Any) -> None:
    with pytest.raises(gradlog.DataError, match=match) as caught:
        gradlog.analyze(path, *arguments)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def declare(path: Path, declared: Mapping[str, Any]) -> None:
    """Let the root of a rank say something else; None takes a word away."""
    group = zarr.open_group(path)
    told = {**group.attrs["gradlog"], **declared}
    group.attrs["gradlog"] = {key: value for key, value in told.items() if value is not None}


ROOT_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "run": (
        {"run": "0b1c"},
        r": the run is '7f3a' in rank-000 and '0b1c' in rank-002: leave the stores of one run",
    ),
    "no run": ({"run": None}, r": `gradlog` of rank-002 does not say which run it is of"),
    "ranks": ({"ranks": 3}, r": the number of ranks is 4 in rank-000 and 3 in rank-002"),
    "ranks in words": (
        {"ranks": "4"},
        r": `gradlog` of rank-002 says ranks '4', not a whole number of at least 1",
    ),
    "rank in words": (
        {"rank": True},
        r": `gradlog` of rank-002 says rank True, not a whole number of at least 0",
    ),
    "rank twice": ({"rank": 1}, r": rank-001 and rank-002 are both of rank 1: remove the one that is a copy"),
    "rank past": ({"rank": 7}, r": rank-002 is of rank 7, but the run had 4 ranks"),
    "mesh": (
        {"mesh": {"shape": [2, 2]}},
        r": the mesh is \[4\] \['fsdp'\] in rank-000 and \[2, 2\] in rank-002",
    ),
    "kind": (
        {"kind": "updates", "every": 5},
        r": the kind is gradients in rank-000 and updates of every 5 steps in",
    ),
    "sketch": ({"projection": {}}, r": rank-002 holds a sketch: sketches of parts are not put together"),
    "version": ({"version": 2}, r"/rank-002: gradient log of format 2; this gradmf reads format 1"),
}


@pytest.mark.parametrize("fault", ROOT_FAULTS)
def test_roots_that_do_not_fit(stores: SimpleNamespace, tmp_path: Path, fault: str) -> None:
    declared, match = ROOT_FAULTS[fault]
    path = copy(stores.ranks, tmp_path / "run.zarr")
    declare(path / "rank-002", declared)
    fails(path, match)


def test_missing_ranks_are_named(stores: SimpleNamespace, tmp_path: Path) -> None:
    path = copy(stores.ranks, tmp_path / "run.zarr")
    shutil.rmtree(path / "rank-002")
    fails(path, r": the store of rank 2 of 4 is missing; put all stores of the run there$")
    fails(zip_members(path, tmp_path / "run.zip"), r": the store of rank 2 of 4 is missing")
    shutil.rmtree(path / "rank-000")
    fails(path, r": the stores of ranks 0, 2 of 4 are missing; put all")
    (path / "rank-001" / "zarr.json").write_text("{")
    fails(
        path,
        r": the stores of ranks 0, 1, 2 of 4 are missing; rank-001 has no root that says which rank it is",
    )
    (path / "rank-003" / "zarr.json").unlink()
    with pytest.raises(gradlog.DataError, match=r"not a Zarr store: but 1 inside it, such as"):
        gradlog.open_log(path)


def test_a_copy_of_a_rank_is_named(stores: SimpleNamespace, tmp_path: Path) -> None:
    path = copy(stores.ranks, tmp_path / "run.zarr")
    copy(path / "rank-001", path / "rank-004")
    fails(path, r": rank-001 and rank-004 are both of rank 1")


def test_a_log_beside_ranks_is_refused(stores: SimpleNamespace, tmp_path: Path) -> None:
    path = copy(stores.ranks, tmp_path / "run.zarr")
    format1_store(tmp_path / "own", model())
    for name in ("step", "grads"):
        shutil.copytree(tmp_path / "own" / name, path / name)
    fails(path, r": a log of its own \(`grads`\) lies beside the stores of ranks")


def test_a_single_array_is_no_rank(stores: SimpleNamespace, tmp_path: Path) -> None:
    path = copy(stores.ranks, tmp_path / "run.zarr")
    told = dict(zarr.open_group(path / "rank-002").attrs)
    shutil.rmtree(path / "rank-002")
    zarr.create_array(path / "rank-002", shape=(24, 3), dtype="f4", attributes=told)
    fails(path, r"/rank-002: a single array, and a rank's store is a log of format 1")


def test_ranks_without_rows_or_tensors(stores: SimpleNamespace, tmp_path: Path) -> None:
    path = copy(stores.ranks, tmp_path / "run.zarr")
    shutil.rmtree(path / "rank-003")
    rank_root(path, 3, 4, mesh={"shape": [4], "names": ["fsdp"], "coordinate": [3]})
    fails(path, r"/rank-003: a log of format 1 with no row: nothing was logged yet")
    nothing = tmp_path / "nothing.zarr"
    for rank in range(2):
        add_array(rank_root(nothing, rank, 2), "step", np.arange(4))
    fails(nothing, r": no rank has a tensor")


Changed = Mapping[tuple[int, str], Any]
TENSOR_FAULTS: dict[str, tuple[Changed, str]] = {
    "partial": (
        {(1, "placements"): ["Replicate()", "Partial(sum)"]},
        r"Partial\(sum\) in rank-001: each rank holds a summand, not a part",
    ),
    "partial, short": ({(0, "placements"): ["P"]}, r"P in rank-000: each rank holds a summand"),
    "strided": (
        {(1, "placements"): ["_StridedShard(dim=0, sf=2)"]},
        r"placed as _StridedShard\(dim=0, sf=2\) in rank-001",
    ),
    "placements": (
        {(1, "placements"): [0]},
        r"rank-001: `placements` of its `gradlog` holds 0, which is no text",
    ),
    "global shape": (
        {(1, "global_shape"): [16, 8]},
        r"its global shape is 15x8 in rank-000 and 16x8 in rank-001",
    ),
    "no shape": (
        {(1, "global_shape"): None},
        r"rank-001: `global_shape` of its `gradlog` is None, not a list",
    ),
    "no offset": ({(1, "offset"): [4, -1]}, r"rank-001: `offset` of its `gradlog` is \[4, -1\], not a list"),
    "axes": ({(1, "offset"): [4]}, r"rank-001: `offset` of its `gradlog` has 1 axes, and the box 2"),
    "past": (
        {(3, "offset"): [14, 0]},
        r"the box \[14:17, 0:8\] of rank-003 reaches past the global shape 15x8",
    ),
    "replicas": (
        {(1, "offset"): [0, 0]},
        r"rank-000 and rank-001 both hold \[0:4, 0:8\]: replicas; keep one: under HSDP",
    ),
    "overlap": (
        {(1, "offset"): [3, 0]},
        r"the boxes \[0:4, 0:8\] of rank-000 and \[3:7, 0:8\] of rank-001 overlap",
    ),
    "dtype": ({}, r"float32 in rank-000 and float64 in rank-002"),
    "gap": ({}, r"no rank holds \[4:8, 0:8\] of its global shape 15x8"),
    "metadata": ({}, r"rank-001: the metadata of 'grads/blocks.0.weight' cannot be read"),
    "integers": ({}, r"rank-002: is an array of int32"),
}


def spoil(path: Path, fault: str) -> None:
    name = "grads/blocks.0.weight"
    for (rank, word), value in TENSOR_FAULTS[fault][0].items():
        attributes = zarr.open_group(path / f"rank-{rank:03}")[name].attrs
        told = {**attributes["gradlog"], word: value}
        attributes["gradlog"] = {key: value for key, value in told.items() if value is not None}
    if fault == "gap":
        shutil.rmtree(path / "rank-001" / name)
    elif fault == "metadata":
        (path / "rank-001" / name / "zarr.json").write_text("{")
    elif fault in ("dtype", "integers"):
        group = zarr.open_group(path / "rank-002")
        attributes = dict(group[name].attrs)
        values = np.asarray(group[name][...]).astype("float64" if fault == "dtype" else "int32")
        shutil.rmtree(path / "rank-002" / name)
        add_array(group, name, values, attributes=attributes)


@pytest.mark.parametrize("fault", TENSOR_FAULTS)
def test_tensors_that_do_not_fit(stores: SimpleNamespace, tmp_path: Path, fault: str) -> None:
    """Each is named with its ranks, and the others are still analyzed."""
    path = copy(stores.ranks, tmp_path / "run.zarr")
    spoil(path, fault)
    fails(
        path,
        rf": tensor 'blocks.0.weight': {TENSOR_FAULTS[fault][1]}.*; mend it, or leave it out with --exclude",
    )
    others = {name: values for name, values in model().items() if name != "blocks.0.weight"}
    asked = gradlog.Settings(exclude=("blocks.0.weight*",))
    found, expected = gradlog.analyze(path, asked), gradlog.analyze(stores.single, asked)
    assert [tensor.name for tensor in found.tensors] == sorted(others)
    assert figures(found) == figures(expected)
    told = [warning for warning in gradlog.describe(path).warnings if warning.code == "tensor-unreadable"]
    assert "blocks.0.weight" in told[0].message


def test_where_no_tensor_fits_the_first_is_named(tmp_path: Path) -> None:
    path = write_set(tmp_path / "run.zarr", {"w": walk(5, (4,), 1)}, (2,))
    attributes = zarr.open_group(path / "rank-001")["grads/w"].attrs
    attributes["gradlog"] = {**attributes["gradlog"], "offset": [0]}
    with pytest.raises(
        gradlog.DataError, match=r"run.zarr: tensor 'w': rank-000 and rank-001 both hold \[0:2\]"
    ):
        gradlog.open_log(path)


@settings(max_examples=sweep(100), deadline=None)
@given(st.data())
@example(data=None)
def test_gaps_are_found_wherever_they_are(data: st.DataObject | None) -> None:
    """The box that is named is in no rank's, and inside of the tensor."""
    from gradmf.gradlog.logs.rank_set import _gaps

    if data is None:
        assert next(_gaps((), [])) == ()
        return
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    held = np.zeros(shape, bool)
    boxes = []
    for _ in range(data.draw(st.integers(0, 4))):
        starts = [data.draw(st.integers(0, extent - 1)) for extent in shape]
        box = tuple((a, data.draw(st.integers(a + 1, e))) for a, e in zip(starts, shape, strict=True))
        boxes.append(box)
        held[tuple(slice(*ends) for ends in box)] = True
    found = list(_gaps(tuple((0, extent) for extent in shape), boxes))
    for gap in found:
        inside = held[tuple(slice(*ends) for ends in gap)]
        assert inside.size
        assert not inside.any()
        held[tuple(slice(*ends) for ends in gap)] = True
    assert held.all()


def test_absent_and_damaged_chunks_name_the_rank(tmp_path: Path) -> None:
    path = write_set(tmp_path / "run.zarr", {"w": walk(12, (8, 3), 1)}, (4,), {"w": (4, 1, 3)})
    flip(chunk_files(path / "rank-002", "grads/w")[3], 0)
    fails(path, r": rank-002: tensor 'w': chunk 1/1/0 of grid 3x2x1 \(rows 4-7\) cannot be decoded")
    chunk_files(path / "rank-002", "grads/w")[3].unlink()
    chunk_files(path / "rank-001", "grads/w")[4].unlink()
    fails(
        path,
        r": 2 of 24 chunks are absent: tensor 'w' of rank-001, rank-002 rows 4-11; a format 1 log",
    )
    assert_analysis(gradlog.analyze(path, gradlog.Settings(rows=(0, 4))), {"w": walk(12, (8, 3), 1)[:4]})
    described = gradlog.describe(path).tensors[0]
    assert (described.expected_chunks, described.absent_chunks) == (24, 2)


def test_rows_never_written_are_found_in_any_rank(tmp_path: Path) -> None:
    path = write_set(tmp_path / "run.zarr", {"w": walk(12, (2, 3), 1)}, (2,), {"w": (3, 1, 3)})
    for file in chunk_files(path / "rank-001", "grads/w")[2:]:
        file.unlink()
    (tensor,) = gradlog.open_log(path).tensors
    inventory = tensor.inventory(12)
    assert (inventory.expected, len(inventory.absent)) == (8, 2)
    assert inventory.unwritten_from((0, 12)) == 12  # rank 0 has them
    assert inventory.absent_rows(12) == (6, 11)
    assert inventory.since(9).absent_rows(12) == (9, 11)
    for file in chunk_files(path / "rank-000", "grads/w")[3:]:
        file.unlink()
    assert tensor.inventory(12).unwritten_from((0, 12)) == 9


def test_not_finite_is_told_as_of_one_log(tmp_path: Path) -> None:
    values = walk(9, (6,), 1)
    values[4, 5] = np.nan
    path = write_set(tmp_path / "run.zarr", {"w": values}, (3,))
    fails(path, r"1 entry is NaN or infinite, in 1 row: first tensor 'w', row 4 \(training step 4\)")
    dropped = gradlog.analyze(path, gradlog.Settings(nonfinite="drop"))
    assert dropped.run.rows == 8


def test_folders_named_as_ranks_that_are_none_stay_what_they_are(tmp_path: Path) -> None:
    """Logs without a word of ranks are several logs, in a folder or in a zip."""
    for rank in range(2):
        format1_store(tmp_path / "runs" / f"rank-{rank:03}", {"w": walk(5, (4,), rank)})
    with pytest.raises(gradlog.DataError, match=r"runs: not a Zarr store: but 2 inside it, such as"):
        gradlog.open_log(tmp_path / "runs")
    with pytest.raises(gradlog.DataError, match=r"the zip archive holds 2 stores"):
        gradlog.open_log(zip_members(tmp_path / "runs", tmp_path / "runs.zip"))
    shutil.rmtree(tmp_path / "runs" / "rank-001")
    only = gradlog.open_log(zip_members(tmp_path / "runs", tmp_path / "one.zip"))
    assert (only.ranks, only.warnings) == (None, ())
    zarr.open_group(tmp_path / "runs", mode="a")
    assert gradlog.open_log(tmp_path / "runs").tensors[0].shape == (4,)


@pytest.mark.parametrize("word", ["rank-0", "rank-12345"])
def test_any_number_of_digits(stores: SimpleNamespace, tmp_path: Path, word: str) -> None:
    path = copy(stores.ranks, tmp_path / "run.zarr")
    (path / "rank-003").rename(path / word)
    assert gradlog.open_log(path).ranks == 4
