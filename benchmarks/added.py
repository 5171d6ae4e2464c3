"""What windows, findings and the reference of noise add to `gradmf analyze`.

    python benchmarks/added.py --markdown docs/benchmarks.md

Whole processes in turn, warm: seconds of processors, all threads together. What else runs makes them more and
never less, so that the least of all rounds counts. No option leaves the reference away: the process without
it has its parts replaced by nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import run_once
from report import markdown_table, put_between
from stores import Store, add_stores, make, named
from ways import environment

DEFAULT_STORES = ("wide-zstd", "tall-chunks", "many-small", "many-long", "many-tiny", "small")
MOST_OF_REFERENCE, MOST = 0.03, 0.10
"""What the reference alone, and all three together, may add."""
WINDOWS = "40"

WITHOUT = """
import gc
from gradmf.cli.terminal.processor import tune_openblas
tune_openblas(), gc.disable()  # as the command does, before anything is loaded
import numpy as np
from gradmf.gradlog.measures.noise.energies import EnergySums
from gradmf.gradlog.runs import assembly, group_figures, window_figures
del EnergySums.gradients
assembly.with_references = group_figures.with_references = lambda scopes, *_: scopes
window_figures.window_references = lambda _, windows, energies: np.full((len(energies), len(windows)), np.nan)
"""
ENTRY = "import sys\nfrom gradmf.cli.main import main\nsys.exit(main())"
ANALYZE = ("analyze", "RUN", "OPTIONS", "-o", "OUT")
WAYS: dict[str, tuple[str, ...]] = {
    "without": (WITHOUT + ENTRY, *ANALYZE, "--no-findings"),
    "reference": (ENTRY, *ANALYZE, "--no-findings"),
    "findings": (ENTRY, *ANALYZE),
    "all": (ENTRY, *ANALYZE, "--windows", WINDOWS),
}


def main() -> None:
    """Make the stores that are missing, let the ways take turns on each, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_stores(parser, DEFAULT_STORES)
    parser.add_argument("--runs", type=int, default=7, help="rounds that count (default 7)")
    parser.add_argument("--markdown", type=Path, help="put the table between its marks in this file too")
    options = parser.parse_args()
    rows = []
    for text in options.store:
        store = named(text, 1.0)
        make(store, options.folder)
        rows.append(_measured(store, options.folder, options.runs))
    head = ["store", "CPU s", "reference", "findings", f"{WINDOWS} windows too", ""]
    table = markdown_table(head, rows)
    print(table)
    if options.markdown is not None:
        put_between(options.markdown, "added", table)


def _measured(store: Store, folder: Path, runs: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="gradmf-added-") as out:
        places = {"RUN": str(store.path(folder)), "OUT": str(Path(out) / "run.txt")}
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for turn in range(runs + 1):  # the first fills the caches
            for name, (code, *words) in WAYS.items():
                held = [
                    part
                    for word in words
                    for part in (store.options if word == "OPTIONS" else (places.get(word, word),))
                ]
                sample = run_once((sys.executable, "-c", code, *held), environment(folder / "cache"), 900)
                if sample.failure:
                    sys.exit(f"{store.label}: {name}: {sample.failure}")
                if turn:
                    seconds[name].append(sample.busy)
    added = {name: min(taken) / min(seconds["without"]) - 1 for name, taken in seconds.items()}
    print(f"{store.label}: {added}", file=sys.stderr, flush=True)
    met = added["reference"] <= MOST_OF_REFERENCE, added["all"] <= MOST
    told = "; ".join(
        f"{100 * most:g}% {what}: {'met' if holds else '**missed**'}"
        for most, what, holds in zip((MOST_OF_REFERENCE, MOST), ("reference", "all"), met, strict=True)
    )
    shares = [f"{100 * added[name]:+.1f}%" for name in ("reference", "findings", "all")]
    return [store.label, f"{min(seconds['without']):.2f}", *shares, told]


if __name__ == "__main__":
    main()
