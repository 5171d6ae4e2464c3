"""Whether a result that was read is one that an analysis can have given: what fits together, and adds up.

Figures of the right kind alone are not enough: a length that was swapped, an epsilon that lost its rank or a
sum that does not add up would be read as another number than was computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..predictors import parse_predictor, parse_predictors
from ..results.quantities import COUNTS, FOUND, PREDICTOR, RANK, SCOPE, SPECTRUM, Section, stored_in
from ..results.result import Analysis, GroupResult, PredictorResult, ScopeResult, SpectrumResult, TensorResult
from ..results.search_result import FAMILIES, ScopeSearch

Doubles = NDArray[np.float64]

METHODS = ("exact", "incremental", "sketch")
SUMS = 1e-6
"""Relative: sums that were taken in another order agree to far more digits than that."""
OF_SPECTRUM = 2e-5
"""Relative: to how much the squares of an exact spectrum add up to the energy of the increments, and more."""


def check_analysis(analysis: Analysis) -> None:
    """Raise ValueError, in words, where an analysis holds what none can give."""
    # What is checked may be anything: a product that overflows is not equal to what it should be.
    with np.errstate(all="ignore"):
        _check_run(analysis)
        _check_settings(analysis)
        for scope in (analysis.total, *analysis.tensors, *analysis.groups):
            _check_scope(analysis, scope, _place(scope))
        _check_groups(analysis)
        specs = {p.predictor for p in analysis.total.predictors}
        _check_steps(analysis, specs)
        _check_tensor_steps(analysis, specs - {"zero"})
        _check_search(analysis)


def _place(scope: ScopeResult) -> str:
    if isinstance(scope, GroupResult):
        return f"group {scope.name!r}"
    return f"tensor {scope.name!r}" if isinstance(scope, TensorResult) else "total"


def _need(sound: bool, fault: str) -> None:
    if not sound:
        raise ValueError(fault)


def _check_run(analysis: Analysis) -> None:
    run, tensors = analysis.run, analysis.tensors
    _need(run.tensors == len(tensors), f"run.tensors is {run.tensors}, and there are {len(tensors)}")
    _need(len({tensor.name for tensor in tensors}) == len(tensors), "a tensor stands there twice")
    for tensor in tensors:
        _need(
            math.prod(tensor.shape) == tensor.parameters,
            f"{_place(tensor)} has {tensor.parameters} parameters, unlike its shape",
        )
    parameters = sum(tensor.parameters for tensor in tensors)
    _need(
        run.parameters == analysis.total.parameters == parameters,
        f"run.parameters is {run.parameters}, and its tensors have {parameters}",
    )


def _check_settings(analysis: Analysis) -> None:
    settings = analysis.settings
    _need(all(0 <= epsilon < 1 for epsilon in settings.epsilons), "an epsilon is not in [0, 1)")
    # Raises UsageError, a ValueError, for a predictor that is not known.
    known = {predictor.spec for predictor in parse_predictors(settings.predictors)}
    for scope in (analysis.total, *analysis.tensors):
        specs = [p.predictor for p in scope.predictors]
        _need(
            len(set(specs)) == len(specs) and set(specs) == known,
            f"{_place(scope)} has other predictors than the settings",
        )
        _need(
            (scope.spectrum is None) == (settings.rank == "none"),
            f"{_place(scope)} and rank {settings.rank!r} of the settings don't go together",
        )
        found = scope.subspace
        _need(
            (found is None) == (settings.subspace is None)
            and (
                found is None or (found.dimensions, found.window) == (settings.subspace, settings.window_rows)
            ),
            f"{_place(scope)} has another subspace than the settings",
        )


def _check_groups(analysis: Analysis) -> None:
    """Members, and what adds up over them."""
    tensors = {tensor.name: tensor for tensor in analysis.tensors}
    groups = {group.name: group for group in analysis.groups}
    _need(len(groups) == len(analysis.groups), "a group stands there twice")
    for place, group in ((_place(group), group) for group in groups.values()):
        unknown = [name for name in group.tensors if name not in tensors]
        _need(not unknown and len(set(group.tensors)) == len(group.tensors), f"{place} has other tensors")
        members = [tensors[name] for name in group.tensors]
        _need(
            group.parameters == sum(tensor.parameters for tensor in members)
            and _adds_up(np.array([tensor.energy for tensor in members]), group.energy),
            f"the energies or parameters of its tensors don't add up to those of {place}",
        )
        specs = [p.predictor for p in analysis.total.predictors]
        _need([p.predictor for p in group.predictors] == specs, f"{place} has other predictors")


def _check_scope(analysis: Analysis, scope: ScopeResult, place: str) -> None:
    _check_ranges(SCOPE, scope, place)
    _need(scope.energy_error is None or scope.energy_error >= 0, f"{place} has a negative energy_error")
    for predictor in scope.predictors:
        _check_predictor(predictor, scope, f"{predictor.predictor} of {place}")
    if scope.spectrum is not None:
        dimension = min(analysis.run.rows - 1, scope.parameters)
        _check_spectrum(scope.spectrum, analysis, dimension, f"the spectrum of {place}")


def _check_ranges(section: Section, holder: object, place: str) -> None:
    """Of figures that have no bounds of their own."""
    for stored, quantity in stored_in(section):
        value: float | None = getattr(holder, stored.name)
        if value is None or quantity.bounds is not None:
            continue
        if quantity.most == math.inf and quantity.least == 0:
            _need(value >= 0, f"{place} has a negative {stored.name}")
        else:
            sound = quantity.least <= value <= quantity.most
            _need(sound, f"{stored.name} of {place} is not in [{quantity.least:g}, {quantity.most:g}]")


def _check_errors(section: Section, holder: object, place: str) -> None:
    """Of errors over steps, and the degrees of freedom that go with each."""
    for stored, _ in stored_in(section):
        if stored.freedom:
            error, freedom = getattr(holder, stored.error), getattr(holder, stored.freedom)
            sound = (error is None) == (freedom is None) and (error is None or (error >= 0 and freedom >= 1))
            _need(sound, f"{place} has a {stored.error} that cannot be")


def _check_predictor(found: PredictorResult, scope: ScopeResult, place: str) -> None:
    errors = [getattr(found, stored.error) for stored, _ in stored_in(PREDICTOR) if stored.error]
    _need(min(value or 0.0 for value in (found.path_length, *errors)) >= 0, f"{place} is negative")
    kappa = _ratio(found.path_length, scope.energy)
    _need(_equal(found.kappa, kappa), f"kappa of {place} is not its path length over the energy")
    known = found.scaled_kappa is not None or (found.kappa is None and found.scale is None)
    _need(known, f"scaled_kappa of {place} is not in [0, 1]")
    _check_ranges(PREDICTOR, found, place)


def _ratio(part: float, whole: float) -> float | None:
    """None where there is no whole, or the ratio is beyond float64: JSON has no infinity."""
    try:
        ratio = part / whole
    except (ZeroDivisionError, OverflowError):
        return None
    return ratio if math.isfinite(ratio) else None


def _equal(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return abs(found - expected) <= SUMS * expected


def _check_spectrum(found: SpectrumResult, analysis: Analysis, dimension: int, place: str) -> None:
    _need(found.method in METHODS, f"{place} has the method {found.method!r}")
    _need(
        (found.projection is not None) == (found.method == "sketch"), f"{place} has no or another projection"
    )
    _need(0 < found.confidence <= 1, f"{place} has a confidence of {found.confidence}")
    _check_ranges(SPECTRUM, found, place)
    for section, holders in ((SPECTRUM, (found,)), (RANK, found.rank)):
        for holder in holders:
            _check_errors(section, holder, place)
    epsilons = tuple(rank.epsilon for rank in found.rank)
    _need(epsilons == analysis.settings.epsilons, f"{place} has other epsilons than the settings")
    exact = found.method == "exact"
    for rank in found.rank:
        value = rank.lower if rank.rank is None else rank.rank
        _need(
            0 <= rank.lower <= value <= rank.upper <= dimension
            and not (exact and (rank.rank is None or rank.lower < rank.upper))
            and (found.energy > 0 or (rank.rank, rank.upper) == (0, 0)),
            f"{place} has r*({rank.epsilon:g}) outside of its bounds",
        )
        most = found.energy * ((rank.epsilon if exact else 1) + SUMS)
        _need(
            rank.residual is None
            or 0 <= rank.residual <= most
            or (found.method == "sketch" and rank.residual >= 0),
            f"{place} has a residual[{rank.epsilon:g}] that is no part of its energy",
        )
    _check_counts(found, dimension, place)
    _check_singular_values(found, dimension, place)
    rows = [point.rows for point in found.growth]
    _need(
        rows == sorted(set(rows))
        and all(0 < row <= analysis.run.rows for row in rows)
        and all(len(point.bounds) == len(epsilons) for point in found.growth)
        and all(lower <= upper for point in found.growth for lower, upper in point.bounds),
        f"{place} has a growth that cannot be",
    )


def _check_counts(found: SpectrumResult, dimension: int, place: str) -> None:
    _need(found.count_bounds.keys() <= set(COUNTS), f"{place} has bounds of what is not known")
    for name in COUNTS:
        value: float | None = getattr(found, name)
        most = math.inf if found.method == "sketch" else float(dimension)
        low, high = found.count_bounds.get(name, (1.0, most))
        _need(
            value is None or low * (1 - SUMS) <= value <= high * (1 + SUMS),
            f"{place} has a {name} outside of its bounds",
        )
        _need(value is not None or found.energy == 0 or found.method == "sketch", f"{place} has no {name}")


def _check_singular_values(found: SpectrumResult, dimension: int, place: str) -> None:
    values = found.singular_values
    if not values.size:  # those of tensors are left out
        return
    sound = bool((values >= 0).all() and (np.diff(values) <= 0).all() and values.size <= dimension)
    if found.method == "exact":
        total = float(np.square(values).sum())
        sound = sound and values.size == dimension and abs(total - found.energy) <= OF_SPECTRUM * found.energy
    _need(sound, f"{place} has singular values that don't fit its energy, rows and parameters")


def _check_steps(analysis: Analysis, specs: set[str]) -> None:
    steps, rows, total = analysis.steps, analysis.run.rows, analysis.total
    series = [steps.step, steps.grad_norm, steps.cosine]
    maps = (steps.kappa, steps.path_length, steps.product, steps.inside)
    several = [values for held in maps for values in held.values()]
    if not any(values.size for values in (*series, *several)) and not several:
        return
    _need(
        all(values.shape == (rows,) for values in (*series, *several)),
        f"its steps are not {rows} values each",
    )
    later = specs - {"zero"}
    _need(
        steps.kappa.keys() == specs
        and steps.path_length.keys() == steps.product.keys()
        and steps.path_length.keys() in (later, set())
        and steps.inside.keys() in ({"gradients", "increments"}, set()),
        "its steps have other predictors than the whole",
    )
    shares = (*steps.kappa.values(), *steps.inside.values())
    _need(not any((values < 0).any() for values in shares), "a kappa or share of its steps is negative")
    _need(not (np.abs(steps.cosine) > 1 + SUMS).any(), "a cosine of its steps is not in [-1, 1]")
    _need(bool((steps.grad_norm >= 0).all()), "a norm of its steps is negative")
    energy = np.square(steps.grad_norm)
    _check_sums(energy, steps.path_length, steps.product, total, "steps")


def _check_sums(
    energy: Doubles,
    path_length: Mapping[str, Doubles],
    product: Mapping[str, Doubles],
    scope: ScopeResult,
    place: str,
) -> None:
    """Sums over steps against those of all rows, and products against what two vectors can have.

    ||g - m|| >= ||m|| - ||g|| bounds ||m||, and <g, m> <= ||g|| ||m||.
    """
    held = {p.predictor: p.path_length for p in scope.predictors}
    _need(bool((energy >= 0).all()), f"an energy of its {place} is negative")
    _need(_adds_up(energy, scope.energy), f"its {place} don't add up to its energy")
    for spec, residual in path_length.items():
        _need(bool((residual >= 0).all()), f"a path length of its {place} is negative")
        _need(_adds_up(residual, held[spec]), f"its {place} don't add up to its path length of {spec}")
        norms = np.sqrt(energy)
        # Squares of what is far below the rest may have lost their digits.
        most = norms * (norms + np.sqrt(residual)) * (1 + SUMS) + SUMS * (scope.energy + held[spec])
        _need(bool((np.abs(product[spec]) <= most).all()), f"a product of its {place} is too large")


def _adds_up(values: Doubles, total: float) -> bool:
    return bool(abs(float(values.sum()) - total) <= SUMS * total)


def _check_tensor_steps(analysis: Analysis, specs: set[str]) -> None:
    held, rows = analysis.tensor_steps, analysis.run.rows
    if held is None:
        return
    edges = held.edges
    _need(
        edges.size >= 2
        and (int(edges[0]), int(edges[1]), int(edges[-1])) == (0, 1, rows)
        and bool((np.diff(edges) > 0).all()),
        "its tensor_steps have edges that don't fit its rows",
    )
    _need(
        not analysis.tensors or held.path_length.keys() == held.product.keys() == specs,
        "its tensor_steps have other predictors than the whole",
    )
    for at, tensor in enumerate(analysis.tensors):
        residuals = {spec: values[at] for spec, values in held.path_length.items()}
        products = {spec: values[at] for spec, values in held.product.items()}
        _check_sums(held.energy[at], residuals, products, tensor, f"steps of {_place(tensor)}")


def _check_search(analysis: Analysis) -> None:
    search, rows = analysis.search, analysis.run.rows
    for name, values in (analysis.series or {}).items():
        _need(values.shape == (rows,), f"its series {name!r} is not {rows} values")
    if search is None:
        return
    _need(search.method in ("gram", "band"), f"its search has the method {search.method!r}")
    _need(0 < search.confidence < 1, f"its search has a confidence of {search.confidence}")
    names = [tensor.name for tensor in analysis.tensors]
    _need([scope.name for scope in search.tensors] == names, "its search doesn't fit its tensors")
    for scope in (search.total, *search.tensors):
        _check_found(scope, "the whole model" if scope.name is None else f"tensor {scope.name!r}")
    total = search.total
    _need(
        total.steps.keys() == {found.predictor for found in total.found},
        "its search has steps of other predictors",
    )
    for found in total.found:
        values = total.steps[found.predictor]
        _need(
            values.shape == (rows,) and bool((values >= 0).all()) and _adds_up(values, found.path_length),
            f"the steps of {found.predictor[:40]} that its search found don't add up to its path length",
        )


def _check_found(scope: ScopeSearch, place: str) -> None:
    families = [found.family for found in scope.found]
    _need(
        len(set(families)) == len(families) and set(families) <= set(FAMILIES),
        f"its search has no or other families for {place}",
    )
    for found in scope.found:
        parse_predictor(found.predictor)
        _need(
            found.family == found.predictor.partition(":")[0] or found.family != "ema",
            f"its search has {found.predictor[:40]} as an average for {place}",
        )
        figures: list[float | None] = [
            getattr(found, name)
            for stored, quantity in stored_in(FOUND)
            if quantity.least == 0
            for name in (stored.name, *stored.ends)
        ]
        _need(min(value or 0.0 for value in figures) >= 0, f"its search has less than 0 for {place}")
        _need(
            (found.lower is None) == (found.upper is None)
            and (found.lower is None or found.upper is None or found.lower <= found.upper)
            and (found.lower is None or found.held_out is not None),
            f"its search has an interval for {place} that is none",
        )
