"""Changes of level of norms, kappas and r* of windows that are sudden and stay."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp

from .finding import Examined, Finding
from .level_series import KAPPA, NORM, RANK, ChangedLevel, factor
from .scale_jumps import power_of_two

CODES = {NORM: "norm-level", KAPPA: "kappa-level", RANK: "rank-level"}


def find(examined: Examined) -> Iterator[Finding]:
    """Of the whole model and of tensors; jumps by powers of two are left to `scale_jumps`."""
    for changed in examined.changed_levels:
        if power_of_two(changed, examined.thresholds.loss_scale):
            continue
        yield _told(examined, changed)


def _told(examined: Examined, changed: ChangedLevel) -> Finding:
    change, held = changed.change, changed.held
    by, before, after = factor(change), exp(change.before), exp(change.after)
    figures = {
        "row": changed.row, "size": by, "before": before, "after": after, "confidence": 1 - changed.chance,
    }  # fmt: skip
    noun = examined.analysis.run.kind.noun
    names = {NORM: f"{noun} norm", KAPPA: f"{held.of} kappa", RANK: f"r*({held.of}) of windows"}
    what = names[held.series]
    moved = "rises" if by > 1 else "falls"
    text = (
        f"{what} {moved} from {before:.3g} to {after:.3g} at {examined.place(changed.row)} "
        f"({by:.3g} times, {_sure(1 - changed.chance)} sure)"
    )
    return Finding(CODES[held.series], held.tensor, examined.step(changed.row), figures, text)


def _sure(confidence: float) -> str:
    return "over 99.9%" if confidence > 0.999 else f"{100 * confidence:.1f}%"
