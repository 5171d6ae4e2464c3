"""Runs compared with a baseline, one after another: one that fails does not stop the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial

from gradmf import gradlog
from gradmf.gradlog import Analysis, Comparison, Settings
from gradmf.gradlog.quick_dataclass import dataclass

from ..options.computing import Resources
from .batch import begun_ahead
from .runner import Runner
from .sources import Source


@dataclass(frozen=True)
class AgainstBaseline:
    """sources : the baseline first; settings : with a subspace where gradients are read side by side too"""

    runner: Runner[Comparison]
    sources: Sequence[Source]
    settings: Settings
    resources: Resources
    align: str | None
    confidence: float

    def comparisons(self) -> Iterator[Comparison]:
        """Of each run, as they come; none where there is no baseline. Warnings and errors go to stderr."""
        batch, baseline = self.runner.batch, self.sources[0]
        batch.several = True  # what is told names the run, be it one beside the baseline
        others = [source for source in self.sources[1:] if self._can_be_related(source)]
        if not others:
            return
        first = batch.attempt(baseline.name, partial(self._analysis_of, baseline))
        if first is None:
            return
        works = [(source.name, partial(self._analysis_of, source, first)) for source in others]
        for source, (_, work) in zip(others, begun_ahead(works), strict=True):
            run = batch.attempt(source.name, work)
            if run is None:
                continue
            compared = batch.attempt(source.name, partial(self._compare, first, run, source))
            if compared is not None:
                batch.done += 1
                yield compared

    def _analysis_of(self, source: Source, baseline: Analysis | None = None) -> Analysis:
        return self.runner.analysis_of(
            source, gradlog.analyze_for_comparison, baseline=None if baseline is None else baseline.run
        )

    def _compare(self, baseline: Analysis, run: Analysis, source: Source) -> Comparison:
        compared = gradlog.compare(baseline, run, align=self.align, confidence=self.confidence)
        if self.settings.subspace is None:
            return compared
        names = self.sources[0].name, source.name
        steps = baseline.steps.step, run.steps.step
        with self.runner.at_work_on(", ".join(names)) as granted:
            relation = gradlog.relate(
                *names, steps, self.settings,
                threads=granted["threads"], memory=granted["memory"], progress=granted["progress"],
            )  # fmt: skip
        return dataclasses.replace(compared, relation=relation)

    def _can_be_related(self, source: Source) -> bool:
        """Whether it can be, where it is to be: told before any gradient is read."""
        if self.settings.subspace is None or source.fault is not None:
            return True
        baseline = self.sources[0]
        rows = [side.settings.rows for side in (baseline, source)]
        try:
            gradlog.check_relation(
                baseline.name, source.name, rows, self.settings,
                threads=self.resources.threads, memory=self.resources.memory,
            )  # fmt: skip
        except gradlog.GradmfError as error:
            self.runner.batch.fail(source.name, error)
            return False
        return True
