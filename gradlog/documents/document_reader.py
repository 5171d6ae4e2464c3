"""Results of earlier analyses, read back from the JSON that `analysis_document` wrote."""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..logs.places.finding import place_of
from ..logs.places.place import Place
from ..results.projection import Projection
from ..results.quantities import FOUND, PREDICTOR, RANK, ROWS, SCOPE, SPECTRUM, SUBSPACE, Section, stored_in
from ..results.reasons import ELSEWHERE
from ..results.result import (
    Analysis,
    Cost,
    GroupResult,
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
from ..results.row_kind import row_kind
from ..results.search_result import FoundPredictor, PredictorSearch, ScopeSearch
from ..results.typed_fields import Fields, as_count, check_fields
from .consistency import check_analysis
from .document import ANALYZE_SCHEMA
from .tensor_steps_document import tensor_steps_of
from .tensor_table import TensorTable
from .windows_document import windows_of

_OPENING = (b"{", b"[")
_SETTINGS = frozenset(field.name for field in dataclasses.fields(Settings))


def holds_analyses(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file of JSON at the path or URL, not a store."""
    return place_of(path).start(256).removeprefix(codecs.BOM_UTF8).lstrip()[:1] in _OPENING


def load_analyses(path: str | os.PathLike[str]) -> tuple[Analysis, ...]:
    """The analyses in a file of JSON, with what lies beside it. path : or a URL

    Raises as `read_analyses`.
    """
    place = os.fspath(path)
    try:
        text = place_of(place).read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: neither a store nor JSON: {error}") from error
    # A pipe, as the shell's <(...) is one, has no folder.
    return read_analyses(text, place, None if Path(place).is_fifo() else place)


def read_analyses(text: str, place: str, path: str | os.PathLike[str] | None = None) -> tuple[Analysis, ...]:
    """The analyses in `text`: one document, a list of them, or JSON Lines. place : where it came from

    path : path or URL of the file that it was read from, beside which long tables of it lie; None where it
    has none: such tables are missing then, and a warning of the analysis says so

    What JSON leaves out is None here (`residual` of ranks in early documents) or 0 (`cost`).

    Raises DataError, naming `place` and line, for what is no such document, or holds what no analysis can
    give: figures of the wrong kind or size, lengths that don't fit, sums over steps that don't add up. What
    is wrong with a file beside it is a DataError that names that file.
    """
    document = None if path is None else place_of(path)
    return tuple(analysis_of(held, where, document) for held, where in _documents(text, place))


def analysis_of(document: Any, place: str, beside: Place | None = None) -> Analysis:
    """One analysis from its document of schema gradmf.analyze/1. Raises DataError.

    beside : the place of the document, None where it has none
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != ANALYZE_SCHEMA:
        found = f"schema {schema[:60]!r}" if isinstance(schema, str) else "no schema"
        raise DataError(
            f"{place}: no result of gradmf analyze: {found}, not {ANALYZE_SCHEMA!r}; "
            "give a store, or what analyze --format json wrote"
        )
    held = Fields(document)
    with _damage_told(place):
        table = TensorTable.of(held.inner("tensor_steps")) if held.has("tensor_steps") else None
    sums = None if table is None or beside is None else table.read(beside, place)
    with _damage_told(place):
        analysis = _analysis(held, sums, elsewhere=table is not None and sums is None)
        check_analysis(analysis)
    if table is None or sums is not None:
        return analysis
    told = (
        f"its sums of tensors by step lie in {table.file!r} beside its document, and {place} comes without "
        "a folder: give the document by its path, with both files together"
    )
    return dataclasses.replace(analysis, warnings=(*analysis.warnings, LogWarning(ELSEWHERE, told)))


@contextlib.contextmanager
def _damage_told(place: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise DataError(f"{place}: a damaged result of gradmf analyze: {error}; write it anew") from error


def _documents(text: str, place: str) -> Iterator[tuple[Any, str]]:
    try:
        whole = _parsed(text)
    except ValueError as error:
        # Not splitlines: a name may hold other ends of lines than JSON Lines have.
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
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


def _analysis(document: Fields, sums: TensorSteps | None, *, elsewhere: bool) -> Analysis:
    """sums : of tensors by step, from the file beside it; elsewhere : whether that is out of reach"""
    run = _run(document.inner("run"))
    tensors = tuple(
        TensorResult(**vars(_scope(tensor)), name=tensor.text("name"), shape=tensor.counts("shape"))
        for tensor in document.inners("tensors")
    )
    return Analysis(
        version=document.text("gradmf"),
        run=run,
        settings=_settings(document.inner("settings")),
        total=_scope(document.inner("total")),
        tensors=tensors,
        steps=_steps(document.inner("steps") if document.has("steps") else Fields({}, "steps")),
        warnings=tuple(
            LogWarning(warning.text("code"), warning.text("message"))
            for warning in (document.inners("warnings") if document.has("warnings") else ())
        ),
        cost=Cost(0.0, 0, "json"),
        measures=document.free("measures") if document.has("measures") else {},
        tensor_steps=(
            tensor_steps_of(document.inner("tensor_steps"), [tensor.name for tensor in tensors], sums)
            if document.has("tensor_steps") and not elsewhere
            else None
        ),
        search=_search(document.inner("search")) if document.has("search") else None,
        series=document.doubles_by_name("series", nulls=True) if document.has("series") else None,
        windows=(
            windows_of(document.inner("windows"), [tensor.name for tensor in tensors])
            if document.has("windows")
            else None
        ),
        groups=tuple(map(_group, document.inners("groups"))) if document.has("groups") else (),
    )


def _group(held: Fields) -> GroupResult:
    return GroupResult(
        **vars(_scope(held)),
        name=held.text("name"),
        tensors=held.texts("tensors"),
        why=held.text("why") if held.has("why") else "",
    )


def _run(held: Fields) -> RunInfo:
    """Raises ValueError for rows of a kind that is not known."""
    run = RunInfo(
        path=held.text("path"),
        rows=held.count("rows", least=1),
        parameters=held.count("parameters"),
        tensors=held.count("tensors"),
        dtypes=held.texts("dtypes"),
        attributes=held.free("attributes"),
    )
    row_kind(run.attributes)
    return run


def _settings(held: Fields) -> Settings:
    # What a field that this version doesn't know has changed stands in the numbers.
    settings = Settings.from_json({name: held.value(name) for name in held.held if name in _SETTINGS})
    check_fields(settings, "settings.")
    return dataclasses.replace(settings, epsilons=tuple(map(float, settings.epsilons)))


def _figures(section: Section, held: Fields) -> dict[str, Any]:
    """The figures that an object of a section holds, by the fields of the section's dataclass."""
    found: dict[str, Any] = {}
    for stored, quantity in stored_in(section):
        whole = quantity.whole
        found[stored.name] = _figure(held, stored.name, whole, null=stored.null, always=stored.always)
        for end in stored.ends:
            found[end] = _figure(held, end, whole, null=stored.open, always=True)
        if stored.error:
            found[stored.error] = held.maybe_number(stored.error)
        if stored.freedom:
            found[stored.freedom] = held.maybe_number(stored.freedom)
    return found


def _figure(held: Fields, name: str, whole: bool, *, null: bool, always: bool) -> float | None:
    """A count or a number. null : whether it may be unknown; always : whether it must be there even then"""
    unknown = held.value(name) is None if always else not held.has(name)
    if unknown and null:
        return None
    return held.count(name) if whole else held.number(name)


def _scope(held: Fields) -> ScopeResult:
    parameters, figures = held.count("parameters"), _figures(SCOPE, held)
    if "energy_error" in held.held and not held.has("energy_error"):  # null where it is not finite
        figures["energy_error"] = math.inf
    return ScopeResult(
        parameters,
        predictors=tuple(
            PredictorResult(predictor.text("predictor"), **_figures(PREDICTOR, predictor))
            for predictor in held.inners("predictors")
        ),
        spectrum=None if held.value("spectrum") is None else _spectrum(held.inner("spectrum")),
        subspace=_subspace(held.inner("subspace")) if held.has("subspace") else None,
        **figures,
    )


def _subspace(held: Fields) -> SubspaceResult:
    return SubspaceResult(
        held.count("dimensions", least=1),
        held.count("window", least=2),
        **{rows: _measure(held.inner(rows)) for rows in ROWS},
    )


def _measure(held: Fields) -> SubspaceMeasure:
    windows = held.inners("windows") if held.has("windows") else []
    return SubspaceMeasure(
        **_figures(SUBSPACE, held),
        windows=tuple(SubspaceWindow(item.count("row"), **_figures(SUBSPACE, item)) for item in windows),
    )


def _spectrum(held: Fields) -> SpectrumResult:
    singular_values = held.doubles("singular_values") if held.has("singular_values") else np.zeros(0)
    return SpectrumResult(
        method=held.text("method"),
        confidence=held.number("confidence"),
        **_figures(SPECTRUM, held),
        rank=tuple(
            RankResult(rank.number("epsilon"), **_figures(RANK, rank)) for rank in held.inners("rank")
        ),
        singular_values=singular_values,
        growth=tuple(
            GrowthPoint(
                point.count("rows"), tuple((r.count("lower"), r.count("upper")) for r in point.inners("rank"))
            )
            for point in (held.inners("growth") if held.has("growth") else ())
        ),
        projection=_projection(held.inner("projection")) if held.has("projection") else None,
        count_bounds=_count_bounds(held.inner("bounds")) if held.has("bounds") else {},
    )


def _projection(held: Fields) -> Projection:
    return Projection(
        dim=held.count("dim"),
        seed=as_count(held.value("seed"), held.where("seed"), most=(1 << 64) - 1),
        groups=held.count("groups"),
        kind=held.text("kind"),
    )


def _count_bounds(held: Fields) -> dict[str, tuple[float, float]]:
    found = {}
    for name in held.held:
        ends = held.doubles(name).tolist()
        if len(ends) != 2:
            raise ValueError(f"{held.where(name)} is no pair of bounds")
        found[name] = ends[0], ends[1]
    return found


def _steps(held: Fields) -> Steps:
    return Steps(
        step=held.wholes("step") if held.has("step") else np.zeros(0, dtype=np.int64),
        grad_norm=held.doubles("grad_norm") if held.has("grad_norm") else np.zeros(0),
        cosine=held.doubles("cosine", nulls=True) if held.has("cosine") else np.zeros(0),
        kappa=held.doubles_by_name("kappa", nulls=True),
        path_length=held.doubles_by_name("path_length"),
        product=held.doubles_by_name("product"),
        inside=held.doubles_by_name("inside", nulls=True),
    )


def _search(held: Fields) -> PredictorSearch:
    return PredictorSearch(
        method=held.text("method"),
        confidence=held.number("confidence"),
        blocks=held.count("blocks"),
        total=_found(None, held.inner("total")),
        tensors=tuple(_found(item.text("name"), item) for item in held.inners("tensors")),
        width=held.count("width") if held.has("width") else None,
    )


def _found(name: str | None, held: Fields) -> ScopeSearch:
    return ScopeSearch(
        name,
        tuple(map(_found_predictor, held.inners("found"))),
        held.text("why") if held.has("why") else "",
        held.doubles_by_name("path_length"),
    )


def _found_predictor(held: Fields) -> FoundPredictor:
    lower, upper = held.known_number("lower"), held.known_number("upper")
    figures = _figures(FOUND, held)
    if lower is not None and upper is None:  # JSON has no infinity: there is an interval, without an end
        figures["upper"] = math.inf
    return FoundPredictor(held.text("family"), held.text("predictor"), **figures)
