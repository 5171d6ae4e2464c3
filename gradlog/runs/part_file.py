"""Part files: a zip archive of `part.json` and NumPy arrays that holds one `PartialAnalysis`.

    part.json               what was analyzed, and how: the header
    step.npy                (N,) int64
    series/NAME.npy         (N,) float64, loss and lr of the log
    MEASURE/ARRAY.npy       the state of each measure, float64: see `Accumulator.state` of each; of symmetric
                            matrices the lower triangle, row by row, and the sum of its squares

Every member carries a CRC-32, which reading checks; nothing in it is executed, and `numpy.load` reads it too.
What the members hold is checked against each other when it is added up: see `Accumulator.pieces`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import tempfile
import warnings
import weakref
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.measure import Accumulator
from ..engine.splitting import PartNumber
from ..engine.state import Symmetric, TensorError, TensorOverflowError, add_part
from ..errors import DataError, StoreNotFoundError, first_line
from ..logs.log import projection_of
from ..logs.places.finding import place_of
from ..logs.places.remote_url import is_url
from ..logs.root_keys import PART_HEADER, is_zarr_node
from ..results.projection import check_dimension
from ..results.result import Cost, LogWarning, Settings
from ..results.selection import Scope, Selection
from ..results.typed_fields import Fields, check_fields
from .partial import PartialAnalysis
from .preparation import check_settings

FORMAT = "gradmf.part"
FORMAT_VERSION = 5
GRAM_ERROR = 1e-3
"""Relative: products of tiles may be of single precision."""
SQUARES_ERROR = 1e-12
"""Relative: BLAS of another machine may add up in another order."""
METHODS = {"auto": "exact", "exact": "exact", "sketch": "sketch", "none": "none"}
"""That ranks are found by in parts, by what the settings ask for."""
STEP = "step"
SERIES = "series"
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of all members, so that a file depends on what it says only."""


def write_part(partial: PartialAnalysis, path: str | os.PathLike[str]) -> None:
    """Write a part to `path`, which appears whole or not at all; a device or pipe is written to."""
    with place_of(path).whole_file() as stream:
        _write(partial, stream)


def _write(partial: PartialAnalysis, stream: IO[bytes]) -> None:
    arrays = {
        f"{measure}/{name}": array
        for measure, state in partial.states.items()
        for name, array in state.items()
    }
    arrays |= {f"{SERIES}/{name}": values for name, values in (partial.selection.series or {}).items()}
    header = {**_header(partial), "arrays": [STEP, *arrays]}
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo(PART_HEADER, _DATE), json.dumps(header, indent=1))
        _add(archive, STEP, partial.selection.step)
        for name, array in arrays.items():
            if isinstance(array, Symmetric):
                _add_triangle(archive, name, array)
            else:
                _add(archive, name, array)


def _header(partial: PartialAnalysis) -> dict[str, Any]:
    read = partial.selection
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "gradmf": partial.version,
        "part": [partial.part.index, partial.part.count],
        "run": {
            "path": read.path,
            "rows": int(read.step.size),
            "tensors": [dataclasses.asdict(tensor) for tensor in read.tensors],
            "attributes": dict(read.attributes),
            "series": None if read.series is None else list(read.series),
        },
        "settings": dataclasses.asdict(partial.settings),
        "method": partial.method,
        "span": partial.span.name,
        "plan": partial.plan,
        "strips": list(partial.strips),
        "held": list(partial.held),
        "tensor_steps": partial.tensor_steps,
        "search": partial.search,
        "band": partial.band,
        "sketch_dim": partial.sketch_dim,
        "warnings": [dataclasses.asdict(warning) for warning in partial.warnings],
        "cost": dataclasses.asdict(partial.cost),
    }


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str) -> Iterator[IO[bytes]]:
    """An open member with the head of a .npy file."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": dtype, "fortran_order": False, "shape": shape}
        )  # fmt: skip
        yield member


def _add(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    with _member(archive, name, plain.shape, plain.dtype.str) as member:
        member.write(plain.tobytes())


def _add_triangle(archive: zipfile.ZipFile, name: str, symmetric: Symmetric) -> None:
    size = symmetric.matrix.shape[0]
    with _member(archive, name, (_triangle_entries(size),), "<f8") as member:
        squares = 0.0
        for row in symmetric.rows():
            member.write(row.astype("<f8", copy=False).tobytes())
            with np.errstate(over="ignore"):
                squares += float(row @ row)
        member.write(np.array([squares], "<f8").tobytes())


def _triangle_entries(size: int) -> int:
    """Of a symmetric matrix in a file: its lower triangle and the sum of its squares."""
    return size * (size + 1) // 2 + 1


class PartFile:
    """A part file: its header at once, its arrays when they are added.

    Raises DataError in one line that names the file where it is none, is cut short, or fails its checksums.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._source: str | IO[bytes] = self.path
        if is_url(self.path):
            self._source = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the part is there
            weakref.finalize(self, self._source.close)
            place_of(path).copy_to(self._source)
        elif not Path(path).exists():
            raise StoreNotFoundError(f"{self.path}: no such file or directory")
        elif is_zarr_node(path):
            raise DataError(
                f"{self.path}: a Zarr store: give what gradmf analyze RUN --part I/K -o FILE wrote of it"
            )
        elif Path(path).is_dir():
            raise DataError(f"{self.path}: a folder: give the part files themselves, such as {self.path}/*")
        with self._blaming(), zipfile.ZipFile(self._source) as self._archive:
            header = Fields.of(json.loads(self._archive.read(PART_HEADER)), PART_HEADER)
            self._check_format(header)
            self._read_header(header)
            self._used = {STEP}
            self._names = _arrays(self._archive.namelist(), header.texts("arrays"))
            if STEP not in self._names:
                raise ValueError(f"{STEP}.npy is missing")
            self.selection = self._selected(header.inner("run"))
            self._check_sketch()
            self.strips = header.counts("strips")
            self.held = header.counts("held")
            if not len(self.strips) == len(self.held) == len(self.selection.tensors):
                raise ValueError("it counts the strips of other tensors")

    def _read_header(self, header: Fields) -> None:
        self.version = header.text("gradmf")
        if len(self.version.splitlines()) > 1:
            raise ValueError("its version is more than a line")
        index, count = header.counts("part")
        self.part = PartNumber(index, count)
        self.settings = Settings.from_json(header.inner("settings").held)
        check_fields(self.settings, "settings.")
        check_settings(self.settings)
        self.method = header.text("method")
        self.span = header.text("span")
        self.plan = header.text("plan")
        self.tensor_steps = header.flag("tensor_steps")
        self.search = header.flag("search")
        self.band = header.count("band") if header.has("band") else None
        self.sketch_dim = header.count("sketch_dim") if header.has("sketch_dim") else None
        self.warnings = tuple(
            LogWarning(warning.text("code"), warning.text("message")) for warning in header.inners("warnings")
        )
        cost = header.inner("cost")
        self.cost = Cost(cost.number("seconds"), cost.count("bytes_decoded"), cost.text("reader"))

    def _check_sketch(self) -> None:
        """Raise ValueError where what is said of projections doesn't go together."""
        projection = projection_of(self.selection.attributes, self.path)
        known = {None} if projection is None else {None, projection.dim}
        sums = {tensor.sums for tensor in self.selection.tensors}
        if not sums <= known:
            raise ValueError("it has sketches of another projection than its run")
        methods = METHODS | ({"auto": "sketch"} if sums - {None} else {})
        if self.method != methods.get(self.settings.rank):
            raise ValueError(
                f"it is of the method {self.method!r}, and its settings of {self.settings.rank!r}"
            )
        if (self.sketch_dim is None) != (self.method != "sketch"):
            raise ValueError(f"it is of the method {self.method!r}, and its sketch_dim {self.sketch_dim}")
        if self.sketch_dim is not None:
            check_dimension(self.sketch_dim)

    def merge_into(self, accumulators: Mapping[str, Accumulator[Any]]) -> None:
        """Add what the part holds to accumulators, by the name of their measure.

        Raises DataError where its arrays don't fit each other, or those of the parts before.
        """
        with self._blaming():
            self._archive = zipfile.ZipFile(self._source)
        try:
            with self._archive:
                add_part(accumulators, MeasureArrays(self, ""))
            strange = sorted(set(self._names) - self._used)
            if strange:
                raise ValueError(f"it holds other members than a part: {strange[0]}.npy")
        except TensorOverflowError as error:
            raise DataError(
                f"{self.path}: tensor {self._tensor(error)!r}: its sums overflow float64: scale the "
                f"{self.selection.kind.name} down, or make the part anew if it is damaged"
            ) from error
        except TensorError as error:
            raise self.damaged(error.text.format(repr(self._tensor(error)))) from error
        except DataError:  # a ValueError too, and told already
            raise
        except ValueError as error:
            raise self.damaged(_reason(error)) from error

    def _tensor(self, error: TensorError) -> str:
        return self.selection.tensors[error.tensor].name

    def has(self, name: str) -> bool:
        """Whether it holds an array of that name."""
        return name in self._names

    def numbers(self, folder: str) -> list[int]:
        """Of arrays in a folder, the numbers of tensors that they are named by, ascending."""
        found = [name.removeprefix(f"{folder}/") for name in self._names if name.startswith(f"{folder}/")]
        known = {str(number) for number in range(len(self.selection.tensors))}
        for name in found:
            if name not in known and "/" not in name:
                raise ValueError(f"{folder}/{name}.npy is of no tensor")
        return sorted(int(name) for name in found if name in known)

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The float64 array `name`. shape : that it must have; -1 for any extent"""
        with self._blaming():
            return self._array(name, shape, "<f8").astype(np.float64, copy=False)

    def add_symmetric(self, name: str, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add the Gram matrix `name` to the lower triangle of `matrix`; returns its diagonal.

        Raises DataError where it is none: products are larger than their diagonal allows.
        """
        size = matrix.shape[0]
        diagonal = np.zeros(size)
        with self._blaming(), self._open(name) as (member, shape, dtype):
            if shape != (_triangle_entries(size),) or dtype != np.dtype("<f8"):
                raise ValueError(f"{name} has shape {shape}, {dtype}")
            squares = 0.0
            for row in range(size):
                products = np.frombuffer(_exactly(member, 8 * (row + 1)), "<f8")
                diagonal[row] = products[row]
                most = np.sqrt(np.maximum(diagonal[: row + 1], 0.0)) * np.sqrt(max(0.0, products[row]))
                if not (np.abs(products) <= most * (1 + GRAM_ERROR)).all():
                    raise ValueError(f"{name} is no Gram matrix")
                matrix[row, : row + 1] += products
                squares += float(products @ products)
            (expected,) = np.frombuffer(_exactly(member, 8), "<f8")
            # Its diagonal stands in other sums too: products of different rows stand here alone.
            if not (squares == expected or abs(squares - expected) <= SQUARES_ERROR * expected):
                raise ValueError(f"{name} does not add up to its sum of squares")
            _at_end(member)
        return diagonal

    def damaged(self, reason: str) -> DataError:
        """The error that says so, to be raised."""
        return DataError(
            f"{self.path}: no part file, or a damaged one ({reason}): make it with gradmf analyze "
            "RUN --part I/K -o FILE"
        )

    def _selected(self, run: Fields) -> Selection:
        tensors = [
            Scope(
                t.text("name"), t.counts("shape"), t.text("dtype"), t.count("sums") if t.has("sums") else None
            )
            for t in run.inners("tensors")
        ]
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise ValueError("a tensor stands there twice")
        step = self._array(STEP, (run.count("rows", least=1),), "<i8").astype(np.int64, copy=False)
        series = (
            {name: self._array(f"{SERIES}/{name}", step.shape, "<f8") for name in run.texts("series")}
            if run.has("series")
            else None
        )
        return Selection(run.text("path"), run.free("attributes"), tensors, step, series)

    def _array(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        with self._open(name) as (member, found, kind):
            fits = len(found) == len(shape) and all(e in (-1, f) for e, f in zip(shape, found, strict=True))
            if not fits or kind != np.dtype(dtype):
                raise ValueError(f"{name} has shape {found}, {kind}")
            array = np.frombuffer(_exactly(member, math.prod(found) * kind.itemsize), dtype)
            _at_end(member)
            return array.reshape(found)

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
        if name not in self._names:
            raise ValueError(f"{name}.npy is missing")
        self._used.add(name)
        with self._archive.open(f"{name}.npy") as member:
            if np.lib.format.read_magic(member) != (1, 0):
                raise ValueError(f"{name} is no array")
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a head that only Python 2 wrote
                shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
            if fortran_order:
                raise ValueError(f"{name} is in another order")
            if min(shape, default=0) < 0:
                raise ValueError(f"{name} has shape {shape}")
            yield member, shape, dtype

    def _check_format(self, header: Fields) -> None:
        if header.held.get("format") != FORMAT:
            raise ValueError("it has another header")
        version = header.count("version")
        if version != FORMAT_VERSION:
            raise DataError(
                f"{self.path}: part file of format {version}; this gradmf reads format "
                f"{FORMAT_VERSION}: make all parts with the gradmf that merges them"
            )

    @contextlib.contextmanager
    def _blaming(self) -> Iterator[None]:
        """Whatever damage makes zipfile, json and NumPy stumble is told as damage of this file."""
        try:
            yield
        except (DataError, MemoryError, KeyboardInterrupt):
            raise
        except OSError as error:
            if isinstance(error, IsADirectoryError | PermissionError):
                raise
            raise self.damaged(_reason(error)) from error
        except Exception as error:
            raise self.damaged(_reason(error)) from error


class MeasureArrays:
    """The arrays of one measure in a part file: a `PartState`."""

    def __init__(self, file: PartFile, measure: str) -> None:
        self._file, self._measure = file, measure

    def has(self, name: str) -> bool:
        """As of `PartState`."""
        return self._file.has(f"{self._measure}/{name}")

    def numbers(self, folder: str = "") -> list[int]:
        """As of `PartState`."""
        return self._file.numbers(f"{self._measure}/{folder}" if folder else self._measure)

    def strips(self, tensor: int) -> int:
        """As of `PartState`."""
        return self._file.held[tensor]

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """As of `PartState`."""
        return self._file.array(f"{self._measure}/{name}", shape)

    def add_symmetric(self, name: str, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """As of `PartState`."""
        return self._file.add_symmetric(f"{self._measure}/{name}", matrix)

    def of(self, measure: str) -> MeasureArrays:
        """As of `PartState`."""
        return MeasureArrays(self._file, measure)


def _reason(error: Exception) -> str:
    """What is wrong, on one line: zipfile quotes names whole, however long damage has made them."""
    text = first_line(error)
    return text if len(text) <= 160 else f"{text[:156]} ..."


def _arrays(members: Sequence[str], listed: Sequence[str]) -> list[str]:
    """The names of the arrays, in the order of the archive; `listed` are those that the header knows.

    Raises ValueError where one is missing, stands there twice, or is not known.
    """
    files = [name for name in members if not name.endswith("/") and name != PART_HEADER]
    names = [name.removesuffix(".npy") for name in files]
    lost = set(listed).difference(names)
    if lost:
        raise ValueError(f"{min(lost)}.npy is missing")
    strange = sorted(name for name in files if name.removesuffix(".npy") not in listed)
    if strange:
        raise ValueError(f"{strange[0]} is not known to its header")
    if len(set(names)) < len(names) or members.count(PART_HEADER) > 1:
        raise ValueError("a member stands there twice")
    return names


def _exactly(member: IO[bytes], size: int) -> bytes:
    data = member.read(size)
    if len(data) != size:
        raise EOFError("it is cut short")
    return data


def _at_end(member: IO[bytes]) -> None:
    if member.read(1):
        raise ValueError("it is too long")
