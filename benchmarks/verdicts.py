"""How often verdicts are false where nothing differs, and how often they find what was planted.

    python benchmarks/verdicts.py compare --markdown docs/compare.md

Seeded; takes minutes. `--markdown` writes the tables between the marks that the file has for them.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

from report import put_between

KINDS = {
    "compare": "verdicts_compare",
    "ranks": "verdicts_ranks",
    "bounds": "verdicts_bounds",
    "advise": "verdicts_advice",
    "findings": "verdicts_findings",
}
"""Modules of tables, by what they are about."""


def main() -> None:
    """Print the tables of one kind, and write them into the file that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--pairs", type=int, default=400, help="of runs, for each cell")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where to write the tables")
    asked = parser.parse_args()
    lines: Iterator[str] = importlib.import_module(KINDS[asked.kind]).tables(asked.pairs)
    held = []
    for line in lines:
        print(line, flush=True)
        held.append(line)
    if asked.markdown:
        put_between(asked.markdown, f"verdicts {asked.kind}", "\n".join(held))


if __name__ == "__main__":
    main()
