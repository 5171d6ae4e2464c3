"""Merge the parts of an analysis, in the order of their numbers whatever the order of the files."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UsageError
from ..passes.assembly import assemble
from ..predictors import parse_predictors
from ..results.result import Analysis, Cost
from ..version import __version__
from .part_file import PartFile


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
    missing = sorted(set(range(1, count + 1)) - {part.part.index for part in parts})
    if missing:
        shown = ", ".join(f"{index}/{count}" for index in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise DataError(
            f"{first.read.path}: part {shown}{more} is missing: make it with gradmf analyze "
            f"{first.read.path} --part {missing[0]}/{count} -o FILE"
        )
    return parts


def _difference(part: PartFile, first: PartFile) -> str:
    """How a part differs from the first one, in words; empty where it does not."""
    mine, other = part.read, first.read
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
    if part.plan != first.plan:
        return "split by another plan: give all parts the same --memory"
    return ""


@dataclass
class _Sums:
    """Squared singular values found so far, and Gram matrices that are still added to.

    total : of all tensors that are complete; open : of a tensor that goes on in a later part
    """

    size: int
    total: NDArray[np.float64]
    squares: dict[int, NDArray[np.float64]]
    open: dict[int, NDArray[np.float64]]
    total_squares: NDArray[np.float64] | None = None


def _merged(parts: Sequence[PartFile]) -> Analysis:
    # Numba is loaded with the columns of the fused pass, which sums are named by.
    from ...kernels.gram import one_blas_thread
    from ..passes.pass_result import PassResult
    from ..passes.path_length import PathLengthSeries, PathLengthTotals
    from ..passes.tensor_series import TensorSeries
    from ..spectra.spectrum import ExactEigenvalues

    first = parts[0]
    read, settings = first.read, first.settings
    rows, tensors = read.step.size, read.tensors
    specs = [predictor.spec for predictor in parse_predictors(settings.predictors)]
    series = PathLengthSeries(rows, specs)
    totals = [PathLengthTotals(specs) for _ in tensors]
    columns = series.sums.shape[1]
    result = PassResult(series, totals, None, [None] * len(tensors))
    if first.tensor_steps:
        result.tensor_series = TensorSeries(len(tensors), rows, specs)
    sums = _Sums(max(0, rows - 1), np.zeros((0, 0)), {}, {})
    last_of = {name: at for at, part in enumerate(parts) for name in part.grams if name != "total"}
    alone = sum(tensor.parameters > 0 for tensor in tensors) == 1 and not first.by_columns
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        for at, part in enumerate(parts):
            with part:
                series.sums += part.array("series", (rows, columns))
                for mine, more in zip(totals, part.array("totals", (len(tensors), columns)), strict=True):
                    mine.totals += more
                if result.tensor_series is not None:
                    _add_tensor_sums(part, result.tensor_series.sums)
                _add_spectra(part, sums, {name for name in part.grams if last_of.get(name) == at}, alone)
        if first.method != "none":
            ends = [min(sums.size, tensor.parameters) for tensor in tensors]
            nothing = np.zeros(0)
            result.spectra = [
                ExactEigenvalues(sums.squares.get(number, nothing)[:end], settings.epsilons)
                for number, end in enumerate(ends)
            ]
            whole = _total_squares(sums, alone)[: min(sums.size, read.parameters)]
            result.spectrum = ExactEigenvalues(whole, settings.epsilons)
    warnings = dict.fromkeys(warning for part in parts for warning in part.warnings)
    cost = Cost(
        sum(part.cost.seconds for part in parts),
        sum(part.cost.bytes_decoded for part in parts),
        "+".join(sorted({name for part in parts for name in part.cost.reader.split("+") if name})),
    )
    return assemble(read, settings, result, tuple(warnings), cost)


def _add_tensor_sums(part: PartFile, sums: NDArray[np.float64]) -> None:
    for tensor in part.tensor_sums:
        sums[tensor] += part.array(f"tensor/{tensor}", sums.shape[1:])


def _add_spectra(part: PartFile, sums: _Sums, complete: set[str], alone: bool) -> None:
    """Take in a part's spectra, in the order of a single pass. complete : tensors that end in it"""
    from ...kernels.gram import squared_singular_values

    for name in part.squares:
        squares = part.array(f"squares/{name}", (-1,))
        if name == "total":
            sums.total_squares = squares
        else:
            sums.squares[int(name)] = squares
    for name in part.grams:
        if name != "total":
            gram = sums.open.setdefault(int(name), np.zeros((sums.size, sums.size)))
            part.add_gram(name, gram)
    if not alone and part.grams and sums.total.shape[0] != sums.size:
        sums.total = np.zeros((sums.size, sums.size))
    for number in sorted(map(int, complete - {"total"})):
        gram = sums.open.pop(number)
        if not alone:
            sums.total += gram
        sums.squares[number] = squared_singular_values(gram)
    if "total" in part.grams:
        part.add_gram("total", sums.total)


def _total_squares(sums: _Sums, alone: bool) -> NDArray[np.float64]:
    from ...kernels.gram import squared_singular_values

    if sums.total_squares is not None:
        return sums.total_squares
    if alone:
        (only,) = sums.squares.values()
        return only
    return squared_singular_values(sums.total)
