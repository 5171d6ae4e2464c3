"""Sudden growth of the gradient norm that stays: a new level, not a spike, and not what the norms do anyway.

Fira's limiter scales a step's direction down where its norm exceeds gamma = 1.01 times the last one's. Of
raw gradients that holds for half of all steps of any noise, so the share of rows it would touch and the
largest ratio ||g_t|| / ||g_{t-1}|| are figures and no alarm. Growth is called sudden where the norms of 16
rows are more than 4 times those of the 16 rows before, by their medians and by their root mean squares
alike: a spike moves only the one. Volatile norms do that of themselves, over and over. So the level must
also have changed there for the whole run: by the self-normalized statistic of the norms' logarithms before
and after (see `change_point`), which norms that hang together pass in 2.5 percent of runs, all scopes
together. Ratios are without units, from 0. Where zeros make a level 0 there is no ratio. The clipping level
that would have caught the growth is midway between both levels: the geometric mean of the medians. Updates
are not what is clipped, and grow with the learning rate: of them growth is noted, and no level is given.
"""

from __future__ import annotations

import numpy as np

from ..results.reasons import ALL_ZERO
from ..statistics.change_point import limit, self_normalized
from .decision import CERTAIN, CHANGE, CLEAR, KEEP, NOISE, NOTE, Decision, Doubles, Figure
from .evidence import Evidence, ScopeSteps
from .missing import of_each_scope, unknown

NAME = "growth"
SOURCE = "Fira, arXiv 2410.01623"
GAMMA = 1.01
SUDDEN = 4.0
WINDOW = 16


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model and each tensor."""
    return of_each_scope(evidence, NAME, SOURCE, _of_scope)


def _of_scope(evidence: Evidence, scope: ScopeSteps) -> Decision:
    level = scope.level
    if level.size < 2 * WINDOW:
        return unknown(NAME, scope.name, f"fewer than {2 * WINDOW} rows", SOURCE)
    before, after = level[:-1], level[1:]
    known = before > 0
    if not known.any():
        return unknown(NAME, scope.name, ALL_ZERO, SOURCE)
    ratios = after[known] / before[known]
    touched = Figure("limited_rows", float(np.mean(ratios > GAMMA)))
    largest = Figure("one_row_ratio", float(ratios.max()))
    rises = level_ratios(level)
    top = int(np.argmax(rises))
    rise = Figure("growth", float(rises[top]))
    figures: tuple[Figure, ...] = (rise, largest, touched)
    if rise.value is None or rise.value <= SUDDEN:
        return Decision(
            NAME, scope.name, KEEP, "nothing to change: no sudden growth", figures, CERTAIN, SOURCE
        )
    begin = top + WINDOW
    change = Figure("level_change", level_change(level, begin), None, limit(evidence.noise_level), NOISE)
    figures += (change,)
    if change.value is None or change.upper is None or change.value <= change.upper:
        text = "nothing to change: norms swing as much all along"
        return Decision(NAME, scope.name, KEEP, text, figures, CLEAR, SOURCE)
    row = int(scope.first[begin])
    both = np.median(level[top:begin]), np.median(level[begin : begin + WINDOW])
    clip = float(np.sqrt(both[0] * both[1]))
    figures += (Figure("at_row", float(row)),)
    text = f"level x{rise.value:.3g} from step {evidence.step(row)} on"
    if evidence.kind.of_updates:
        return Decision(NAME, scope.name, NOTE, text, figures, CLEAR, SOURCE, 80)
    figures += (Figure("clip", clip),)
    text += f"; clip at {clip:.3g}"
    return Decision(NAME, scope.name, CHANGE, text, figures, CLEAR, SOURCE, 80)


def level_ratios(level: Doubles) -> Doubles:
    """(n - 31,) growth from bins t - 16 .. t - 1 to t .. t + 15, from t = 16 on; 0 where unknown.

    The lesser of the ratios of medians, which spikes don't move, and of root mean squares, which chance moves
    less where there are few parameters.
    """
    windows = np.lib.stride_tricks.sliding_window_view(level, WINDOW)
    found = np.full(level.size - 2 * WINDOW + 1, np.inf)
    for levels in (np.median(windows, axis=1), np.sqrt((windows**2).mean(axis=1))):
        before, after = levels[:-WINDOW], levels[WINDOW:]
        found = np.minimum(found, np.divide(after, before, out=np.zeros_like(after), where=before > 0))
    return found


def level_change(level: Doubles, begin: int) -> float:
    """`self_normalized` of (n,) log norms at bin `begin`; zeros count as the least norm that is none."""
    least = float(level[level > 0].min())
    return float(self_normalized(np.log(np.maximum(level, least)), begin))
