"""Figures of a page: which there are, what is said of each, and why one is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..plots.figure import draw_panels
from ..plots.heatmap_panel import ratios_to_noise
from ..plots.panels import PANELS, chosen_panels
from ..plots.style import Style
from ..plots.training_windows import kappa_curves, lacks_kappa
from ..quick_dataclass import dataclass
from ..reports.analysis_report import rank_interval
from ..reports.figures import count, significant
from ..results.result import Analysis
from .inline_svg import inline_svg

PAGE = Style("page", 8.4, 1, 2.0, 10.0, 100)
"""Of figures in the column of a page."""
TRAINING = ("kappa", "loss", "norm")
"""One above the other, over the same axis."""
ALWAYS = ("heatmap", "spectrum", "rank")
"""Where one cannot be drawn, its place says why."""
SOMETIMES = ("growth", "overlap", "window-rank")
"""Shown where there is something to show."""

CAPTIONS = {
    "training": "Above: what each predictor leaves of the energy, window by window. Dotted lines are what "
    "noise with the same norms would leave; the grey line at 1 is what predicting nothing leaves. Below: the "
    "loss as logged, and the norm of the {gradients}, each row faintly and as a mean of each window.",
    "heatmap": "Each row is a tensor, each column a window of training. Blue: the predictor leaves less than "
    "it would on noise. White: as much. Red: more, as where steps turn back.",
    "spectrum": "How much of the energy of the increments (the steps from one {gradient} to the next) the "
    "leading directions hold. Above its dotted line the run needs fewer directions than noise would.",
    "rank": "Directions that each tensor's increments need for all but a share epsilon of their energy, "
    "beside what noise of the same size and norms would need (hollow markers).",
    "growth": "Directions that the first rows need: flat where later steps stay in directions that were "
    "there.",
    "overlap": "How far the leading directions of a window are those of the window before; dotted: two "
    "subspaces that have nothing to do with each other.",
    "window-rank": "Directions that the increments within each window need.",
}


@dataclass(frozen=True)
class PageFigure:
    """name : of the panel, or `training`; svg : the element, "" where there is none

    caption : how to read it; reasons : why it, or a part of it, is missing
    """

    name: str
    title: str
    caption: str
    svg: str = ""
    reasons: tuple[str, ...] = ()


def training_figure(analyses: Sequence[Analysis], prefix: str, labels: Sequence[str] = ()) -> PageFigure:
    """Kappa, loss and norm over training, of one run or of several over each other."""
    reasons = tuple(
        f"{PANELS[name].title}: {why}" for name in TRAINING for why in _reasons(PANELS[name].lacks, analyses)
    )
    title = "Over training"
    if all(PANELS[name].lacks(analysis) for name in TRAINING for analysis in analyses):
        return PageFigure("training", title, "", "", reasons)
    told = [_kappa_words(analysis) for analysis in analyses]
    label = f"{title}: kappa, loss and norm. {' '.join(filter(None, told))}"
    return _drawn("training", title, TRAINING, analyses, prefix, label, labels, reasons)


def other_figures(
    analyses: Sequence[Analysis], prefix: str, labels: Sequence[str] = (), names: Sequence[str] = ()
) -> list[PageFigure]:
    """One for each panel. names : of panels; by default those that a page has"""
    usual = {panel.name for panel in chosen_panels((), analyses)}
    several = any(len(analysis.tensors) > 1 for analysis in analyses)
    found = []
    for name in names or (*ALWAYS, *SOMETIMES):
        panel = PANELS[name]
        reasons = tuple(_reasons(panel.lacks, analyses))
        if (name in SOMETIMES and name not in usual) or (name in ("heatmap", "rank") and not several):
            continue
        if all(panel.lacks(analysis) for analysis in analyses):
            found.append(PageFigure(name, panel.title, "", "", reasons))
            continue
        label = f"{panel.title}. {' '.join(filter(None, (_words(name, analysis) for analysis in analyses)))}"
        found.append(_drawn(name, panel.title, (name,), analyses, prefix, label.strip(), labels, reasons))
    return found


def _drawn(
    name: str,
    title: str,
    panels: Sequence[str],
    analyses: Sequence[Analysis],
    prefix: str,
    label: str,
    labels: Sequence[str],
    reasons: tuple[str, ...],
) -> PageFigure:
    figure = draw_panels(analyses, panels, PAGE, labels, named=False)
    caption = analyses[0].run.kind.say(CAPTIONS[name])
    return PageFigure(name, title, caption, inline_svg(figure, f"{prefix}-{name}", label), reasons)


def _reasons(lacks: Callable[[Analysis], str], analyses: Sequence[Analysis]) -> list[str]:
    """Each once; with the run's path where there are several."""
    told = [(analysis, analysis.run.kind.say(lacks(analysis))) for analysis in analyses]
    named = len(analyses) > 1
    return list(dict.fromkeys(f"{a.run.path}: {why}" if named else why for a, why in told if why))


def _words(name: str, analysis: Analysis) -> str:
    """The gist of a picture, of the numbers that it shows."""
    spectrum, best = analysis.total.spectrum, analysis.total.best
    if name in ("spectrum", "growth", "rank") and spectrum is not None:
        told = [
            f"{rank_interval(rank)} directions hold {100 * (1 - rank.epsilon):.4g}%"
            + ("" if rank.reference is None else f" (noise: {count(rank.reference)})")
            for rank in spectrum.rank
        ]
        return f"Whole model: {', '.join(told)}."
    if name == "heatmap" and best is not None and not PANELS[name].lacks(analysis):
        ratios = ratios_to_noise(analysis, best.predictor, [tensor.name for tensor in analysis.tensors])
        known = ratios[np.isfinite(ratios)]
        below = count(int((known < 1).sum()))
        return f"{best.predictor} leaves less than noise would in {below} of {count(known.size)} places."
    return ""


def _kappa_words(analysis: Analysis) -> str:
    best = analysis.total.best
    if lacks_kappa(analysis) or best is None:
        return ""
    kappa = kappa_curves(analysis).kappa.get(best.predictor)
    if kappa is None or not np.isfinite(kappa).any():
        return ""
    first, last = (float(kappa[np.isfinite(kappa)][at]) for at in (0, -1))
    least, most = float(np.nanmin(kappa)), float(np.nanmax(kappa))
    assert not math.isnan(least)
    return (
        f"{analysis.run.path}: kappa of {best.predictor} begins at {significant(first)}, ends at "
        f"{significant(last)}, and lies between {significant(least)} and {significant(most)}."
    )
