"""How Zarr stores and parts of analyses are told from other files, without opening any."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT_KEYS = ("zarr.json", ".zgroup", ".zarray")
"""The files that hold the metadata of a group or an array, of which a store's root has one."""

METADATA_KEYS = frozenset({*ROOT_KEYS, ".zattrs", ".zmetadata"})
"""All files of a node that hold no data."""

PART_HEADER = "part.json"
"""The member that tells the zip archive of a part's sums from that of a store."""


def is_zarr_node(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder holds the metadata of a group or an array."""
    return any(os.path.lexists(os.path.join(folder, key)) for key in ROOT_KEYS)  # noqa: PTH118 (fast)


_RANK_NAME = re.compile(r"rank-\d+")


def is_rank_name(name: str) -> bool:
    """Whether a folder is named as the log of one rank of a distributed run is: rank-000."""
    return _RANK_NAME.fullmatch(name) is not None


def may_hold_ranks(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds Zarr nodes named as those of ranks; not if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return any(is_rank_name(entry.name) and is_zarr_node(entry) for entry in entries)
    except OSError:
        return False


def holds_arrays(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder without Zarr's metadata has arrays right inside, as TensorStore leaves them."""
    place = Path(folder)
    if not place.is_dir() or is_zarr_node(place):
        return False
    return any(_is_array(inner) for inner in place.iterdir() if is_zarr_node(inner))


def _is_array(folder: Path) -> bool:
    if (folder / ".zarray").exists():
        return True
    try:
        return '"array"' in (folder / "zarr.json").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
