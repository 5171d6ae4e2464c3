"""What to compare: stores, and results of earlier analyses from files or stdin, in order."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradmf import gradlog
from gradmf.gradlog import Analysis, DataError, Settings, UsageError

from .batch import STDIN
from .messages import tell_warning

Rows = tuple[int | None, int | None]


@dataclass(frozen=True)
class Source:
    """A store to analyze with `settings`, or an analysis that was read. name : for messages"""

    name: str
    settings: Settings
    analysis: Analysis | None = None


@dataclass
class Sources:
    """The runs that the command line names. faults : what could not be read, with the word that named it"""

    words: Sequence[str]
    settings: Settings
    found: list[Source] = field(default_factory=list)
    faults: list[tuple[str, Exception]] = field(default_factory=list)

    def read(self) -> None:
        """Find the runs behind the words; a fault of one doesn't hide the others, only one of the first does.

        Raises that fault: without a baseline there is nothing to compare.
        """
        for word in self.words:
            try:
                self.found += self._behind(word)
            except (DataError, OSError) as error:
                if not self.found:
                    raise
                self.faults.append((word, error))

    def _behind(self, word: str) -> Iterable[Source]:
        if word == STDIN:
            return self._stdin()
        if not gradlog.holds_analyses(word):
            return [Source(word, self.settings)]
        try:
            text = Path(word).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{word}: neither a store nor JSON: {error}") from error
        return self._held(text, word)

    def _held(self, text: str, place: str) -> list[Source]:
        return [Source(a.run.path, self.settings, a) for a in gradlog.read_analyses(text, place)]

    def _stdin(self) -> list[Source]:
        """Results of analyze, or paths of stores, one a line."""
        data = sys.stdin.buffer.read() if sys.stdin is not None else b""
        if data.lstrip()[:1] in (b"{", b"["):
            text = data.decode("utf-8", errors="surrogateescape")
            return self._held(text, "standard input")
        paths = [os.fsdecode(line.rstrip(b"\r")) for line in data.split(b"\n")]
        found = [source for path in paths if path.strip() for source in self._behind(path)]
        if not found:
            tell_warning("nothing on standard input")
        return found

    def choose_rows(self, rows: Sequence[Rows]) -> None:
        """Give each run its rows: one range for all, or one for each run in order. Raises UsageError."""
        if not rows:
            return
        if len(rows) not in (1, len(self.found)):
            raise UsageError(
                f"--rows is given {len(rows)} times for {len(self.found)} runs: give it once, or once a run"
            )
        for at, source in enumerate(self.found):
            chosen = rows[at if len(rows) > 1 else 0]
            self.found[at] = dataclasses.replace(
                source, settings=dataclasses.replace(source.settings, rows=chosen)
            )

    def share_steps(self) -> None:
        """Keep the rows of each run within the training steps that all runs span. Raises GradmfError."""
        logs = [
            None if s.analysis else gradlog.open_log(s.name, truncate=s.settings.truncate) for s in self.found
        ]
        spans, steps = [], []
        for source, log in zip(self.found, logs, strict=True):
            if log is not None:
                first, last, _ = slice(*source.settings.rows).indices(log.rows)
                spans.append((first, last))
                steps.append(log.step[first:last])
            elif source.analysis is not None:
                if not source.analysis.steps.step.size:
                    raise DataError(f"{source.name}: holds no steps to align: write it with --format json")
                spans.append((0, source.analysis.run.rows))
                steps.append(source.analysis.steps.step)
        shared = gradlog.shared_rows(steps, [source.name for source in self.found])
        for at, source in enumerate(self.found):
            first, last = (spans[at][0] + end for end in shared[at])
            if source.analysis is None:
                settings = dataclasses.replace(source.settings, rows=(first, last))
                self.found[at] = dataclasses.replace(source, settings=settings)
            elif (first, last) != spans[at]:
                raise UsageError(
                    f"{source.name}: finished results cannot be cut to rows {first}:{last}, the steps "
                    "that all runs span: give the store"
                )


def check_finished(source: Source, analysis: Analysis) -> None:
    """Raise UsageError where options ask for what finished results cannot give."""
    for word, option in (("tensors", "--tensor"), ("exclude", "--exclude"), ("rows", "--rows")):
        asked, held = getattr(source.settings, word), getattr(analysis.settings, word)
        if asked not in ((), (None, None), held):
            raise UsageError(f"{source.name}: {option} cannot change finished results: give the store")
