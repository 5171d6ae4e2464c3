"""Names of tensors that lie one after the other in a vector: a table of names, shapes and offsets."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import DataError, UsageError, first_line
from ..quick_dataclass import dataclass
from .snapshot import Contents, Kind, Snapshot, Values


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a vector. offset : of its first entry"""

    shape: tuple[int, ...]
    offset: int

    @property
    def stop(self) -> int:
        """Of the entry behind its last."""
        return self.offset + math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class NamesTable:
    """The tensors of a vector. path : of the table, for messages"""

    path: str
    places: Mapping[str, Place]

    @classmethod
    def read(cls, path: str) -> NamesTable:
        """From JSON, a list of objects with name, shape and perhaps offset or an object of shapes by name;
        or from CSV with such columns, shapes written 64x32.

        Offsets count entries; without, a tensor begins where the one before it ends.

        Raises DataError where the file is no such table.
        """
        text = Path(path).read_text("utf-8-sig", errors="replace")
        try:
            entries = _of_json(text) if text.lstrip()[:1] in ("[", "{") else _of_csv(text)
            places: dict[str, Place] = {}
            end = 0
            for name, shape, offset in entries:
                if not name or name in places:
                    raise ValueError(f"the name {name!r} is empty, or stands twice")
                if min(shape, default=0) < 0 or (offset is not None and offset < 0):
                    raise ValueError(f"'{name}' has the shape {list(shape)}, offset {offset}")
                places[name] = Place(shape, end if offset is None else offset)
                end = places[name].stop
        except (ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
            told = f"no {error} in it" if isinstance(error, KeyError) else first_line(error)
            raise DataError(
                f"{path}: no table of names: {told}; it is JSON, a list of objects with name, shape and "
                "perhaps offset, or CSV with such columns"
            ) from error
        if not places:
            raise DataError(f"{path}: a table of names without any")
        return cls(path, places)

    @functools.lru_cache(maxsize=1)  # noqa: B019 - one table a import, and one answer for all of its rows
    def kinds(self, dtype: str) -> Mapping[str, Kind]:
        """The tensors of a vector of that type."""
        return {name: Kind(where.shape, dtype) for name, where in self.places.items()}

    def check(self, place: str, entries: int) -> dict[str, str]:
        """What of a vector is no tensor, with the reason. Raises DataError where the two don't fit."""
        left_out = {}
        end, before = 0, ""
        for name, where in sorted(self.places.items(), key=lambda item: (item[1].offset, item[1].stop)):
            if where.offset < end:
                raise DataError(f"{self.path}: '{name}' begins at entry {where.offset}, inside '{before}'")
            if where.offset > end:
                left_out[f"entries {end} to {where.offset - 1}"] = f"not in {self.path}"
            end, before = where.stop, name
        if end > entries:
            raise DataError(f"{self.path}: '{before}' ends at entry {end}, and {place} has {entries}")
        if end < entries:
            left_out[f"entries {end} to {entries - 1}"] = f"not in {self.path}"
        return left_out


class NamedVector(Snapshot):
    """The tensors of a snapshot that is one vector."""

    def __init__(self, vector: Snapshot, table: NamesTable) -> None:
        self.place = vector.place
        self._vector = vector
        self._table = table

    @property
    def label(self) -> str:
        """As of the vector."""
        return self._vector.label

    def contents(self) -> Contents:
        """What it holds, without reading entries. Raises DataError that names it."""
        found = self._vector.contents()
        (name, kind), *more = found.tensors.items() or [("", Kind((), ""))]
        if more or len(kind.shape) != 1:
            what = f"{len(found.tensors)} tensors" if more else f"'{name}' of shape {list(kind.shape)}"
            raise UsageError(
                f"{self.place}: a table of names is for one vector a step, and this holds {what}"
            )
        left_out = {**found.left_out, **self._table.check(self.place, kind.entries)}
        tensors = self._table.kinds(kind.dtype)
        taken = f"{found.taken}; names of {self._table.path}".removeprefix("; ")
        return Contents(tensors, left_out, taken, found.step, found.series)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Values]:
        """Its entries, for as long as the block lasts."""
        (name,) = self._vector.contents().tensors
        with self._vector.opened() as values:
            vector = values(name)

            def named(part: str) -> NDArray[Any]:
                where = self._table.places[part]
                return vector[where.offset : where.stop].reshape(where.shape)

            yield named


def _of_json(text: str) -> Iterator[tuple[str, tuple[int, ...], int | None]]:
    document = json.loads(text)
    if isinstance(document, dict):
        document = [{"name": name, "shape": shape} for name, shape in document.items()]
    for entry in document:
        shape, offset = entry["shape"], entry.get("offset")
        yield (
            str(entry["name"]),
            tuple(map(_whole, shape if isinstance(shape, list) else [shape])),
            None if offset is None else _whole(offset),
        )


def _of_csv(text: str) -> Iterator[tuple[str, tuple[int, ...], int | None]]:
    for row in csv.DictReader(io.StringIO(text), skipinitialspace=True):
        shape, offset = row["shape"], row.get("offset")
        if not re.fullmatch(r"[\[(]?[\dx×*, ]*[\])]?", shape):
            raise ValueError(f"the shape of '{row['name']}' is {shape!r}, and not like 64x32")
        yield row["name"], tuple(map(int, re.findall(r"\d+", shape))), int(offset) if offset else None


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no whole number")
    return value
