"""The quantities of results: what CSV, rules of gates, comparisons, JSON and completion know of each.

QUANTITIES is the one table, in the order of CSV and JSON. A quantity that is added to it, with `add`, is a
column and can stand in a rule; where it is stored, in a field of its section's dataclass, JSON holds it, and
is read back from there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..quick_dataclass import dataclass
from .projection import DEVIATIONS
from .reasons import ALL_ZERO
from .result import PredictorResult, RankResult, ScopeResult, SpectrumResult, SubspaceMeasure
from .row_kind import RowKind

BY_PREDICTOR, BY_EPSILON, BY_ROWS, BY_FAMILY = "predictor", "epsilon", "rows", "family"
"""What stands in the brackets of a quantity; "" where there are none."""
BEST = "best"
"""Stands for the predictor with the least path length, in kappa[best]."""
ROWS = ("gradients", "increments")
"""The rows whose subspaces are followed."""
BETTER, WORSE, HIGHER, LOWER = "better", "worse", "higher", "lower"

NO_NUMBER = "it is beyond float64: scale the {gradients}"
NO_RESIDUAL = (
    "the result holds no residual, as those of an early gradmf: write it anew with analyze --format json, or "
    "give the store"
)
NO_FIGURE = "the result holds none: write it anew with analyze --format json, or give the store"
NO_SPECTRUM = "it was analyzed with --rank none"
NO_COUNT = "the sketch cannot tell; a larger --sketch-dim may"
SKETCHED = "a sketch estimates it; the log of {gradients} itself decides, or a larger sketch"
SKETCHED_UNSURE = "a sketch estimates it, with no standard error: give the log of {gradients} itself"
SQUARES = "squared gradient units"


@dataclass(frozen=True)
class Reading:
    """What is known of a quantity for certain: it lies in [lower, upper].

    value : the figure to show, None where there is none: that is violated by a limit, or cannot be decided
    doubt : why lower < upper or there is no value, and what to do about it; `about` fills nouns in
    """

    value: float | None
    lower: float
    upper: float
    doubt: str = ""

    @classmethod
    def exact(cls, value: float) -> Reading:
        """A figure that is as good as float64 has it; none at all where it is beyond that, or no number."""
        return cls(value, value, value) if math.isfinite(value) else cls.nothing(NO_NUMBER)

    @classmethod
    def nothing(cls, why: str) -> Reading:
        """No figure at all."""
        return cls(None, -math.inf, math.inf, why)

    @property
    def sound(self) -> bool:
        """Whether all of it are numbers: NaN compares false with everything, and would pass every limit."""
        return not any(map(math.isnan, (self.value or 0.0, self.lower, self.upper)))

    def about(self, kind: RowKind) -> Reading:
        """The same of rows of that kind."""
        return dataclasses.replace(self, doubt=kind.say(self.doubt))

    def through(self, function: Callable[[float], float]) -> Reading:
        """What is known of a function of the quantity that never decreases, such as a multiple."""
        if self.value is None:
            return self
        return Reading(function(self.value), function(self.lower), function(self.upper), self.doubt)


Of = Callable[[ScopeResult, str, int], float | None]
Read = Callable[[ScopeResult, str, int], Reading]
"""A figure, and what is known of it, in a scope, by the argument in the brackets and the run's rows N."""


@dataclass(frozen=True)
class Section:
    """Objects of a result that hold figures of a kind.

    argument : what tells the objects of one scope apart, BY_PREDICTOR ...; "" where there is one
    find : the object of a scope, by the argument; None where there is none
    why : why there is none, and what to do about it
    of_spectrum : whether it is there only where ranks are computed
    """

    argument: str
    find: Callable[[ScopeResult, str], Any]
    why: Callable[[ScopeResult, str], str]
    of_spectrum: bool = False


@dataclass(frozen=True)
class Stored:
    """The field of the section's dataclass, and of its object in JSON, that holds a figure.

    null : whether the figure may be unknown; always : whether every document holds the field: where early
    ones lack it, the figure is unknown
    ends : the fields of its bounds; open : whether these may be unknown too
    error : the field of its standard error, "" where there is none; left out of JSON where it is not known
    freedom : the field of the degrees of freedom that the error is known with, where it says how far the
    logarithm of the figure could be off with other minibatches; "" where it is that of a sketch
    """

    name: str
    null: bool = True
    always: bool = False
    ends: tuple[str, ...] = ()
    open: bool = False
    error: str = ""
    freedom: str = ""


@dataclass(frozen=True)
class Quantity:
    """A quantity of a scope, a tensor or the whole model.

    name : as columns, rules and comparisons spell it, before the brackets
    section : what holds it, or what it is made of; decides what stands in the brackets
    stored, of : where the figure stands, or how it follows from others where its section is there
    read : what is known of it. Without it, the figure is exact; an estimate, by its standard error if it has
    one, where a sketch estimates sums; and anything at all where it is of a spectrum that is not exact
    missing : why there is no figure, where its section is there
    bounds : certain bounds, or those at the confidence of a spectrum, that columns show as NAME_lower and
    NAME_upper; None where nothing is known
    unit : of its figures; "" for ratios and counts
    least, most : the ends of its range
    better : LOWER or HIGHER, where one is better; "" where neither is
    whole : whether it is a count, and shown as one
    of_zero : its figure of the predictor `zero` in every run; None where that depends on the run
    of_best : whether BEST can stand in its brackets
    beside : fields of the section that columns show behind it
    column, in_rules, compared : whether CSV has it, whether rules can be about it, whether compare has it
    by_steps : whether comparisons have an interval for it, from how it varies from step to step
    reference : name of the quantity that independent noise has in its place; "" where that is not known
    told : its place where names are listed for rules, and in comparisons
    """

    name: str
    section: Section
    stored: Stored | None = None
    of: Of | None = None
    read: Read | None = None
    missing: Callable[[ScopeResult], str] = lambda _: NO_FIGURE
    bounds: Callable[[ScopeResult, str], tuple[float, float] | None] | None = None
    unit: str = ""
    least: float = -math.inf
    most: float = math.inf
    better: str = ""
    whole: bool = False
    of_zero: float | None = None
    of_best: bool = False
    beside: tuple[str, ...] = ()
    column: bool = True
    in_rules: bool = True
    compared: bool = False
    by_steps: bool = False
    reference: str = ""
    told: int = 100

    def __post_init__(self) -> None:
        assert (self.stored is None) != (self.of is None), f"{self.name}: either stored, or worked out"

    @property
    def argument(self) -> str:
        """What stands in its brackets; "" where there are none."""
        return self.section.argument

    @property
    def judged(self) -> bool:
        """Whether comparisons can have an interval for it that holds noise, and a verdict."""
        by_blocks = self.stored is not None and bool(self.stored.freedom)
        return self.compared and (self.by_steps or by_blocks)

    @property
    def verdicts(self) -> tuple[str, str]:
        """What a run is called that has a lower figure than the baseline, and one that has a higher one."""
        return {LOWER: (BETTER, WORSE), HIGHER: (WORSE, BETTER), "": (LOWER, HIGHER)}[self.better]

    def figure(self, scope: ScopeResult, argument: str, rows: int) -> float | None:
        """The figure as the result has it; None where there is none. rows : N of the run"""
        held = self.section.find(scope, argument)
        if held is None:
            return None
        if self.of is not None:
            return self.of(scope, argument, rows)
        assert self.stored is not None
        value: float | None = getattr(held, self.stored.name)
        return value

    def reading(self, scope: ScopeResult, argument: str, rows: int) -> Reading:
        """What is known of it for certain. rows : N of the run"""
        if self.read is not None:
            return self.read(scope, argument, rows)
        held = self.section.find(scope, argument)
        if held is None:
            return Reading.nothing(self.section.why(scope, argument))
        value = self.figure(scope, argument, rows)
        if value is None:
            return Reading.nothing(self.missing(scope))
        spectrum = scope.spectrum
        if self.section.of_spectrum and spectrum is not None and spectrum.method != "exact":
            return Reading(value, -math.inf, math.inf, _estimated(spectrum))
        error = getattr(held, self.stored.error) if self.stored and self.stored.error else None
        return _estimate(scope, value, error)


QUANTITIES: dict[str, Quantity] = {}
"""Of each name, in the order of CSV and JSON."""


def add(quantity: Quantity) -> None:
    """Make a quantity known, behind all others."""
    QUANTITIES[quantity.name] = quantity


def spelled(name: str, argument: str) -> str:
    """A quantity with its argument, as columns, rules and comparisons spell it."""
    return f"{name}[{argument}]" if argument else name


def stored_in(section: Section) -> Iterator[tuple[Stored, Quantity]]:
    """The figures that objects of a section hold."""
    return ((q.stored, q) for q in QUANTITIES.values() if q.section is section and q.stored is not None)


def of_rules() -> dict[str, Quantity]:
    """The quantities that rules can be about, as they are listed."""
    return {q.name: q for q in sorted(QUANTITIES.values(), key=lambda q: q.told) if q.in_rules}


def of_comparisons() -> list[Quantity]:
    """The quantities that compare has, in its order: sums over steps before spectra."""
    found = (q for q in QUANTITIES.values() if q.compared)
    return sorted(found, key=lambda q: (q.section.of_spectrum, q.told))


def read(name: str, scope: ScopeResult, argument: str, rows: int) -> Reading:
    """What is known of the quantity of that name."""
    return QUANTITIES[name].reading(scope, argument, rows)


# The sections of a result.


def _predictor(scope: ScopeResult, argument: str) -> PredictorResult | None:
    if argument == BEST:
        return scope.best
    return next((p for p in scope.predictors if p.predictor == argument), None)


def _no_predictor(scope: ScopeResult, argument: str) -> str:
    if scope.energy == 0:
        return ALL_ZERO
    measured = "no predictor but zero" if argument == BEST else f"predictor {argument} not"
    return f"{measured} was measured: give --predictor"


def _rank(scope: ScopeResult, argument: str) -> RankResult | None:
    found = () if scope.spectrum is None else scope.spectrum.rank
    return next((r for r in found if argument in (repr(r.epsilon), repr(float(r.epsilon)))), None)


def _no_rank(scope: ScopeResult, argument: str) -> str:
    if scope.spectrum is None:
        return NO_SPECTRUM
    return f"epsilon {argument} was not asked for: give --epsilon {argument}"


def _measure(scope: ScopeResult, argument: str) -> SubspaceMeasure | None:
    measure: SubspaceMeasure | None = getattr(scope.subspace, argument, None)
    return measure


SCOPE = Section("", lambda scope, _: scope, lambda _scope, _: NO_FIGURE)
PREDICTOR = Section(BY_PREDICTOR, _predictor, _no_predictor)
SPECTRUM = Section("", lambda scope, _: scope.spectrum, lambda _scope, _: NO_SPECTRUM, of_spectrum=True)
RANK = Section(BY_EPSILON, _rank, _no_rank, of_spectrum=True)
SUBSPACE = Section(BY_ROWS, _measure, lambda _scope, _: "it was analyzed without --subspace")
FOUND = Section(BY_FAMILY, lambda _scope, _: None, lambda _scope, _: "no predictor was searched")
"""Of the search: a `FoundPredictor` of each family. It lies beside the scopes, in `ScopeSearch`."""


# What is known of figures that are not simply exact or an estimate.


def _estimate(scope: ScopeResult, value: float, error: float | None) -> Reading:
    """A sum over steps, or what is made of some. error : standard error, None where there is none"""
    if not scope.estimated or error == 0.0:
        return Reading.exact(value)
    if error is None or not math.isfinite(error):
        return Reading(value, -math.inf, math.inf, SKETCHED_UNSURE)
    likely = DEVIATIONS * error
    return Reading(value, value - likely, value + likely, SKETCHED)


def _no_figure_of_predictor(scope: ScopeResult) -> str:
    return ALL_ZERO if scope.energy == 0 else NO_NUMBER


def _no_scale(scope: ScopeResult) -> str:
    return ALL_ZERO if scope.energy == 0 else "all predictions are zero"


def _grad_norm(scope: ScopeResult, _: str, rows: int) -> float:
    """sqrt(sum ||g_t||^2 / N), the root mean square of the norms."""
    return math.sqrt(scope.energy / rows)


def _read_grad_norm(scope: ScopeResult, _: str, rows: int) -> Reading:
    return read("energy", scope, "", rows).through(lambda energy: math.sqrt(max(0.0, energy) / rows))


def _read_increment_energy(scope: ScopeResult, _argument: str, _rows: int) -> Reading:
    """A sum over steps like others: each method takes it from the increments themselves."""
    spectrum = scope.spectrum
    return Reading.nothing(NO_SPECTRUM) if spectrum is None else _estimate(scope, spectrum.energy, None)


def _ends_of_rank(scope: ScopeResult, argument: str) -> tuple[int, int] | None:
    rank = _rank(scope, argument)
    return None if rank is None else (rank.lower, rank.upper)


def _read_rank(scope: ScopeResult, argument: str, _: int) -> Reading:
    spectrum, rank = scope.spectrum, _rank(scope, argument)
    if spectrum is None or rank is None:
        return Reading.nothing(_no_rank(scope, argument))
    certain = rank.rank is not None and rank.lower == rank.upper
    return Reading(rank.rank, rank.lower, rank.upper, "" if certain else _advice(spectrum))


def _read_residual(scope: ScopeResult, argument: str, _: int) -> Reading:
    spectrum, rank = scope.spectrum, _rank(scope, argument)
    if spectrum is None or rank is None:
        return Reading.nothing(_no_rank(scope, argument))
    if spectrum.method == "exact":
        return Reading.nothing(NO_RESIDUAL) if rank.residual is None else Reading.exact(rank.residual)
    # By the definition of r*, what it leaves out is at most that share.
    most = rank.epsilon * spectrum.energy
    certain_bounds = spectrum.method == "incremental"
    value = most if certain_bounds and rank.residual is None else rank.residual
    return Reading(value, 0.0, math.inf if scope.estimated else most, _estimated(spectrum))


def _advice(spectrum: SpectrumResult) -> str:
    larger = "--sketch-dim" if spectrum.method == "sketch" else "--memory"
    return f"the {spectrum.method} method gives bounds; a larger {larger} narrows them"


def _estimated(spectrum: SpectrumResult) -> str:
    return f"the {spectrum.method} method estimates it; --rank exact computes it, or hold a rank[] to a limit"


def soft_count(name: str, told: int, **known: Any) -> Quantity:
    """How many directions a spectrum amounts to, by some measure: a field of `SpectrumResult`, at least 1.

    Exact, or within the spectrum's `count_bounds`; where there are none, an estimate in 1 .. min(N - 1, D).
    """

    def bounds(scope: ScopeResult, _: str) -> tuple[float, float] | None:
        return None if scope.spectrum is None else scope.spectrum.bounds_of(name)

    def read(scope: ScopeResult, _: str, rows: int) -> Reading:
        spectrum = scope.spectrum
        if spectrum is None:
            return Reading.nothing(NO_SPECTRUM)
        value: float | None = getattr(spectrum, name)
        if value is None:
            if spectrum.energy == 0:
                return Reading.nothing("the {gradients} never change")
            return Reading.nothing(NO_COUNT if spectrum.method == "sketch" else NO_FIGURE)
        ends = spectrum.bounds_of(name)
        if ends is None:
            most = max(1.0, min(rows - 1, scope.parameters))
            return Reading(value, 1.0, most, _estimated(spectrum))
        return Reading(value, *ends, "" if ends[0] == ends[1] else _advice(spectrum))

    stored = Stored(name, always=True, error=f"{name}_error", freedom=f"{name}_freedom")
    return Quantity(name, SPECTRUM, stored, read=read, bounds=bounds, least=1.0, told=told, **known)


def _of_predictor(name: str, told: int, *, null: bool = True, **known: Any) -> Quantity:
    """A figure of a predictor, with its standard error."""
    stored = Stored(name, null=null, always=True, error=f"{name}_error")
    return Quantity(name, PREDICTOR, stored, told=told, **{"missing": _no_figure_of_predictor, **known})


def _reference(name: str, section: Section, field: str = "reference", *, whole: bool = False) -> Quantity:
    """What independent noise of the same norms has in place of a figure."""
    return Quantity(f"{name}_reference", section, Stored(field), least=0.0, whole=whole, in_rules=False)


def _of_rows(name: str, most: float = math.inf, *, whole: bool = False) -> Quantity:
    """A figure of how the energy lies over the rows, which findings take and JSON alone holds."""
    return Quantity(
        name, SCOPE, Stored(name), least=0.0, most=most, whole=whole, column=False, in_rules=False
    )  # fmt: skip


def _of_search(name: str, *, null: bool = False, ends: Sequence[str] = (), least: float = 0.0) -> Quantity:
    """A figure of what the search found, which stands in JSON alone."""
    stored = Stored(name, null=null, always=True, ends=tuple(ends), open=True)
    return Quantity(f"found_{name}", FOUND, stored, least=least, column=False, in_rules=False)


def _of_subspace(field: str, most: float, *, whole: bool = False) -> Quantity:
    """A measure of leading subspaces over training, and of each window."""
    return Quantity(
        f"subspace_{field}", SUBSPACE, Stored(field, always=True),
        least=0.0, most=most, whole=whole, in_rules=False,
    )  # fmt: skip


for _quantity in (
    Quantity(
        "energy", SCOPE, Stored("energy", null=False, always=True, error="energy_error"),
        unit=SQUARES, least=0.0, told=11,
    ),
    Quantity(
        "grad_norm", SCOPE, of=_grad_norm, read=_read_grad_norm,
        unit="gradient units", least=0.0, column=False, compared=True, by_steps=True, told=12,
    ),
    _of_predictor("path_length", 4, null=False, unit=SQUARES, least=0.0, compared=True, by_steps=True),
    _of_predictor(
        "kappa", 1, least=0.0, better=LOWER, of_zero=1.0, of_best=True, compared=True, by_steps=True,
        reference="kappa_reference",
    ),
    _of_predictor(
        "scaled_kappa", 2, least=0.0, most=1.0, better=LOWER, of_zero=1.0, compared=True, by_steps=True
    ),
    _of_predictor("scale", 3, missing=_no_scale),
    _reference("kappa", PREDICTOR),
    Quantity(
        "increment_energy", SPECTRUM, Stored("energy", null=False, always=True), read=_read_increment_energy,
        unit=SQUARES, least=0.0, beside=("method", "confidence"), told=10,
    ),
    Quantity(
        "rank", RANK,
        Stored("rank", always=True, ends=("lower", "upper"), error="error", freedom="freedom"),
        read=_read_rank, bounds=_ends_of_rank,
        least=0.0, whole=True, compared=True, reference="rank_reference", told=5,
    ),
    Quantity("residual", RANK, Stored("residual"), read=_read_residual, unit=SQUARES, least=0.0, told=6),
    _reference("rank", RANK, whole=True),
    soft_count("stable_rank", 8, compared=True, reference="stable_rank_reference"),
    soft_count("effective_rank", 7, compared=True, reference="effective_rank_reference"),
    soft_count("participation_ratio", 9),
    _reference("stable_rank", SPECTRUM, "stable_rank_reference"),
    _reference("effective_rank", SPECTRUM, "effective_rank_reference"),
    Quantity("effective_rows", SCOPE, Stored("effective_rows"), least=0.0, told=13),
    Quantity("effective_parameters", SCOPE, Stored("effective_parameters"), least=0.0, in_rules=False),
    _of_rows("top_row", whole=True),
    _of_rows("top_row_share", 1.0),
    _of_rows("quiet_row", whole=True),
    _of_rows("quiet_level", 1.0),
    _of_subspace("fraction", 1.0),
    _of_subspace("overlap", 1.0),
    _of_subspace("directions", math.inf, whole=True),
    _of_search("path_length"),
    _of_search("kappa"),
    _of_search("scaled_kappa"),
    _of_search("scale", null=True, least=-math.inf),
    _of_search("held_out", null=True, ends=("lower", "upper")),
):  # fmt: skip
    add(_quantity)

COUNTS = tuple(q.name for q in QUANTITIES.values() if q.section is SPECTRUM and q.bounds is not None)
"""The ways to count the directions of a spectrum, which have bounds of their own."""
