"""Where a Zarr node stands: in a folder, a zip file or an opened store; one clear error where none does."""

from __future__ import annotations

import contextlib
import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath, ZipStore

from ..errors import DataError, StoreNotFoundError, first_line
from .example_stores import example_store
from .rank_folders import holds_ranks
from .root_keys import METADATA_KEYS, PART_HEADER, ROOT_KEYS, is_rank_name, is_zarr_node
from .zip_archive import ArchiveStore, read_names

ZARRS_PIPELINE = "zarrs.ZarrsCodecPipeline"
ZARR_PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"


@contextlib.contextmanager
def codec_pipeline(threads: int) -> Iterator[None]:
    """Let arrays opened and read inside decode with as many threads. threads : at least 1"""
    settings: dict[str, Any] = {"threading.max_workers": threads, "async.concurrency": max(10, 4 * threads)}
    with zarr.config.set(settings):
        yield


@contextlib.contextmanager
def decoding_with(pipeline: str) -> Iterator[None]:
    """Let arrays opened inside decode with a pipeline of Zarr's, quietly where it declines one."""
    with zarr.config.set({"codec_pipeline.path": pipeline}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def zarrs_is_installed() -> bool:
    """Whether chunks can be decoded in Rust."""
    return find_spec("zarrs") is not None


def plain_array(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, coded by zarr-python."""
    with zarr.config.set({"codec_pipeline.path": ZARR_PIPELINE}):
        return zarr.Array(zarr.AsyncArray(array.metadata, array.store_path, ARRAY_CONFIG))


ARRAY_CONFIG: Any = {"write_empty_chunks": True, "order": "C"}
"""Zarr's own settings may say otherwise: blocks are in C order, and every chunk is written."""


Source: TypeAlias = "str | os.PathLike[str] | zarr.Group | zarr.Array[Any] | Store | StorePath"
"""Where a log may lie: a path or a file:// URL, or what was opened with zarr."""


def open_source(source: Source) -> tuple[str, StorePath]:
    """The name of what lies somewhere, for messages, and its place in a store, for reading.

    Of what was opened with zarr the name is that of its place: `file:///runs/a.zarr/gradients`.

    Raises what `open_place` raises, and DataError for a store that cannot be opened.
    """
    if isinstance(source, zarr.Group | zarr.Array):
        place = source.store_path
    elif isinstance(source, StorePath):
        place = source
    elif isinstance(source, Store):
        place = StorePath(source)
    else:
        return os.fspath(source), open_place(source)
    store = place.store
    if isinstance(store, LocalStore):  # opening it would make the folder
        if not store.root.exists():
            raise StoreNotFoundError(f"{place}: no such file or directory")
        return str(place), place
    try:
        if isinstance(store, ZipStore) and not store._is_open:  # opening it to write would empty it
            return str(place), StorePath(ArchiveStore(Path(store.path)), place.path)
        return str(place), sync(StorePath.open(store, place.path))
    except FileNotFoundError as error:
        raise StoreNotFoundError(f"{place}: no such file or directory") from error
    except Exception as error:
        raise DataError(f"{place}: the store cannot be opened: {first_line(error)}") from error


def open_place(path: str | os.PathLike[str]) -> StorePath:
    """Where the Zarr node of a path stands: a folder or a zip file, for reading.

    path : may also be a file:// URL, or the path of the node's own metadata (RUN.zarr/zarr.json)

    Raises
    ------
    StoreNotFoundError : nothing is at the path
    DataError : what is there is not a Zarr store
    """
    text = os.fspath(path)
    if not text:
        raise StoreNotFoundError("an empty path: give the folder or zip file of a Zarr store")
    place = local_path(text)
    if place.name in METADATA_KEYS and place.is_file():
        place = place.parent
    try:
        there = place.exists()
    except OSError as error:
        raise DataError(f"{text}: cannot be looked at: {error.strerror or error}") from error
    if not there:
        raise StoreNotFoundError(f"{text}: no such file or directory")
    if place.is_dir():
        root = StorePath(LocalStore(place, read_only=True))
        if not _is_node(text, place) and not holds_ranks(root):
            raise DataError(f"{text}: not a Zarr store: {_describe_folder(place)}")
        return root
    try:
        packed = zipfile.is_zipfile(place)
    except OSError as error:
        raise DataError(f"{text}: cannot be read: {error.strerror or error}") from error
    if not packed:
        raise DataError(f"{text}: not a Zarr store: {_describe_file(place)}")
    names = read_names(place)
    archive = ArchiveStore(place)
    ranks = _folder_of_ranks(names)
    if ranks is not None and holds_ranks(StorePath(archive, ranks)):
        return StorePath(archive, ranks)
    return StorePath(archive, _root_of(place, names))


def local_path(text: str) -> Path:
    """The path of a local file or folder, from a path or a file:// URL. Raises DataError for other URLs."""
    if "://" not in text:
        return Path(text)
    address = urlsplit(text)
    if address.scheme.lower() != "file" or address.netloc not in ("", "localhost"):
        raise DataError(f"{text}: remote stores are not supported; copy the store to a local disk first")
    return Path(unquote(address.path))


def _is_node(text: str, place: Path) -> bool:
    try:
        with os.scandir(place):  # what cannot be listed would look like a store without arrays
            return is_zarr_node(place)
    except OSError as error:
        raise DataError(f"{text}: the folder cannot be read: {error.strerror or error}") from error


def _describe_file(place: Path) -> str:
    if (examples := example_store(place)) is not None:
        return examples
    try:
        with place.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if start[:1] in (b"{", b"["):
        return "JSON: results of gradmf analyze go to gradmf compare, bounds or advise"
    hint = " (cut short?)" if place.suffix == ".zip" or start[:2] == b"PK" else ""
    return (
        f"a file of {place.stat().st_size} bytes that is no zip archive{hint}; "
        "give the folder or zip file of a Zarr store"
    )


def _describe_folder(place: Path) -> str:
    if (examples := example_store(place)) is not None:
        return examples
    names = sorted(entry.name for entry in place.iterdir())
    if not names:
        return "the folder is empty"
    stores = [name for name in names if is_zarr_node(place / name)]
    if stores:
        return f"but {len(stores)} inside it, such as {place / stores[0]}; give that path"
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"the folder has no zarr.json, .zgroup or .zarray; it holds {shown}"


def _folder_of_ranks(names: Iterable[str]) -> str | None:
    """The folder inside an archive that holds nothing but nodes named as those of ranks; None without one."""
    tops = _topmost_nodes(names)
    above = {top.rstrip("/").rpartition("/")[0] for top in tops}
    named = all(is_rank_name(top.rstrip("/").rpartition("/")[2]) for top in tops)
    return above.pop() if named and len(above) == 1 else None


def _topmost_nodes(names: Iterable[str]) -> list[str]:
    """Folders inside an archive that hold Zarr metadata, a slash behind each, without those below others."""
    roots = {
        name[: -len(key)] for name in names for key in ROOT_KEYS if name.endswith("/" + key) or name == key
    }
    tops: list[str] = []
    for root in sorted(roots):
        if not tops or not root.startswith(tops[-1]):
            tops.append(root)
    return tops


def _root_of(place: Path, names: list[str]) -> str:
    """The folder inside the archive that holds the store: `zip -r` keeps the store's own folder."""
    tops = _topmost_nodes(names)
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
