"""Steps that are spikes against their running level and their tensor's own tail, and what would clip them.

SPAM calls an entry a spike where g_i^2 / v_i > theta, v the running second moment of Adam, theta = 5000.
Only norms are kept here, so the score is that of a whole tensor: ||g_t||^2 / v_{t-1}, with v_t = B v_{t-1}
+ (1 - B) min(||g_t||^2, theta v_{t-1}), debiased, B = 0.99 (Adam's 0.999 outlasts most logs). A spike in
few entries of a large tensor is diluted: no spike here is no proof that SPAM would see none. The score is
without units, at least 0; the first 24 rows have no level yet. A spike has a score above theta = 25, five
times the running level, and stands off the tail of the other scores (see `tail`): heavy-tailed noise passes
25 again and again, and stands off by that much in 2.5 percent of runs, all scopes together. Where the median
of the 8 rows behind is not below half of it, it is no spike but a new level (see `growth`). A fixed clipping
level catches all spikes and nothing else where the largest other norm is below the smallest spike's; it is
given as their geometric mean. Updates are not what is clipped: of them spikes are noted, and no level given.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .decision import CERTAIN, CHANGE, CLEAR, KEEP, NOISE, NOTE, Decision, Doubles, Figure
from .evidence import Evidence, ScopeSteps
from .missing import of_each_scope, unknown
from .tail import LEAST_VALUES, standing_off

NAME = "spikes"
SOURCE = "SPAM, arXiv 2501.06842"
THETA = 25.0
DECAY = 0.99
WARM = 24
AFTER = 8
"""Bins behind a spike, by whose median its norm has at least halved."""


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model and each tensor."""
    found = of_each_scope(evidence, NAME, SOURCE, _of_scope)
    if evidence.scopes and not evidence.tensors:
        found.append(unknown(NAME, None, f"of tensors: {evidence.no_tensors}", SOURCE))
    return found


def _of_scope(evidence: Evidence, scope: ScopeSteps) -> Decision:
    level = scope.level
    if level.size <= WARM:
        return unknown(
            NAME, scope.name, f"fewer than {WARM + 1} rows: there is no level before a row", SOURCE
        )
    scores = spike_scores(level**2)
    most = float(scores.max())
    if most <= THETA:
        text = "nothing to change: no spikes"
        return Decision(NAME, scope.name, KEEP, text, (Figure("score", most),), CERTAIN, SOURCE)
    if np.count_nonzero(scores) < LEAST_VALUES:
        why = f"a row stands out, of fewer than {WARM + LEAST_VALUES}: too few to know the norms' tail"
        return unknown(NAME, scope.name, why, SOURCE, (Figure("score", most),))
    apart, limit = spiking(scores, evidence.noise_level)
    top = Figure("score", most, None, limit, NOISE)
    spikes = passing(apart, level)
    if not spikes.size:
        text = "nothing to change: large steps are of the norms' own tail"
        if apart.size:
            text = "nothing to change: no spike but a new level"
        return Decision(NAME, scope.name, KEEP, text, (top,), CLEAR, SOURCE)
    first = evidence.step(int(scope.first[spikes[0]]))
    several = spikes.size > 1
    text = f"{spikes.size} spikes, first at step {first}" if several else f"spike at step {first}"
    least, clip = clipping_level(level, spikes)
    figures = [
        top,
        Figure("spikes", float(spikes.size)),
        Figure("first_row", float(scope.first[spikes[0]])),
        Figure("least_spike", least),
    ]
    if evidence.kind.of_updates:
        return Decision(NAME, scope.name, NOTE, text, tuple(figures), CLEAR, SOURCE, 90)
    if clip is None:
        text += "; no fixed clip"
    else:
        text += f"; clip at {clip:.3g}"
        figures.append(Figure("clip", clip))
    return Decision(NAME, scope.name, CHANGE, text, tuple(figures), CLEAR, SOURCE, 90)


def spike_scores(squares: Doubles) -> Doubles:
    """(n,) ||g_t||^2 / v_{t-1}, from ||g_t||^2; 0 for the first WARM and where the level is 0."""
    scores = np.zeros(squares.size)
    moment = weight = 0.0
    for t, square in enumerate(squares.tolist()):
        level = moment / weight if weight else 0.0
        if t >= WARM and level > 0:
            scores[t] = square / level
            square = min(square, THETA * level)
        moment = DECAY * moment + (1 - DECAY) * square
        weight = DECAY * weight + (1 - DECAY)
    return scores


def spiking(scores: Doubles, level: float) -> tuple[NDArray[np.intp], float]:
    """Rows whose scores are above THETA and stand off the others' tail, ascending, and the least that would.

    scores : (n,); level : the probability with which any would stand off by itself
    """
    known = np.flatnonzero(scores > 0)
    apart, limit = standing_off(np.log(scores[known]), level)
    largest = known[np.argsort(scores[known])[known.size - apart :]]
    with np.errstate(over="ignore"):
        # Tails that reach past float64 have no limit that a score passes.
        least = max(THETA, float(np.exp(limit)))
    return np.sort(largest[scores[largest] > THETA]), least


def passing(found: NDArray[np.intp], level: Doubles) -> NDArray[np.intp]:
    """Those after which the level comes down again: the others are a new level."""
    groups = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    kept = [group for group in groups if group.size and _passes(group, level)]
    return np.concatenate(kept) if kept else found[:0]


def _passes(group: NDArray[np.intp], level: Doubles) -> bool:
    behind = level[group[-1] + 1 : group[-1] + 1 + AFTER]
    return not behind.size or bool(np.median(behind) < level[group].min() / 2)


def clipping_level(level: Doubles, spikes: NDArray[np.intp]) -> tuple[float, float | None]:
    """The least spike's norm, and the level that parts spikes from all else; None where there is none."""
    least = float(level[spikes].min())
    other = float(np.delete(level, spikes).max())
    return least, math.sqrt(least * other) if other < least else None
