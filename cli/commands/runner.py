"""What commands share between their words and the library: runs, resources, progress, rules, the output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

from ..formats.rendering import Page, Views, render
from ..options.columns import chosen_columns
from ..terminal.messages import tell, tell_warning
from ..terminal.output import Output, open_output
from ..terminal.progress import ProgressBar, Report
from .batch import Batch, Result, may_be_several

if TYPE_CHECKING:
    from gradmf.gradlog import Analysis, Rule, Settings, Violation, Vocabulary

    from ..options.computing import Resources
    from ..options.gates import Gates
    from ..options.showing import Presentation
    from .sources import Source

_R = TypeVar("_R", bound=Result)
_T = TypeVar("_T")


@contextlib.contextmanager
def workers_of(resources: Resources | None, words: Sequence[str], *, quiet: bool) -> Iterator[None]:
    """Let what is analyzed in the block be taken by the workers that were asked for, if any.

    words : of the command line; several runs are taken one by a task, a single one in parts
    """
    if resources is None or resources.dask is None:
        yield
        return
    from gradmf import gradlog

    with gradlog.on_cluster(
        resources.dask, parts=resources.parts, whole_runs=may_be_several(words)
    ) as cluster:
        for told in cluster.workers.different:
            tell_warning(told)
        if not quiet:
            tell(cluster.workers.told)
        yield


class Granted(TypedDict):
    """What functions of gradlog that read gradients are called with."""

    threads: int | None
    memory: int
    scratch: str | None
    progress: Report | None


@contextlib.contextmanager
def granted(resources: Resources, bar: ProgressBar, run: str) -> Iterator[Granted]:
    """The resources for the work on a run, with its progress bar."""
    from gradmf.gradlog.cluster.cluster import current_cluster

    # Where a cluster takes whole runs, several are at work at once, and none tells how far it is.
    cluster = current_cluster()
    alone = cluster is None or not cluster.whole_runs
    with bar.of(run) if alone else contextlib.nullcontext() as progress:
        yield Granted(
            threads=resources.threads,
            memory=resources.memory,
            scratch=resources.scratch,
            progress=progress,
        )


def result_of(
    source: Source,
    at_work_on: Callable[[str], contextlib.AbstractContextManager[Granted]],
    analyze: Callable[..., _T],
    finished: Callable[[Analysis], _T],
    **how: Any,
) -> _T:
    """What `analyze` makes of a store, or `finished` of the analysis that was read. how : for `analyze`"""
    held = source.finished()
    if held is not None:
        return finished(held)
    with at_work_on(source.name) as allowed:
        return analyze(source.name, source.settings, **allowed, **how)


def results_for_a_file(
    batch: Batch,
    settings: Settings,
    resources: Resources,
    bar: ProgressBar,
    analyze: Callable[..., _R],
    finished: Callable[[Analysis], _R],
) -> Iterator[_R]:
    """The result of each run, for a command that makes one file of all: as of `result_of`."""
    from .sources import find_sources

    def work(source: Source) -> _R:
        return result_of(source, lambda run: granted(resources, bar, run), analyze, finished)

    with workers_of(resources, batch.words, quiet=bar.quiet):
        sources, batch.several = find_sources(batch.words, settings)
        yield from batch.results_of(sources, work)


def as_it_is(analysis: Analysis) -> Analysis:
    """What many commands make of a finished analysis."""
    return analysis


class Runner(Generic[_R]):
    """One command on its runs: shows each result as it comes, and knows the exit code in the end."""

    def __init__(
        self,
        runs: Sequence[str],
        shown: Presentation,
        views: Views[_R],
        resources: Resources | None = None,
    ) -> None:
        """resources : None for a command that reads no gradients

        Raises click.UsageError for columns that there are not.
        """
        self.batch = Batch(runs)
        self._shown = shown
        self._views = views
        self._columns = chosen_columns(shown.columns, views.columns, shown.format)
        self._resources = resources
        self._bar = ProgressBar(quiet=shown.quiet, no_color=shown.no_color)
        self._gates: Gates | None = None
        self._judge: Callable[[_R, Sequence[Rule]], Iterable[Violation]] = lambda *_: ()

    def hold_to(
        self,
        rules: Sequence[str],
        known: Vocabulary,
        judge: Callable[[_R, Sequence[Rule]], Iterable[Violation]],
    ) -> None:
        """Hold each result to the rules of --fail-if. Raises click.UsageError for one that is wrong."""
        from ..options.gates import Gates

        self._gates, self._judge = Gates(rules, known), judge

    def at_work_on(self, run: str) -> contextlib.AbstractContextManager[Granted]:
        """The resources for the work on a run, with its progress bar."""
        assert self._resources is not None
        return granted(self._resources, self._bar, run)

    def analysis_of(self, source: Source, analyze: Callable[..., Analysis], **how: Any) -> Analysis:
        """The analysis that was read, or what `analyze` makes of the store."""
        return result_of(source, self.at_work_on, analyze, as_it_is, **how)

    def show_runs(self, work: Callable[[str], _R]) -> int:
        """Show what `work` makes of each run; the exit code."""
        return self._show(lambda: self.batch.results(work))

    def show_sources(self, settings: Settings, work: Callable[[Source], _R]) -> int:
        """Show what `work` makes of each store, and of each analysis in files or on stdin; the exit code."""

        def results() -> Iterator[_R]:
            from .sources import find_sources

            sources, self.batch.several = find_sources(self.batch.words, settings)
            return self.batch.results_of(sources, work)

        return self._show(results)

    def show(self, results: Iterable[_R], *, several: bool) -> int:
        """Show results that the batch has attempted; the exit code. several : whether there may be several"""
        return self._show(lambda: results, several)

    def _show(self, results: Callable[[], Iterable[_R]], several: bool | None = None) -> int:
        workers = workers_of(self._resources, self.batch.words, quiet=self._shown.quiet)
        with open_output(self._shown) as output, workers:
            found = results()
            self.write(found, output, several=self.batch.several if several is None else several)
            output.keep = not self.batch.worthless
        return self.exit_code

    def write(self, results: Iterable[_R], output: Output, *, several: bool) -> None:
        """Write each result as it comes; then the rules that it violates are told."""
        if self._gates is not None:
            results = self._gates.watch(results, self._judge)
        views = self._views
        if output.beside is not None and views.beside is not None:
            output.beside.numbered = several or self._shown.format == "jsonl"
            views = views.beside(output.beside)
        page = Page(output.terminal, output.encoding, several, self._columns)
        pieces = render(results, views, self._shown.format, page)
        output.write(pieces, to_the_end=self._gates is not None and bool(self._gates.rules))

    @property
    def exit_code(self) -> int:
        """The largest of the failed runs', else that of violated rules."""
        return self.batch.exit_code or (0 if self._gates is None else self._gates.exit_code)
