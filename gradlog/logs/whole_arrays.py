"""Arrays of a Zarr store read whole: of stores that hold one training step, without a step axis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import DataError, first_line
from ..quick_dataclass import dataclass
from .entry_types import EntryType, entry_type, stored_type
from .gradient_arrays import STEP_AXES
from .hierarchy import Hierarchy, Node, read_hierarchy
from .log import GRADS, STEP
from .places.finding import place_of
from .root_keys import holds_arrays, is_zarr_node, may_hold_ranks
from .store import ZARR_PIPELINE, decoding_with
from .zarr_array import make_array


@dataclass(frozen=True)
class WholeArray:
    """An array of a store. dtype : of its entries, bfloat16 read as uint16 bits"""

    name: str
    shape: tuple[int, ...]
    dtype: str
    place: str
    _array: zarr.Array[Any] | None
    _entries: EntryType | None

    def read(self) -> NDArray[Any]:
        """Its entries. Raises DataError that names store and array."""
        try:
            assert self._array is not None
            stored = np.asarray(self._array[...]).reshape(self.shape)
        except MemoryError:
            raise
        except Exception as error:
            raise DataError(
                f"{self.place}: array '{self.name}' cannot be read: {first_line(error)}"
            ) from error
        if self._entries is not None and self._entries.packing is not None:
            return self._entries.packing.unpack(stored, self._entries.compute)
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def holds_steps(path: str) -> bool:
    """Whether a store has a step axis: it is of format 1, has a `step`, or its axes are named so.

    Where nothing says so, arrays that all begin with an axis of one entry have one.

    Raises DataError for a store that cannot be listed.
    """
    if holds_arrays(path):
        return False
    if may_hold_ranks(path):
        return True
    hierarchy = read_hierarchy(path, place_of(path).open())
    arrays = list(hierarchy.arrays.values())
    if "gradlog" in hierarchy.root.attributes or STEP in hierarchy.arrays:
        return True
    axes = {axis for node in arrays for axis in node.axes or ()}
    return bool(axes & set(STEP_AXES)) or (bool(arrays) and all(n.shape[:1] == (1,) for n in arrays))


def whole_arrays(path: str) -> tuple[dict[str, WholeArray], Mapping[str, Any], dict[str, str]]:
    """The arrays of a store, or of the stores in a folder, by name; the attributes of its root; and what is
    left out, with reasons.

    Raises DataError for a store that cannot be listed, or an array that Zarr cannot follow.
    """
    found: dict[str, WholeArray] = {}
    left_out: dict[str, str] = {}
    attributes: Mapping[str, Any] = {}
    below = [(path, "")]
    if holds_arrays(path):
        below = [
            (str(inner), f"{inner.name}/") for inner in sorted(Path(path).iterdir()) if is_zarr_node(inner)
        ]
    for place, prefix in below:
        hierarchy = read_hierarchy(place, place_of(place).open())
        attributes = hierarchy.root.attributes if not prefix else {}
        for node_path, node in hierarchy.arrays.items():
            name = f"{prefix}{node_path}".strip("/").removeprefix(f"{GRADS}/") or GRADS
            found[name] = _whole_array(place, name, hierarchy, node)
        left_out |= {f"{prefix}{orphan}": "no Zarr metadata" for orphan in hierarchy.orphans}
        for fault in hierarchy.faults.values():
            raise DataError(f"{place}: {fault}")
    return found, attributes, left_out


def _whole_array(place: str, name: str, hierarchy: Hierarchy, node: Node) -> WholeArray:
    try:
        entries = entry_type(node)
        if entries is None:
            return WholeArray(name, node.shape, stored_type(node), place, None, None)
        with decoding_with(ZARR_PIPELINE):
            array = make_array(hierarchy.place, node)
    except (ValueError, DataError) as error:
        raise DataError(f"{place}: array '{name}': {first_line(error)}") from error
    dtype = entries.compute.name if entries.packing is not None else entries.name
    return WholeArray(name, node.shape, dtype, place, array, entries)
