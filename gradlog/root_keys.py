"""How Zarr stores are told from other folders, without opening any."""

from __future__ import annotations

import os

ROOT_KEYS = ("zarr.json", ".zgroup", ".zarray")
"""The files that hold the metadata of a group or an array, of which a store's root has one."""


def is_zarr_node(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder holds the metadata of a group or an array."""
    return any(os.path.lexists(os.path.join(folder, key)) for key in ROOT_KEYS)  # noqa: PTH118 (fast)
