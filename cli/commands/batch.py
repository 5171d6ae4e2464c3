"""Many runs, one after another: a run that fails is told and does not stop the others."""

from __future__ import annotations

import collections
import contextvars
import errno
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from gradmf.gradlog.errors import GradmfError
from gradmf.gradlog.logs.places.remote_url import without_secrets
from gradmf.gradlog.logs.places.url_globs import is_pattern, matching_urls
from gradmf.gradlog.logs.whole_file import named
from gradmf.gradlog.quick_dataclass import dataclass

from ..terminal.messages import exit_code, tell_error, tell_warning, told

if TYPE_CHECKING:
    from gradmf.gradlog import LogWarning

STDIN = "-"
AHEAD = 2
"""Runs that are begun for each worker: one is ready when another is done."""
_SILENT = logging.NullHandler()


class Result(Protocol):
    """What is told of a result of any kind."""

    @property
    def warnings(self) -> tuple[LogWarning, ...]: ...


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_R = TypeVar("_R", bound=Result)
_S = TypeVar("_S", bound=_Named)
_T = TypeVar("_T")


@dataclass
class Batch:
    """The runs that the command line names. exit_code : the largest of the failed runs', 0 if none failed"""

    words: Sequence[str]
    several: bool = field(init=False)
    exit_code: int = field(default=0, init=False)
    done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.several = may_be_several(self.words)

    def results(self, work: Callable[[str], _R]) -> Iterator[_R]:
        """What `work` makes of each run, as they come; warnings and errors go to stderr."""
        return self._results((run, partial(work, run)) for run in paths_of(self.words))

    def results_of(self, sources: Iterable[_S], work: Callable[[_S], _R]) -> Iterator[_R]:
        """What `work` makes of each source, as they come; warnings and errors go to stderr."""
        return self._results((source.name, partial(work, source)) for source in sources)

    def _results(self, tasks: Iterable[tuple[str, Callable[[], _R]]]) -> Iterator[_R]:
        for run, work in begun_ahead(tasks):
            result = self.attempt(run, work)
            if result is not None:
                self.done += 1
                yield result

    def attempt(self, run: str, work: Callable[[], _R]) -> _R | None:
        """What `work` makes of one run, None where it fails; warnings and errors go to stderr."""
        # Where an array fails, zarr forgets its tasks for the others; asyncio would show their tracebacks.
        logging.getLogger("asyncio").addHandler(_SILENT)
        try:
            result = work()
        except BrokenPipeError:
            raise
        except Exception as error:
            if exit_code(error) is None:
                raise
            self.fail(run, error)
            return None
        for warning in result.warnings:
            tell_warning(f"{run}: {warning.message}" if self.several else warning.message)
        if not gc.isenabled():  # what is loaded by now stays, and need not be searched
            gc.freeze()
            gc.enable()
        return result

    def fail(self, run: str, error: Exception) -> None:
        """Tell that a run failed."""
        self.exit_code = max(self.exit_code, exit_code(error) or 0)
        text, run = told(error), without_secrets(run)
        tell_error(text if text.startswith(run) else f"{run}: {text}")

    @property
    def worthless(self) -> bool:
        """Whether every run failed."""
        return self.exit_code != 0 and self.done == 0


def begun_ahead(tasks: Iterable[tuple[str, Callable[[], _T]]]) -> Iterator[tuple[str, Callable[[], _T]]]:
    """The same tasks in their order. Where a cluster takes whole runs, some of them are begun already."""
    from gradmf.gradlog.cluster.cluster import current_cluster

    cluster = current_cluster()
    if cluster is None or not cluster.whole_runs:
        yield from tasks
        return
    waiting: collections.deque[tuple[str, Callable[[], _T]]] = collections.deque()
    pool = ThreadPoolExecutor(AHEAD * cluster.workers.count, thread_name_prefix="gradmf-run")
    try:
        for name, work in tasks:
            waiting.append((name, pool.submit(contextvars.copy_context().run, work).result))
            if len(waiting) > AHEAD * cluster.workers.count:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    except BaseException:
        cluster.workers.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def paths_of(words: Sequence[str]) -> Iterator[str]:
    """The words, and the lines of stdin where one is -."""
    for word in words:
        if word == STDIN:
            yield from lines_of_stdin()
        else:
            yield from expanded(word)


def expanded(word: str) -> Sequence[str]:
    """The runs that a pattern in a URL stands for; the word itself where it is none, or matches none."""
    if not is_pattern(word):
        return (word,)
    try:
        return matching_urls(word) or (word,)
    except GradmfError:  # whoever opens it is told why
        return (word,)


def may_be_several(words: Sequence[str]) -> bool:
    """Whether there may be several runs, by the command line alone: not by what stdin says."""
    return len(words) > 1 or any(word == STDIN or is_pattern(word) for word in words)


def lines_of_stdin() -> Iterator[str]:
    """Paths from stdin, a line each, as soon as they are there; blank lines are skipped."""
    return (line for _, line in numbered_lines_of_stdin())


def numbered_lines_of_stdin() -> Iterator[tuple[int, str]]:
    """Lines of stdin with their numbers, from 1, as soon as they are there; blank lines are skipped."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed", "standard input")
    found = False
    number = 0
    while line := _next_line_of_stdin():
        number += 1
        text = os.fsdecode(line.rstrip(b"\r\n"))
        if text.strip():
            found = True
            yield number, text
    if not found:
        tell_warning("no run paths on standard input")


def _next_line_of_stdin() -> bytes:
    try:
        return sys.stdin.buffer.readline()
    except OSError as error:
        raise named(error, "standard input") from error
