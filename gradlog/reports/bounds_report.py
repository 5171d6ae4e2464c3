"""The report of guarantees: the bounds, the predictors that were found, and what predicts tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .figures import NOTHING, count, counted, numbers, run_size, significant
from .predictor_words import ONE_STEP
from .report import Column, Report, Series, Table
from .words import OF_MOMENTUM

if TYPE_CHECKING:
    from ..guarantees.guarantee import Bounds, Guarantee, MeetingRank
    from ..results.search_result import FoundPredictor, PredictorSearch, ScopeSearch

MOST_TENSORS = 4
"""Json has all of them."""
REGRET = "regret, "
WORDS = {
    "regret[no hints]": "regret, no hints",
    "regret[best listed]": "regret, best listed",
    "regret[best average]": "regret, best average",
    "regret[best mean]": "regret, best mean",
    "regret[best mixture of two averages]": "regret, best mixture",
    "regret[best least squares on lags]": "regret, least squares",
    "regret[aggregate]": "regret, which unknown",
    "regret[rank r]": "regret, rank r",
    "stationarity": "stationarity",
    "stationarity[added]": "  added by prediction",
    "variation[gradual]": "gradual variation",
    "variation[maximal]": "maximal variation",
    "variation[path]": "path variation",
}
HOLDS = {"regret": "if convex", "stationarity": "if smooth", "variation": "as measured"}
"""By the first word of a guarantee's name: what it hangs on first of all."""
PATHS = "hindsight: chosen at the end; along m_t: a run that moves so, not this one"


def bounds_report(bounds: Bounds, *, quiet: bool = False, most_tensors: int | None = MOST_TENSORS) -> Report:
    """All that a person sees. most_tensors : whose predictors are shown, None for all"""
    analysis = bounds.analysis
    run = analysis.run
    size = run_size(run.rows, analysis.steps.step.tolist(), run.tensors, run.parameters)
    radius = "" if bounds.kind.of_updates else f"; radius R = {bounds.radius:g}"
    tables = [_guarantees(bounds)]
    if analysis.search is not None and analysis.search.total.found:
        tables.append(_found(analysis.search, told=bounds.anytime.predicts is not None))
    if analysis.search is not None and len(analysis.search.tensors) > 1:
        tables.append(_tensors(bounds, analysis.search.tensors, most_tensors))
    return Report(
        heading=run.path,
        facts=(f"{size}{radius}",),
        tables=tuple(tables),
        series=_series(bounds),
        words=() if quiet else tuple(_words(bounds)),
    )


def _guarantees(bounds: Bounds) -> Table:
    rows = [row for row in bounds.rows if not bounds.kind.of_updates or row.value is not None]
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("guarantee", "left"), [WORDS[row.name] for row in rows]),
        (Column("hint", "left", shrinks=True), [_hint(row.hint) for row in rows]),
        (Column("this run", "decimal"), numbers([row.value for row in rows])),
        (Column("worst case", "decimal", yields=2), numbers([row.worst for row in rows])),
        (Column("ratio", "decimal"), [_ratio(row) for row in rows]),
        (Column("speaks of", "left"), [row.speaks_of for row in rows]),
        (Column("holds", "left"), [_holds(row) for row in rows]),
        (Column("formula", "left", dim=True, yields=3), [row.formula for row in rows]),
        (
            Column("of the worst case", "left", dim=True, yields=4),
            [row.worst_formula or NOTHING for row in rows],
        ),
    ]
    notes: dict[str, list[str]] = {}
    for row in bounds.rows:
        if row.why:
            notes.setdefault(row.why, []).append(WORDS[row.name].strip())
    paths = [] if bounds.kind.of_updates else [PATHS]
    note = "; ".join((*paths, *(f"{_listed(names)}: {why}" for why, names in notes.items())))
    return Table.of("Guarantees", columns, note=note)


def _listed(names: Sequence[str]) -> str:
    """Names of rows, with what regrets have in common said once."""
    regrets = [name.removeprefix(REGRET) for name in names if name.startswith(REGRET)]
    others = [name for name in names if not name.startswith(REGRET)]
    if len(regrets) > 1:
        return ", ".join([f"regret ({', '.join(regrets)})", *others])
    return ", ".join(names)


def _holds(row: Guarantee) -> str:
    if row.vacuous:
        return "vacuous"
    if row.name == "regret[rank r]":
        return "as a limit"
    return "in expectation" if row.in_expectation else HOLDS[row.name.partition("[")[0]]


def _ratio(row: Guarantee) -> str:
    if not row.ratio:
        return NOTHING if row.ratio is None else "0"
    return f"{row.ratio:.4f}" if row.ratio >= 1e-3 else f"{row.ratio:.1e}"


def _found(search: PredictorSearch, *, told: bool) -> Table:
    """told : whether rows are enough for verdicts"""
    found = search.total.found
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("best in hindsight", "left", shrinks=True), [_short(item.predictor) for item in found]),
        (Column("kappa", "decimal"), numbers([item.kappa for item in found])),
        (Column("scaled", "decimal", yields=2), numbers([item.scaled_kappa for item in found])),
        (Column("held out", "decimal"), numbers([item.held_out for item in found])),
        (Column(f"{100 * search.confidence:g}% interval"), [_interval(item) for item in found]),
        (Column("verdict", "left"), [_verdict(item) if told else NOTHING for item in found]),
    ]
    band = f", band of {search.width} rows" if search.width and search.width > 1 else ""
    return Table.of(f"Predictor search, whole model{band}", columns)


def _interval(item: FoundPredictor) -> str:
    if item.lower is None or item.upper is None:
        return NOTHING
    return f"{significant(item.lower)} to {significant(item.upper)}"


def _verdict(item: FoundPredictor) -> str:
    return {None: NOTHING, True: "predicts", False: "noise"}[item.predicts]


def _tensors(bounds: Bounds, scopes: Sequence[ScopeSearch], most: int | None) -> Table:
    energies = [tensor.energy for tensor in bounds.analysis.tensors]
    order = sorted(range(len(scopes)), key=lambda at: -energies[at])
    shown = [scopes[at] for at in order[:most]]
    likely = [scope.best or scope.least for scope in shown]
    unsure = bounds.unsure
    intervals = [
        _interval(item) if item and scope.name not in unsure else NOTHING
        for scope, item in zip(shown, likely, strict=True)
    ]
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("tensor", "left", shrinks=True), [str(scope.name) for scope in shown]),
        (Column("predicted by", "left"), [NOTHING if s.name in unsure else _named(s) for s in shown]),
        (Column("kappa", "decimal"), numbers([item.kappa if item else None for item in likely])),
        (Column("held out", "decimal"), numbers([item.held_out if item else None for item in likely])),
        (Column("interval", dim=True, yields=3), intervals),
    ]
    rest = len(scopes) - len(shown)
    silent = sum(scope.decided and scope.best is None and scope.name not in unsure for scope in scopes)
    notes = [f"{count(rest)} more in --format json"] if rest else []
    if silent:
        notes.append(f"nothing predicts {count(silent)} of {count(len(scopes))} (kappa: the least found)")
    return Table.of(f"Tensors by {bounds.kind.noun} energy", columns, note="; ".join(notes))


def _named(scope: ScopeSearch) -> str:
    if scope.best is not None:
        return _short(scope.best.predictor)
    return "nothing" if scope.decided else NOTHING


def _short(spec: str) -> str:
    """A spec that fits a table: of long ones only how many weights there are."""
    name, _, argument = spec.partition(":")
    if name == "lags":
        weights = argument.count(",") + 1
        return f"{counted(weights, 'lag')}" if weights > 1 else f"lags:{float(argument):.4g}"
    if spec in ONE_STEP:
        return f"{spec.removesuffix('.0')} (one-step)"
    return spec or NOTHING


def _hint(spec: str) -> str:
    """Where the row names the family."""
    return "one-step" if spec in ONE_STEP else _short(spec)


def _series(bounds: Bounds) -> tuple[Series, ...]:
    anytime = bounds.anytime
    if anytime.hint is None or anytime.hint not in anytime.bounds:  # none of updates
        return ()
    zero = anytime.bounds["zero"]
    ratios = tuple(
        float(b / z) if z > 0 else float("nan")
        for b, z in zip(anytime.bounds[anytime.hint], zero, strict=True)
    )
    title = f"Regret bound with {_hint(anytime.hint)}, of that without hints"
    if anytime.pays_from is not None and anytime.pays_from < bounds.analysis.run.rows:
        step = int(bounds.analysis.steps.step[anytime.pays_from])
        pays = "it pays" if bounds.stride == 1 else "from logged row to row it pays"
        title = f"{title}: {pays} from step {count(step)} on"
    else:
        title = f"{title}, {'at every step' if anytime.predicts else 'in hindsight'}"
    return (Series(title, ratios),)


def _words(bounds: Bounds) -> list[str]:
    words = []
    search = bounds.analysis.search
    if search is not None and search.total.found:
        best = search.total.best
        if bounds.anytime.predicts is None:
            words.append("Too few rows carry the energy to tell prediction from noise.")
        elif best is not None:
            left = _percent(best.held_out)
            words.append(
                f"{_short(best.predictor)} predicts the whole model: {left} of energy left, held out."
            )
        else:
            hints = "" if bounds.kind.of_updates else ": hints are not sure to help"
            words.append(f"Nothing predicts the whole model beyond noise{hints}.")
    elif search is not None and search.total.why:
        words.append(f"No predictors: {search.total.why}.")
    meeting = meeting_ranks(bounds.meeting)
    if meeting:
        words.append(f"Rank-r increments meet {meeting}.")
    spectrum = bounds.analysis.total.spectrum
    middle = None if spectrum is None else spectrum.middle_rank
    if middle is not None and middle.rank is not None and middle.reference is not None:
        words.append(
            f"r*({middle.epsilon:g}) is {count(middle.rank)}; noise with these norms would have "
            f"{count(middle.reference)}."
        )
    told = OF_MOMENTUM
    if not bounds.kind.of_updates:
        told = f"{_conditions(bounds)}; docs/guarantees.md has what bounds assume."
    words.append(told)
    return words


def _conditions(bounds: Bounds) -> str:
    """What the log says of how its gradients came about."""
    told = "Full-batch, as the log says" if bounds.full_batch else "Taken as minibatches"
    if bounds.stride > 1:
        told += f", {bounds.stride} steps apart"
    adaptive = bounds.adaptive_optimizer
    if adaptive and adaptive not in bounds.row("stationarity").why:
        told += f"; {adaptive} rescales gradients: no bound is of its own steps"
    return told


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.3g}%"


def meeting_ranks(found: Sequence[MeetingRank]) -> str:
    """Predictors by the rank that meets them, the lowest first; those that rank 0 meets say nothing."""
    by_rank: dict[str, list[str]] = {}
    for item in sorted(found, key=lambda item: (item.lower, item.upper is None, item.upper)):
        if item.upper != 0:
            by_rank.setdefault(_ranks(item.lower, item.upper), []).append(item.predictor)
    met = [f"{', '.join(specs)} at {ranks}" for ranks, specs in by_rank.items()]
    return "; ".join(met).replace(" at ", " at r = ", 1)


def _ranks(lower: int, upper: int | None) -> str:
    if upper is None:
        return f"{lower} or more"
    return f"{lower}" if lower == upper else f"{lower}-{upper}"
