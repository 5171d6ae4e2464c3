"""Time logs in a bucket: bare reads and gradmf, with the requests of each, and the listing of many chunks.

`python benchmarks/scale.py` needs the extra `remote`. The bucket is served on the loopback by a process of
its own, which waits before every answer, as a network does. With --planning, the plan of a log of 70 billion
parameters is timed instead, whose metadata is made up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from measure import run_once
from report import markdown_table, put_between
from zarr.codecs import Crc32cCodec
from zarr.storage import ObjectStore

from gradmf import gradlog
from gradmf.gradlog.logs.store import ZARR_PIPELINE, ZARRS_PIPELINE, zarrs_is_installed

SERVER = Path(__file__).parent.parent / "tests" / "bucket_server.py"
ROWS, COLUMNS = 64, 1 << 20
"""256 MB of float32."""
LISTED = 100_000
"""Chunks of the log that is only listed."""
AT_ONCE = 128
LIMIT = 1.3
"""Times the better bare reader."""
LISTING_SECONDS, LISTING_REQUESTS = 2.0, 100
PLANNED = Path(__file__).parent.parent / "docs" / "shapes-70b.json"
PLANNING_SECONDS, PLANNING_MB = 20.0, 500
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks of 4 MB": {"chunks": (1, 1 << 20), "compressors": [Crc32cCodec()]},
    "chunks of 64 KB": {"chunks": (1, 1 << 14), "compressors": [Crc32cCodec()]},
    "chunks of 64 KB, zstd": {"chunks": (1, 1 << 14)},
    "shards of 16 MB / 64 KB": {
        "chunks": (1, 1 << 14), "shards": (4, 1 << 20), "compressors": [Crc32cCodec()],
    },
}  # fmt: skip


@dataclass
class Timed:
    """The best of some runs. requests : of the last"""

    seconds: float
    requests: int


def main() -> None:
    """Make the logs, serve them, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--latency", type=float, default=0.03, help="seconds before an answer (default 0.03)")
    parser.add_argument("--only", nargs="*", default=list(LAYOUTS), metavar="LOG", help="logs to read")
    parser.add_argument("--runs", type=int, default=3, help="rounds, of which the best counts (default 3)")
    parser.add_argument("--planning", action="store_true", help="time the plan of a large model alone")
    parser.add_argument("--markdown", type=Path, help="put its table between its marks in this file too")
    options = parser.parse_args()
    if options.planning:
        _time_planning(options.runs, options.markdown)
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, layout) in enumerate(LAYOUTS.items()):
            if name in options.only or not number:
                _write(Path(folder) / f"{number}.zarr", layout)
        _write_many(Path(folder) / "many.zarr")
        with _served(folder, options.latency) as requests:
            settings = gradlog.Settings(rank="none", predictors=("one-step",), rows=(0, 2))
            gradlog.analyze("s3://bucket/0.zarr", settings)
            rows: list[list[str]] = []
            for number, name in enumerate(LAYOUTS):
                if name in options.only:
                    rows += _compare(name, f"{number}.zarr", options.runs, requests)
            found = _best(lambda: _list("s3://bucket/many.zarr"), options.runs, requests)
            limit = f"{LISTING_SECONDS:g} s, {LISTING_REQUESTS} listings beside the metadata"
            told = f"{limit}: {_said(found.seconds <= LISTING_SECONDS)}"
            chunks = f"{LISTED:,} chunks"
            rows.append([chunks, "inventory", f"{found.seconds:.2f}", str(found.requests), "", told])
    table = markdown_table(["log", "way", "seconds", "requests", "to the better bare read", ""], rows)
    print(table)
    if options.markdown is not None:
        put_between(options.markdown, "bucket", table)


def _time_planning(runs: int, markdown: Path | None) -> None:
    """The whole process, from words to figures."""
    tool = str(Path(sys.executable).with_name("gradmf"))
    words = ("analyze", "--plan", "--like", str(PLANNED), "--workers", "800")
    samples = [run_once((tool, *words), os.environ, 600) for _ in range(runs)]
    for sample in samples:
        if sample.failure:
            sys.exit(sample.failure)
    seconds = min(sample.seconds for sample in samples)
    peak = max(sample.peak_bytes for sample in samples) / 1e6
    limit = f"{PLANNING_SECONDS:g} s: {_said(seconds <= PLANNING_SECONDS)}; "
    limit += f"{PLANNING_MB} MB: {_said(peak <= PLANNING_MB)}"
    ranges = f"{gradlog.describe_plan(gradlog.declared_log(PLANNED), workers=800).ranges:,}"
    table = markdown_table(
        ["", "ranges", "seconds", "peak MB", ""],
        [["70 billion parameters x 1,000 rows", ranges, f"{seconds:.2f}", f"{peak:.0f}", limit]],
    )
    print(table)
    if markdown is not None:
        put_between(markdown, "planning", table)


def _compare(name: str, path: str, runs: int, requests: Callable[[], int]) -> list[list[str]]:
    pipelines = {"zarr-python": ZARR_PIPELINE}
    if zarrs_is_installed() and "shards" in name:  # of others it takes minutes
        pipelines["zarrs"] = ZARRS_PIPELINE
    ways: dict[str, Callable[[], object]] = {
        f"bare read, {reader}": lambda pipeline=pipeline: _read(path, pipeline)  # type: ignore[misc]
        for reader, pipeline in pipelines.items()
    }
    settings = gradlog.Settings(rank="none", predictors=("one-step",))
    ways["gradmf analyze"] = lambda: gradlog.analyze(f"s3://bucket/{path}", settings)
    found = {way: _best(work, runs, requests) for way, work in ways.items()}
    better = min(timed.seconds for way, timed in found.items() if way.startswith("bare"))
    rows = []
    for way, timed in found.items():
        ratio = timed.seconds / better
        told = "" if way.startswith("bare") else f"{LIMIT}x: {_said(ratio <= LIMIT)}"
        rows.append([name, way, f"{timed.seconds:.2f}", str(timed.requests), f"{ratio:.2f}x", told])
        print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
    return rows


def _said(met: bool) -> str:
    return "met" if met else "**missed**"


def _best(work: Callable[[], object], runs: int, requests: Callable[[], int]) -> Timed:
    best = Timed(float("inf"), 0)
    for _ in range(runs):
        before, began = requests(), time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        best = Timed(min(best.seconds, seconds), requests() - before)
    return best


def _read(path: str, pipeline: str) -> None:
    from obstore.store import S3Store

    settings = {"async.concurrency": AT_ONCE, "codec_pipeline.path": pipeline}
    with zarr.config.set(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = S3Store("bucket", prefix=path, client_options={"allow_http": True})
        zarr.open_array(ObjectStore(store, read_only=True), path="grads/w", mode="r")[...]


def _list(url: str) -> None:
    found = gradlog.describe(url).tensors[0]
    assert (found.expected_chunks, found.absent_chunks) == (LISTED, 0)


def _write(path: Path, layout: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    group = zarr.create_group(path, attributes={"gradlog": {"version": 1}})
    array = group.create_array(
        "grads/w", shape=(ROWS, COLUMNS), dtype="float32", config={"write_empty_chunks": True}, **layout
    )
    for row in range(0, ROWS, 4):
        array[row : row + 4] = rng.standard_normal((4, COLUMNS), dtype=np.float32)
    _write_steps(group, ROWS)


def _write_many(path: Path) -> None:
    """A log of chunks of one number each, which the server makes up."""
    rows = LISTED // 100
    group = zarr.create_group(path, attributes={"gradlog": {"version": 1}})
    group.create_array("grads/w", shape=(rows, 100), chunks=(1, 1), dtype="float32", compressors=None)
    _write_steps(group, rows)


def _write_steps(group: zarr.Group, rows: int) -> None:
    steps = group.create_array("step", shape=(rows,), chunks=(rows,), dtype="int64")
    steps[...] = np.arange(rows)


@contextlib.contextmanager
def _served(folder: str, latency: float) -> Iterator[Callable[[], int]]:
    """Serve a folder as a bucket; what tells how many requests there were so far."""
    command = [sys.executable, str(SERVER), str(latency), folder, f"many.zarr/grads/w/c/={LISTED}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": address,
        }  # fmt: skip

        def requests() -> int:
            with urllib.request.urlopen(f"{address}/_requests") as answer:
                return len(answer.read().splitlines())

        try:
            yield requests
        finally:
            server.stdin.close()


if __name__ == "__main__":
    main()
