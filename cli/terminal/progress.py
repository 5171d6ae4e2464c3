"""A progress bar on stderr, for people, and only once work has taken a while."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .messages import printable
from .terminal import is_capable, is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 1.0
"""Seconds without a bar."""
LABEL_WIDTH = 24
BAR_WIDTH = 40

Report = Callable[[int, int], None]


class ProgressBar:
    """A bar for each of several runs, one after another. quiet : nothing is told that is no fault"""

    def __init__(self, *, quiet: bool, no_color: bool) -> None:
        self.quiet = quiet
        self._shown = not quiet and is_terminal(sys.stderr) and is_capable()
        self._no_color = no_color
        self._started = time.monotonic()

    @contextlib.contextmanager
    def of(self, run: str) -> Iterator[Report | None]:
        """A callback (bytes done, bytes in all) for the work on `run`; None where no bar is wanted."""
        if not self._shown:
            yield None
            return
        with contextlib.ExitStack() as stack:
            bar: Progress | None = None

            def report(done: int, total: int) -> None:
                nonlocal bar
                if bar is None:
                    if time.monotonic() - self._started < PATIENCE:
                        return
                    bar = stack.enter_context(_new_bar(no_color=self._no_color))
                    bar.add_task(_label(run), total=total)
                bar.update(bar.task_ids[0], completed=done, total=total)

            yield report


def _label(run: str) -> str:
    text = printable(run.rstrip("/"))
    return text if len(text) <= LABEL_WIDTH else "..." + text[3 - LABEL_WIDTH :]


def _new_bar(*, no_color: bool) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=BAR_WIDTH),
        TaskProgressColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, no_color=no_color or None),
        transient=True,
    )
