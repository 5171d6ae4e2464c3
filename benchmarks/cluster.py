"""What a local Dask cluster costs beside one process, in seconds of processors, and what its workers hold.

    python benchmarks/cluster.py --markdown docs/benchmarks.md

Whole processes in turn, where the extra `dask` is installed; stores are made first, in the system's temporary
folder or in `--folder`. What a cluster takes to start, and to analyze next to nothing, is subtracted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from report import markdown_table, put_between

WORKERS = 2
RUNS = 100
"""Small runs, each a log of its own."""
LARGE_BAR, MANY_BAR = 1.15, 1.25
MEMORY = 1 << 30
BESIDE = 250 << 20
"""Bytes that a worker may take beside its --memory."""
MAKE = """
import sys
from pathlib import Path
import numpy as np, zarr
folder = Path(sys.argv[1])
def log(path, rows, shapes, chunk_rows, width):
    group = zarr.open_group(path, mode="w")
    for number, (name, size) in enumerate(shapes.items()):
        rng = np.random.default_rng(number)
        chunks = (chunk_rows, min(size, width))
        array = group.create_array(name, shape=(rows, size), dtype="float32", chunks=chunks)
        for first in range(0, rows, chunk_rows):
            height = min(chunk_rows, rows - first)
            array[first : first + height] = rng.standard_normal((height, size), np.float32)
log(folder / "large.zarr", 512, {"weight": 524_288}, 64, 65_536)
log(folder / "tiny.zarr", 2, {"weight": 8}, 2, 8)
log(folder / "small.zarr", 200, {f"layer{t}": 1_000 for t in range(12)}, 50, 1_000)
"""


@dataclass(frozen=True)
class Used:
    """Of a process and those that it started. peak : bytes of the largest that it started, 0 where none"""

    cpu: float
    seconds: float
    peak: int


def main() -> None:
    """Make the logs, run both ways in turn, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (default 3)")
    parser.add_argument("--folder", type=Path, help="for the stores, which need 1.5 GB")
    parser.add_argument("--markdown", type=Path, help="put the table into this file too")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gradmf-cluster-", dir=options.folder))
    try:
        subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True)
        many = [folder / f"run{number:03}.zarr" for number in range(RUNS)]
        for path in many:
            shutil.copytree(folder / "small.zarr", path)
        cases = {
            "1 GiB, N = 512, one tensor of 524,288, zstd": ([folder / "large.zarr"], LARGE_BAR),
            f"{RUNS} runs of 12 tensors of 1,000, N = 200": (many, MANY_BAR),
        }
        for path in (folder / "tiny.zarr", folder / "large.zarr"):
            _used([path], cluster=True)  # kernels are compiled, files are in memory
        rows = []
        for name, (paths, bar) in cases.items():
            plain, taken, started = [], [], []
            for _ in range(options.rounds):
                plain.append(_used(paths, cluster=False))
                taken.append(_used(paths, cluster=True))
                started.append(_used([folder / "tiny.zarr"], cluster=True))
            start = median(used.cpu for used in started)
            share = median((b.cpu - start) / a.cpu for a, b in zip(plain, taken, strict=True))
            peak = max(used.peak for used in taken)
            met = share <= bar and peak <= MEMORY + BESIDE
            rows.append(
                [
                    name, f"{median(used.cpu for used in plain):.1f} s",
                    f"{median(used.cpu for used in taken):.1f} s", f"{start:.1f} s", f"{share:.2f}x",
                    f"{bar:g}x", f"{peak >> 20} MiB", "met" if met else "missed",
                ]
            )  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    heads = [
        "log",
        "one process",
        f"--dask local:{WORKERS}",
        "of it starting",
        "ratio",
        "bar",
        "peak of a worker",
        "",
    ]
    table = markdown_table(heads, rows)
    print(table)
    if options.markdown is not None:
        put_between(options.markdown, "cluster", table)


def _used(paths: list[Path], *, cluster: bool) -> Used:
    program = Path(sys.executable).with_name("gradmf")
    words = [str(program), "analyze", "-q", *map(str, paths), "--format", "jsonl", "--memory", str(MEMORY)]
    words += ["--dask", f"local:{WORKERS}"] if cluster else ["--threads", str(WORKERS)]
    began, peak = time.monotonic(), 0
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, *(_peak(each) for each in _started_by(child.pid)), 0)
        time.sleep(0.05)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        assert child.stderr is not None
        raise SystemExit(child.stderr.read().decode())
    return Used(usage.ru_utime + usage.ru_stime, time.monotonic() - began, peak)


def _started_by(pid: int) -> list[int]:
    """Processes that a process started, and those that these did."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_started_by(child)]
    return found


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    main()
