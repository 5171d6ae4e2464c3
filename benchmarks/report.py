"""The tables, as aligned Markdown: read the same on a terminal and on a page."""

from __future__ import annotations

import json
import os
import platform
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from answers import EPSILONS, Answer, kappa_error, parse, square_errors
from bars import Bar, bars_for
from measure import Sample, median_ratio
from stores import Store
from ways import Way

PACKAGES = ("gradmf", "numpy", "zarr", "numba", "zarrs", "dask", "scikit-learn", "pymor")
BY_HAND = "numpy-by-hand"
EXPLANATION = (
    "Whole processes, in turn, files cached; medians of as many rounds as each table says, after one that"
    " isn't counted (of the slow peers fewer rounds). `x` is the time divided by that of the reference "
    "within the same round; compare these, as seconds drift. The errors compare with `numpy-by-hand`: "
    "`kappa off` is the largest relative error of a kappa, `sigma^2 off` the largest among the squared "
    "singular values printed, as a share of all energy and (in brackets) relative to the value itself. "
    "`r*` is for eps 0.1, 0.05 and 0.01, with its bounds where they differ."
)


@dataclass(frozen=True)
class Measured:
    """Everything measured on one store: samples by way's name, and a word for the ways left out."""

    store: Store
    ways: tuple[Way, ...]
    samples: Mapping[str, Sequence[Sample]]
    left_out: Mapping[str, str]
    truth: Mapping[str, list[int]]
    disk_bytes: int


def page(measured: Sequence[Measured], before: str = "") -> str:
    """The whole report. before : an earlier one, whose sections on other stores stay."""
    heads = before.split("\n## ")[1:]
    sections = {head.partition("\n")[0]: head.partition("\n")[2].strip() for head in heads}
    for one in measured:
        parts = (_about(one), _counted(one), _table(one), _notes(one))
        sections[one.store.label] = "\n\n".join(part for part in parts if part)
    told = [f"## {label}\n\n{section}" for label, section in sections.items()]
    return "\n\n".join(["# Benchmarks", _conditions(), *told]) + "\n"


def _conditions() -> str:
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{date.today().isoformat()}; {os.cpu_count()} cores, {memory:.0f} GiB of memory"
    texts = (f"{machine}; {', '.join(versions)}.", EXPLANATION)
    return "\n\n".join(textwrap.fill(text, 110) for text in texts)


def _counted(one: Measured) -> str:
    rounds = max((len(samples) for samples in one.samples.values()), default=0)
    return f"{rounds} round{'s' * (rounds > 1)}."


def _about(one: Measured) -> str:
    store = one.store
    size = "" if store.size == 1 else f", {store.size:g} times that size"
    options = f" gradmf runs with `{' '.join(store.options)}`." if store.options else ""
    count = f"{len(store.tensors)} tensor{'s' * (len(store.tensors) > 1)}"
    return textwrap.fill(
        f"{store.shows}{size}. {store.rows:,} rows of {store.parameters:,} parameters in {count}, "
        f"{one.disk_bytes / 1e6:,.0f} MB on disk.{options}",
        110,
    )


def _table(one: Measured) -> str:
    answers = {name: parse(samples[0].output) for name, samples in one.samples.items() if samples}
    reference = answers.get(BY_HAND)
    # The energy of H, to read r* off singular values of those that print no more.
    analyzed = answers.get("gradmf analyze", Answer())
    energy = reference.energy if reference else analyzed.energy
    starting = one.store.name == "small"
    rows: list[list[str]] = []
    for way in one.ways:
        samples = one.samples.get(way.name)
        if not samples:
            if way.name in one.left_out:
                rows.append([way.name, *[""] * (3 if starting else 6), one.left_out[way.name]])
            continue
        ratio = median_ratio(samples, one.samples.get(way.reference, []))
        row = [
            way.name,
            f"{median(sample.seconds for sample in samples):.2f}",
            "-" if ratio is None else "1" if way.name == way.reference else f"{ratio:.2f}",
            f"{median(sample.peak_bytes for sample in samples) / 1e6:,.0f}",
        ]
        if not starting:
            answer = answers[way.name]
            row += _accuracy(answer, None if way.name == BY_HAND else reference, energy)
        verdicts = [_verdict(bar, one, samples, ratio, answers.get(way.name)) for bar in _bars(one, way)]
        rows.append([*row, "; ".join(verdict for verdict in verdicts if verdict)])
    head = ["way", "seconds", "x", "peak MB"]
    if not starting:
        head += ["kappa off", "sigma^2 off", "r*"]
        if one.truth:
            truth = _join([_range(*one.truth[eps]) for eps in EPSILONS])
            rows.append(["(the truth)", *[""] * 5, truth])
    return markdown_table([*head, "note"], rows)


def _accuracy(answer: Answer, reference: Answer | None, energy: float | None) -> list[str]:
    kappa = kappa_error(answer, reference) if reference else None
    squares = square_errors(answer, reference) if reference else None
    ranks = answer.rank_within(energy)
    texts = [_interval(ranks[eps]) for eps in EPSILONS if eps in ranks]
    return [
        "" if kappa is None else f"{kappa:.0e}",
        "" if squares is None else f"{squares[0]:.0e} ({_percent(squares[1])})",
        _join(texts) + (f" {answer.method}" if answer.method not in ("", "exact") else ""),
    ]


def _bars(one: Measured, way: Way) -> list[Bar]:
    """At other sizes than 1 only the bars on memory and on what is printed hold."""
    bars = bars_for(one.store.name, way.name)
    return [bar for bar in bars if one.store.size == 1 or bar.measure in ("peak", "interval")]


def _verdict(
    bar: Bar, one: Measured, samples: Sequence[Sample], ratio: float | None, answer: Answer | None
) -> str | None:
    """The bar and whether it is met; None where what it needs wasn't measured."""
    found: float | None = None
    below = True
    if bar.measure == "plan":
        return _plan_verdict(bar, one, samples)
    if bar.against is not None:
        found = median_ratio(samples, one.samples.get(bar.against, []))
        text = f"{bar.limit:g}x of {bar.against}" + ("" if found is None else f" ({found:.2f}x)")
    elif bar.measure == "ratio":
        found, text = ratio, f"{bar.limit:g}x"
    elif bar.measure == "seconds":
        found, text = median(sample.seconds for sample in samples), f"{bar.limit:g} s"
    elif bar.measure == "peak":
        found, text = median(sample.peak_bytes for sample in samples) / 1e6, f"{bar.limit:g} MB"
    elif bar.measure == "faster":
        faster = median_ratio(one.samples.get(BY_HAND, []), samples)
        found, below = faster, False
        text = f"{bar.limit:g}x faster than by hand"
        if faster is not None:
            text += f" ({faster:.1f}x)"
    else:
        return _interval_verdict(bar, one.truth, answer)
    if found is None or bar.limit is None:
        return None
    met = found <= bar.limit if below else found >= bar.limit
    goal = ""
    if bar.goal is not None:
        goal = f", goal {bar.goal:g}x {'met' if found <= bar.goal else 'not yet'}"
    return f"{text}: {'met' if met else '**missed**'}{goal}"


def _plan_verdict(bar: Bar, one: Measured, samples: Sequence[Sample]) -> str | None:
    planned = one.samples.get(f"{bar.way} --plan")
    if not planned or bar.limit is None:
        return None
    said = float(json.loads(planned[0].output)["seconds"])
    took = median(sample.seconds for sample in samples)
    met = took / bar.limit <= said <= took * bar.limit
    return f"--plan says {said:.1f} s, within {bar.limit:g}x: {'met' if met else '**missed**'}"


def _interval_verdict(bar: Bar, truth: Mapping[str, list[int]], answer: Answer | None) -> str | None:
    if answer is None or not answer.rank or not truth:
        return None
    text = "holds the truth" + ("" if bar.limit is None else f", at most {bar.limit:g} wide")
    met = all(
        eps in answer.rank
        and answer.rank[eps][0] <= greatest
        and answer.rank[eps][2] >= least
        and (bar.limit is None or answer.rank[eps][2] - answer.rank[eps][0] <= bar.limit)
        for eps, (least, greatest) in truth.items()
    )
    return f"{text}: {'met' if met else '**missed**'}"


def _notes(one: Measured) -> str:
    ran = [way for way in one.ways if one.samples.get(way.name)]
    return "\n".join(f"- {way.name}: {way.does}." for way in ran)


def _interval(rank: tuple[int, int, int] | str) -> str:
    return rank if isinstance(rank, str) else _range(rank[0], rank[2])


def _range(lower: int, upper: int) -> str:
    return f"{lower:,}" if lower == upper else f"{lower:,}-{upper:,}"


def _join(texts: Sequence[str]) -> str:
    return " / ".join(texts)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else f"{share:.0e}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned table; numbers, in columns 2 to 4, to the right. Columns that are empty are left out."""
    filled = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    kept = [i for i in range(len(head)) if any(row[i] for row in filled)]
    lines = [[line[i] for i in kept] for line in ([*head], *filled)]
    right = [0 < i < 4 for i in kept]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(kept))]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    return "\n".join(_line(line, widths, right) for line in (lines[0], rule, *lines[1:]))


def put_between(path: Path, mark: str, text: str) -> None:
    """Put a text in the place of what stands between ``<!-- MARK -->`` and ``<!-- /MARK -->`` in a file."""
    held = path.read_text(encoding="utf-8")
    before, begin, rest = held.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    if not begin or not end:
        raise SystemExit(f"{path} has no place for it: <!-- {mark} --> and <!-- /{mark} -->")
    path.write_text(f"{before}{begin}{text.strip()}\n{end}{after}", encoding="utf-8")


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    aligned = (f"{c:>{w}}" if r else f"{c:<{w}}" for c, w, r in zip(cells, widths, right, strict=True))
    return f"| {' | '.join(aligned)} |"
