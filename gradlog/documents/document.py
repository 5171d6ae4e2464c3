"""Results as JSON documents: plain dicts and lists in which NaN and infinity have become None."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..results.quantities import FOUND, PREDICTOR, RANK, ROWS, SCOPE, SPECTRUM, SUBSPACE, Section, stored_in
from ..results.result import (
    Analysis,
    GroupResult,
    ScopeResult,
    Settings,
    SpectrumResult,
    Steps,
    SubspaceMeasure,
    TensorResult,
)
from ..results.search_result import PredictorSearch, ScopeSearch
from .plain_values import plain_values as _plain
from .tensor_steps_document import tensor_steps_document
from .windows_document import windows_document

if TYPE_CHECKING:
    from ..comparisons.comparison import Comparison, ScopeComparison
    from ..findings.finding import Finding
    from ..guarantees.guarantee import Bounds
    from ..logs.description import LogDescription
    from ..logs.places.files_beside import FilesBeside
    from ..runs.planning import PlanDescription

ANALYZE_SCHEMA = "gradmf.analyze/1"
INFO_SCHEMA = "gradmf.info/1"
PLAN_SCHEMA = "gradmf.plan/1"
BOUNDS_SCHEMA = "gradmf.bounds/1"
COMPARE_SCHEMA = "gradmf.compare/1"


def analysis_document(
    analysis: Analysis,
    *,
    steps: bool = True,
    findings: Sequence[Finding] | None = None,
    beside: FilesBeside | None = None,
) -> dict[str, Any]:
    """The document of schema gradmf.analyze/1, with or without the per-step series.

    findings : what stands out in it, as of `find`; None leaves that out
    beside : takes sums of tensors by step where they are many; None leaves them in the document
    """
    names = [tensor.name for tensor in analysis.tensors]
    document = {
        "schema": ANALYZE_SCHEMA,
        "gradmf": analysis.version,
        "run": dataclasses.asdict(analysis.run),
        "settings": _settings(analysis.settings),
        "total": _scope(analysis.total, singular_values=True),
        "tensors": [_tensor(tensor) for tensor in analysis.tensors],
        "steps": _steps(analysis.steps),
        "warnings": [dataclasses.asdict(warning) for warning in analysis.warnings],
    }
    if not steps:
        del document["steps"]
    if analysis.tensor_steps is not None:
        document["tensor_steps"] = tensor_steps_document(names, analysis.tensor_steps, beside)
    if analysis.search is not None:
        document["search"] = _search(analysis.search)
    if analysis.series is not None and (steps or analysis.search is not None):
        document["series"] = dict(analysis.series)
    if analysis.measures:
        document["measures"] = dict(analysis.measures)
    if analysis.windows is not None:
        document["windows"] = windows_document(analysis.windows, names)
    if analysis.groups:
        document["groups"] = [_group(group) for group in analysis.groups]
    if findings is not None:
        document["findings"] = [dataclasses.asdict(finding) for finding in findings]
    plain: dict[str, Any] = _plain(document)
    return plain


def description_document(description: LogDescription) -> dict[str, Any]:
    """The document of schema gradmf.info/1."""
    plain: dict[str, Any] = _plain({"schema": INFO_SCHEMA, **dataclasses.asdict(description)})
    return plain


def plan_document(description: PlanDescription) -> dict[str, Any]:
    """The document of schema gradmf.plan/1."""
    plain: dict[str, Any] = _plain({"schema": PLAN_SCHEMA, **dataclasses.asdict(description)})
    return plain


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """The document of schema gradmf.compare/1: one run against the baseline."""
    document: dict[str, Any] = {
        "schema": COMPARE_SCHEMA,
        "gradmf": comparison.version,
        "baseline": dataclasses.asdict(comparison.baseline.run),
        "run": dataclasses.asdict(comparison.run.run),
        "settings": {
            "baseline": _settings(comparison.baseline.settings),
            "run": _settings(comparison.run.settings),
            "align": comparison.align,
            "confidence": comparison.confidence,
        },
        "total": _compared(comparison.total),
        "tensors": [{"name": scope.name, **_compared(scope)} for scope in comparison.tensors],
        "unmatched": {"baseline": comparison.only_baseline, "run": comparison.only_run},
        "no_interval": {
            "total": comparison.no_interval[0] or None,
            "tensors": comparison.no_interval[1] or None,
        },
        "warnings": [
            dataclasses.asdict(warning)
            for warning in (
                *comparison.baseline.warnings,
                *comparison.run.warnings,
                *comparison.warnings,
            )
        ],
    }
    if comparison.relation is not None:
        document["relation"] = dataclasses.asdict(comparison.relation)
        del document["relation"]["total"]["name"]
    plain: dict[str, Any] = _plain(document)
    return plain


def bounds_document(bounds: Bounds, *, curves: bool = True) -> dict[str, Any]:
    """The document of schema gradmf.bounds/1, with or without the curves over rows and ranks."""
    analysis = bounds.analysis
    document: dict[str, Any] = {
        "schema": BOUNDS_SCHEMA,
        "gradmf": analysis.version,
        "run": dataclasses.asdict(analysis.run),
        "settings": {
            **_settings(analysis.settings),
            "radius": bounds.radius,
            "smoothness": bounds.smoothness,
            "lr": bounds.lr,
            "floor": bounds.floor,
        },
        "guarantees": [
            {**dataclasses.asdict(row), "why": row.why or None, "ratio": row.ratio} for row in bounds.rows
        ],
        "meeting_rank": [dataclasses.asdict(item) for item in bounds.meeting],
        "hint": bounds.anytime.hint,
        "predicts": bounds.anytime.predicts,
        "pays_from": bounds.anytime.pays_from,
        "stride": bounds.stride,
        "full_batch": bounds.full_batch,
        "adaptive_optimizer": bounds.adaptive_optimizer or None,
        "search": None if analysis.search is None else _search(analysis.search),
        "warnings": [dataclasses.asdict(warning) for warning in bounds.warnings],
    }
    if document["search"]:
        document["search"]["total"].pop("path_length", None)
    if curves:
        document["anytime"] = {
            "step": analysis.steps.step,
            "bound": dict(bounds.anytime.bounds),
            "guarantee": dict(bounds.anytime.guarantees),
        }
        document["residual"] = None if bounds.residual is None else vars(bounds.residual)
    plain: dict[str, Any] = _plain(document)
    return plain


def _compared(scope: ScopeComparison) -> dict[str, Any]:
    return {
        "parameters": scope.parameters,
        "best": scope.best,
        "changes": [dataclasses.asdict(change) for change in scope.changes],
    }


def _settings(settings: Settings) -> dict[str, Any]:
    document = dataclasses.asdict(settings)
    if settings.subspace is None:
        del document["subspace"], document["window"]
    if settings.band is None:
        del document["band"]
    if not settings.measures:
        del document["measures"]
    if settings.windows is None:
        del document["windows"]
    if not settings.groups:
        del document["groups"]
    return document


def _tensor(tensor: TensorResult) -> dict[str, Any]:
    return {"name": tensor.name, "shape": tensor.shape, **_scope(tensor, singular_values=False)}


def _group(group: GroupResult) -> dict[str, Any]:
    document = {"name": group.name, "tensors": group.tensors, **_scope(group, singular_values=False)}
    if group.why:
        document["why"] = group.why
    return document


def _figures(section: Section, holder: object) -> dict[str, Any]:
    """The figures that an object holds, with their bounds; then standard errors, where there are any."""
    document: dict[str, Any] = {}
    errors = {}
    for stored, _ in stored_in(section):
        for name in (stored.name, *stored.ends):
            document[name] = getattr(holder, name)
        if stored.error:
            errors[stored.error] = getattr(holder, stored.error)
        if stored.freedom:
            errors[stored.freedom] = getattr(holder, stored.freedom)
    if any(error is not None for error in errors.values()):
        document |= errors
    return document


def _scope(scope: ScopeResult, *, singular_values: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "parameters": scope.parameters,
        "energy": scope.energy,  # for its place: what holds figures comes behind it
        "predictors": [{"predictor": p.predictor, **_figures(PREDICTOR, p)} for p in scope.predictors],
        "spectrum": None if scope.spectrum is None else _spectrum(scope.spectrum, singular_values),
        **_figures(SCOPE, scope),
    }
    if scope.subspace is not None:
        document["subspace"] = {
            "dimensions": scope.subspace.dimensions,
            "window": scope.subspace.window,
            **{rows: _subspace(getattr(scope.subspace, rows)) for rows in ROWS},
        }
    return document


def _subspace(measure: SubspaceMeasure) -> dict[str, Any]:
    document = _figures(SUBSPACE, measure)
    if measure.windows:  # of tensors there are none
        document["windows"] = [{"row": w.row, **_figures(SUBSPACE, w)} for w in measure.windows]
    return document


def _spectrum(spectrum: SpectrumResult, singular_values: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "method": spectrum.method,
        "confidence": spectrum.confidence,
        "energy": spectrum.energy,
        "rank": [{"epsilon": rank.epsilon, **_figures(RANK, rank)} for rank in spectrum.rank],
        **_figures(SPECTRUM, spectrum),
    }
    if spectrum.count_bounds:
        document["bounds"] = dict(spectrum.count_bounds)
    if spectrum.projection is not None:
        document["projection"] = spectrum.projection.document()
    if spectrum.growth:
        document["growth"] = [
            {
                "rows": point.rows,
                "rank": [
                    {"epsilon": r.epsilon, "lower": lower, "upper": upper}
                    for r, (lower, upper) in zip(spectrum.rank, point.bounds, strict=True)
                ],
            }
            for point in spectrum.growth
        ]
    if singular_values:
        document["singular_values"] = spectrum.singular_values
    return document


def _steps(steps: Steps) -> dict[str, Any]:
    document: dict[str, Any] = {
        "step": steps.step,
        "grad_norm": steps.grad_norm,
        "cosine": steps.cosine,
        "kappa": dict(steps.kappa),
        "path_length": dict(steps.path_length),
        "product": dict(steps.product),
    }
    if steps.inside:
        document["inside"] = dict(steps.inside)
    return document


def _search(search: PredictorSearch) -> dict[str, Any]:
    return {
        "method": search.method,
        "width": search.width,
        "confidence": search.confidence,
        "blocks": search.blocks,
        "total": _found(search.total),
        "tensors": [{"name": scope.name, **_found(scope)} for scope in search.tensors],
    }


def _found(scope: ScopeSearch) -> dict[str, Any]:
    document: dict[str, Any] = {
        "best": scope.best.predictor if scope.best else None,
        "found": [
            {
                "family": item.family,
                "predictor": item.predictor,
                **_figures(FOUND, item),
                "predicts": item.predicts,
            }
            for item in scope.found
        ],
        "why": scope.why or None,
    }
    if scope.steps:
        document["path_length"] = dict(scope.steps)
    return document
