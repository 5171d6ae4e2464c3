"""The report of an analysis: which tables, which columns, which rows first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..results.projection import DEVIATIONS
from ..results.spectral_counts import COUNTS
from ..sizes import extents
from .figures import (
    NOTHING,
    count,
    counted,
    data_size,
    duration,
    numbers,
    percent,
    run_size,
    significant,
)
from .findings_report import finding_lines
from .report import MOST_ROWS, Column, Fold, Report, Series, Table
from .subspace_report import subspace_over_training, subspace_table
from .windows_report import lines_of_tensors, windows_table
from .words import explain

if TYPE_CHECKING:
    from ..findings.finding import Finding
    from ..results.result import Analysis, PredictorResult, RankResult, ScopeResult, SpectrumResult


def analysis_report(
    analysis: Analysis,
    *,
    quiet: bool = False,
    top: int | None = None,
    findings: Sequence[Finding] = (),
) -> Report:
    """All that a person sees of `analysis`; `quiet` leaves the explanation out.

    top : tensors that a terminal shows, 0 for all of them; findings : what stands out in it
    """
    tables = [_path_lengths(analysis)]
    if analysis.total.spectrum is not None:
        tables.append(_ranks(analysis, analysis.total.spectrum))
    subspace = analysis.total.subspace
    if subspace is not None:
        tables.append(subspace_table(analysis, subspace))
    windows = analysis.windows
    if windows is not None and (table := windows_table(analysis, windows, analysis.settings.middle_epsilon)):
        tables.append(table)
    top = MOST_ROWS if top is None else top
    if analysis.groups:
        tables.append(_groups(analysis, top))
    tables.append(_tensors(analysis, top))
    series = [_kappa_over_training(analysis), _rank_over_training(analysis)]
    if subspace is not None:
        series.append(subspace_over_training(analysis.run.kind, subspace))
    return Report(
        heading=analysis.run.path,
        facts=_facts(analysis),
        tables=tuple(tables),
        series=tuple(filter(None, series)),
        words=() if quiet else explain(analysis),
        findings=finding_lines(findings),
    )


def rank_interval(rank: RankResult) -> str:
    """r*, or the bounds on it where they differ."""
    if rank.rank is None:
        return f">= {count(rank.lower)}"
    if rank.lower == rank.upper:
        return count(rank.rank)
    return f"{count(rank.lower)}-{count(rank.upper)}"


def _facts(analysis: Analysis) -> tuple[str, ...]:
    run, cost = analysis.run, analysis.cost
    size = run_size(run.rows, analysis.steps.step.tolist(), run.tensors, run.parameters)
    rate = f"{data_size(cost.bytes_decoded / cost.seconds)}/s, " if cost.seconds > 0 else ""
    return (
        f"{size}, {' and '.join(run.dtypes)}",
        f"read {data_size(cost.bytes_decoded)} in {duration(cost.seconds)} ({rate}{cost.reader})",
    )


def _path_lengths(analysis: Analysis) -> Table:
    results = analysis.total.predictors
    best = None if analysis.run.rows < 2 else analysis.total.best
    columns = [
        (Column("predictor", "left"), [result.predictor for result in results]),
        (Column("P", "decimal"), numbers([result.path_length for result in results])),
        (Column("kappa", "decimal"), numbers([result.kappa for result in results])),
        *_noise(numbers([result.reference for result in results]), yields=1),
        (
            Column("scaled kappa", "decimal", yields=2),
            numbers([result.scaled_kappa for result in results]),
        ),
        (Column("at c", "decimal", dim=True, yields=3), numbers([result.scale for result in results])),
        (Column("", "left"), ["best" if result is best else "" for result in results]),
    ]
    note = f"{analysis.run.kind.noun} energy {significant(analysis.total.energy)}{_carried(analysis)}"
    if analysis.total.energy_error is not None:
        errors = (
            (-2, [result.scaled_kappa_error for result in results], 2),
            (3, [result.kappa_error for result in results], 0),
            (2, [result.path_length_error for result in results], 0),
        )
        for at, values, yields in errors:
            columns.insert(at, (Column("+-", dim=True, yields=yields), [_error(value) for value in values]))
        note += (
            f" +- {_error(analysis.total.energy_error)}; +- is one standard error of the sketch, and 95% of "
            f"errors are within {DEVIATIONS:.1f} of them"
        )
    return Table.of(
        "Path length",
        columns,
        marked=None if best is None else results.index(best),
        note=note,
    )


def _carried(analysis: Analysis) -> str:
    rows = analysis.total.effective_rows
    return f", carried by {significant(rows)} of {counted(analysis.run.rows, 'row')}" if rows else ""


def _error(value: float | None) -> str:
    """Two significant digits."""
    if value is None or not 99.5 <= value < 1e7:
        return NOTHING if value is None else f"{value:.2g}"
    return f"{float(f'{value:.2g}'):,.0f}"


def _ranks(analysis: Analysis, spectrum: SpectrumResult) -> Table:
    increments = analysis.run.rows - 1
    energy = spectrum.energy
    ranks = spectrum.rank
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("epsilon", "left"), [f"{rank.epsilon:g}" for rank in ranks]),
        (Column("r*"), [rank_interval(rank) if increments else NOTHING for rank in ranks]),
        *_noise([_reference(rank.reference) for rank in ranks], yields=1, counts=True),
        (Column("of N-1", "decimal"), [_share_of_ranks(rank, increments) for rank in ranks]),
        (Column("residual", "decimal"), numbers([rank.residual if increments else None for rank in ranks])),
        (
            Column("of energy", "decimal", dim=True, yields=2),
            [percent(_share(rank.residual, energy), 2) for rank in ranks],
        ),
    ]
    dimensions = ", ".join(f"{name.replace('_', ' ')} {_dimension(spectrum, name)}" for name in COUNTS)
    title = f"Predictable rank of {counted(increments, 'increment')}"
    return Table.of(title, columns, note=f"{_method(spectrum)}: {dimensions}")


def _noise(values: list[str], *, yields: int, counts: bool = False) -> list[tuple[Column, list[str]]]:
    """What noise has in place of the figures of the column before; early results don't know."""
    known = any(value != NOTHING for value in values)
    column = Column("noise", "right" if counts else "decimal", yields=yields)
    return [(column, values)] if known else []


def _reference(rank: int | None) -> str:
    return NOTHING if rank is None else count(rank)


def _share_of_ranks(rank: RankResult, increments: int) -> str:
    """r* as a share of all increments, or from where to where it may lie."""
    increments = max(1, increments)
    if rank.rank is None or rank.residual is not None:
        return percent(_share(rank.rank, increments))
    least, most = percent(rank.lower / increments), percent(rank.upper / increments)
    return most if least == most else f"{least.rstrip('%')}-{most}"


def _dimension(spectrum: SpectrumResult, quantity: str) -> str:
    """A figure, or the certain bounds on it where they differ in the digits shown."""
    bounds = spectrum.bounds_of(quantity)
    if bounds is None:
        return significant(getattr(spectrum, quantity))
    least, most = map(significant, bounds)
    return most if least == most else f"{least} to {most}"


def _share(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else part / whole


def _method(spectrum: SpectrumResult) -> str:
    if spectrum.projection is None:
        return spectrum.method
    return (
        f"{spectrum.method} of dimension {count(spectrum.projection.dim)}, seed {spectrum.projection.seed}, "
        f"intervals with {percent(spectrum.confidence, 0)} confidence"
    )


def _groups(analysis: Analysis, top: int) -> Table:
    groups = sorted(analysis.groups, key=lambda group: -group.energy)
    why = next((group.why for group in groups if group.why), "")
    columns: list[tuple[Column, list[str]]] = [
        (Column("group", "left", shrinks=True), [group.name for group in groups]),
        (Column("tensors", dim=True, yields=2), [count(len(group.tensors)) for group in groups]),
        *_of_scopes(analysis, groups),
    ]
    fold = _fold(groups, top, analysis.total.energy)
    title = f"Groups of tensors by share of {analysis.run.kind.noun} energy"
    return Table.of(title, columns, note=why, fold=fold)


def _fold(scopes: Sequence[ScopeResult], top: int, total: float) -> Fold | None:
    """Where a terminal stops, of scopes by energy; 0 for nowhere."""
    behind = scopes[top:] if top else ()
    if not behind:
        return None
    held = percent(sum(scope.energy for scope in behind) / total if total else None)
    hold = "holds" if len(behind) == 1 else "hold"
    return Fold(top, f"{count(len(behind))} more {hold} {held} of the energy: --top 0 shows all")


def _tensors(analysis: Analysis, top: int) -> Table:
    tensors = sorted(analysis.tensors, key=lambda tensor: -tensor.energy)
    columns: list[tuple[Column, list[str]]] = [
        (Column("tensor", "left", shrinks=True), [tensor.name for tensor in tensors]),
        (
            Column("shape", "left", dim=True, yields=2),
            [extents(tensor.shape) or "scalar" for tensor in tensors],
        ),
        *_of_scopes(analysis, tensors),
    ]
    if analysis.total.subspace is not None:
        inside = [percent(t.subspace.gradients.fraction if t.subspace else None) for t in tensors]
        columns.append((Column("inside", "decimal", yields=1), inside))
    if analysis.windows is not None:
        number = {tensor.name: at for at, tensor in enumerate(analysis.tensors)}
        order = [number[tensor.name] for tensor in tensors]
        columns.append(lines_of_tensors(analysis, analysis.windows, order))
    fold = _fold(tensors, top, analysis.total.energy)
    return Table.of(f"Tensors by share of {analysis.run.kind.noun} energy", columns, fold=fold)


def _of_scopes(analysis: Analysis, tensors: Sequence[ScopeResult]) -> list[tuple[Column, list[str]]]:
    """Their figures: share of the energy, best predictor, ranks."""
    total = analysis.total.energy
    several_rows = analysis.run.rows > 1
    best = [tensor.best if several_rows else None for tensor in tensors]
    columns: list[tuple[Column, list[str]]] = [
        (Column("parameters", dim=True, yields=2), [count(tensor.parameters) for tensor in tensors]),
        (Column("share", "decimal"), [percent(t.energy / total if t.energy else None) for t in tensors]),
        (Column("best", "left"), [NOTHING if b is None else b.predictor for b in best]),
        (Column("kappa", "decimal"), numbers([None if b is None else b.kappa for b in best])),
        *_kappa_errors(analysis, best),
        *_noise(numbers([None if b is None else b.reference for b in best]), yields=1),
        (
            Column("scaled", "decimal", yields=3),
            numbers([None if b is None else b.scaled_kappa for b in best]),
        ),
    ]
    if analysis.total.spectrum is not None:
        middle = analysis.settings.middle_epsilon
        for position, rank in enumerate(analysis.total.spectrum.rank):
            column = Column(f"r*({rank.epsilon:g})", yields=0 if rank.epsilon == middle else 2)
            columns.append((column, [_tensor_rank(t, position, several_rows) for t in tensors]))
            if rank.epsilon == middle:
                references = [t.spectrum.rank[position].reference if t.spectrum else None for t in tensors]
                columns += _noise([_reference(value) for value in references], yields=1, counts=True)
        stable = [_dimension(t.spectrum, COUNTS[0]) if t.spectrum and t.energy else NOTHING for t in tensors]
        columns.append((Column("stable rank", "decimal", dim=True, yields=4), stable))
    return columns


def _kappa_errors(analysis: Analysis, best: list[PredictorResult | None]) -> list[tuple[Column, list[str]]]:
    if analysis.total.energy_error is None:
        return []
    return [(Column("+-", dim=True, yields=2), [_error(b.kappa_error) if b else NOTHING for b in best])]


def _tensor_rank(tensor: ScopeResult, position: int, several_rows: bool) -> str:
    if tensor.spectrum is None or not several_rows or not _moves(tensor):
        return NOTHING
    return rank_interval(tensor.spectrum.rank[position])


def _moves(scope: ScopeResult) -> bool:
    return scope.energy > 0


def _kappa_over_training(analysis: Analysis) -> Series | None:
    best = analysis.total.best
    if best is None or analysis.run.rows < 3:
        return None
    # At the first row every predictor predicts 0, so its kappa is 1 and says nothing.
    values = analysis.steps.kappa[best.predictor][1:]
    return Series(f"Kappa of {best.predictor} over training", tuple(values.tolist()))


def _rank_over_training(analysis: Analysis) -> Series | None:
    """r* of the first rows, where the method gives it on the way."""
    spectrum = analysis.total.spectrum
    epsilon = analysis.settings.middle_epsilon
    if spectrum is None or epsilon is None or len(spectrum.growth) < 3:
        return None
    at = [rank.epsilon for rank in spectrum.rank].index(epsilon)
    values = tuple(float(point.bounds[at][1]) for point in spectrum.growth)
    first, last = spectrum.growth[0].rows, spectrum.growth[-1].rows
    closed = all(lower == upper for lower, upper in (point.bounds[at] for point in spectrum.growth))
    end = "" if closed else "Upper end of "
    title = f"{end}r*({epsilon:g}) of the first rows, from {count(first)} to {count(last)}"
    return Series(title, values, each="points")
