"""A learning-rate schedule refined from the observed gradient norms, and a bound of it and of the logged one.

Refinement (Defazio et al., "When, Why and How Much?", algorithm for SGD): G_t = running median of ||g_t||
over a tenth of the run (an odd number of rows), reflected at both ends; w_t = G_t^-2; eta_t = w_t
sum_{p>t} w_p, divided by its largest value. Without units, in [0, 1], 0 at the last row: it is what a run of
as many steps would take next time. The authors' scripts have the same window, reflect at the end, and repeat
the first norm in front, which lets a single gradient decide the start.

Bound of a schedule eta (Schaipp et al., "The Surprising Agreement", theorem 1), for convex losses, SGD with
steps gamma eta_t, D = ||x_1 - x*||, and E ||g_t||^2 <= G_t^2:

    E f(x_T) - f* <= D^2 A / gamma + gamma B,   A = 1 / (2 S_1),
    B = (V_1 / S_1 + sum_{k<T} eta_k V_k / (S_k S_{k+1})) / 2,   V_k = sum_{t>=k} eta_t^2 G_t^2,

S_k = sum_{t>=k} eta_t. At its best base rate gamma = D sqrt(A / B) it is 2 D sqrt(A B). D is not in the
log, and cancels in the ratio of two schedules, which is what is given; base rates are for D = 1. Rows at
the end with a rate of 0 are no steps of the bound. Losses are not convex, norms would differ under another
schedule, and for Adam the paper weighs by l1 norms, which are not kept: a figure to try, never a promise.
"""

from __future__ import annotations

import bisect
import math

import numpy as np

from ..logs.series import RATES, first_of
from .decision import CHANGE, ESTIMATE, KEEP, NONE, UNKNOWN, WEAK, Decision, Doubles, Figure, Schedule
from .evidence import NO_STEPS, Evidence
from .missing import unknown

NAME = "schedule"
SOURCE = "Defazio et al., arXiv 2310.07831; Schaipp et al., arXiv 2501.18965"
FOR_ADAM = "for Adam it follows from l1 norms, which are not kept; --schedule writes the one for SGD"
SMOOTHING = 0.1
LEAST_ROWS = 16
APART = "norms are too many powers of ten apart to weigh rows by them"
WORTH = 0.9
"""Ratio of bounds below which the refined schedule is worth a try."""


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model."""
    found = schedule_of(evidence)
    if isinstance(found, str):
        return [unknown(NAME, None, found, SOURCE)]
    figures = [Figure("peak_row", float(np.argmax(found.refined)), basis=ESTIMATE)]
    if found.ratio is None:
        why = evidence.no_rates or "refined from the norms, with no usable lr to hold it against"
        return [unknown(NAME, None, why, SOURCE)]
    figures.insert(0, Figure("bound_ratio", found.ratio, basis=ESTIMATE))
    if "adam" in str(evidence.analysis.run.attributes.get("optimizer", "")).lower():
        return [Decision(NAME, None, UNKNOWN, FOR_ADAM, tuple(figures), NONE, SOURCE)]
    if found.ratio > WORTH:
        text = "nothing to change: the logged one is about as good"
        return [Decision(NAME, None, KEEP, text, tuple(figures), WEAK, SOURCE)]
    peak = evidence.step(int(np.argmax(found.refined)))
    half = np.flatnonzero(found.refined >= 0.5)[-1]
    text = f"try refined: peak at {peak}, half by {evidence.step(int(half))}"
    return [Decision(NAME, None, CHANGE, text, tuple(figures), WEAK, SOURCE, 30)]


def schedule_of(evidence: Evidence) -> Schedule | str:
    """The refined schedule beside the logged one; in words, why there is none."""
    steps = evidence.analysis.steps
    norms = steps.grad_norm
    if not norms.size:
        return NO_STEPS
    if norms.size < LEAST_ROWS:
        return f"fewer than {LEAST_ROWS} rows"
    smoothed = running_median(norms, SMOOTHING)
    if not (smoothed > 0).all():
        return "the gradient is zero for longer than the smoothing: there is no weight 1 / ||g||^2"
    refined = refined_schedule(smoothed)
    logged = first_of(evidence.series, RATES)
    if not refined.any():
        return APART
    best, base = bound(refined, norms)
    if not math.isfinite(best):
        return APART
    if logged is None or not (np.isfinite(logged).all() and (logged >= 0).all() and logged.any()):
        return Schedule(steps.step, norms, smoothed, refined, None, None, (base, None))
    of_logged, logged_base = bound(logged, norms)
    ratio = best / of_logged if 0 < of_logged < math.inf else None
    return Schedule(steps.step, norms, smoothed, refined, logged, ratio, (base, logged_base))


def running_median(values: Doubles, share: float) -> Doubles:
    """(N,) median over an odd window of about `share` of the N values, reflected at both ends."""
    width = max(1, int(share * values.size)) | 1
    padded = np.pad(values, width // 2, mode="symmetric").tolist()
    window = sorted(padded[:width])
    medians = [window[width // 2]]
    # Sorted as it moves on: all windows side by side would take a tenth of N^2 numbers.
    for left, entered in zip(padded, padded[width:], strict=False):
        del window[bisect.bisect_left(window, left)]
        bisect.insort(window, entered)
        medians.append(window[width // 2])
    return np.array(medians)


def refined_schedule(norms: Doubles) -> Doubles:
    """(N,) w_t sum_{p>t} w_p with w = norms^-2, divided by its largest value. norms : all above 0

    All 0 where that is beyond float64.
    """
    weights = (norms.min() / norms) ** 2
    later = np.append(np.cumsum(weights[:0:-1])[::-1], 0.0)
    rates = weights * later
    return np.asarray(rates / (rates.max() or 1.0))


def bound(rates: Doubles, norms: Doubles) -> tuple[float, float]:
    """2 sqrt(A B), the bound over D at its best base rate, and that base rate over D. See the module.

    rates : (N,) >= 0, some above 0; norms : (N,), ||g_t||. Not finite where the bound is beyond float64
    """
    peak = float(rates.max())
    eta = rates / peak
    last = int(np.flatnonzero(eta > 0)[-1]) + 1
    eta = eta[:last]
    steps = eta * norms[:last]
    scale = float(steps.max())
    if scale == 0.0:
        return 0.0, math.inf
    energy = (steps / scale) ** 2
    rest = np.cumsum(eta[::-1])[::-1]
    spent = np.cumsum(energy[::-1])[::-1]
    with np.errstate(over="ignore", invalid="ignore"):
        tail = eta[:-1] / rest[1:] * spent[:-1] / rest[:-1]
    first = 1 / (2 * float(rest[0]))
    second = float(spent[0] / rest[0] + tail.sum()) / 2
    value = 2 * math.sqrt(first * second) * scale
    return value, math.sqrt(first / second) / scale / peak
