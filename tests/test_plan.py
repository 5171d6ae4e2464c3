"""Plans: what is chosen for which log, and that it fits the memory that was granted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from stores import add_array, walk

from conftest import assert_analysis, write_store
from documents import run
from gradmf import gradlog
from gradmf.gradlog.engine import ranges
from gradmf.gradlog.logs.store import zarrs_is_installed
from gradmf.gradlog.measures.incremental.incremental_spectra import BASIS_LEAST
from gradmf.gradlog.measures.incremental.incremental_spectrum import BASIS_START
from gradmf.gradlog.measures.spectra import costs
from gradmf.gradlog.runs.preparation import prepare


def bare(path: Path, rows: int, parameters: int, chunks: tuple[int, int]) -> Path:
    """A store without any chunk: plans don't read gradients."""
    zarr.create_array(path, shape=(rows, parameters), chunks=chunks, dtype="float32")
    return path


def plan(path: Path, memory: str = "1G", **settings: object) -> gradlog.PlanDescription:
    size = int(memory[:-1]) << {"M": 20, "G": 30}[memory[-1]]
    return gradlog.describe_plan(path, gradlog.Settings(**settings), memory=size)  # type: ignore[arg-type]


def test_methods(tmp_path: Path) -> None:
    wide = bare(tmp_path / "wide.zarr", 512, 524_288, (64, 65_536))
    assert plan(wide).method == "exact"
    assert plan(wide, rank="none").method == "none"
    assert plan(wide, rank="incremental").method == "incremental"
    long = bare(tmp_path / "long.zarr", 40_000, 16_384, (64, 16_384))
    assert plan(long).method == "incremental"
    assert plan(long).basis_rows >= 64
    with pytest.raises(gradlog.MemoryLimitError, match="--rank none"):
        plan(long, rank="exact")
    wide = bare(tmp_path / "huge.zarr", 40_000, 3_000_000, (16, 3_000_000))
    assert plan(wide).method == "sketch"
    assert "512 dimensions, the most that memory allows" in plan(wide).words[0]
    assert (
        "asked for): a random projection of every increment to 64"
        in plan(wide, rank="sketch", sketch_dim=64).words[0]
    )
    few = bare(tmp_path / "few.zarr", 40_000, 100, (64, 100))
    assert plan(few).method == "exact"
    assert "100 x 100 matrix of inner products of parameters" in plan(few).words[0]


def test_auto_weighs_costs(tmp_path: Path) -> None:
    """Exact for a few seconds, or where nothing that is as certain is much faster."""
    assert costs.TYPICAL_BASIS == BASIS_START == BASIS_LEAST
    short = plan(bare(tmp_path / "short.zarr", 2_000, 65_536, (64, 16_384)))
    assert short.method == "exact"
    assert "exact rank (its arithmetic takes" in short.words[0]
    long = plan(bare(tmp_path / "long.zarr", 4_000, 65_536, (64, 16_384)))
    assert long.method == "incremental"
    assert "matrices take about 10 s, this about 2 s; --rank exact" in long.words[0]
    wide = plan(bare(tmp_path / "wide.zarr", 2_000, 4_000_000, (64, 16_384)))
    assert wide.method == "exact"
    assert "and nothing else is much cheaper" in wide.words[0]
    asked = plan(tmp_path / "long.zarr", rank="exact")
    assert asked.method == "exact"
    assert "exact rank (asked for)" in asked.words[0]
    assert asked.seconds > 3 * long.seconds


@pytest.mark.parametrize("memory", ["64M", "200M", "1G"])
def test_blocks_leave_room_for_what_columns_carry(tmp_path: Path, memory: str) -> None:
    """One row a chunk: as many rows fit into a block as there is room beside the columns' history."""
    path = bare(tmp_path / "tall.zarr", 256, 1_048_576, (1, 1_048_576))
    size = int(memory[:-1]) << {"M": 20, "G": 30}[memory[-1]]
    for rank in ("sketch", "none"):
        assert plan(path, memory, rank=rank).memory <= 1.1 * size


@pytest.mark.parametrize("memory", ["64M", "200M", "512M", "1G", "3G"])
@pytest.mark.parametrize("rank", ["auto", "none"])
def test_memory_is_kept_and_chunks_are_decoded_once_where_that_fits(
    tmp_path: Path, memory: str, rank: str
) -> None:
    size = int(memory[:-1]) << {"M": 20, "G": 30}[memory[-1]]
    for name, rows, parameters, chunks in [
        ("wide", 512, 524_288, (64, 65_536)),
        ("tall", 256, 1_048_576, (1, 1_048_576)),
        ("narrow", 1000, 50_000, (100, 1000)),
    ]:
        path = tmp_path / f"{name}.zarr"
        if not path.exists():
            bare(path, rows, parameters, chunks)
        found = plan(path, memory, rank=rank)
        assert found.memory <= 1.1 * size
        if found.decodes == 1:
            assert found.decoded_bytes == 4 * rows * parameters
        else:
            together = 4 * rows * chunks[1] if rank == "auto" else 80 * chunks[1]
            assert together > 0.7 * size, "this could have been decoded once"
            assert "chunks-decoded-again" in [warning.code for warning in found.warnings]


def test_a_chunk_that_cannot_be_decoded_within_memory_is_refused(tmp_path: Path) -> None:
    chunks = (64, 2_000_000)
    path = bare(tmp_path / "run.zarr", 640, 2_000_000, chunks)
    with pytest.raises(gradlog.MemoryLimitError, match="a chunk of tensor 'grads' takes 977M") as caught:
        plan(path, rank="none")
    asked = str(caught.value).rpartition("--memory ")[2]
    assert plan(path, asked, rank="none").decodes == 1
    # What is not compressed is read in part.
    raw = tmp_path / "raw.zarr"
    zarr.create_array(raw, shape=(640, 2_000_000), chunks=chunks, dtype="float32", compressors=None)
    assert plan(raw, rank="none").memory < 1.1 * (1 << 30)


def test_small_tensors_are_read_together_as_far_as_their_sums_fit(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    for index in range(100):
        group.create_array(f"scale.{index}", shape=(20_000, 8), chunks=(20_000, 8), dtype="float32")
    assert plan(tmp_path / "run.zarr", "256M", rank="none").ranges > 4
    assert plan(tmp_path / "run.zarr", "8G", rank="none").ranges == 1


def test_too_little_memory_says_how_much_it_takes(tmp_path: Path) -> None:
    path = bare(tmp_path / "run.zarr", 40_000, 4_500_000, (1, 4_500_000))
    with pytest.raises(gradlog.MemoryLimitError) as caught:
        plan(path, rank="incremental")
    assert str(path) in str(caught.value)
    assert "give --memory" in str(caught.value)
    with pytest.raises(gradlog.MemoryLimitError, match=r"as a sketch, .* give --memory"):
        plan(path, "100M")
    assert caught.value.exit_code == 2


def test_command(tmp_path: Path) -> None:
    gradients = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
    path = write_store(tmp_path / "run.zarr", {"w": gradients})
    shown = run(f"gradmf analyze {path} --plan")
    assert "every chunk is decoded once" in shown
    assert "exact" in shown
    document = json.loads(run(f"gradmf analyze {path} --plan --format jsonl"))
    assert document["schema"] == "gradmf.plan/1"
    assert document["method"] == "exact"
    assert document["decoded_bytes"] == gradients.nbytes
    assert "csv" in run(f"gradmf analyze {path} --plan --format csv")


@pytest.mark.parametrize("rank", ["auto", "exact", "incremental", "sketch", "none"])
def test_what_decides_on_bits_does_not_follow_from_threads(tmp_path: Path, rank: str) -> None:
    """Also where memory is so scarce that what tiles in work take counts."""
    path = bare(tmp_path / "run.zarr", 300, 20_000, (60, 5_000))
    dim = 64 if rank == "sketch" else None
    settings = gradlog.Settings(rank=rank, subspace=3, sketch_dim=dim)
    planned = 0
    for memory in (4, 6, 8, 12, 16, 24, 32, 64):
        orders = []
        for threads in (1, 2, 3, 8, 13, 40):
            try:
                ready = prepare(path, settings, threads, memory << 20)
            except gradlog.MemoryLimitError:
                orders.append(None)
            else:
                assert ready.plan.workers <= threads
                orders.append(ready.plan.order)
        assert all(order == orders[0] for order in orders), f"{memory}M"
        planned += orders[0] is not None
    assert planned >= 3


@pytest.mark.parametrize("rank", ["exact", "none"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(9_000,), (37, 250), (3, 5, 700)], ids=str)
def test_chunks_stored_as_they_are_are_read_in_pieces(
    tmp_path: Path, rank: str, dtype: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One chunk a row and tensor, as a naive dump writes it: pieces of it cost no more than their bytes."""
    if not zarrs_is_installed():
        pytest.skip("zarr-python reads chunks whole")
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(ranges, "TALL_WIDTH", 512)
    values = walk(12, shape, 1)
    stored, attributes = values.astype(dtype) if dtype != "bfloat16" else values, {}
    if dtype == "bfloat16":
        stored = (values.view(np.uint32) >> 16).astype(np.uint16)
        values = (stored.astype(np.uint32) << 16).view(np.float32)
        attributes = {"gradlog": {"dtype": "bfloat16"}}
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    add_array(group, "w", stored, chunks=(1, *shape), compressors=None, attributes=attributes)
    described = gradlog.describe_plan(tmp_path / "run.zarr", gradlog.Settings(rank=rank))
    assert described.decodes == 1
    assert described.ranges > 3
    assert described.warnings == ()
    analysis = gradlog.analyze(tmp_path / "run.zarr", gradlog.Settings(rank=rank))
    assert_analysis(analysis, {"w": stored if dtype != "bfloat16" else values})


def test_path_lengths_alone_never_take_longer_than_ranks(tmp_path: Path) -> None:
    for name, rows, parameters, chunks in [
        ("tall", 12, 4_000_000, (1, 4_000_000)),
        ("wide", 512, 524_288, (64, 65_536)),
        ("long", 4_000, 65_536, (64, 16_384)),
    ]:
        path = bare(tmp_path / f"{name}.zarr", rows, parameters, chunks)
        for memory in ("128M", "1G") if rows < 4_000 else ("1G",):
            assert plan(path, memory, rank="none").seconds <= plan(path, memory, rank="exact").seconds
