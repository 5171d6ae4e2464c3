"""Results of earlier analyses, read back from the JSON that `analysis_document` wrote."""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..results.projection import Projection
from ..results.result import (
    Analysis,
    Cost,
    GrowthPoint,
    LogWarning,
    PredictorResult,
    RankResult,
    RunInfo,
    ScopeResult,
    Settings,
    SpectrumResult,
    Steps,
    SubspaceMeasure,
    SubspaceResult,
    SubspaceWindow,
    TensorResult,
    TensorSteps,
)
from ..results.search_result import FoundPredictor, PredictorSearch, ScopeSearch
from ..results.typed_fields import check_fields
from .document import ANALYZE_SCHEMA

_OPENING = (b"{", b"[")
_NAN = float("nan")
_SETTINGS = frozenset(field.name for field in dataclasses.fields(Settings))


def holds_analyses(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file of JSON at the path, not a store."""
    place = Path(path)
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return file.read(256).removeprefix(codecs.BOM_UTF8).lstrip()[:1] in _OPENING


def read_analyses(text: str, place: str) -> tuple[Analysis, ...]:
    """The analyses in `text`: one document, a list of them, or JSON Lines. place : where it came from

    What JSON leaves out is NaN here (`residual` of ranks) or 0 (`cost`).

    Raises DataError, naming `place` and line, for what is no such document.
    """
    return tuple(analysis_of(document, where) for document, where in _documents(text, place))


def analysis_of(document: Any, place: str) -> Analysis:
    """One analysis from its document of schema gradmf.analyze/1. Raises DataError."""
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != ANALYZE_SCHEMA:
        found = f"schema {schema!r}" if isinstance(schema, str) else "no schema"
        raise DataError(
            f"{place}: no result of gradmf analyze: {found}, not {ANALYZE_SCHEMA!r}; "
            "give a store, or what analyze --format json wrote"
        )
    try:
        analysis = _analysis(document)
        _check(analysis)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{place}: a damaged result of gradmf analyze: {what}; write it anew") from error
    return analysis


def _documents(text: str, place: str) -> Iterator[tuple[Any, str]]:
    try:
        whole = _parsed(text)
    except ValueError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not lines or not _is_json(lines[0][1]):
            line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            raise DataError(f"{place}{line}: no JSON, or cut short: {_reason(error)}") from None
    else:
        several = isinstance(whole, list)
        if several and not whole:
            raise DataError(f"{place}: an empty list: no result of gradmf analyze")
        for number, document in enumerate(whole if several else [whole], 1):
            yield document, f"{place}, result {number}" if several else place
        return
    for number, line in lines:
        where = f"{place}, line {number}"
        try:
            document = _parsed(line)
        except ValueError as error:
            raise DataError(f"{where}: no JSON, or cut short: {_reason(error)}") from None
        yield document, where


def _parsed(text: str) -> Any:
    """The value that JSON says, without the NaN and infinity that json.loads would take. ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("lists within lists without end") from None


def _is_json(line: str) -> bool:
    try:
        _parsed(line)
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _reason(error: ValueError) -> str:
    return error.msg.removesuffix(" at") if isinstance(error, json.JSONDecodeError) else str(error)


def _analysis(document: Mapping[str, Any]) -> Analysis:
    run = dict(document["run"])
    tensor_steps = document.get("tensor_steps")
    tensors = tuple(
        TensorResult(**vars(_scope(tensor)), name=str(tensor["name"]), shape=tuple(tensor["shape"]))
        for tensor in document["tensors"]
    )
    return Analysis(
        version=str(document["gradmf"]),
        run=RunInfo(**{**run, "dtypes": tuple(run["dtypes"])}),
        # What a field that this version doesn't know has changed stands in the numbers.
        settings=Settings.from_json({k: v for k, v in document["settings"].items() if k in _SETTINGS}),
        total=_scope(document["total"]),
        tensors=tensors,
        steps=_steps(document.get("steps") or {}),
        warnings=tuple(LogWarning(str(w["code"]), str(w["message"])) for w in document.get("warnings", ())),
        cost=Cost(0.0, 0, "json"),
        tensor_steps=None if tensor_steps is None else _tensor_steps(tensor_steps, tensors),
        search=_search(document["search"]) if document.get("search") else None,
        series={name: _doubles(values) for name, values in document.get("series", {}).items()},
    )


def _scope(held: Mapping[str, Any]) -> ScopeResult:
    spectrum = held["spectrum"]
    return ScopeResult(
        int(held["parameters"]),
        float(held["energy"]),
        tuple(PredictorResult(**predictor) for predictor in held["predictors"]),
        None if spectrum is None else _spectrum(spectrum),
        subspace=_subspace(held["subspace"]) if held.get("subspace") else None,
        energy_error=held.get("energy_error"),
    )


def _subspace(held: Mapping[str, Any]) -> SubspaceResult:
    measures = {
        word: SubspaceMeasure(
            **{**held[word], "windows": tuple(SubspaceWindow(**w) for w in held[word].get("windows", ()))}
        )
        for word in ("gradients", "increments")
    }
    return SubspaceResult(int(held["dimensions"]), int(held["window"]), **measures)


def _spectrum(held: Mapping[str, Any]) -> SpectrumResult:
    return SpectrumResult(
        method=str(held["method"]),
        confidence=float(held["confidence"]),
        energy=float(held["energy"]),
        rank=tuple(RankResult(r["epsilon"], r["rank"], r["lower"], r["upper"], _NAN) for r in held["rank"]),
        stable_rank=held["stable_rank"],
        effective_rank=held["effective_rank"],
        participation_ratio=held["participation_ratio"],
        singular_values=_doubles(held.get("singular_values", ())),
        growth=tuple(
            GrowthPoint(point["rows"], tuple((r["lower"], r["upper"]) for r in point["rank"]))
            for point in held.get("growth", ())
        ),
        projection=Projection(**held["projection"]) if held.get("projection") else None,
        count_bounds={
            str(name): (float(low), float(high)) for name, (low, high) in held.get("bounds", {}).items()
        },
    )


def _steps(held: Mapping[str, Any]) -> Steps:
    return Steps(
        step=np.array(held.get("step", ()), dtype=np.int64),
        grad_norm=_doubles(held.get("grad_norm", ())),
        cosine=_doubles(held.get("cosine", ())),
        kappa={spec: _doubles(values) for spec, values in held.get("kappa", {}).items()},
        path_length={spec: _doubles(values) for spec, values in held.get("path_length", {}).items()},
        product={spec: _doubles(values) for spec, values in held.get("product", {}).items()},
        inside={word: _doubles(values) for word, values in held.get("inside", {}).items()},
    )


def _tensor_steps(held: Mapping[str, Any], tensors: Sequence[TensorResult]) -> TensorSteps:
    by_name = {item["name"]: item for item in held["tensors"]}
    items = [by_name[tensor.name] for tensor in tensors]

    def of_each(word: str) -> dict[str, NDArray[np.float64]]:
        return {spec: np.stack([_doubles(item[word][spec]) for item in items]) for spec in items[0][word]}

    return TensorSteps(
        edges=np.array(held["edges"], dtype=np.int64),
        energy=np.stack([_doubles(item["energy"]) for item in items]),
        path_length=of_each("path_length"),
        product=of_each("product"),
    )


def _search(held: Mapping[str, Any]) -> PredictorSearch:
    return PredictorSearch(
        method=str(held["method"]),
        confidence=float(held["confidence"]),
        blocks=int(held["blocks"]),
        total=_found(None, held["total"]),
        tensors=tuple(_found(str(item["name"]), item) for item in held["tensors"]),
        width=held.get("width"),
    )


def _found(name: str | None, held: Mapping[str, Any]) -> ScopeSearch:
    words = [field.name for field in dataclasses.fields(FoundPredictor)]
    return ScopeSearch(
        name,
        tuple(FoundPredictor(**{word: item[word] for word in words}) for item in held["found"]),
        str(held["why"] or ""),
        {spec: _doubles(values) for spec, values in held.get("path_length", {}).items()},
    )


def _doubles(values: Sequence[float | None]) -> NDArray[np.float64]:
    """float64, NaN for null."""
    return np.array(values, dtype=np.float64)


def _check(analysis: Analysis) -> None:
    """Raise ValueError where figures are none, or lengths don't fit."""
    check_fields(analysis)
    rows = analysis.run.rows
    if rows < 1:
        raise ValueError(f"run.rows is {rows}")
    specs = [p.predictor for p in analysis.total.predictors]
    for scope in (analysis.total, *analysis.tensors):
        if [p.predictor for p in scope.predictors] != specs:
            raise ValueError("its tensors have other predictors than the whole")
        least = [min(p.path_length, p.kappa or 0.0, p.scaled_kappa or 0.0) for p in scope.predictors]
        if min([scope.energy, *least]) < 0:
            raise ValueError("an energy, path length or kappa is negative")
        for rank in () if scope.spectrum is None else scope.spectrum.rank:
            value = rank.lower if rank.rank is None else rank.rank
            if not 0 <= rank.lower <= value <= rank.upper:
                raise ValueError(f"rank[{rank.epsilon!r}] is outside of its bounds")
    _check_lengths(analysis, set(specs) - {"zero"})


def _check_lengths(analysis: Analysis, specs: set[str]) -> None:
    steps, rows = analysis.steps, analysis.run.rows
    series = [steps.step, steps.grad_norm, *steps.path_length.values(), *steps.product.values()]
    if any(values.size for values in series) and any(values.shape != (rows,) for values in series):
        raise ValueError(f"its steps are not {rows} values each")
    found = analysis.search
    if found is not None and (
        [scope.name for scope in found.tensors] != [tensor.name for tensor in analysis.tensors]
        or any(v.shape != (rows,) for v in (*found.total.steps.values(), *analysis.series.values()))
    ):
        raise ValueError("its search doesn't fit its tensors and rows")
    held = analysis.tensor_steps
    if held is None:
        return
    bins = (len(analysis.tensors), held.edges.size - 1)
    sums = [held.energy, *held.path_length.values(), *held.product.values()]
    edges = held.edges.tolist()
    if (
        any(values.shape != bins for values in sums)
        or (edges[0], edges[-1]) != (0, rows)
        or edges != sorted(set(edges))
        or not specs <= held.path_length.keys() & held.product.keys()
    ):
        raise ValueError("its tensor_steps don't fit its tensors and rows")
