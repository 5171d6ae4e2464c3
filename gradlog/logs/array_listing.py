"""Which arrays lie below a group of a Zarr store, and what has lost its metadata."""

from __future__ import annotations

import warnings
from typing import Any

import zarr

from ..errors import DataError
from .store import child_names, first_line


def list_arrays(name: str, group: zarr.Group) -> tuple[dict[str, zarr.Array[Any]], list[str]]:
    """All arrays below a group of the store `name` by path, in the order of their names, and others.

    The others are paths of folders that hold chunks but no metadata.

    Raises DataError where metadata cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what has no metadata: it is looked for below
            members = dict(group.members(max_depth=None))
    except Exception as error:
        where = _unreadable(group) or "a part"
        raise DataError(f"{name}: the metadata of {where} cannot be read: {first_line(error)}") from error
    groups = {"": group} | {path: node for path, node in members.items() if isinstance(node, zarr.Group)}
    unknown = [
        path
        for above, node in groups.items()
        for key in child_names(node)
        if (path := f"{above}/{key}".lstrip("/")) not in members and _may_have_been_data(node, key)
    ]
    arrays = {path: node for path, node in members.items() if isinstance(node, zarr.Array)}
    return dict(sorted(arrays.items())), sorted(unknown)


def check_chunk_grid(name: str, which: str, array: zarr.Array[Any]) -> None:
    """Raise DataError for an array whose chunks differ in size. which : " 'NAME'", or "" for the only one"""
    try:
        _ = array.chunks
    except NotImplementedError as error:
        raise DataError(
            f"{name}: array{which}: chunks of uneven sizes are not read: write it anew"
        ) from error


def _may_have_been_data(group: zarr.Group, key: str) -> bool:
    """A folder of chunks without metadata was an array; other files and folders are nobody's data."""
    return any(name == "c" or name.replace(".", "").isdigit() for name in child_names(group, key))


def _unreadable(group: zarr.Group) -> str | None:
    """Path of the first node below the group whose metadata cannot be read."""
    for key in child_names(group):
        try:
            node = group[key]
        except KeyError:
            continue
        except Exception:
            return f"'{group.path}/{key}'".replace("'/", "'")
        if isinstance(node, zarr.Group) and (found := _unreadable(node)):
            return found
    return None
