"""Part files: a zip archive of `part.json` and NumPy arrays that holds one `PartialAnalysis`.

    part.json           what was analyzed, and how: the header
    step.npy            (N,) int64
    series.npy          (N, columns) float64; totals.npy (tensors, columns) float64
    squares/T.npy       sigma_i^2 of tensor number T; squares/total.npy
    gram/T.npy          lower triangle of a Gram matrix, row by row; gram/total.npy
    tensor/T.npy        (bins, columns) float64, per-step sums of tensor number T, where they are kept

Every member carries a CRC-32, which reading checks; nothing in it is executed, and `numpy.load` reads it too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, StoreNotFoundError
from ..logs.root_keys import PART_HEADER, is_zarr_node
from ..logs.store import first_line
from ..logs.whole_file import whole_file
from ..plans.splitting import PartNumber
from ..results.read import Read, Scope
from ..results.result import Cost, LogWarning, Settings
from ..results.typed_fields import check_fields
from .partial import PartialAnalysis

FORMAT = "gradmf.part"
FORMAT_VERSION = 2
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
            header = json.loads(self._archive.read(PART_HEADER))
            self._check_format(header)
            self.version = str(header["gradmf"])
            self.part = PartNumber(*map(int, header["part"]))
            self.settings = Settings.from_json(header["settings"])
            self.method = str(header["method"])
            self.by_columns = bool(header["by_columns"])
            self.plan = str(header["plan"])
            self.warnings = tuple(LogWarning(**warning) for warning in header["warnings"])
            self.cost = Cost(**header["cost"])
            for held in (self.settings, *self.warnings, self.cost):
                check_fields(held)
            self.read = self._read(header["run"])
            self.tensor_steps = bool(header["tensor_steps"])
            names = [name.removesuffix(".npy") for name in self._archive.namelist()]
            lost = set(header["arrays"]).difference(names)
            if lost:
                raise ValueError(f"{min(lost)}.npy is missing")
            self.tensor_sums = tuple(int(name[7:]) for name in names if name.startswith("tensor/"))
            self.squares = tuple(name[8:] for name in names if name.startswith("squares/"))
            self.grams = tuple(name[5:] for name in names if name.startswith("gram/"))

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

    def add_gram(self, name: str, gram: NDArray[np.float64]) -> None:
        """Add the Gram matrix of `name` (a tensor's number, or "total") to the lower triangle of `gram`."""
        size = gram.shape[0]
        with self._blaming(), self._open(f"gram/{name}") as (member, shape, dtype):
            if shape != (size * (size + 1) // 2,) or dtype != np.dtype("<f8"):
                raise ValueError(f"gram/{name} has shape {shape}, {dtype}")
            for row in range(size):
                gram[row, : row + 1] += np.frombuffer(_exactly(member, 8 * (row + 1)), "<f8")
            _at_end(member)

    def _read(self, run: Mapping[str, Any]) -> Read:
        tensors = [Scope(t["name"], tuple(map(int, t["shape"])), t["dtype"]) for t in run["tensors"]]
        step = self._array("step", (int(run["rows"]),), "<i8").astype(np.int64, copy=False)
        return Read(str(run["path"]), dict(run["attributes"]), tensors, step)

    def _array(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        with self._open(name) as (member, found, kind):
            fits = len(found) == len(shape) and all(e in (-1, f) for e, f in zip(shape, found, strict=True))
            if not fits or kind != np.dtype(dtype):
                raise ValueError(f"{name} has shape {found}, {kind}")
            array = np.frombuffer(member.read(), dtype)
            return array.reshape(found)

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
        with self._archive.open(f"{name}.npy") as member:
            if np.lib.format.read_magic(member) != (1, 0):
                raise ValueError(f"{name} is no array")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
            if fortran_order:
                raise ValueError(f"{name} is in another order")
            yield member, shape, dtype

    def _check_format(self, header: Any) -> None:
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError("it has another header")
        if header["version"] != FORMAT_VERSION:
            raise DataError(
                f"{self.path}: part file of format {header['version']!r}; this gradmf reads format "
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
            raise self._damaged(error) from error
        except Exception as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"{self.path}: no part file, or a damaged one ({first_line(error)}): make it with gradmf analyze "
            "RUN --part I/K -o FILE"
        )


def _exactly(member: IO[bytes], size: int) -> bytes:
    data = member.read(size)
    if len(data) != size:
        raise EOFError("it is cut short")
    return data


def _at_end(member: IO[bytes]) -> None:
    if member.read(1):
        raise ValueError("it is too long")
