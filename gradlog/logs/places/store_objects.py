"""The objects of a store, by key: their names and sizes, and the bytes of some, many at a time.

Zarr's own listing walks folders with pathlib and asks for each size by itself: stores that can do better have
a subclass of their own.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import StorePath

from ...quick_dataclass import dataclass

_T = TypeVar("_T")

AT_ONCE = 64
"""Requests to a store that are under way together."""


@dataclass(frozen=True)
class Piece:
    """Some bytes of an object, and how many it has in all."""

    data: bytes
    whole: int


class StoreObjects(abc.ABC):
    """The objects at and below a place in a store. Paths and keys are counted from there, "" is itself."""

    @abc.abstractmethod
    def folder(self, path: str) -> tuple[set[str], list[str]]:
        """Names of the objects in a folder, and paths of the folders in it, sorted."""

    @abc.abstractmethod
    def children(self) -> list[str]:
        """Names of the folders, at least, right below the place, sorted. Raises what listing raises."""

    @abc.abstractmethod
    def read(self, key: str) -> bytes:
        """The bytes of an object. Raises FileNotFoundError, and what reading raises."""

    def expect(  # noqa: B027 - few can read ahead
        self, paths: Sequence[str], zarr_format: int, *, all_left: bool = False
    ) -> None:
        """The metadata of these folders is read next.

        zarr_format : of the group that they lie in; all_left : nothing else has to be read before the rest
        """

    lists_ahead = False
    """Whether `list_ahead` does anything."""

    def list_ahead(self, expected: Mapping[str, Sequence[str]]) -> None:  # noqa: B027 - few can
        """What is below several folders is asked for next. expected : keys that there should be, by folder"""

    @abc.abstractmethod
    def sizes(self, path: str, *, wanted: bool = True) -> dict[str, int]:
        """Bytes of all objects below a folder, by key from there; 0 where sizes are not `wanted`."""

    def present(self, path: str, keys: Sequence[str]) -> list[bool]:
        """Of some keys below a folder, whether the object is there. Raises what listing raises."""
        stored = self.sizes(path, wanted=False)
        return [key in stored for key in keys]

    def renew(self, path: str) -> bool:  # noqa: ARG002 - few list before
        """Forget a listing of a folder that is older than what its metadata says; whether there was one."""
        return False

    @abc.abstractmethod
    def pieces(self, keys: Sequence[str], count: int, *, at_end: bool) -> list[Piece | Exception]:
        """The first or last `count` bytes of objects, or why they cannot be read."""


class ZarrObjects(StoreObjects):
    """Of any store that zarr-python can list."""

    def __init__(self, place: StorePath) -> None:
        self._place = place
        self._files: dict[str, set[str]] = {}
        self._below: dict[str, set[str]] = {}

    def folder(self, path: str) -> tuple[set[str], list[str]]:
        if not self._files:
            self._list()
        return self._files.get(path, set()), sorted(self._below.get(path, ()))

    def children(self) -> list[str]:
        store, path = self._place.store, self._place.path

        async def listed() -> list[str]:
            return [key async for key in store.list_dir(path)]

        return sorted({key.strip("/") for key in sync(listed())})

    def read(self, key: str) -> bytes:
        data = sync((self._place / key).get(default_buffer_prototype()))
        if data is None:
            raise FileNotFoundError(key)
        return data.to_bytes()

    def sizes(self, path: str, *, wanted: bool = True) -> dict[str, int]:
        store, head = self._place.store, self._key(path)
        head = f"{head}/" if head else ""

        async def listed() -> dict[str, int]:
            keys = [key async for key in store.list_prefix(head)]
            sizes = await gathered([store.getsize(key) for key in keys]) if wanted else [0] * len(keys)
            return {key.removeprefix(head): size for key, size in zip(keys, sizes, strict=True)}

        return sync(listed())

    def pieces(self, keys: Sequence[str], count: int, *, at_end: bool) -> list[Piece | Exception]:
        async def read() -> list[Piece | Exception]:
            return await gathered([_piece(self._place.store, self._key(key), count, at_end) for key in keys])

        return sync(read())

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self._place.path, path) if part)

    def _list(self) -> None:
        self._files[""], self._below[""] = set(), set()
        for key in self.sizes("", wanted=False):
            folder, _, name = key.rpartition("/")
            self._files.setdefault(folder, set()).add(name)
            while folder:
                above = folder.rpartition("/")[0]
                known = self._below.setdefault(above, set())
                if folder in known:
                    break
                known.add(folder)
                folder = above


async def _piece(store: Store, key: str, count: int, at_end: bool) -> Piece | Exception:
    request = SuffixByteRequest(count) if at_end else RangeByteRequest(0, count)
    try:
        data = await store.get(key, default_buffer_prototype(), request)
        if data is None:
            return FileNotFoundError(key)
        return Piece(data.to_bytes(), await store.getsize(key))
    except Exception as error:
        return error


async def gathered(tasks: Sequence[Coroutine[Any, Any, _T]], at_once: int = AT_ONCE) -> list[_T]:
    """What coroutines return, in their order; `at_once` run at a time. Where one raises, the others end."""
    turn = asyncio.Semaphore(at_once)

    async def one(task: Coroutine[Any, Any, _T]) -> _T:
        async with turn:
            return await task

    running = [asyncio.ensure_future(one(task)) for task in tasks]
    try:
        return await asyncio.gather(*running)
    except BaseException:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise
