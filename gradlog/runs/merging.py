"""Merge the parts of an analysis, in the order of their numbers whatever the order of the files."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.measure import Measure, PassContext
from ..engine.one_pass import WorkPool, start_all
from ..engine.state import TensorError
from ..errors import DataError, UsageError
from ..measures.spectra.exact_spectrum import exact_spectrum
from ..predictors import parse_predictors
from ..results.result import Analysis, Cost
from ..version import __version__
from .assembly import assemble
from .group_figures import spectra_of_groups
from .part_file import PartFile
from .wanted import measures_of_sums, windows_of_spectra


def merge_parts(paths: Sequence[str | os.PathLike[str]]) -> Analysis:
    """The analysis that the parts in the files at `paths` make up: what `analyze` of the whole run gives.

    The numbers are those of one run up to the rounding of sums, and the same to the last bit for any order of
    the files. Parts are taken in one at a time: memory holds up to four matrices of N x N.

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
    if (part.plan, part.method, part.span, part.strips) != (
        first.plan, first.method, first.span, first.strips,
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
    with np.errstate(over="ignore", invalid="ignore"):
        results = _results(parts, _measures(first))
    try:
        return assemble(read, settings, results, tuple(warnings), cost)
    except RuntimeError as error:
        # Each part's spectrum fits its sums: those of other gradients can still be among them.
        raise DataError(f"{read.path}: the parts don't add up to one run: make all of them anew") from error


def _measures(part: PartFile) -> list[Measure]:
    read, settings = part.selection, part.settings
    specs = [predictor.spec for predictor in parse_predictors(settings.predictors)]
    measures = measures_of_sums(settings, specs, tensor_steps=part.tensor_steps)
    if part.method == "none":
        return measures
    spectrum = exact_spectrum(settings.epsilons, read.parameters, read.step.size, in_parts=True)
    if spectrum.span.name != part.span:
        raise part.damaged(f"it was not read as {spectrum.span.value}")
    names = [tensor.name for tensor in read.tensors]
    groups = spectra_of_groups(settings, names, in_parts=True)
    return [*measures, spectrum, *windows_of_spectra(settings), *groups]


def _results(parts: Sequence[PartFile], measures: Sequence[Measure]) -> dict[str, Any]:
    from ...kernels.gram import one_blas_thread

    read = parts[0].selection
    # One spectrum at a time is sought beside the matrices that are added to.
    with one_blas_thread(), WorkPool(1, "gradmf-spectra") as pool:
        context = PassContext(
            names=[tensor.name for tensor in read.tensors],
            parameters=[tensor.parameters for tensor in read.tensors],
            rows=int(read.step.size),
            strips={tensor: count for tensor, count in enumerate(parts[0].strips) if count},
            pool=pool,
            workers=1,
        )
        accumulators = start_all(measures, context)
        for part in parts:
            with part:
                part.merge_into(accumulators)
        try:
            return {name: accumulator.result() for name, accumulator in accumulators.items()}
        except TensorError as error:
            told = error.text.format(repr(read.tensors[error.tensor].name))
            raise DataError(f"{read.path}: {told}: make all parts anew") from error
