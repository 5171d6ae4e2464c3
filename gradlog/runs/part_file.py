"""Part files: a zip archive of `part.json` and NumPy arrays that holds one `PartialAnalysis`.

    part.json           what was analyzed, and how: the header
    step.npy            (N,) int64
    series.npy          (N, columns) float64; totals.npy (tensors, columns) float64
    squares/T.npy       sigma_i^2 of tensor number T; squares/total.npy
    gram/T.npy          lower triangle of a Gram matrix, row by row; gram/total.npy
    tensor/T.npy        (bins, columns) float64, per-step sums of tensor number T, where they are kept

Every member carries a CRC-32, which reading checks; nothing in it is executed, and `numpy.load` reads it too.
What the members hold is checked against each other when it is added up: see `part_sums`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.splitting import PartNumber
from ..errors import DataError, StoreNotFoundError, first_line
from ..logs.root_keys import PART_HEADER, is_zarr_node
from ..logs.whole_file import whole_file
from ..results.read import Read, Scope
from ..results.result import Cost, LogWarning, Settings
from ..results.typed_fields import Fields, check_fields
from .partial import PartialAnalysis
from .preparation import check_settings

FORMAT = "gradmf.part"
FORMAT_VERSION = 2
GRAM_ERROR = 1e-3
"""Relative: products of tiles may be of single precision."""
TOTAL = "total"
"""In the place of a tensor's number: of the whole model."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of all members, so that a file depends on what it says only."""


def write_part(partial: PartialAnalysis, path: str | os.PathLike[str]) -> None:
    """Write a part to `path`, which appears whole or not at all; a device or pipe is written to."""
    with whole_file(path) as stream:
        _write(partial, stream)


def _write(partial: PartialAnalysis, stream: IO[bytes]) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "step": partial.read.step,
        "series": partial.series,
        "totals": partial.totals,
    }
    for tensor, sums in (partial.tensor_sums or {}).items():
        arrays[f"tensor/{tensor}"] = sums
    grams: dict[str, NDArray[np.float64]] = {}
    if partial.spectra is not None:
        for tensor, squares in partial.spectra.squares.items():
            arrays[f"squares/{tensor}"] = squares
        if partial.spectra.total_squares is not None:
            arrays["squares/total"] = partial.spectra.total_squares
        for tensor, gram in partial.spectra.grams.items():
            grams[f"gram/{tensor}"] = gram
        if partial.spectra.total is not None:
            grams["gram/total"] = partial.spectra.total
    header = {**_header(partial), "arrays": [*arrays, *grams]}
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo(PART_HEADER, _DATE), json.dumps(header, indent=1))
        for name, array in arrays.items():
            _add(archive, name, array)
        for name, gram in grams.items():
            _add_triangle(archive, name, gram)


def _header(partial: PartialAnalysis) -> dict[str, Any]:
    read = partial.read
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
        },
        "settings": dataclasses.asdict(partial.settings),
        "method": partial.method,
        "by_columns": partial.by_columns,
        "plan": partial.plan,
        "tensor_steps": partial.tensor_sums is not None,
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


def _add_triangle(archive: zipfile.ZipFile, name: str, gram: NDArray[np.float64]) -> None:
    size = gram.shape[0]
    with _member(archive, name, (size * (size + 1) // 2,), "<f8") as member:
        for row in range(size):
            member.write(gram[row, : row + 1].astype("<f8", copy=False).tobytes())


class PartFile:
    """A part file: its header at once, its arrays within a `with` statement.

    Raises DataError in one line that names the file where it is none, is cut short, or fails its checksums.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not Path(path).exists():
            raise StoreNotFoundError(f"{self.path}: no such file or directory")
        if is_zarr_node(path):
            raise DataError(
                f"{self.path}: a Zarr store: give what gradmf analyze RUN --part I/K -o FILE wrote of it"
            )
        if Path(path).is_dir():
            raise DataError(f"{self.path}: a folder: give the part files themselves, such as {self.path}/*")
        with self._blaming(), zipfile.ZipFile(self.path) as self._archive:
            header = Fields.of(json.loads(self._archive.read(PART_HEADER)), PART_HEADER)
            self._check_format(header)
            self._read_header(header)
            names = _arrays(self._archive.namelist(), header.texts("arrays"))
            self.read = self._read(header.inner("run"))
            self.tensor_sums = tuple(map(int, self._numbered(names, "tensor")))
            self.squares = self._numbered(names, "squares", TOTAL)
            self.grams = self._numbered(names, "gram", TOTAL)
            self._check_members(names)

    def _read_header(self, header: Fields) -> None:
        self.version = header.text("gradmf")
        index, count = header.counts("part")
        self.part = PartNumber(index, count)
        self.settings = Settings.from_json(header.inner("settings").held)
        check_fields(self.settings, "settings.")
        check_settings(self.settings)
        self.method = header.text("method")
        if self.method != ("none" if self.settings.rank == "none" else "exact"):
            raise ValueError(
                f"it is of the method {self.method!r}, and its settings of {self.settings.rank!r}"
            )
        self.by_columns = header.flag("by_columns")
        self.plan = header.text("plan")
        self.tensor_steps = header.flag("tensor_steps")
        self.warnings = tuple(
            LogWarning(warning.text("code"), warning.text("message")) for warning in header.inners("warnings")
        )
        cost = header.inner("cost")
        self.cost = Cost(cost.number("seconds"), cost.count("bytes_decoded"), cost.text("reader"))

    def __enter__(self) -> PartFile:
        with self._blaming():
            self._archive = zipfile.ZipFile(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The float64 array `name`. shape : that it must have; -1 for any extent"""
        with self._blaming():
            return self._array(name, shape, "<f8").astype(np.float64, copy=False)

    def add_gram(self, name: str, gram: NDArray[np.float64]) -> float:
        """Add the Gram matrix of `name` (a tensor's number, or "total") to the lower triangle of `gram`.

        Returns its trace. Raises DataError where it is none: products are larger than their diagonal allows.
        """
        size = gram.shape[0]
        diagonal = np.zeros(size)
        with self._blaming(), self._open(f"gram/{name}") as (member, shape, dtype):
            if shape != (size * (size + 1) // 2,) or dtype != np.dtype("<f8"):
                raise ValueError(f"gram/{name} has shape {shape}, {dtype}")
            for row in range(size):
                products = np.frombuffer(_exactly(member, 8 * (row + 1)), "<f8")
                diagonal[row] = products[row]
                most = np.sqrt(np.maximum(diagonal[: row + 1], 0.0)) * np.sqrt(max(0.0, products[row]))
                if not (np.abs(products) <= most * (1 + GRAM_ERROR)).all():
                    raise ValueError(f"gram/{name} is no Gram matrix")
                gram[row, : row + 1] += products
            _at_end(member)
        return float(diagonal.sum())

    def damaged(self, reason: str) -> DataError:
        """The error that says so, to be raised."""
        return DataError(
            f"{self.path}: no part file, or a damaged one ({reason}): make it with gradmf analyze "
            "RUN --part I/K -o FILE"
        )

    def _read(self, run: Fields) -> Read:
        tensors = [Scope(t.text("name"), t.counts("shape"), t.text("dtype")) for t in run.inners("tensors")]
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise ValueError("a tensor stands there twice")
        step = self._array("step", (run.count("rows", least=1),), "<i8").astype(np.int64, copy=False)
        return Read(run.text("path"), run.free("attributes"), tensors, step)

    def _numbered(self, names: Sequence[str], kind: str, *words: str) -> tuple[str, ...]:
        """Of the members of a kind, what they are numbered by: numbers of tensors, and any of the words."""
        found = tuple(name.partition("/")[2] for name in names if name.startswith(f"{kind}/"))
        known = {*map(str, range(len(self.read.tensors))), *words}
        for number in found:
            if number not in known:
                raise ValueError(f"{kind}/{number}.npy is of no tensor")
        return found

    def _check_members(self, names: Sequence[str]) -> None:
        """Raise ValueError where there are members that such a part has not, or lacks others."""
        lost = {"step", "series", "totals"}.difference(names)
        if lost:
            raise ValueError(f"{min(lost)}.npy is missing")
        numbered = len(self.tensor_sums) + len(self.squares) + len(self.grams)
        if numbered + 3 != len(names):
            raise ValueError("it holds other members than a part")
        if not self.tensor_steps and self.tensor_sums:
            raise ValueError("it holds sums of tensors by step, which its header does not know")
        if self.method == "none" and self.squares + self.grams:
            raise ValueError("it holds spectra, which its header does not know")
        twice = set(self.squares).intersection(self.grams)
        if twice or TOTAL in (self.grams if self.by_columns else self.squares):
            raise ValueError(f"it holds both forms of the spectrum of {min(twice, default=TOTAL)}")

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
