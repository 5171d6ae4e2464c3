"""Jumps of the gradient norm by a power of two: a loss scale that was not taken off again looks like this.

Levels of norms, as far as `level_changes` tells them apart, whose ratio is within 2 percent of 2^k, k not 0,
where the ratio is known to 1 percent: one in 17 other changes of level comes as near to one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .finding import Examined, Finding
from .level_series import NORM, ChangedLevel, factor

CODE = "loss-scale"
KNOWN_TO = 0.01
"""Standard error of the logarithm of the ratio, at most."""


def find(examined: Examined) -> Iterator[Finding]:
    """Of the whole model and of tensors."""
    noun = examined.analysis.run.kind.noun
    for changed in examined.changed_levels:
        power = power_of_two(changed, examined.thresholds.loss_scale)
        if power:
            by = factor(changed.change)
            figures = {"row": changed.row, "ratio": by, "power": power, "confidence": 1 - changed.chance}
            shown = f"2^{power}" if power > 0 else f"1/2^{-power}"
            jump = f"{noun} norm jumps to {by:.4g} times ({shown}) at {examined.place(changed.row)}"
            text = f"{jump}: a loss scale?"
            yield Finding(CODE, changed.held.tensor, examined.step(changed.row), figures, text)


def power_of_two(changed: ChangedLevel, within: float) -> int:
    """The k of 2^k that two levels of a norm are apart by; 0 where they are not."""
    change = changed.change
    power = round(change.size / math.log(2))
    apart = abs(math.expm1(change.size - power * math.log(2)))
    near = changed.held.series == NORM and apart <= within and change.error <= KNOWN_TO
    return power if near else 0
