"""The objects of a bucket: listed by prefix, with sizes, and metadata read ahead.

Each answer is waited for, so that little is asked for only once another answer has come: first the root and
the metadata of `step`, which says what is committed; then all keys, of a log that is listed in a page.
A service gives a thousand keys at a time. A folder alone is one such page, mostly; all chunks of a log are
many, which are asked for from several keys on at once: the keys that there should be are known.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..log import STEP
from ..root_keys import METADATA_KEYS
from .remote_errors import RemoteError, told_remotely
from .remote_requests import alone, together
from .remote_store import RemoteStore
from .store_objects import Piece, StoreObjects

PAGE = 1000
"""Keys of a page of a listing."""
LISTINGS = 16
"""Listings of a log that are under way together."""
ASKED_AHEAD = 64
"""Chunks of `step` that are asked for before anybody knows how they are stored; it has few."""
ASKED_BYTES = 8 << 20
_AHEAD = {3: ("zarr.json",), 2: ("zarr.json", ".zarray", ".zattrs")}
"""Metadata of an array in a group of a format, read without a look at its folder."""


class RemoteObjects(StoreObjects):
    """Of a store at a URL. path : of the place below it"""

    lists_ahead = True

    def __init__(self, store: RemoteStore, path: str = "") -> None:
        self._store = store
        self._path = path
        self._known = store.known

    def begin(self) -> None:
        """Ask for what is read first of a log. Raises what listing raises; reading raises what else fails."""
        documents = [(self._try_document, self._key(key)) for key in ("zarr.json", f"{STEP}/zarr.json")]
        together(lambda work, key: work(key), [(self._folder, self._key("")), *documents])

    def folder(self, path: str) -> tuple[set[str], list[str]]:
        return alone(self._folder, self._key(path))

    def children(self) -> list[str]:
        files, folders = self.folder("")
        return sorted([*files, *(folder.rpartition("/")[2] for folder in folders)])

    def read(self, key: str) -> bytes:
        data = alone(self._document, self._key(key))
        if data is None:
            raise FileNotFoundError(key)
        return data

    def expect(self, paths: Sequence[str], zarr_format: int, *, all_left: bool = False) -> None:
        keys = [self._key(path) for path in paths]
        names = _AHEAD[zarr_format]
        surveys = [(self._survey, self._key(""))] if all_left else []
        # What fails is asked for again by who needs it, and told there.
        with contextlib.suppress(RemoteError):
            documents = [(self._document, f"{key}/{name}") for key in keys for name in names]
            together(lambda work, key: work(key), [*surveys, *documents])
            # Of what is an array the folder need not be looked into: nothing below it is a node.
            others = [key for key in keys if not self._take_array(key, names)]
            together(self._folder, ((key,) for key in others))

    def sizes(self, path: str, *, wanted: bool = True) -> dict[str, int]:  # noqa: ARG002 - they come anyway
        key = self._key(path)
        if key not in self._known.sizes:
            self._list({key: ()})
        return self._known.sizes[key]

    def list_ahead(self, expected: Mapping[str, Sequence[str]]) -> None:
        """As of `StoreObjects`: one listing of all, from several keys on at once."""
        keyed = {self._key(path): keys for path, keys in expected.items()}
        if unknown := {path: keys for path, keys in keyed.items() if path not in self._known.sizes}:
            self._list(unknown)

    def renew(self, path: str) -> bool:
        key = self._key(path)
        if not self._is_surveyed(key) or key in self._known.renewed:
            return False
        # A tensor that appeared meanwhile: its metadata was read later than all keys were listed.
        self._known.renewed.add(key)
        self._known.sizes.pop(key, None)
        return True

    def pieces(self, keys: Sequence[str], count: int, *, at_end: bool) -> list[Piece | Exception]:
        return together(self._piece, ((self._key(key), count, at_end) for key in keys))

    def _survey(self, prefix: str) -> None:
        """List all that is below a folder, and know it, where that is a page at most."""
        import obstore

        try:
            stream = obstore.list(self._store.store, prefix or None, chunk_size=PAGE)
            page: Sequence[Any] = next(stream, [])
            if len(page) >= PAGE or next(stream, None):
                return
        except Exception as error:
            raise told_remotely(error, self._store.url, self._store.access) from None
        head = f"{prefix}/" if prefix else ""
        sizes = {meta["path"]: int(meta["size"]) for meta in page if meta["path"].startswith(head)}
        files: dict[str, set[str]] = {}
        below: dict[str, set[str]] = {}
        of_folders: dict[str, dict[str, int]] = {}
        for key, size in sizes.items():
            folder, _, name = key.rpartition("/")
            files.setdefault(folder, set()).add(name)
            inner, outer = key, folder
            while len(inner) > len(prefix):
                of_folders.setdefault(outer, {})[key[len(outer) + 1 if outer else 0 :]] = size
                if inner != key:
                    below.setdefault(outer, set()).add(inner)
                if outer == prefix:
                    break
                inner, outer = outer, outer.rpartition("/")[0]
        inside = len(self._path) + 1 if self._path else 0
        for folder in {*files, *below}:
            folders = sorted(path[inside:] for path in below.get(folder, ()))
            self._known.folders.setdefault(folder, (files.get(folder, set()), folders))
        self._known.sizes |= of_folders
        self._known.surveyed = head
        self._store.listed.update(key for key in sizes if key.rpartition("/")[2] not in METADATA_KEYS)
        steps = [key for key in sizes if key.startswith(f"{head}{STEP}/") and key in self._store.listed]
        if len(steps) <= ASKED_AHEAD and sum(sizes[key] for key in steps) <= ASKED_BYTES:
            self._store.ask(steps)

    def _folder(self, key: str) -> tuple[set[str], list[str]]:
        import obstore

        if key not in self._known.folders and self._is_surveyed(key):
            return set(), []
        if key not in self._known.folders:
            try:
                found = obstore.list_with_delimiter(self._store.store, prefix=key or None)
            except Exception as error:
                raise told_remotely(error, self._store.url, self._store.access) from None
            head = len(key) + 1 if key else 0
            files = {meta["path"][head:] for meta in found["objects"] if meta["path"] != key}
            inside = len(self._path) + 1 if self._path else 0
            folders = sorted(prefix.rstrip("/")[inside:] for prefix in found["common_prefixes"])
            self._known.folders[key] = files, folders
        return self._known.folders[key]

    def _document(self, key: str) -> bytes | None:
        documents = self._known.documents
        if key in self._known.failed:
            raise self._known.failed[key]
        if key not in documents:
            there = not self._is_surveyed(key) or self._known.size_of(key) is not None
            found = self._store.fetch(key) if there else None
            documents[key] = None if found is None else bytes(found[0])
        return documents[key]

    def _try_document(self, key: str) -> None:
        try:
            self._document(key)
        except RemoteError as error:
            self._known.failed[key] = error

    def _is_surveyed(self, key: str) -> bool:
        return self._known.surveyed is not None and key.startswith(self._known.surveyed)

    def _take_array(self, key: str, names: Sequence[str]) -> bool:
        """Whether a folder holds the metadata of an array, by what was read of it; it is then known."""
        found = {name for name in names if self._known.documents.get(f"{key}/{name}") is not None}
        try:
            document = json.loads(self._known.documents.get(f"{key}/zarr.json") or b"{}")
            is_array = document.get("node_type") == "array" if "zarr.json" in found else ".zarray" in found
        except (ValueError, AttributeError, RecursionError):
            return False
        if is_array:
            self._known.folders[key] = found, []
        return is_array

    def _piece(self, key: str, count: int, at_end: bool) -> Piece | Exception:
        whole = self._known.size_of(key)
        try:
            found = self._store.fetch(key, self._store.suffix(key, count) if at_end else (0, count))
            if found is not None and at_end and whole is not None and found[1] != whole:
                size = found[1]  # it was written anew since it was listed
                found = self._store.fetch(key, (max(0, size - count), size))
        except RemoteError as error:
            return error
        return FileNotFoundError(f"'{key}' is gone") if found is None else Piece(bytes(found[0]), found[1])

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self._path, path) if part)

    def _list(self, expected: Mapping[str, Sequence[str]]) -> None:
        """List what is below these folders, and know it. Raises RemoteError."""
        prefix, bounds = _bounds(expected, ordered=self._store.lists_in_order)
        heads = {f"{path}/" if path else "": path for path in expected}
        ordered = sorted(heads)
        found = {path: dict[str, int]() for path in expected}

        def one(first: str | None, last: str | None) -> list[Sequence[Any]]:
            import obstore

            pages: list[Sequence[Any]] = []
            try:
                stream = obstore.list(self._store.store, prefix or None, offset=first, chunk_size=PAGE)
                for page in stream:
                    pages.append(page)
                    if last is not None and page[-1]["path"] >= last:
                        break
            except Exception as error:
                raise told_remotely(error, self._store.url, self._store.access) from None
            return pages

        ends = [*bounds[1:], None]
        parts = together(one, zip(bounds, ends, strict=True), LISTINGS)
        for last, pages in zip(ends, parts, strict=True):
            for meta in itertools.chain.from_iterable(pages):
                key = meta["path"]
                if last is not None and key > last:
                    break
                head = ordered[max(0, bisect.bisect_right(ordered, key) - 1)]
                if key.startswith(head):
                    name = key[len(head) :]
                    found[heads[head]][name] = meta["size"]
                    if name not in METADATA_KEYS:
                        self._store.listed.add(key)
        for path, sizes in found.items():  # the metadata may lie outside of what was listed
            for name in METADATA_KEYS:
                if data := self._known.documents.get(f"{path}/{name}".lstrip("/")):
                    sizes.setdefault(name, len(data))
        self._known.sizes |= found


def _bounds(expected: Mapping[str, Sequence[str]], *, ordered: bool) -> tuple[str, list[str | None]]:
    """The prefix that all of these folders lie below, and the keys behind which listings begin.

    expected : keys that there should be, by folder: each listing gets about as many, whole pages of them
    """
    prefix = _common(list(expected))
    if len(expected) == 1:
        ((path, keys),) = expected.items()
        nested = {key.partition("/")[0] for key in keys if "/" in key}
        if len(nested) == 1:
            prefix = f"{path}/{nested.pop()}".strip("/")  # without the array's own metadata
    bounds: list[str | None] = [None]
    total = sum(map(len, expected.values()))
    if not ordered or total <= 2 * PAGE:
        return prefix, bounds
    share = -(-total // (LISTINGS * PAGE)) * PAGE
    passed = 0
    for path, keys in sorted(expected.items(), key=lambda item: f"{item[0]}/"):
        if passed and passed + len(keys) > share:
            bounds.append(f"{path}/")
            passed = 0
        if len(keys) > share:
            inner = sorted(keys)[share - 1 : -1 : share]
            bounds += [f"{path}/{key}".lstrip("/") for key in inner]
            passed = len(keys) - share * len(inner)
        else:
            passed += len(keys) + 1
    return prefix, bounds


def _common(paths: Sequence[str]) -> str:
    """The folder that all lie in or are."""
    if len(paths) == 1:
        return paths[0]
    parts = []
    for words in zip(*(path.split("/") for path in paths), strict=False):
        if len(set(words)) > 1:
            break
        parts.append(words[0])
    return "/".join(parts)
