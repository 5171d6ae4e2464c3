"""Assemble what a pass gathered into an `Analysis`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ...kernels.pass_layout import ENERGY
from ..measures.noise.energies import NAME as ENERGIES
from ..measures.noise.energies import lots
from ..measures.path_lengths.path_lengths import NAME as PATH_LENGTHS
from ..measures.path_lengths.tensor_steps import NAME as TENSOR_STEPS
from ..measures.search import NAME as SEARCH
from ..measures.sketch.sketch_limits import beyond_sketch
from ..measures.spectra.spectrum import NAME as SPECTRUM
from ..measures.subspaces import NAME as SUBSPACES
from ..predictors import parse_predictors
from ..results.result import (
    Analysis,
    Cost,
    LogWarning,
    RunInfo,
    Settings,
    Steps,
    TensorResult,
    TensorSteps,
)
from ..results.row_kind import RowKind
from ..results.selection import Selection
from ..version import __version__
from .energy_over_rows import energy_over_rows
from .group_figures import figures_of_groups
from .references import with_references
from .scope_figures import figures_of_scope
from .strides import stride_warnings
from .window_figures import figures_of_windows

if TYPE_CHECKING:
    from ..measures.noise.energies import EnergySums
    from ..measures.path_lengths.path_lengths import PathLengthSums
    from ..measures.spectra.spectrum import Spectra
    from ..measures.subspaces.subspace import SubspacesOfScopes
    from ..results.search_result import PredictorSearch, ScopeSearch


def assemble(
    selection: Selection,
    settings: Settings,
    results: Mapping[str, Any],
    warnings: Sequence[LogWarning],
    cost: Cost,
) -> Analysis:
    """The analysis that the results of measures, by name, gathered over all of `selection`, amount to.

    Raises DataError where squared gradients don't fit into float64.
    """
    listed = frozenset(predictor.spec for predictor in parse_predictors(settings.predictors))
    sums: PathLengthSums = results[PATH_LENGTHS]
    spectra: Spectra | None = results.get(SPECTRUM)
    subspaces: SubspacesOfScopes | None = results.get(SUBSPACES)
    path, step, rows = selection.path, selection.step, selection.kind.name
    energies: EnergySums = results[ENERGIES]
    groups = [energies.groups(number, tensor.parameters) for number, tensor in enumerate(selection.tensors)]
    over_rows = energy_over_rows(energies.rows, energies.edges)
    scopes = []
    for number, (tensor, totals) in enumerate(zip(selection.tensors, sums.totals, strict=True)):
        spectrum = None if spectra is None else spectra.tensors[number]
        subspace = None if subspaces is None else subspaces.tensors[number]
        place = f"tensor '{tensor.name}'"
        scope = figures_of_scope(path, place, tensor.parameters, totals, spectrum, subspace, listed, rows)
        fields = {**vars(scope), **over_rows[number]}
        scopes.append(TensorResult(**fields, name=tensor.name, shape=tensor.shape))
    totals = sums.series.totals()
    for each in sums.totals:
        totals.merge_groups(each)
    of_total = None if spectra is None else spectra.total, None if subspaces is None else subspaces.total
    whole_model = "the whole model"
    total = figures_of_scope(path, whole_model, selection.parameters, totals, *of_total, listed, rows)
    together = np.concatenate([g[0] for g in groups]), np.concatenate([g[1] for g in groups])
    of_rows = sums.series.sums[:, ENERGY]
    [whole] = energy_over_rows(of_rows[None], np.arange(step.size + 1), quiet=False)
    total = dataclasses.replace(total, **whole)
    [total] = with_references([total], of_rows[None], [together])
    for lot in lots(len(scopes), step.size):  # those without references are gone, lot by lot
        scopes[lot] = with_references(scopes[lot], energies.of_rows(lot), groups[lot])
    method = "" if total.spectrum is None else total.spectrum.method
    of_groups = figures_of_groups(
        selection, settings, results, sums.totals, spectra, method, energies, groups, listed
    )
    warnings = [
        *warnings,
        *stride_warnings(step, selection.kind),
        *beyond_sketch(total, scopes, int(step.size)),
    ]
    specs = sums.series.predictors
    epsilons = settings.epsilons
    shown = sorted(listed - {"zero"})
    windows = figures_of_windows(step, specs, shown, epsilons, results, energies, of_rows, together)
    steps = _listed(sums.series.steps(step), listed)
    warnings += _zero_end(steps, settings, warnings)
    if windows is not None and spectra is not None and not windows.total.rank:
        told = "ranks of windows come of an exact spectrum over rows, and there is none: windows have no r*"
        warnings.append(LogWarning("windows-without-rank", told))
    tensor_steps: TensorSteps | None = results.get(TENSOR_STEPS)
    return Analysis(
        version=__version__,
        run=RunInfo(
            path=path,
            rows=int(step.size),
            parameters=selection.parameters,
            tensors=len(selection.tensors),
            dtypes=tuple(sorted({tensor.dtype for tensor in selection.tensors})),
            attributes=selection.attributes,
        ),
        settings=settings,
        total=total,
        tensors=tuple(scopes),
        steps=dataclasses.replace(steps, inside={} if subspaces is None else subspaces.inside),
        warnings=tuple(warnings),
        cost=cost,
        tensor_steps=None if tensor_steps is None else _listed(tensor_steps, listed),
        search=_search_of(results.get(SEARCH), selection.kind),
        series=selection.series,
        measures={name: results[name] for name in settings.measures},
        windows=windows,
        groups=of_groups,
    )


def _zero_end(steps: Steps, settings: Settings, told: Sequence[LogWarning]) -> list[LogWarning]:
    """Rows at the end that are zero in every tensor, as those of an array made beforehand are."""
    there = np.flatnonzero(steps.grad_norm)
    rows = steps.step.size
    if not there.size or there[-1] == rows - 1 or any("--rows :" in warning.message for warning in told):
        return []
    first = int(there[-1]) + 1
    which = f"the last {rows - first} rows are" if rows - first > 1 else "the last row is"
    steps_of = [str(step) for step in (steps.step[first], steps.step[-1])]
    span = f"steps {' to '.join(steps_of)}" if rows - first > 1 else f"step {steps_of[0]}"
    # Rows are counted from the first one that was read, and without those that were dropped.
    whole = settings.rows == (None, None) and settings.nonfinite == "fail"
    cure = f"; --rows :{first} leaves them out" if whole else ""
    message = f"{which} zero in every tensor (training {span}): made beforehand and never written?{cure}"
    return [LogWarning("rows-zero-at-end", message)]


_Sums = TypeVar("_Sums", Steps, TensorSteps)


def _listed(sums: _Sums, listed: frozenset[str]) -> _Sums:
    """Without what was followed for the search alone."""
    kept: dict[str, Any] = {}
    for word in ("kappa", "path_length", "product"):
        if hasattr(sums, word):
            kept[word] = {spec: values for spec, values in getattr(sums, word).items() if spec in listed}
    return dataclasses.replace(sums, **kept)


def _search_of(found: PredictorSearch | None, kind: RowKind) -> PredictorSearch | None:
    """What a search found, with the reasons why it found nothing told of rows of that kind."""

    def told(scope: ScopeSearch) -> ScopeSearch:
        return dataclasses.replace(scope, why=kind.say(scope.why)) if scope.why else scope

    if found is None:
        return None
    return dataclasses.replace(found, total=told(found.total), tensors=tuple(map(told, found.tensors)))
