"""Merge the parts of an analysis, in the order of their numbers whatever the order of the files."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cluster.workers import ThisProcess, below_the_root
from ..engine.adding import add_states, adding, results_of
from ..engine.measure import Measure
from ..engine.request import Span
from ..engine.state import TensorError
from ..errors import DataError, UsageError
from ..measures.sketch.sketch_choice import SketchChoice
from ..predictors import HistoryBank, parse_predictors
from ..results.result import Analysis, Cost
from ..version import __version__
from .assembly import assemble
from .part_file import PartFile
from .sketched import Sketched
from .wanted import Asked, Wanted, band_width


def merge_parts(paths: Sequence[str | os.PathLike[str]]) -> Analysis:
    """The analysis that the parts in the files at `paths` make up: what `analyze` of the whole run gives.

    The numbers are those of one run up to the rounding of sums, and the same to the last bit for any order of
    the files. They are added up by the tree of a cluster: memory holds up to four matrices of N x N, and as
    many more for each further eight, 64, 512, ... of them.

    Raises
    ------
    UsageError : no paths
    DataError : a part is missing, there twice, damaged, or of another run, version, or with other settings
    """
    if not paths:
        raise UsageError("no part files")
    return _merged(_complete([PartFile(path) for path in paths]))


def _complete(files: Sequence[PartFile]) -> list[PartFile]:
    """The parts in order. Raises DataError where they are not all parts of one analysis, each once."""
    parts = sorted(files, key=lambda file: (file.part.index, file.path))
    for part in parts:
        if part.version != __version__:
            raise DataError(
                f"{part.path}: made by gradmf {part.version}, and this is {__version__}: make all parts with "
                "the gradmf that merges them"
            )
    first = parts[0]
    for part in parts[1:]:
        difference = _difference(part, first)
        if difference:
            raise DataError(
                f"{part.path}: {difference} (as {first.path}): it is no part of the same analysis"
            )
    for before, part in itertools.pairwise(parts):
        if before.part == part.part:
            where = "is given twice" if part.path == before.path else f"is there already, as {before.path}"
            raise DataError(f"{part.path}: part {part.part} {where}")
    count = first.part.count
    held = {part.part.index for part in parts}
    if len(held) < count:
        missing = list(itertools.islice((n for n in range(1, count + 1) if n not in held), 8))
        shown = ", ".join(f"{index}/{count}" for index in missing)
        left = count - len(held) - len(missing)
        more = f" and {left} more" if left else ""
        raise DataError(
            f"{first.selection.path}: part {shown}{more} is missing: make it with gradmf analyze "
            f"{first.selection.path} --part {missing[0]}/{count} -o FILE"
        )
    for tensor, (count, *counts) in enumerate(zip(first.strips, *(part.held for part in parts), strict=True)):
        if sum(counts) != count:
            name = first.selection.tensors[tensor].name
            raise DataError(
                f"{first.selection.path}: the parts don't hold each piece of tensor {name!r} once: make "
                "all of them anew"
            )
    return parts


def _difference(part: PartFile, first: PartFile) -> str:
    """How a part differs from the first one, in words; empty where it does not."""
    mine, other = part.selection, first.selection
    if mine.path != other.path:
        return f"part of run {mine.path}, not {other.path}"
    if part.part.count != first.part.count:
        return f"part {part.part}, not one of {first.part.count}"
    for field in dataclasses.fields(part.settings):
        values = [getattr(settings, field.name) for settings in (part.settings, first.settings)]
        if values[0] != values[1]:
            return f"made with {field.name} {values[0]!r}, not {values[1]!r}"
    if mine.step.size != other.step.size:
        return f"made when the run had {mine.step.size} rows, not {other.step.size}"
    if part.tensor_steps != first.tensor_steps:
        return f"made {'with' if part.tensor_steps else 'without'} --tensor-steps, unlike the first"
    if list(mine.tensors) != list(other.tensors):
        return "made of other tensors"
    if not np.array_equal(mine.step, other.step) or mine.attributes != other.attributes:
        return "made when the run had other training steps or attributes"
    if not _same_series(mine.series, other.series):
        return "made when the run had other losses or rates"
    if part.search != first.search:
        return f"made {'with' if part.search else 'without'} --search, unlike the first"
    if (part.plan, part.method, part.span, part.strips, part.band, part.sketch_dim) != (
        first.plan, first.method, first.span, first.strips, first.band, first.sketch_dim,
    ):  # fmt: skip
        return "split by another plan: give all parts the same --memory"
    return ""


def _same_series(
    mine: Mapping[str, NDArray[np.float64]] | None, other: Mapping[str, NDArray[np.float64]] | None
) -> bool:
    if mine is None or other is None:
        return mine is other
    return mine.keys() == other.keys() and all(
        np.array_equal(values, other[name], equal_nan=True) for name, values in mine.items()
    )


def _merged(parts: Sequence[PartFile]) -> Analysis:
    first = parts[0]
    read, settings = first.selection, first.settings
    warnings = dict.fromkeys(warning for part in parts for warning in part.warnings)
    cost = Cost(
        sum(part.cost.seconds for part in parts),
        sum(part.cost.bytes_decoded for part in parts),
        "+".join(sorted({name for part in parts for name in part.cost.reader.split("+") if name})),
    )
    results = _results(parts, _measures(first))
    try:
        return assemble(read, settings, results, tuple(warnings), cost)
    except RuntimeError as error:
        # Each part's spectrum fits its sums: those of other gradients can still be among them.
        raise DataError(f"{read.path}: the parts don't add up to one run: make all of them anew") from error


def _measures(part: PartFile) -> list[Measure]:
    """Those of the pass that the parts are of."""
    read, settings = part.selection, part.settings
    rows = int(read.step.size)
    bank = HistoryBank.of(parse_predictors(settings.predictors), rows)
    sketched = Sketched.of_selection(read)
    choice = SketchChoice(part.sketch_dim, settings.seed) if sketched is None else sketched.choice
    wanted = Wanted(part.tensor_steps, part.search)
    asked = Asked(settings, wanted, bank, read.tensors, rows, choice, in_parts=True)
    ways = [way for way in asked.ways() if band_width(way.measures) == part.band]
    if not ways:
        raise part.damaged(f"predictors were not searched in a band of {part.band}")
    measures = [*asked.measures(), *ways[0].measures]
    spans = {measure.span for measure in measures} - {Span.ANY}
    if spans and part.span not in {span.name for span in spans}:
        raise part.damaged(f"it was not read as {min(span.value for span in spans)}")
    return measures


def _results(parts: Sequence[PartFile], measures: Sequence[Measure]) -> dict[str, Any]:
    read = parts[0].selection
    names, parameters = [t.name for t in read.tensors], [t.entries for t in read.tensors]
    with (
        adding(names, parameters, int(read.step.size), parts[0].strips) as context,
        ThisProcess().job() as job,
    ):
        held = job.map(lambda part, _: part, parts)
        try:
            below = below_the_root(job, lambda some: add_states(measures, context, some), held)
            return results_of(measures, context, map(job.value, below))
        except TensorError as error:
            told = error.text.format(repr(read.tensors[error.tensor].name))
            raise DataError(f"{read.path}: {told}: make all parts anew") from error
        except OverflowError as error:
            raise DataError(f"{read.path}: {error}; --rank none gives the path lengths") from error
