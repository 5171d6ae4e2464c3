"""What a command works on: stores, and results of earlier analyses from files or stdin, in order."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gradmf import gradlog
from gradmf.gradlog import Analysis, DataError, GradmfError, Settings, UsageError
from gradmf.gradlog.quick_dataclass import dataclass

from ..options.computing import Rows
from .batch import STDIN, expanded, may_be_several, numbered_lines_of_stdin

FIXED = {
    "tensors": "--tensor",
    "exclude": "--exclude",
    "rows": "--rows",
    "windows": "--windows",
    "subspace": "--subspace",
}
"""What finished results were made with, and options cannot change."""


@dataclass(frozen=True)
class Source:
    """A store to analyze with `settings`, an analysis that was read, or the fault that was found instead.

    name : for messages
    """

    name: str
    settings: Settings
    analysis: Analysis | None = None
    fault: Exception | None = None

    def finished(self) -> Analysis | None:
        """The analysis that was read, None for a store.

        Raises the fault that was found, and UsageError where options ask for another analysis.
        """
        if self.fault is not None:
            raise self.fault
        if self.analysis is not None:
            for word, option in FIXED.items():
                asked, held = getattr(self.settings, word), getattr(self.analysis.settings, word)
                if asked not in (None, (), (None, None), held):
                    raise UsageError(f"{self.name}: {option} cannot change finished results: give the store")
            held = self.analysis.search
            if self.settings.band is not None and (
                held is None or held.width not in (None, self.settings.band)
            ):
                band = "no search" if held is None else f"a search with --band {held.width}"
                raise UsageError(f"{self.name}: holds {band}, which --band cannot change: give the store")
        return self.analysis


def find_sources(words: Sequence[str], settings: Settings) -> tuple[Iterator[Source], bool]:
    """What the words of the command line name, each as soon as it is read, and whether there may be several.

    A fault of one hides no other.
    """
    found = _sources(words, settings)
    first = list(itertools.islice(found, 2))  # a single file can hold several results
    return itertools.chain(first, found), may_be_several(words) or len(first) > 1


def baseline_and_runs(words: Sequence[str], settings: Settings) -> list[Source]:
    """All that the words name, the baseline first. Raises its fault: without it nothing can be compared.

    Its subspaces are not followed: `settings` say so of the relation of two runs.
    """
    alone = dataclasses.replace(settings, subspace=None, window=None)
    sources = list(find_sources(words, alone)[0])
    if sources and sources[0].fault is not None:
        raise sources[0].fault
    return sources


def _sources(words: Sequence[str], settings: Settings) -> Iterator[Source]:
    for word in words:
        if word == STDIN:
            yield from _on_stdin(settings)
        else:
            for name in expanded(word):
                yield from _behind(name, settings)


def _behind(word: str, settings: Settings) -> Iterator[Source]:
    try:
        # A pipe, as the shell's <(...) is one, can be read once only, and is no store.
        if not Path(word).is_fifo() and not gradlog.holds_analyses(word):
            yield Source(word, settings)
            return
        yield from _held(gradlog.load_analyses(word), settings)
    except (GradmfError, OSError) as error:
        yield Source(word, settings, fault=error)


def _held(analyses: Sequence[Analysis], settings: Settings) -> list[Source]:
    return [Source(analysis.run.path, settings, analysis) for analysis in analyses]


def _on_stdin(settings: Settings) -> Iterator[Source]:
    """Results of analyze and paths of stores, each as soon as its line is there; a document to the end."""
    for number, line in numbered_lines_of_stdin():
        text = line.removeprefix("\ufeff").strip()
        if text[:1] not in ("{", "["):
            yield from _behind(line, settings)
            continue
        place = f"standard input, line {number}"
        if text[0] == "[" or text == "{" or not text.endswith("}"):
            # Lines are counted from the first one in what is told of the document.
            text = "\n" * (number - 1) + f"{text}\n{os.fsdecode(sys.stdin.buffer.read())}".rstrip()
            place = "standard input"
        try:
            yield from _held(gradlog.read_analyses(text, place), settings)
        except (GradmfError, OSError) as error:
            yield Source("standard input", settings, fault=error)


def choose_rows(sources: Sequence[Source], rows: Sequence[Rows]) -> list[Source]:
    """The sources with their rows: one range for all, or one for each in order. Raises UsageError."""
    if len(rows) not in (0, 1, len(sources)):
        raise UsageError(
            f"--rows is given {len(rows)} times for {len(sources)} runs: give it once, or once a run"
        )
    ranges = rows if len(rows) == len(sources) else [*rows, (None, None)][:1] * len(sources)
    return [_with_rows(source, chosen) for source, chosen in zip(sources, ranges, strict=True)]


def share_steps(sources: Sequence[Source]) -> list[Source]:
    """The sources with the rows within the training steps that all span. Raises GradmfError."""
    sound = [source for source in sources if source.fault is None]
    rows, steps = [], []
    for source in sound:
        if source.analysis is None:
            log = gradlog.open_as_asked(source.name, source.settings)
            first, last, _ = slice(*source.settings.rows).indices(log.rows)
            keep = gradlog.kept_rows(log.path, log.step[first:last], source.settings.repeated, first)
            kept = range(first, last) if keep is None else [first + int(row) for row in keep.nonzero()[0]]
            rows.append(kept)
            steps.append(log.step[list(kept)])
        else:
            if not source.analysis.steps.step.size:
                raise DataError(f"{source.name}: holds no steps to align: write it with --format json")
            rows.append(range(source.analysis.run.rows))
            steps.append(source.analysis.steps.step)
    shared = iter(zip(rows, gradlog.shared_rows(steps, [source.name for source in sound]), strict=True))
    return [source if source.fault else _cut(source, *next(shared)) for source in sources]


def _cut(source: Source, rows: Sequence[int], shared: tuple[int, int]) -> Source:
    """rows : numbers of those that count; shared : (first, last + 1) of them that all runs span"""
    first, last = rows[shared[0]], rows[shared[1] - 1] + 1
    if source.analysis is None:
        return _with_rows(source, (first, last))
    if (first, last) != (0, len(rows)):
        raise UsageError(
            f"{source.name}: finished results cannot be cut to rows {first}:{last}, the steps "
            "that all runs span: give the store"
        )
    return source


def _with_rows(source: Source, rows: Rows) -> Source:
    return dataclasses.replace(source, settings=dataclasses.replace(source.settings, rows=rows))
