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
the end with a rate of 0 are no steps of the bound.

Any decay to 0 beats a constant rate in this bound, whatever the gradients: that says nothing of the run. So a
refined schedule is called worth a try where its ratio is below 0.9 and below what norms without a course give
against the same logged schedule in 97.5 percent of 399 draws. Those are drawn by a stationary AR(1) of the
norms' logarithms (of 60 pieces of the run at most), with this run's own correlation from piece to piece,
corrected for what short series lose of it, and its own innovations in another order: so volatile norms, which
swing for long by themselves, give as much as they do.

Losses are not convex, norms would differ under another schedule, and for Adam the paper weighs by l1 norms,
which are not kept: a figure to try, never a promise.
"""

from __future__ import annotations

import bisect
import math

import numpy as np

from ..logs.series import RATES, first_of
from ..results.training import optimizer_name
from ..statistics.block_bootstrap import content_seed
from .decision import CHANGE, ESTIMATE, KEEP, NOISE, NONE, UNKNOWN, WEAK, Decision, Doubles, Figure, Schedule
from .evidence import NO_STEPS, NOISE_LEVEL, Evidence
from .missing import unknown

NAME = "schedule"
SOURCE = "Defazio et al., arXiv 2310.07831; Schaipp et al., arXiv 2501.18965"
FOR_ADAM = "for Adam it follows from l1 norms, which are not kept; --schedule writes the one for SGD"
SMOOTHING = 0.1
LEAST_ROWS = 16
APART = "norms are too many powers of ten apart to weigh rows by them"
WORTH = 0.9
"""Ratio of bounds below which the refined schedule is worth a try."""
DRAWS = 399
LEAST_NORM = 1e-12
"""Of the largest norm: shorter ones are next to 0."""
MOST_PIECES = 60
"""Of a run whose norms are held against noise: a piece is shorter than the smoothing."""


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
    if "adam" in optimizer_name(evidence.analysis.run.attributes).lower():
        return [Decision(NAME, None, UNKNOWN, FOR_ADAM, tuple(figures), NONE, SOURCE)]
    if found.ratio > WORTH:
        text = "nothing to change: the logged one is about as good"
        return [Decision(NAME, None, KEEP, text, tuple(figures), WEAK, SOURCE)]
    assert found.logged is not None
    ratio, noise = beside_noise(found.logged, found.grad_norm)
    figures.insert(1, Figure("ratio_in_pieces", ratio, noise, None, NOISE))
    if ratio >= noise:
        text = "nothing to change: norms have no course that would give a refined one"
        return [Decision(NAME, None, KEEP, text, tuple(figures), WEAK, SOURCE)]
    peak = evidence.step(int(np.argmax(found.refined)))
    half = np.flatnonzero(found.refined >= 0.5)[-1]
    text = f"try refined: peak at {peak}, half by {evidence.step(int(half))}"
    return [Decision(NAME, None, CHANGE, text, tuple(figures), WEAK, SOURCE, 30)]


def beside_noise(rates: Doubles, norms: Doubles) -> tuple[float, float]:
    """The ratio of bounds, refined over logged, and what norms without a course fall below in 2.5 percent.

    rates, norms : (N,), of which pieces of equally many rows take part, `MOST_PIECES` at most
    """
    # Passes differ in the last bits of norms, which must not show.
    norms = (norms / norms.max()).astype(np.float32).astype(np.float64)
    width = -(-norms.size // MOST_PIECES)
    starts = np.arange(0, norms.size, width)
    counts = np.diff(np.append(starts, norms.size))
    pieces = np.sqrt(np.add.reduceat(norms**2, starts) / counts)
    rates = np.add.reduceat(rates, starts) / counts
    rng = np.random.Generator(np.random.PCG64(content_seed(norms)))
    drawn = np.exp(courseless(np.log(np.maximum(pieces, LEAST_NORM * pieces.max())), DRAWS, rng))
    others = sorted(_ratio(rates, other) for other in drawn)
    return _ratio(rates, pieces), others[math.floor(NOISE_LEVEL * (DRAWS + 1)) - 1]


def courseless(values: Doubles, draws: int, rng: np.random.Generator) -> Doubles:
    """(draws, n) of a stationary AR(1) fitted to (n,) values, about 0; without end where its memory is.

    The coefficient is corrected for the (1 + 3 phi) / n that least squares falls short of it (Kendall 1954).
    """
    count = values.size
    centred = values - values.mean()
    energy = float(centred[:-1] @ centred[:-1])
    fitted = float(centred[1:] @ centred[:-1]) / energy if energy > 0 else 0.0
    innovations = centred[1:] - fitted * centred[:-1]
    innovations = (innovations - innovations.mean()) * math.sqrt(count / (count - 2))
    phi = min(fitted + (1 + 3 * max(fitted, 0.0)) / count, 1.0)
    before = count if phi < 1 else 0
    drawn = rng.choice(innovations, (draws, before + count))
    for t in range(1, before + count):
        drawn[:, t] += phi * drawn[:, t - 1]
    return np.asarray(drawn[:, before:])


def _ratio(rates: Doubles, norms: Doubles) -> float:
    """Bound of the schedule refined from `norms` over that of `rates`; 1 where either is beyond float64."""
    refined = refined_schedule(np.maximum(running_median(norms, SMOOTHING), LEAST_NORM * norms.max()))
    if not refined.any():
        return 1.0
    best, logged = bound(refined, norms)[0], bound(rates, norms)[0]
    return best / logged if 0 < logged < math.inf and math.isfinite(best) else 1.0


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
