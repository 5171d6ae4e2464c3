"""The first thing to know of a run, for readers who have never heard of kappa: questions and their answers.

Every number is one of the analysis, its findings or its bounds: nothing is worked out here but shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..findings import nothing_foretold
from ..findings.finding import Examined, Finding, Thresholds
from ..quick_dataclass import dataclass
from .figures import count, counted, percent
from .predictor_words import predictor_words
from .words import explain_rank, predictability

if TYPE_CHECKING:
    from ..guarantees.guarantee import Bounds
    from ..results.result import Analysis, PredictorResult, TensorResult

CHANGES = ("kappa-level", "rank-level", "norm-level", "loss-scale", "heavy-step")
"""Findings that say when a run changed, what its predictability did first."""
SURELY = 0.5
"""A predictor that leaves less than this is a yes."""
MOST_CHANGES = 3
MOST_TENSORS = 3
MOST_ENERGY = 0.8
"""Tensors are named until they hold this share of the energy, and no more than a few."""
LEAST_ENERGY = 0.01
"""Of a tensor that is named for how predictable it is."""


@dataclass(frozen=True)
class Bar:
    """What is left of the energy, to be drawn beside others. value : 1 is what predicting nothing leaves"""

    label: str
    value: float


@dataclass(frozen=True)
class Answer:
    """question : in plain words; short : the answer in a few; text : what it rests on, sentence by sentence

    bars : shares that are told in the text, to be drawn
    """

    question: str
    short: str
    text: tuple[str, ...]
    bars: tuple[Bar, ...] = ()


def verdict(
    analysis: Analysis,
    findings: Sequence[Finding],
    bounds: Bounds,
    thresholds: Thresholds | None = None,
) -> tuple[Answer, ...]:
    """Whether a run was predictable, more than noise is, when that changed, which tensors matter.

    findings : all that stand out, as of `find`; bounds : of the same analysis
    """
    examined = Examined(analysis, thresholds or Thresholds())
    answers = [
        _predictable(analysis),
        _beyond_noise(examined, bounds),
        _changes(analysis, findings),
        _tensors(analysis),
    ]
    spectrum = analysis.total.spectrum
    middle = None if spectrum is None else spectrum.middle_rank
    if spectrum is not None and middle is not None and analysis.run.rows > 1 and analysis.total.energy > 0:
        text = explain_rank(analysis, spectrum, middle)
        possible = min(analysis.run.rows - 1, analysis.run.parameters)
        short = "It never moved"
        if spectrum.energy > 0:
            most = f"at least {count(middle.lower)}" if middle.rank is None else count(middle.rank)
            short = f"{most} of {count(possible)}"
        answers.append(Answer("In how many directions did it move?", short, (text,)))
    return tuple(answers)


def _predictable(analysis: Analysis) -> Answer:
    question, kind = "Was the run predictable?", analysis.run.kind
    best = _best(analysis)
    if isinstance(best, str):
        return Answer(question, "Cannot be said", (best,))
    kappa = best.kappa or 0.0
    tried = sum(p.predictor != "zero" for p in analysis.total.predictors)
    text = [
        f"Of {counted(tried, 'simple forecast')} of each {kind.noun} from those before it the best, "
        f"{best.predictor} ({predictor_words(best.predictor, kind)}), leaves {percent(kappa)} of the "
        f"{kind.noun} energy unforeseen. Predicting nothing leaves 100%."
    ]
    bars = [Bar("this run", kappa)]
    if best.reference is not None:
        of_noise = percent(best.reference)
        text.append(f"On independent noise with this run's own norms the same forecast leaves {of_noise}.")
        bars.append(Bar("noise", best.reference))
    words = predictability(kappa)
    short = f"Yes: {words[:1].lower()}{words[1:]}" if kappa < SURELY else words if kappa < 1 else "No"
    return Answer(question, short, tuple(text), (*bars, Bar("predicting nothing", 1.0)))


def _best(analysis: Analysis) -> PredictorResult | str:
    """The best predictor, or why nothing can be said."""
    kind = analysis.run.kind
    if analysis.run.rows < 2:
        return f"One row has no past to be predicted from: a log of one {kind.noun} says nothing of this."
    if analysis.total.energy == 0:
        return f"All {kind.name} are zero: there is nothing to predict."
    best = analysis.total.best
    if best is None or best.kappa is None:
        return "No predictor but predicting nothing was measured."
    return best


def _beyond_noise(examined: Examined, bounds: Bounds) -> Answer:
    """By predictors on rows that they were not chosen on, where these were searched; else by correlations."""
    question, analysis = "More than noise would be?", examined.analysis
    best = _best(analysis)
    if isinstance(best, str):
        return Answer(question, "Cannot be said", (best,))
    search = analysis.search
    if search is not None and search.total.decided and bounds.anytime.predicts is not None:
        found = search.total.best
        if found is None:
            told = (
                "Of the forecasts that were searched for, none is better than predicting nothing on rows "
                "that it was not chosen on."
            )
            return Answer(question, "No", (told,))
        interval = ""
        if found.lower is not None and found.upper is not None:
            level = f"{100 * search.confidence:g}%"
            interval = f" ({level} interval {percent(found.lower)} to {percent(found.upper)})"
        named = predictor_words(found.predictor, analysis.run.kind)
        told = (
            f"On rows that it was not chosen on, the best of the forecasts that were searched for ({named}) "
            f"leaves {percent(found.held_out)} of the energy{interval}. Predicting nothing leaves 100%, and "
            "independent noise would leave no less, but for chance."
        )
        return Answer(question, "Yes", (told,))
    found_share = nothing_foretold.explained(examined)
    if found_share is None:
        why = (
            "Its figures are estimates from a sketch."
            if analysis.total.estimated
            else "Too few rows carry the energy to tell prediction from noise."
        )
        return Answer(question, "Cannot be said", (why,))
    told = (
        f"With the best factor before it, {found_share.best.predictor} explains {percent(found_share.share)} "
        f"of the energy; independent noise gets up to {percent(found_share.noise_to)} by chance."
    )
    if not found_share.beyond_noise:
        if found_share.would_show(examined.thresholds.explained):
            return Answer(question, "No", (told,))
        return Answer(question, "Cannot be said", (told, "A longer run would tell more."))
    if (found_share.best.scale or 0.0) < 0:
        back = f"The factor is negative: {analysis.run.kind.name} tend to turn back."
        return Answer(question, "Yes, in reverse", (told, back))
    return Answer(question, "Yes", (told,))


def _changes(analysis: Analysis, findings: Sequence[Finding]) -> Answer:
    question = "When did that change?"
    best = _best(analysis)
    if isinstance(best, str):
        return Answer(question, "Cannot be said", (best,))
    of_model = [finding for finding in findings if finding.tensor is None and finding.code in CHANGES]
    of_model.sort(key=lambda finding: CHANGES.index(finding.code))
    span = _over_windows(analysis, best.predictor)
    if of_model:
        texts = [f"{finding.text[:1].upper()}{finding.text[1:]}." for finding in of_model[:MOST_CHANGES]]
        left = len(of_model) - len(texts)
        texts += [f"{count(left)} more under Findings."] * (left > 0)
        places = dict.fromkeys(_place(finding) for finding in of_model[:MOST_CHANGES])
        return Answer(question, ", ".join(places), (*texts, *span))
    if not analysis.steps.grad_norm.size:
        why = "The result holds no per-step series, from which changes are told: write it with --format json."
        return Answer(question, "Cannot be said", (why, *span))
    return Answer(question, "No sudden change", ("No level of norms, kappa or r* changes and stays.", *span))


def _place(finding: Finding) -> str:
    if finding.step is not None:
        return f"At step {count(finding.step)}"
    row = finding.figures.get("row")
    return "Once" if row is None else f"At row {count(int(row))}"


def _over_windows(analysis: Analysis, spec: str) -> list[str]:
    """From where to where kappa went, window by window."""
    windows = analysis.windows
    if windows is None or spec not in windows.total.kappa or len(windows.rows) < 2:
        return []
    kappa = windows.total.kappa[spec]
    if not np.isfinite(kappa).any():
        return []
    ends = int(np.nanargmin(kappa)), int(np.nanargmax(kappa))
    least, most = (
        f"{percent(float(kappa[at]))} (steps {count(first)} to {count(last)})"
        for at in ends
        for first, last in [windows.step[at].tolist()]
    )
    return [f"In {count(len(windows.rows))} windows of training {spec} leaves from {least} to {most}."]


def _tensors(analysis: Analysis) -> Answer:
    question, kind, total = "Which tensors matter?", analysis.run.kind, analysis.total.energy
    if total == 0:
        return Answer(question, "None", (f"All {kind.name} are zero.",))
    tensors = sorted(analysis.tensors, key=lambda tensor: -tensor.energy)
    if len(tensors) == 1:
        return Answer(question, tensors[0].name, ("It is the only one.",))
    named: list[TensorResult] = []
    for tensor in tensors[:MOST_TENSORS]:
        named.append(tensor)
        if sum(t.energy for t in named) >= MOST_ENERGY * total:
            break
    held = percent(sum(tensor.energy for tensor in named) / total)
    shares = ", ".join(f"{tensor.name} {percent(tensor.energy / total)}" for tensor in named)
    number, hold = ("One", "holds") if len(named) == 1 else (count(len(named)), "hold")
    text = [f"{number} of {count(len(tensors))} {hold} {held} of the {kind.noun} energy: {shares}."]
    weighty = [t for t in tensors if t.energy >= LEAST_ENERGY * total]
    ratios = [(ratio, t) for t in weighty if (ratio := _over_noise(t)) is not None]
    if len(ratios) > 1:
        _, tensor = min(ratios, key=lambda item: item[0])
        best = tensor.best
        assert best is not None
        text.append(
            f"Farthest below noise, of those with 1% of the energy or more: {tensor.name}, where "
            f"{best.predictor} leaves {percent(best.kappa)}, and on noise {percent(best.reference)}."
        )
    still = sum(tensor.energy == 0 for tensor in tensors)
    if still:
        text.append(f"{counted(still, 'tensor')} {'is' if still == 1 else 'are'} zero throughout.")
    return Answer(question, ", ".join(tensor.name for tensor in named), tuple(text))


def _over_noise(tensor: TensorResult) -> float | None:
    best = tensor.best
    if best is None or best.kappa is None or not best.reference or not math.isfinite(best.reference):
        return None
    return best.kappa / best.reference


def glossary(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    """The words of a page of this analysis, each in a sentence."""
    say = analysis.run.kind.say
    entries = (
        (
            "energy",
            "the squared norm of the {gradients}, summed over steps: large ones count more than small ones",
        ),
        (
            "predictor",
            "a rule that forecasts each {gradient} from those before it, such as their running average",
        ),
        (
            "kappa",
            "the share of the {gradient} energy that a predictor leaves unforeseen: 0 is a perfect forecast, "
            "1 what predicting nothing gives, more is worse than nothing",
        ),
        ("scaled kappa", "kappa with the best constant factor before the forecast, which is never above 1"),
        (
            "noise",
            "what independent {gradients} with this run's own norms would have given in the same place: a "
            "number says little until it leaves that of noise",
        ),
        (
            "r*(0.05)",
            "the predictable rank: in how many directions the steps from one {gradient} to the next lie, but "
            "for 5% of their energy",
        ),
        ("window", "a stretch of training whose steps are taken together"),
    )
    return tuple((word, say(meaning)) for word, meaning in entries)
