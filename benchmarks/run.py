"""Time gradmf, plain reading and the peers on made-up logs, side by side.

One command: `python benchmarks/run.py`; `--help` lists the stores and options.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from measure import Sample, run_once
from report import Measured, page
from stores import STORES, Store, add_stores, known_truth, make, named
from ways import Way, environment, ways_for

DEFAULT_STORES = ("wide-zstd", "wide-raw", "tall-chunks", "many-small", "small")


def main() -> None:
    """Make the stores that are missing, run every way in turn, print the tables."""
    options = _options()
    folder: Path = options.folder
    measured = []
    for text in options.store:
        store = named(text, options.size)
        make(store, folder)
        measured.append(_measure(store, folder, options))
    out: Path | None = options.markdown
    report = page(measured, out.read_text() if out is not None and out.exists() else "")
    print(report, end="")
    if out is not None:
        out.write_text(report)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_stores(parser, DEFAULT_STORES)
    parser.add_argument(
        "--way", nargs="+", default=["*"], metavar="GLOB", help="ways to run, such as 'gradmf*'"
    )
    parser.add_argument("--runs", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument(
        "--peer-runs",
        type=int,
        default=1,
        help="rounds in which the slow peers take part too, none of them to warm up (default 1)",
    )
    parser.add_argument(
        "--size", type=float, default=1.0, help="size of the stores, times the usual (default 1)"
    )
    parser.add_argument(
        "--limit", type=float, default=900, help="seconds after which a process is stopped (default 900)"
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="OUT",
        help="also write the tables to this file, whose tables of other stores stay",
    )
    options = parser.parse_args()
    for text in options.store:
        try:
            named(text, options.size)
        except (KeyError, ValueError):
            parser.error(f"no store {text!r}; known are {', '.join(STORES)}, each also as NAME@SIZE")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def _measure(store: Store, folder: Path, options: argparse.Namespace) -> Measured:
    ways = [way for way in ways_for(store) if any(fnmatchcase(way.name, glob) for glob in options.way)]
    left_out = {way.name: why for way in ways if (why := way.obstacle(store))}
    samples: dict[str, list[Sample]] = {way.name: [] for way in ways}
    busy = os.getloadavg()[0]
    if busy > 0.5:
        _say(f"{store.label}: the machine is busy (load {busy:.1f}); figures will drift")
    for turn in range(options.runs + 1):
        for way in ways:
            if way.name in left_out or (way.peer and not 0 < turn <= options.peer_runs):
                continue
            sample = _run(way, store, folder, options.limit)
            _say(f"{store.label}: round {turn}, {way.name}: {sample.failure or f'{sample.seconds:.2f} s'}")
            if sample.failure:
                left_out[way.name] = sample.failure
                samples[way.name] = []
            elif turn:  # the first round fills the caches
                samples[way.name].append(sample)
    return Measured(
        store, ways_for(store), samples, left_out, known_truth(store, folder), _disk(store, folder)
    )


def _run(way: Way, store: Store, folder: Path, limit: float) -> Sample:
    arguments = way.arguments(store, store.path(folder))
    if way.fresh_cache:
        with tempfile.TemporaryDirectory() as cache:
            return run_once(arguments, environment(Path(cache)), limit)
    return run_once(arguments, environment(folder / "cache"), limit)


def _disk(store: Store, folder: Path) -> int:
    walk = os.walk(store.path(folder))  # Path.rglob would hold every name, and the peaks count this process's
    return sum(Path(parent, name).stat().st_size for parent, _, names in walk for name in names)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
