"""What `gradmf import` and `gradmf rechunk` cost beside reading their sources and writing the bytes.

    python benchmarks/copying.py --markdown docs/benchmarks.md

Whole processes in turn, on sources that are made first (2 GB in all, in the system's temporary folder, or in
`--folder`). The bare copy reads each source with the library that wrote it, HDF5 and Zarr in pieces of 16 MB,
and writes the bytes of its arrays, each into a file. Each target is new; neither way syncs files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measure import Sample, median_ratio, run_once
from report import markdown_table, put_between

ROWS, WIDTH, TENSORS = 64, 262_144, 8
"""Of every source: 64 steps of 8 MB."""
BAR = 1.5


@dataclass(frozen=True)
class Case:
    """A source, how it is made, how its bytes are copied, and the words of the command."""

    name: str
    make: str
    copy: str
    gradmf: Callable[[Path, Path], tuple[str, ...]]


COMMON = f"""
import sys
from pathlib import Path
import numpy as np
source, target = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None
ROWS, WIDTH, TENSORS = {ROWS}, {WIDTH}, {TENSORS}
def step(row):
    rng = np.random.default_rng(row)
    shape = (512, WIDTH // 512)
    return {{f"layer{{t}}.weight": rng.standard_normal(shape, np.float32) for t in range(TENSORS)}}
"""
NPZ = """
source.mkdir()
for row in range(ROWS):
    np.savez(source / f"step-{row}.npz", **step(row))
"""
COPY_NPZ = """
target.mkdir()
for row, path in enumerate(sorted(source.iterdir())):
    with np.load(path) as held:
        for name in held.files:
            (target / f"{row}.{name}").write_bytes(held[name].data)
"""
SAFETENSORS = """
from safetensors.numpy import save_file
source.mkdir()
for row in range(ROWS):
    save_file(step(row), source / f"step-{row}.safetensors")
"""
COPY_SAFETENSORS = """
from safetensors.numpy import load_file
target.mkdir()
for row, path in enumerate(sorted(source.iterdir())):
    for name, values in load_file(path).items():
        (target / f"{row}.{name}").write_bytes(values.data)
"""
HDF5 = """
import h5py
with h5py.File(source, "w") as file:
    for t in range(TENSORS):
        shape = (512, WIDTH // 512)
        file.create_dataset(f"layer{t}.weight", (ROWS, *shape), "f4", chunks=(1, *shape))
    for row in range(ROWS):
        for name, values in step(row).items():
            file[name][row] = values
"""
COPY_HDF5 = """
import h5py
target.mkdir()
with h5py.File(source) as file:
    for name, held in file.items():
        with open(target / name, "wb") as out:
            for row in range(0, ROWS, 16):
                out.write(held[row : row + 16].data)
"""
ZARR = """
import zarr
group = zarr.open_group(source, mode="w")
shape, chunks = (ROWS, 512, WIDTH // 512), (1, 512, WIDTH // 512)
for t in range(TENSORS):
    group.create_array(f"layer{t}.weight", shape=shape, chunks=chunks, dtype="f4", compressors=COMPRESSORS)
for row in range(ROWS):
    for name, values in step(row).items():
        group[name][row] = values
"""
COPY_ZARR = """
import zarr
target.mkdir()
group = zarr.open_group(source, mode="r")
for name, held in group.arrays():
    with open(target / name, "wb") as out:
        for row in range(0, ROWS, 16):
            out.write(np.ascontiguousarray(held[row : row + 16]).data)
"""


def _imported(source: Path, target: Path) -> tuple[str, ...]:
    return ("import", "-q", "--step-from", "order", str(source), "-o", str(target))


def _rechunked(source: Path, target: Path) -> tuple[str, ...]:
    return ("rechunk", "-q", str(source), str(target))


CASES = (
    Case("import, .npz", NPZ, COPY_NPZ, _imported),
    Case("import, .safetensors", SAFETENSORS, COPY_SAFETENSORS, _imported),
    Case("import, HDF5", HDF5, COPY_HDF5, _imported),
    Case("import, Zarr", ZARR.replace("COMPRESSORS", "None"), COPY_ZARR, _imported),
    Case("rechunk, a row in a chunk", ZARR.replace("COMPRESSORS", "None"), COPY_ZARR, _rechunked),
    Case("rechunk, the same with zstd", ZARR.replace("COMPRESSORS", "'auto'"), COPY_ZARR, _rechunked),
)


def main() -> None:
    """Make each source, let both ways take turns, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--folder", type=Path, default=None, help="where sources and copies are written")
    parser.add_argument("--markdown", type=Path, help="put the table between its marks in this file too")
    options = parser.parse_args()
    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory(prefix="gradmf-copying-", dir=options.folder) as folder:
            rows.append(_measured(case, Path(folder), options.runs))
    table = markdown_table(["", "copy s", "gradmf s", "x", "peak MB", ""], rows)
    print(table)
    if options.markdown is not None:
        put_between(options.markdown, "copying", table)


def _measured(case: Case, folder: Path, runs: int) -> list[str]:
    source = folder / ("source.h5" if case.copy == COPY_HDF5 else "source")
    made = run_once((sys.executable, "-c", COMMON + case.make, str(source)), os.environ, 600)
    if made.failure:
        sys.exit(f"{case.name}: {made.failure}")
    tool = str(Path(sys.executable).with_name("gradmf"))
    ways = {
        "copy": lambda target: (sys.executable, "-c", COMMON + case.copy, str(source), str(target)),
        "gradmf": lambda target: (tool, *case.gradmf(source, target)),
    }
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    for turn in range(runs + 1):  # the first warms the cache of files
        for name, words in ways.items():
            target = folder / f"{name}-{turn}.zarr"
            sample = run_once(words(target), os.environ, 600)
            if sample.failure:
                sys.exit(f"{case.name}: {name}: {sample.failure}")
            shutil.rmtree(target)
            if turn:
                samples[name].append(sample)
    ratio = median_ratio(samples["gradmf"], samples["copy"])
    assert ratio is not None
    print(f"{case.name}: {ratio:.2f}x", file=sys.stderr, flush=True)
    seconds = [f"{median(sample.seconds for sample in samples[name]):.2f}" for name in ways]
    peak = max(sample.peak_bytes for sample in samples["gradmf"]) / 1e6
    verdict = f"{BAR:g}x: {'met' if ratio <= BAR else '**missed**'}"
    return [case.name, *seconds, f"{ratio:.2f}", f"{peak:.0f}", verdict]


if __name__ == "__main__":
    main()
