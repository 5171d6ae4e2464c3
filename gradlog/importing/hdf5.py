"""Files of HDF5: datasets whose first axis is the step, a group a step, or a file a step."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, first_line
from ..logs.log import GRADS, STEP
from .libraries import library
from .snapshot import Contents, Kind, Snapshot, Values, is_scalar_name, native, numpy_kind
from .stack import Stack


class Hdf5Rows(Stack):
    """Datasets (N, *shape): a row a step. `step` (N,) has the training steps, others (N,) are series."""

    def __init__(self, path: str) -> None:
        """Raises DataError where it holds no such datasets."""
        self.place = path
        self._file = _open(path)
        found = _datasets(self._file)
        steps = found.pop(STEP, None)
        found = {name.removeprefix(f"{GRADS}/"): dataset for name, dataset in found.items()}
        tall = {name: dataset for name, dataset in found.items() if dataset.ndim}
        self._left_out = dict.fromkeys(found.keys() - tall.keys(), "a single value")
        lengths = {dataset.shape[0]: name for name, dataset in tall.items()}
        if not tall:
            raise DataError(f"{path}: no dataset with a step axis")
        if steps is not None and steps.ndim == 1:
            lengths[steps.shape[0]] = STEP
        if len(lengths) > 1:
            shown = " and ".join(f"'{name}' has {length}" for length, name in list(lengths.items())[:2])
            raise DataError(
                f"{path}: datasets of one log have as many rows, and {shown}; where each file is one step, "
                "give several, and where each group is, let its name have the number"
            )
        (self.rows,) = lengths
        flat = {name for name, dataset in tall.items() if dataset.ndim == 1 and dataset.dtype.kind in "iuf"}
        flat = {name for name in flat if "/" not in name and f"{GRADS}/{name}" not in self._file}
        beside = flat if flat != set(tall) else set()
        self._series = {name: self._whole(name, tall[name]) for name in sorted(beside)}
        self._datasets = {name: dataset for name, dataset in tall.items() if name not in self._series}
        self._steps = None if steps is None else self._whole(STEP, steps)
        self.kinds = {
            name: numpy_kind(dataset.shape[1:], dataset.dtype) for name, dataset in self._datasets.items()
        }
        self.height = max(chunks[0] if (chunks := d.chunks) else 1 for d in self._datasets.values())

    def read(self, name: str, first: int, stop: int, into: NDArray[Any] | None = None) -> NDArray[Any]:
        """(stop - first, *shape) entries of some rows. Raises DataError that names the dataset."""
        dataset = self._datasets[name]
        shape = (stop - first, *dataset.shape[1:])
        if into is None or (into.shape, into.dtype) != (shape, dataset.dtype):
            into = np.empty(shape, dataset.dtype)
        return _read(self.place, name, dataset, into, np.s_[first:stop])

    def step(self, row: int) -> int | None:
        """The training step that is stored for a row."""
        if self._steps is None:
            return None
        if self._steps[row] != np.floor(self._steps[row]):
            raise DataError(f"{self.place}: `{STEP}` holds {self._steps[row]} at row {row}, which is no step")
        return int(self._steps[row])

    def series(self, row: int) -> Mapping[str, float]:
        """Values of a row by name, such as loss."""
        return {name: float(values[row]) for name, values in self._series.items()}

    @property
    def taken(self) -> str:
        """What of the source the tensors are, in words."""
        return f"the rows of {len(self.kinds)} datasets, one a step"

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why other things are no tensors, by name."""
        return self._left_out

    def _whole(self, name: str, dataset: Any) -> NDArray[Any]:
        return _read(self.place, name, dataset)


class Hdf5Group(Snapshot):
    """A group of datasets, or a file of them: the tensors of one step."""

    def __init__(self, path: str, group: str = "") -> None:
        """group : path inside the file; "" for all of it"""
        self.place = f"{path}/{group}" if group else path
        self._path = path
        self._group = group

    def contents(self) -> Contents:
        """What it holds, without reading entries. Raises DataError that names it."""
        tensors: dict[str, Kind] = {}
        scalars: dict[str, float] = {}
        with _open(self._path) as file:
            group = file[self._group or "/"]
            for name, value in group.attrs.items():
                if is_scalar_name(name) and np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf":
                    scalars[name] = np.asarray(value).item()
            for name, dataset in _datasets(group).items():
                kind = numpy_kind(dataset.shape, dataset.dtype)
                if is_scalar_name(name) and not kind.shape and kind.is_plain:
                    scalars[name] = _read(self.place, name, dataset).item()
                else:
                    tensors[name] = kind
        return Contents.with_scalars(tensors, scalars)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Values]:
        """Its entries, for as long as the block lasts."""
        with _open(self._path) as file:
            group = file[self._group or "/"]
            yield lambda name: _read(self.place, name, group[name])


def hdf5_groups(path: str) -> list[str]:
    """Groups that are a step each, by the numbers in their names; none where rows of datasets are.

    Raises DataError for a file that cannot be read.
    """
    with _open(path) as file:
        group, prefix = file, ""
        while len(group) == 1 and (only := next(iter(group))) and hasattr(group[only], "keys"):
            if re.search(r"\d", only):
                break
            group, prefix = group[only], f"{prefix}{only}/"
        inside = {name: group[name] for name in group}
        if not inside or not all(hasattr(g, "keys") and re.search(r"\d", n) for n, g in inside.items()):
            return []
        names = {tuple(sorted(_datasets(member))) for member in inside.values()}
        return [f"{prefix}{name}" for name in inside] if len(names) == 1 and names != {()} else []


def _open(path: str) -> Any:
    h5py = library("h5py", f"{path}: a file of HDF5")
    try:
        return h5py.File(path, "r", rdcc_nbytes=0)  # chunks are read whole and once: right into place
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"{path}: no HDF5 file that can be read (cut short?): {first_line(error)}") from error


def _datasets(group: Any) -> dict[str, Any]:
    """All datasets below a group, by their paths."""
    found = {}

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "shape") and item.shape is not None:
            found[name] = item

    group.visititems(visit)
    return found


def _read(
    place: str, name: str, dataset: Any, into: NDArray[Any] | None = None, where: Any = ()
) -> NDArray[Any]:
    """Entries of a dataset. into : of their shape and dtype; where : all of them without any"""
    if into is None:
        into = np.empty(dataset.shape, dataset.dtype)
    try:
        if into.size:
            dataset.read_direct(into, where)
        return native(into)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{place}: dataset '{name}' cannot be read: {first_line(error)}") from error
