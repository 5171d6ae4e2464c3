"""Open what is at a path as a Zarr group or array, with one clear error where that cannot be done."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, ZipStore

from ..errors import DataError, StoreNotFoundError
from .root_keys import PART_HEADER, ROOT_KEYS, is_zarr_node

ZARRS_PIPELINE = "zarrs.ZarrsCodecPipeline"


@contextlib.contextmanager
def codec_pipeline(threads: int) -> Iterator[None]:
    """Let arrays opened and read inside decode with zarrs where it is installed, else with zarr-python.

    zarrs falls back to zarr-python by itself, array by array, for stores and codecs that it doesn't serve.
    """
    settings: dict[str, Any] = {"threading.max_workers": threads, "async.concurrency": max(10, 4 * threads)}
    if find_spec("zarrs") is not None:
        settings["codec_pipeline.path"] = ZARRS_PIPELINE
    with zarr.config.set(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Array is unsupported by ZarrsCodecPipeline")
        warnings.filterwarnings("ignore", "Combining a `sharding_indexed` codec")
        yield


def reader_name(array: zarr.Array[Any]) -> str:
    """ "zarrs" or "zarr-python": what decodes this array's chunks."""
    pipeline = array._async_array.codec_pipeline
    return "zarrs" if getattr(pipeline, "impl", None) is not None else "zarr-python"


def plain_array(array: zarr.Array[Any], metadata: Any = None) -> zarr.Array[Any]:
    """The same array, coded by zarr-python; with other `metadata` if given, not written to the store."""
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        chosen: Any = metadata or array.metadata
        return zarr.Array(zarr.AsyncArray(chosen, array.store_path, {"write_empty_chunks": True}))


def open_node(path: str | os.PathLike[str]) -> zarr.Group | zarr.Array[Any]:
    """Open a Zarr v2 or v3 group or array, from a directory or a zip file, for reading.

    Consolidated metadata is ignored: a run that is still being written leaves it stale.

    Raises
    ------
    StoreNotFoundError : nothing is at the path
    DataError : what is there is not a Zarr store, or its metadata cannot be read
    """
    text = os.fspath(path)
    place = Path(text)
    if "://" in text:
        raise DataError(f"{text}: remote stores are not supported; copy the store to a local disk first")
    if not place.exists():
        raise StoreNotFoundError(f"{text}: no such file or directory")
    if place.is_dir():
        store: Store = LocalStore(place, read_only=True)
        root = ""
        if not is_zarr_node(place):
            raise DataError(f"{text}: not a Zarr store: {_describe_folder(place)}")
    elif zipfile.is_zipfile(place):
        root = _zip_root(place)
        store = ZipStore(place, mode="r")
    else:
        raise DataError(f"{text}: not a Zarr store: {_describe_file(place)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            node = zarr.open(store, path=root or None, mode="r", use_consolidated=False)
        if node.metadata.zarr_format == 3 and "node_type" not in _root_metadata(node):
            raise ValueError("zarr.json lacks node_type")
        return node
    except Exception as error:
        raise DataError(f"{text}: the Zarr metadata cannot be read: {first_line(error)}") from error


def _root_metadata(node: zarr.Group | zarr.Array[Any]) -> Any:
    """zarr.json as stored: zarr takes an empty one for a group."""
    key = "/".join(part for part in (node.store_path.path, "zarr.json") if part)
    data = sync(node.store_path.store.get(key, default_buffer_prototype()))
    return json.loads(b"{}" if data is None else data.to_bytes())


def child_names(group: zarr.Group, below: str = "") -> list[str]:
    """Names of what lies directly in a group, or in the folder `below` it, sorted, whatever it is."""
    place = group.store_path / below if below else group.store_path

    async def listed() -> list[str]:
        return [name async for name in place.store.list_dir(place.path)]

    try:
        return sorted(sync(listed()))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _describe_file(place: Path) -> str:
    with place.open("rb") as file:
        start = file.read(64).lstrip()
    if start[:1] in (b"{", b"["):
        return "JSON: results of gradmf analyze go to gradmf compare, bounds or advise"
    hint = " (cut short?)" if place.suffix == ".zip" or start[:2] == b"PK" else ""
    return (
        f"a file of {place.stat().st_size} bytes that is no zip archive{hint}; "
        "give the folder or zip file of a Zarr store"
    )


def _describe_folder(place: Path) -> str:
    names = sorted(entry.name for entry in place.iterdir())
    if not names:
        return "the folder is empty"
    stores = [name for name in names if is_zarr_node(place / name)]
    if stores:
        return f"but {len(stores)} inside it, such as {place / stores[0]}; give that path"
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"the folder has no zarr.json, .zgroup or .zarray; it holds {shown}"


def _zip_root(place: Path) -> str:
    """The folder inside the archive that holds the store: `zip -r` keeps the store's own folder."""
    try:
        with zipfile.ZipFile(place) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{place}: the zip archive cannot be read: {error}") from error
    roots = {
        name[: -len(key)] for name in names for key in ROOT_KEYS if name.endswith("/" + key) or name == key
    }
    if "" in roots:
        return ""
    tops = sorted(root for root in roots if not any(root != r and root.startswith(r) for r in roots))
    if len(tops) == 1:
        return tops[0].rstrip("/")
    if not tops:
        if PART_HEADER in names:
            raise DataError(f"{place}: part of an analysis: gradmf merge makes results of all its parts")
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        raise DataError(f"{place}: not a Zarr store: a zip archive that holds {shown or 'nothing'}")
    raise DataError(
        f"{place}: the zip archive holds {len(tops)} stores ({', '.join(tops[:4])}); unpack it first"
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
