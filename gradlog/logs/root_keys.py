"""How Zarr stores and parts of analyses are told from other files, without opening any."""

from __future__ import annotations

import os

ROOT_KEYS = ("zarr.json", ".zgroup", ".zarray")
"""The files that hold the metadata of a group or an array, of which a store's root has one."""

METADATA_KEYS = frozenset({*ROOT_KEYS, ".zattrs", ".zmetadata"})
"""All files of a node that hold no data."""

PART_HEADER = "part.json"
"""The member that tells the zip archive of a part's sums from that of a store."""


def is_zarr_node(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder holds the metadata of a group or an array."""
    return any(os.path.lexists(os.path.join(folder, key)) for key in ROOT_KEYS)  # noqa: PTH118 (fast)
