"""All nodes of a Zarr store: their metadata as stored, and what lacks any.

Zarr's own listing passes over whatever lies below a folder without metadata, which a lost file or an old
writer leaves, and gives up on all arrays where it cannot read one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from zarr.storage import StorePath

from ..errors import DataError, first_line
from ..quick_dataclass import dataclass
from .log import STEP
from .places.objects_of import objects_of
from .places.store_objects import StoreObjects
from .root_keys import METADATA_KEYS

ARRAY_DIMENSIONS = "_ARRAY_DIMENSIONS"
"""xarray's attribute of the names of an array's axes."""


def axis_names(names: Any, attributes: Mapping[str, Any], number: int) -> tuple[str | None, ...] | None:
    """Names of an array's axes, as many as there are; None without any. names : `dimension_names`"""
    names = names or attributes.get(ARRAY_DIMENSIONS)
    if not isinstance(names, list | tuple) or len(names) != number:
        return None
    named = tuple(name if isinstance(name, str) and name else None for name in names)
    return named if any(named) else None


@dataclass(frozen=True)
class Node:
    """A group or an array. path : below the root, "" for the root itself

    document : zarr.json, .zarray or .zgroup as stored; attributes : free ones, of v2 those in .zattrs
    """

    path: str
    zarr_format: int
    is_array: bool
    document: Mapping[str, Any]
    attributes: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of an array, as its metadata says."""
        return tuple(self.document["shape"])

    @property
    def axes(self) -> tuple[str | None, ...] | None:
        """Names of an array's axes (`dimension_names`, or xarray's `_ARRAY_DIMENSIONS`), None without any."""
        names = self.document.get("dimension_names") if self.zarr_format == 3 else None
        return axis_names(names, self.attributes, len(self.shape))


@dataclass
class Hierarchy:
    """The nodes of a store, by path, in the order of their names.

    implicit : folders without metadata that hold arrays; orphans : those that hold chunks
    faults : what is wrong with metadata that cannot be read, by the path of its folder
    """

    place: StorePath
    root: Node
    arrays: dict[str, Node] = field(default_factory=dict)
    groups: dict[str, Node] = field(default_factory=dict)
    implicit: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)


def read_hierarchy(name: str, place: StorePath) -> Hierarchy:
    """The nodes at and below a place of a store called `name`; arrays inside of arrays are none.

    Consolidated metadata is ignored: a run that is still being written leaves it stale.

    Raises DataError where the metadata of the root cannot be read, or folders cannot be listed.
    """
    objects = objects_of(place)
    try:
        files, below = objects.folder("")
    except Exception as error:
        raise DataError(f"{name}: the store cannot be listed: {first_line(error)}") from error
    try:
        root = _read_node(objects, "", files)
        if root is None:
            raise ValueError("there is no zarr.json, .zgroup or .zarray")
    except Exception as error:
        raise DataError(f"{name}: the Zarr metadata cannot be read: {first_line(error)}") from error
    found = Hierarchy(place, root)
    if root.is_array:
        found.arrays[""] = root
        return found
    found.groups[""] = root
    try:
        # While a log is written, `step` grows last: a tensor read before it might lack rows of it.
        steps, others = ([each for each in below if (each == STEP) is first] for first in (True, False))
        for together in (steps, others):
            objects.expect(together, root.zarr_format, all_left=together is others)
            for folder in together:
                _visit(objects, folder, found)
    except RecursionError as error:
        raise DataError(f"{name}: its folders are nested too deep") from error
    except OSError as error:
        where = f" ('{error.filename}')" if error.filename else ""
        raise DataError(
            f"{name}: a folder cannot be listed{where}: {error.strerror or first_line(error)}"
        ) from error
    found.arrays = dict(sorted(found.arrays.items()))
    found.orphans.sort()
    found.implicit.sort()
    return found


def _visit(objects: StoreObjects, path: str, found: Hierarchy) -> bool:
    """Note the nodes at and below a folder; whether there are any."""
    files, below = objects.folder(path)
    node = None
    try:
        node = _read_node(objects, path, files)
    except Exception as error:
        found.faults[path] = f"the metadata of '{path}' cannot be read: {first_line(error)}"
    if node is not None and node.is_array:
        found.arrays[path] = node
        return True
    objects.expect(below, found.root.zarr_format if node is None else node.zarr_format)
    inside = [_visit(objects, folder, found) for folder in below]
    if node is not None:
        found.groups[path] = node
    elif path in found.faults:
        return True
    elif any(inside):
        found.implicit.append(path)
    elif _are_chunks(files, below):
        # The folder itself may be the nested key of a chunk: what holds it is what was lost.
        found.orphans = [other for other in found.orphans if not other.startswith(f"{path}/")]
        found.orphans.append(path)
    return node is not None or any(inside)


def _are_chunks(files: set[str], folders: list[str]) -> bool:
    """Whether a folder without metadata holds chunks; other files and folders are nobody's data."""
    names = [*files, *(folder.rpartition("/")[2] for folder in folders)]
    return any(name == "c" or name.removeprefix("c.").replace(".", "").isdigit() for name in names)


def _read_node(objects: StoreObjects, path: str, files: set[str]) -> Node | None:
    """The group or array of a folder; None without metadata. Raises ValueError and what reading raises."""

    def read(key: str) -> dict[str, Any]:
        try:
            document = json.loads(objects.read(f"{path}/{key}" if path else key))
        except UnicodeDecodeError as error:
            raise ValueError(f"{key} is no text: {error.reason}") from error
        except RecursionError as error:
            raise ValueError(f"{key} is nested too deep") from error
        if not isinstance(document, dict):
            raise ValueError(f"{key} is no JSON object")
        return document

    if not files & METADATA_KEYS:
        return None
    if "zarr.json" in files:
        document = read("zarr.json")
        kind = document.get("node_type")
        if document.get("zarr_format") != 3:
            raise ValueError(f"zarr.json has zarr_format {document.get('zarr_format')!r}, not 3")
        if kind not in ("array", "group"):
            raise ValueError(
                "zarr.json lacks node_type" if kind is None else f"zarr.json has node_type {kind!r}"
            )
        attributes = document.get("attributes", {})
        zarr_format, is_array = 3, kind == "array"
    elif ".zarray" in files or ".zgroup" in files:
        is_array = ".zarray" in files
        document = read(".zarray" if is_array else ".zgroup")
        if document.get("zarr_format") != 2:
            raise ValueError(f"its zarr_format is {document.get('zarr_format')!r}, not 2")
        attributes = read(".zattrs") if ".zattrs" in files else {}
        zarr_format = 2
    else:
        return None
    if not isinstance(attributes, dict):
        raise ValueError("its attributes are no JSON object")
    if is_array:
        _check_shape(document)
    return Node(path, zarr_format, is_array, document, attributes)


def _check_shape(document: Mapping[str, Any]) -> None:
    shape = document.get("shape")
    if not isinstance(shape, list) or not all(
        isinstance(extent, int) and not isinstance(extent, bool) and extent >= 0 for extent in shape
    ):
        raise ValueError(f"its shape is {shape!r:.80}")
