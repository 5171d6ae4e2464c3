"""Peak memory follows `--memory`, not the size of the log: measured on whole processes.

Allowed is 1.25 times `--memory` above what the interpreter and its libraries take by themselves, which is the
peak of the same process on a log of 40 rows and 10 parameters (110 to 155 MB, with or without zarrs), and
what two threads take to decode a compressed chunk each.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from stores import foreign_store, walk
from zarr.codecs import ZstdCodec

from gradmf import gradlog
from reference import path_length

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
MB = 1 << 20
ALLOWED = 1.25
SCRIPT = """
import sys
from gradmf import gradlog
path, rank, memory = sys.argv[1], sys.argv[2], int(sys.argv[3])
try:
    gradlog.analyze(path, gradlog.Settings(rank=rank), memory=memory, threads=2)
except gradlog.MemoryLimitError as error:
    print("refused:", error)
else:
    print("done")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(path: Path, rank: str, memory: int) -> int | None:
    """Peak bytes of a process that analyzes the log; None where it refuses for want of memory."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, path, rank, str(memory)], capture_output=True, text=True, check=True
    )
    outcome, kilobytes = done.stdout.splitlines()
    return None if outcome.startswith("refused") else int(kilobytes) << 10


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Peak of an analysis of next to nothing."""
    path = foreign_store(tmp_path_factory.mktemp("base") / "run.zarr", {"w": walk(40, (10,), 1)})
    found = peak(path, "exact", 128 * MB)
    assert found is not None
    return found


def large_store(path: Path, rows: int, columns: int, chunks: tuple[int, int], **options: Any) -> Path:
    """An array of noise, written a row of chunks (or of shards) at a time."""
    dtype = options.pop("dtype", "f4")
    array = zarr.create_array(path, shape=(rows, columns), chunks=chunks, dtype=dtype, **options)
    height = options.get("shards", chunks)[0]
    noise = np.random.default_rng(1).standard_normal((height, columns), dtype="f4")
    for first in range(0, rows, height):
        count = min(height, rows - first)
        array[first : first + count] = (noise[:count] * (1 + first)).astype(dtype)
    return path


def decoding_bytes(path: Path) -> int:
    """Of two chunks, as stored and decoded; 0 where they are read without decoding."""
    array = zarr.open_array(path, mode="r")
    return 4 * int(np.prod(array.chunks)) * array.dtype.itemsize if array.compressors else 0


def assert_within(found: int | None, memory: int, base: int, decoding: int = 0) -> None:
    assert found is not None, "refused"
    above = found - base
    assert above <= ALLOWED * memory + decoding, (
        f"{above / MB:.0f} MB above {base / MB:.0f} MB, {memory / MB:.0f} MB given"
    )


RAW: dict[str, Any] = {"compressors": None}
ZSTD: dict[str, Any] = {"compressors": ZstdCodec(level=0)}


@pytest.mark.parametrize("rank", ["none", "exact"])
def test_four_times_the_parameters_take_no_more(tmp_path: Path, base: int, rank: str) -> None:
    peaks = []
    for columns in (65_536, 262_144):
        path = large_store(tmp_path / f"{columns}.zarr", 256, columns, (64, 8192), **ZSTD)
        found = peak(path, rank, 64 * MB)
        assert_within(found, 64 * MB, base)
        assert found is not None
        peaks.append(found - base)
    assert peaks[1] <= peaks[0] + 32 * MB


STORES: dict[str, Callable[[Path], Path]] = {
    "raw": lambda path: large_store(path, 512, 300_000, (64, 65_536), **RAW),
    "zstd": lambda path: large_store(path, 512, 300_000, (64, 65_536), **ZSTD),
    "zstd-small-chunks": lambda path: large_store(path, 512, 300_000, (64, 4096), **ZSTD),
    "float16": lambda path: large_store(path, 512, 600_000, (64, 65_536), dtype="f2", **ZSTD),
    "float64": lambda path: large_store(path, 512, 150_000, (64, 65_536), dtype="f8", **ZSTD),
    "sharded": lambda path: large_store(path, 512, 300_000, (16, 16_384), shards=(256, 131_072), **ZSTD),
    "row-by-row": lambda path: large_store(path, 300, 500_000, (1, 500_000), **ZSTD),
    "row-by-row-raw": lambda path: large_store(path, 300, 500_000, (1, 500_000), **RAW),
    "many-rows": lambda path: large_store(path, 1200, 131_072, (64, 65_536), **ZSTD),
}


@pytest.fixture(scope="module", params=STORES)
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 600 MB."""
    return STORES[request.param](tmp_path_factory.mktemp("large") / "run.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("memory", [128 * MB, 256 * MB])
@pytest.mark.parametrize("rank", ["none", "exact", "auto"])
def test_large_logs(large: Path, base: int, rank: str, memory: int) -> None:
    assert_within(peak(large, rank, memory), memory, base, decoding_bytes(large))


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["none", "exact"])
def test_a_chunk_larger_than_memory(tmp_path: Path, base: int, rank: str) -> None:
    """It cannot be decoded within memory: said so, or done within what was given, never far beyond."""
    path = large_store(tmp_path / "run.zarr", 300, 500_000, (300, 500_000), **ZSTD)
    found = peak(path, rank, 128 * MB)
    if found is not None:
        assert_within(found, 128 * MB, base)


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["none", "exact"])
def test_thousands_of_scalars(tmp_path: Path, base: int, rank: str) -> None:
    """Every parameter a tensor of its own: 4,000 values a row."""
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=64) as writer:
        for step in range(64):
            writer.append(
                step, {f"scale.{index:04}": np.float32(np.sin(step * index)) for index in range(4000)}
            )
    assert_within(peak(tmp_path / "run.zarr", rank, 64 * MB), 64 * MB, base)


@pytest.mark.parametrize("rank", ["exact", "none", "incremental"])
@pytest.mark.parametrize("spec", ["mean:1000000000000"])
def test_a_window_longer_than_the_run(tmp_path: Path, rank: str, spec: str) -> None:
    """The mean of the last min(K, t) gradients needs no more of them than there are."""
    values = walk(40, (10,), 1)
    path = foreign_store(tmp_path / "run.zarr", {"w": values})
    script = (
        "import resource, sys; from gradmf import gradlog;"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30));"
        "s = gradlog.Settings(rank=sys.argv[2], predictors=(sys.argv[3],));"
        "print(gradlog.analyze(sys.argv[1], s, threads=2).total.predictors[-1].path_length)"
    )
    done = subprocess.run([sys.executable, "-c", script, path, rank, spec], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-300:]
    assert float(done.stdout) == pytest.approx(path_length(values.astype("f8"), "mean:39").path_length)
