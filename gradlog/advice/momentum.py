"""Which memory a momentum buffer should have: the exponential average that points best at the next gradient.

For each listed ema:B, debiased (m_t / (1 - B^t), t >= 1: the start of a long average would speak for short
ones), kappa = 1 - c^2 with c = sum <g_t, m_t> / sqrt(sum ||g_t||^2 sum ||m_t||^2), without units, in [0, 1]:
the size of a momentum step is the learning rate's business, its direction is the memory's. Only averages with
c > 0 count. Where none of them comes near the next gradient, and one has c < 0 for certain, averages point
backwards: gradients oppose their history, as where steps overshoot, and a buffer moves against the next one.

The best B is named with all others that cannot be told from it: the interval of the difference of their
logarithms, over the same resampled rows, holds 0. Where the longest is best, memory is "so much or more": a
constant mean under noise is served better the longer it is averaged. Between two others, a search's B is
taken, to 0.001, where the log outlasts its memory 20 times, so that the start that the search leaves in costs
it less than 3 percent; and two memories as in AdEMAMix, where no single average comes within 1 percent of a
mixture on rows that neither was chosen on: a figure without an interval of its own. Where the shortest wins,
there is little noise to average away: that says nothing about momentum as acceleration. Rows are logged
steps: where only every k-th step was logged, B speaks of rows.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from ..results.reasons import ALL_ZERO
from ..results.search_result import FoundPredictor
from ..statistics.step_sums import scaled_kappa
from .averages import averages_of, debiased_sums, decay
from .decision import BOOTSTRAP, CHANGE, CLEAR, KEEP, NOTE, WEAK, Decision, Doubles, Figure
from .evidence import Evidence, ScopeSteps
from .intervals import CONFIDENCE, Asked, Interval
from .missing import Asking, of_varying_scopes, unknown

NAME = "momentum"
SOURCE = "AdEMAMix, arXiv 2409.03137"
WORTH = 0.9
"""Kappa below which an average points anywhere near the next gradient, or away from it."""
OUTLASTED = 20.0
"""Memories 1 / (1 - B) in a log from which on the start of an average costs next to nothing."""


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model and each tensor."""
    return of_varying_scopes(evidence, NAME, SOURCE, _of_scope)


def _of_scope(evidence: Evidence, scope: ScopeSteps) -> Asking:
    def told(verdict: str, text: str, confidence: str, weight: float, *figures: Figure) -> Decision:
        return Decision(NAME, scope.name, verdict, text, figures, confidence, SOURCE, weight)

    rows = evidence.analysis.run.rows
    if rows < 3:
        return unknown(NAME, scope.name, "too few rows to average over", SOURCE)
    sums = {spec: debiased_sums(scope, spec)[1:] for spec in averages_of(scope)}
    angles = {spec: float(angle(columns.sum(axis=0))) for spec, columns in sums.items()}
    angles = {spec: value for spec, value in angles.items() if not math.isnan(value)}
    if not angles:
        zero = scope.result.energy == 0 or bool(sums)
        why = ALL_ZERO if zero else "no average was measured: give --predictor ema:B"
        return unknown(NAME, scope.name, why, SOURCE)
    best = max(angles, key=lambda spec: angles[spec])
    value = from_angle(angles[best])
    figure = yield from _figure(scope, best, sums, CONFIDENCE)
    if value >= WORTH:
        backwards = yield from _backwards(scope, sums, angles)
        if backwards is not None:
            return backwards
        sure = figure.lower is not None and figure.lower >= WORTH
        text = "nothing to change: no average points at the next gradient"
        if angles[best] <= 0:
            text = "nothing to change: averages point backwards, if anywhere"
        return told(KEEP, text, CLEAR if sure else WEAK, 0, figure)
    if figure.upper is None or figure.upper >= WORTH:
        text = f"nothing to change: {best} fits best, within noise"
        return told(KEEP, text, WEAK, 0, figure)
    alike = yield from _alike(scope, best, [spec for spec in angles if angles[spec] > 0], sums)
    if len(alike) == len(angles) - 1 > 0:
        text = f"nothing to change: {' and '.join([best, *alike])} fit alike, within noise"
        return told(KEEP, text, WEAK, 0, figure)
    order = list(angles)
    if best == order[0]:
        return told(NOTE, f"memory {_word(best)} or less: little noise", CLEAR, 12, figure)
    inner = best != order[-1]
    found = _searched(evidence, scope.name, rows)
    if found is not None and found.family == "mixture":
        return told(CHANGE, f"two memories, {found.predictor}", WEAK, 40, figure, _held_out(found))
    if found is not None and inner and evidence.stride == 1:
        place = order.index(best)
        if decay(order[place - 1]) < decay(found.predictor) < decay(order[place + 1]):
            text = f"memory {_word(found.predictor)}"
            if alike:
                text += f"; {', '.join(map(_word, alike))} fit alike"
            return told(CHANGE, text, CLEAR, 40, figure, _held_out(found))
    more = "" if inner else " or more"
    beside = f" (or {', '.join(map(_word, alike))})" if alike else ""
    of_rows = "" if evidence.stride == 1 else f" of rows, {evidence.stride} steps apart"
    return told(CHANGE, f"memory {_word(best)}{more}{beside}{of_rows}", CLEAR, 40, figure)


def _backwards(
    scope: ScopeSteps, sums: Mapping[str, Doubles], angles: Mapping[str, float]
) -> Generator[Asked, Interval, Decision | None]:
    """What to say of the average that points farthest from the next gradient; None where it may not."""
    farthest = min(angles, key=lambda spec: angles[spec])
    if angles[farthest] >= 0:
        return None
    # The farthest of several was picked on the same rows.
    found = yield from _figure(scope, farthest, sums, 1 - (1 - CONFIDENCE) / len(angles))
    if found.value is None or found.value >= WORTH or found.upper is None or found.upper >= 1.0:
        return None
    text = "averages point backwards: gradients oppose their history"
    return Decision(NAME, scope.name, NOTE, text, (found,), CLEAR, SOURCE, 25)


def _figure(
    scope: ScopeSteps, spec: str, sums: Mapping[str, Doubles], confidence: float
) -> Generator[Asked, Interval, Figure]:
    """Kappa of one average, whichever way it points, with its interval."""
    name = f"debiased_kappa[{spec}]"
    found = yield Asked(sums[spec], angle, scope.memory_bins(spec), confidence, fixed=0)
    value = from_angle(found.value or 0.0)
    if found.lower is None or found.upper is None:
        return Figure(name, value)
    ends = sorted((from_angle(found.lower), from_angle(found.upper)))
    return Figure(name, value, ends[0], 1.0 if found.lower * found.upper <= 0 else ends[1], BOOTSTRAP)


def _alike(
    scope: ScopeSteps, best: str, others: Sequence[str], sums: Mapping[str, Doubles]
) -> Generator[Asked, Interval, list[str]]:
    """The others that cannot be told from the best."""
    found = []
    for other in others:
        if other != best:
            both = np.concatenate([sums[best], sums[other]], axis=1)
            memory = max(scope.memory_bins(best), scope.memory_bins(other))
            apart = yield Asked(both, log_difference, memory, fixed=0)
            if apart.upper is None or apart.upper >= 0:
                found.append(other)
    return found


def _searched(evidence: Evidence, name: str | None, rows: int) -> FoundPredictor | None:
    """A mixture or an average that a search found, if the log outlasts its memories."""
    search = evidence.search(name)
    if search is None:
        return None
    best = search.best
    found = best if best is not None and best.family == "mixture" else search.of("ema")
    if found is None or not found.predicts:
        return None
    decays = [float(word) for word in found.predictor.partition(":")[2].split(",")[:2]]
    return found if rows * (1 - max(decays)) >= OUTLASTED else None


def _held_out(found: FoundPredictor) -> Figure:
    return Figure(f"held_out[{found.predictor}]", found.held_out, found.lower, found.upper, BOOTSTRAP)


def _word(spec: str) -> str:
    return spec.partition(":")[2]


def kappa(sums: Doubles) -> Doubles:
    """1 - c^2 from sums (..., 3) of ||g||^2, <g, m> and ||m||^2."""
    energy, product, prediction = sums[..., 0], sums[..., 1], sums[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return scaled_kappa(energy, energy - 2 * product + prediction, product)


def angle(sums: Doubles) -> Doubles:
    """arctanh c, on whose scale correlations are spread evenly, from sums as of `kappa`."""
    left = np.maximum(kappa(sums), 1e-300)
    return np.asarray(
        np.copysign(np.log1p(np.sqrt(np.maximum(1 - left, 0.0))) - np.log(left) / 2, sums[..., 1])
    )


def from_angle(value: float) -> float:
    """1 - c^2 of arctanh c."""
    return math.exp(-2 * (abs(value) + math.log1p(math.exp(-2 * abs(value))) - math.log(2)))


def log_difference(sums: Doubles) -> Doubles:
    """The first average's log kappa less the second's, from sums (..., 6); of one that points backwards 0."""
    first, second = (
        np.where(part[..., 1] > 0, np.log(np.maximum(kappa(part), 1e-300)), 0.0)
        for part in (sums[..., :3], sums[..., 3:])
    )
    return np.asarray(first - second)
