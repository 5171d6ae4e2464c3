"""Kappa over training: by predictor of one run, or of the best predictor of several, each beside noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .drawn_run import DrawnRun
from .panel import Heading, Panel, handle, line, noise_handle, noise_line, reference_line, rows_of_style
from .panel import scale_of_values as scaled
from .style import COLORS, DASHES, MARKERS, PALE, Style
from .training_windows import KappaCurves, kappa_curves, lacks_kappa

Series = tuple[DrawnRun, str, KappaCurves]


def draw(axes: Any, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """Lines of predictors, or of runs; dotted in the same colour what noise gives."""
    curves = [kappa_curves(run.analysis) for run in runs]
    several = not runs[0].alone
    predictors = {run.predictor for run in runs}
    if not several:
        title = "Kappa by predictor"
        series = [(runs[0], spec, curves[0]) for spec in curves[0].kappa]
    else:
        title = (
            f"Kappa of {runs[0].predictor}" if len(predictors) == 1 else "Kappa of each run's best predictor"
        )
        series = [(run, run.predictor, held) for run, held in zip(runs, curves, strict=True)]
    reference_line(axes, 1.0)
    entries, drawn = [], []
    for number, (run, spec, held) in enumerate(series):
        look = {"color": run.color, "marker": run.marker, "dashes": run.dashes} if several else _look(number)
        x = run.middles(held.rows)
        bold = not several and spec == run.predictor
        width = style.line * (1.5 if bold else 0.8)
        found = line(axes, x, held.kappa[spec], **look, linewidth=width, zorder=3 if bold else 2)
        noise_line(axes, x, held.reference[spec], color=look["color"], linewidth=0.8 * style.line, zorder=1)
        drawn += [held.kappa[spec], held.reference[spec]]
        found.set_label(f"{run.label}: {spec}" if several else f"{spec} (best)" if bold else spec)
        entries += [] if several and len(predictors) == 1 else [found]
    entries += [noise_handle(), handle("predicting nothing", color=PALE)]
    axes.set_ylabel("kappa")
    scaled(axes.yaxis, drawn)
    return Heading(f"{title}, in windows of {_window_words(runs, curves)}", entries)


def _look(number: int) -> dict[str, Any]:
    round_of = number // len(COLORS) % len(DASHES)
    at = number % len(COLORS)
    return {"color": COLORS[at], "marker": MARKERS[at], "dashes": DASHES[round_of]}


def _window_words(runs: Sequence[DrawnRun], curves: Sequence[KappaCurves]) -> str:
    """How many rows a window has."""
    sizes = [int(size) for held in curves for size in held.rows[:, 1] - held.rows[:, 0]]
    least, most = min(sizes), max(sizes)
    noun = runs[0].analysis.run.kind
    if most == 1:
        return f"1 {noun.noun}"
    return f"{most} {noun.name}" if least == most else f"{least} to {most} {noun.name}"


KAPPA = Panel("kappa", "Kappa over training", lacks_kappa, draw, rows_of_style(1.35), over_training=True)
