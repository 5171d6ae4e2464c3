"""A run in a figure: its analysis, its name, its colour, and where its rows lie on the axis of training."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..quick_dataclass import dataclass
from ..results.result import Analysis
from .library import load
from .style import COLORS, DASHES, MARKERS
from .training_windows import kappa_curves

Doubles = NDArray[np.float64]

MOST_RUNS = len(COLORS) * len(DASHES)
MOST_LETTERS = 48
"""Of a run's name."""


@dataclass(frozen=True)
class DrawnRun:
    """by_step : whether the axis of training shows steps, and not rows: all runs of a figure do the same

    predictor : what is shown where there is room for one; "" where there is none
    beside : the analyses of all runs of the figure
    """

    analysis: Analysis
    label: str
    color: str
    marker: str
    dashes: Any
    by_step: bool
    predictor: str
    beside: tuple[Analysis, ...]

    @property
    def alone(self) -> bool:
        """Whether it is the only run of the figure: then colours tell predictors or epsilons apart."""
        return len(self.beside) == 1

    @property
    def size(self) -> str:
        """What was analyzed."""
        run = self.analysis.run
        rows = f"N = {run.rows:,} {run.kind.noun if run.rows == 1 else run.kind.name}"
        return f"{rows}, D = {run.parameters:,} parameter{'' if run.parameters == 1 else 's'}"

    def say(self, text: str) -> str:
        """A text about rows, with the nouns of this run's."""
        return self.analysis.run.kind.say(text)

    def middles(self, rows: NDArray[np.int64]) -> Doubles:
        """(W,) where windows of the rows [first, last + 1) have their middle on the axis of training."""
        first, last = rows[:, 0], rows[:, 1] - 1
        windows, step = self.analysis.windows, self.analysis.steps.step
        if self.by_step and step.size:
            return np.asarray((step[first] + step[last]) / 2)
        if self.by_step and windows is not None and rows is windows.rows:
            return np.asarray(windows.step.mean(axis=1))
        return np.asarray((first + last) / 2)


def drawn_runs(analyses: Sequence[Analysis], labels: Sequence[str] = ()) -> list[DrawnRun]:
    """The runs as they are drawn. Raises UsageError for none, for too many, and for labels of other runs."""
    if not analyses:
        raise UsageError("no runs to plot")
    if len(analyses) > MOST_RUNS:
        raise UsageError(f"{len(analyses)} runs in one figure: {MOST_RUNS} at most can be told apart")
    if labels and len(labels) != len(analyses):
        raise UsageError(f"{len(labels)} labels for {len(analyses)} runs")
    names = labels or names_of([analysis.run.path for analysis in analyses])
    by_step = all(_steps_increase(analysis) for analysis in analyses)
    known = [list(kappa_curves(analysis).kappa) for analysis in analyses]
    predictor = _shared_predictor(analyses, [specs for specs in known if specs])
    return [
        DrawnRun(
            analysis,
            shortened(drawable(name), MOST_LETTERS),
            COLORS[at % len(COLORS)],
            MARKERS[at % len(MARKERS)],
            DASHES[at // len(COLORS)],
            by_step,
            predictor or _best(analysis, curves),
            tuple(analyses),
        )
        for at, (analysis, name, curves) in enumerate(zip(analyses, names, known, strict=True))
    ]


def names_of(paths: Sequence[str]) -> list[str]:
    """The last part of each path, or as many as tell it from the others; numbers where paths are the same."""
    parts = [PurePath(path).parts or (path,) for path in paths]
    most = max(map(len, parts))
    for count in range(1, most + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            break
    else:
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return [name.removesuffix(".zarr") for name in names]


def shortened(name: str, most: int) -> str:
    """The name, or its end where it has more letters: names of tensors differ there."""
    return name if len(name) <= most else "…" + name[1 - most :]


def drawable(text: str) -> str:
    """The text, with characters that the font has no glyph for, or that are no letters, as escapes."""
    if text.isascii() and text.isprintable():
        return text
    fonts = load("matplotlib.font_manager")
    known = fonts.get_font(fonts.findfont(fonts.FontProperties())).get_charmap()
    return "".join(
        c
        if ord(c) in known and unicodedata.category(c)[0] != "C"
        else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )


def _shared_predictor(analyses: Sequence[Analysis], known: Sequence[Sequence[str]]) -> str:
    """Of those that all runs have, the one whose largest kappa of any run is least; "" where there is none.

    known : predictors of each run that has any
    """
    shared = [spec for spec in (known[0] if known else ()) if all(spec in specs for specs in known)]
    worst = dict.fromkeys(shared, 0.0)
    for analysis in analyses:
        for found in analysis.total.predictors:
            if found.predictor in worst and found.kappa is not None:
                worst[found.predictor] = max(worst[found.predictor], found.kappa)
    return min(worst, key=lambda spec: worst[spec], default="")


def _best(analysis: Analysis, known: Sequence[str]) -> str:
    best = analysis.total.best
    return best.predictor if best is not None and best.predictor in known else next(iter(known), "")


def _steps_increase(analysis: Analysis) -> bool:
    """Whether training steps are known and only ever increase."""
    step = analysis.steps.step
    if step.size:
        return bool((np.diff(step) > 0).all())
    windows = analysis.windows
    return windows is not None and bool((np.diff(windows.step.mean(axis=1)) > 0).all())
