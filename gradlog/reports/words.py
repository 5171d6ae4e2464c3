"""What the numbers of an analysis mean: a line on predictability and one on rank, chosen by the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .figures import count, percent, significant

if TYPE_CHECKING:
    from ..results.result import Analysis, PredictorResult, RankResult, SpectrumResult
    from ..results.row_kind import RowKind

FEW_DIRECTIONS = 10
"""Where no more are possible, a rank has little to say."""
OF_MOMENTUM = "Momentum alone makes updates predictable: docs/updates.md says what to hold them against."


def explain(analysis: Analysis) -> tuple[str, ...]:
    """A line on how predictable the rows were, and one on the directions that they changed in."""
    if analysis.run.rows < 2:
        return ("One row has no past to be predicted from: kappa is 1 for every predictor.",)
    best, kind = analysis.total.best, analysis.run.kind
    if best is None or best.kappa is None:
        return (f"All {kind.name} are zero: there is nothing to predict.",)
    one_step = next((p for p in analysis.total.predictors if p.predictor == "one-step"), None)
    lines = [f"{_on_best(best, best.kappa, kind)}{_on_one_step(one_step, best, kind)}."]
    spectrum = analysis.total.spectrum
    if spectrum is not None and spectrum.middle_rank is not None:
        lines.append(explain_rank(analysis, spectrum, spectrum.middle_rank))
    if kind.of_updates:
        lines.append(OF_MOMENTUM)
    return tuple(lines)


def predictability(kappa: float) -> str:
    """In words, by what the best predictor leaves of the energy: 1 is what predicting nothing does."""
    levels = ((0.05, "Near-perfect tracking"), (0.5, "Well predictable"), (0.9, "Partly predictable"))
    if kappa >= 1:
        return "No predictor tried beats predicting nothing"
    return next((words for limit, words in levels if kappa < limit), "Hardly predictable")


def _on_best(best: PredictorResult, kappa: float, kind: RowKind) -> str:
    if kappa >= 1:
        return f"{predictability(kappa)} (kappa 1)"
    leaves = f"{best.predictor} leaves {percent(kappa)} of the {kind.noun} energy"
    if best.reference is not None:
        leaves += f", where noise with these norms would leave {percent(best.reference)}"
    return f"{predictability(kappa)}: {leaves}"


def _on_one_step(one_step: PredictorResult | None, best: PredictorResult, kind: RowKind) -> str:
    """What one-step says by itself: its kappa is at most 2 - 2 c, c the mean cosine of neighbours."""
    if one_step is None or one_step.kappa is None or (one_step is best and one_step.kappa < 0.9):
        return ""
    shown = f"; one-step kappa {significant(one_step.kappa)}"
    noise = 2.0 if one_step.reference is None else one_step.reference
    if one_step.kappa > 1.1 * noise:
        return f"{shown} is above the {significant(noise)} of noise: {kind.name} tend to turn back"
    if one_step.kappa >= 0.9 * noise:
        return f"{shown} is about what noise gives ({significant(noise)})"
    if one_step.kappa > 1.1:
        return f"{shown} lies between predicting nothing (1) and noise ({significant(noise)})"
    if one_step.kappa >= 0.9:
        return f"{shown} is near 1: the last {kind.noun} says little about the next"
    return ""


def explain_rank(analysis: Analysis, spectrum: SpectrumResult, rank: RankResult) -> str:
    """How many directions hold most of the increments' energy, beside noise."""
    if spectrum.energy == 0:
        return f"The {analysis.run.kind.noun} never changes: there are no increments to find directions in."
    possible = min(analysis.run.rows - 1, analysis.run.parameters)
    needed = count(rank.lower) if rank.lower == rank.upper else f"{count(rank.lower)} to {count(rank.upper)}"
    if rank.rank is None:
        needed = f"at least {count(rank.lower)}"
    share = f"{100 * (1 - rank.epsilon):.4g}%"
    held = f"{needed} of {count(possible)} possible directions hold {share} of the increments' energy"
    if possible < FEW_DIRECTIONS:
        return f"{held}; of so few this says little."
    if rank.rank is None:
        return f"{held}; how many, this sketch cannot tell."
    if rank.reference is None:
        return f"{held}."
    if rank.upper <= 0.5 * rank.reference:
        return f"{held}, far fewer than the {count(rank.reference)} of noise with these norms."
    if rank.upper <= 0.9 * rank.reference:
        return f"{held}, fewer than the {count(rank.reference)} of noise with these norms."
    if rank.lower >= 1.1 * rank.reference:
        return (
            f"{held}, more than the {count(rank.reference)} of noise with these norms: slow change takes "
            "many, too."
        )
    return f"{held}, about as many as the {count(rank.reference)} of noise with these norms."
