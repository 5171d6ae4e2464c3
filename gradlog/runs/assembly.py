"""Assemble what a pass gathered into an `Analysis`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import DataError
from ..measures.sketch.sketch_limits import beyond_sketch
from ..predictors import parse_predictors
from ..results.read import Read
from ..results.result import (
    Analysis,
    Cost,
    LogWarning,
    RunInfo,
    ScopeResult,
    Settings,
    Steps,
    SubspaceResult,
    TensorResult,
    TensorSteps,
)
from ..version import __version__

if TYPE_CHECKING:
    from ..engine.pass_result import PassResult
    from ..measures.path_lengths.path_length import PathLengthTotals
    from ..measures.spectra.spectrum import Spectrum


def assemble(
    read: Read, settings: Settings, result: PassResult, warnings: Sequence[LogWarning], cost: Cost
) -> Analysis:
    """The analysis that `result`, gathered over all of `read`, amounts to.

    Raises DataError where squared gradients don't fit into float64.
    """
    listed = frozenset(predictor.spec for predictor in parse_predictors(settings.predictors))
    scopes = []
    of_tensors: Sequence[SubspaceResult | None] = [None] * len(read.tensors)
    of_total, inside = None, {}
    if result.subspaces is not None:
        result.subspaces.finish()
        of_tensors, of_total = result.subspaces.results, result.subspaces.total.result(windows=True)
        inside = result.subspaces.inside()
    for tensor, totals, spectrum, subspace in zip(
        read.tensors, result.totals, result.spectra, of_tensors, strict=True
    ):
        scope = _scope(read.path, tensor.name, tensor.parameters, totals, spectrum, subspace, listed)
        scopes.append(TensorResult(**vars(scope), name=tensor.name, shape=tensor.shape))
    sums = result.series.totals()
    for each in result.totals:
        sums.merge_groups(each)
    total = _scope(read.path, None, read.parameters, sums, result.spectrum, of_total, listed)
    warnings = [*warnings, *beyond_sketch(total, scopes, int(read.step.size))]
    steps = _listed(result.series.steps(read.step), listed)
    warnings += _zero_end(steps, settings, warnings)
    return Analysis(
        version=__version__,
        run=RunInfo(
            path=read.path,
            rows=int(read.step.size),
            parameters=read.parameters,
            tensors=len(read.tensors),
            dtypes=tuple(sorted({tensor.dtype for tensor in read.tensors})),
            attributes=read.attributes,
        ),
        settings=settings,
        total=total,
        tensors=tuple(scopes),
        steps=dataclasses.replace(steps, inside=inside),
        warnings=tuple(warnings),
        cost=cost,
        tensor_steps=None if result.tensor_series is None else _listed(result.tensor_series.steps(), listed),
        search=result.search,
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


def _scope(
    path: str,
    name: str | None,
    parameters: int,
    totals: PathLengthTotals,
    spectrum: Spectrum | None,
    subspace: SubspaceResult | None,
    listed: frozenset[str],
) -> ScopeResult:
    scope = f"tensor '{name}'" if name else "the whole model"
    if totals.overflow:
        raise DataError(f"{path}: {scope}: squared gradients overflow float64; scale the gradients down")
    if totals.vanish:
        raise DataError(f"{path}: {scope}: squared gradients vanish in float64; scale the gradients up")
    found = None if spectrum is None else spectrum.result(totals.increment_energy)
    predictors = tuple(result for result in totals.result() if result.predictor in listed)
    return ScopeResult(
        parameters, totals.energy, predictors, found, subspace=subspace, energy_error=totals.energy_error
    )
