"""A bucket as a Zarr store: obstore's, with errors in a line and what is known of its objects."""

from __future__ import annotations

import asyncio
import functools
import os
from dataclasses import field, replace
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import ObjectStore

from ...errors import UsageError, first_line
from ...libraries import load_library
from ...quick_dataclass import dataclass
from .access import Access
from .remote_errors import RemoteError, is_missing_bucket, told_remotely
from .remote_requests import POLL_SECONDS, request_pool
from .remote_url import RemoteUrl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future
    from pathlib import Path

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

EXTRA = "pip install 'gradmf[remote]'"
WHOLE_REQUESTS = 3.0
"""Times what one waits for a byte: what a request may take in all where only that can be said."""
WHOLE_UPLOADS = 2.0
"""Times what one waits for a byte: what an upload may take in all, for its own bytes come first."""
PART_BYTES = 16 << 20
"""Of an object that is read or written in several parts."""
BUCKET_WORDS = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}


@dataclass
class Known:
    """What has been asked of a store, by path below its URL.

    folders : names of the objects in a folder, and the folders, as of `StoreObjects.folder`
    documents : bytes of metadata, None where there is none; failed : why some could not be read
    sizes : of all below a folder, by key from there
    surveyed : a folder of which all was listed once; renewed : folders that were listed again since
    """

    folders: dict[str, tuple[set[str], list[str]]] = field(default_factory=dict)
    documents: dict[str, bytes | None] = field(default_factory=dict)
    failed: dict[str, RemoteError] = field(default_factory=dict)
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    surveyed: str | None = None
    renewed: set[str] = field(default_factory=set)

    def size_of(self, key: str) -> int | None:
        """Bytes of an object that was listed, None else."""
        folder = key
        while folder:
            folder = folder.rpartition("/")[0]
            if folder in self.sizes:
                return self.sizes[folder].get(key[len(folder) + 1 if folder else 0 :])
        return None


if TYPE_CHECKING:
    _Base = ObjectStore[Any]
else:
    _Base = ObjectStore  # generic since zarr 3.1


class RemoteStore(_Base):
    """Everything below a URL.

    url, access : what it is and how it is reached; known : what was asked of it
    listed : keys of chunks that a listing has shown: they are not to be absent when they are asked for
    """

    def __init__(
        self, url: RemoteUrl, access: Access, store: Any, *, read_only: bool = True, theirs: bool = False
    ) -> None:
        """theirs : somebody else has opened `store`, in their own way"""
        super().__init__(store, read_only=read_only)
        self._is_theirs = theirs
        self.url = url
        self.access = access
        self.known = Known()
        self.given_up = False
        self.listed: set[str] = set()
        self._asked: dict[str, Future[tuple[Any, int] | None]] = {}

    @property
    def lists_in_order(self) -> bool:
        """Whether keys are listed in their order, from any key on."""
        return self.url.scheme in ("s3", "gs") and not self.url.bucket.endswith("--x-s3")

    def __reduce__(self) -> tuple[Any, ...]:
        # Credentials stay where they are: whoever loads it finds its own.
        return open_remote, (self.url, self.access)

    def __str__(self) -> str:
        return str(self.url)

    def with_read_only(self, read_only: bool = False) -> RemoteStore:
        return type(self)(self.url, self.access, self.store, read_only=read_only, theirs=self._is_theirs)

    def fetch(self, key: str, span: Any = None) -> tuple[Any, int] | None:
        """The bytes of an object and its size, None where there is none; in any thread.

        span : (first, last + 1) bytes, or {"suffix": count} of them; None for all

        Raises RemoteError.
        """
        import obstore

        try:
            response = obstore.get(self.store, key, options=None if span is None else {"range": span})
            return response.bytes(), int(response.meta["size"])
        except FileNotFoundError as error:
            if is_missing_bucket(error):
                raise told_remotely(error, self.url, self.access) from None
        except Exception as error:
            raise told_remotely(error, self.url, self.access, key) from None
        if key in self.listed:
            raise RemoteError(f"'{key}' was removed while the log was read: read it when nobody changes it")
        return None

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of an object; None where there is none. Raises RemoteError."""
        span: Any = None
        if isinstance(byte_range, RangeByteRequest):
            span = (byte_range.start, byte_range.end)
        elif isinstance(byte_range, OffsetByteRequest):
            span = {"offset": byte_range.offset}
        elif isinstance(byte_range, SuffixByteRequest):
            span = self.suffix(key, byte_range.suffix)
        asked = self._asked.pop(key, None) if span is None else None
        running = asyncio.wrap_future(asked or request_pool().submit(self.fetch, key, span))
        while not (await asyncio.wait({running}, timeout=POLL_SECONDS))[0]:
            self.check()
        found = running.result()
        return None if found is None else prototype.buffer.from_bytes(found[0])

    @functools.cached_property
    def for_zarrs(self) -> ObjectStore[Any]:
        """The same as zarrs takes it, which knows of no wait for a byte. Raises what making it raises."""
        if self._is_theirs:
            return ObjectStore(self.store, read_only=True)
        return ObjectStore(
            _bucket(self.url, self.access, WHOLE_REQUESTS * self.access.seconds), read_only=True
        )

    @property
    def upload_seconds(self) -> float:
        """What an upload may take in all until it counts as lost."""
        return WHOLE_UPLOADS * self.access.seconds

    @functools.cached_property
    def _for_uploads(self) -> Any:
        """obstore's own store, for what is written: a long object is sent before any byte comes back."""
        return _bucket(self.url, self.access, self.upload_seconds)

    def upload(self, key: str, data: bytes | Path | IO[bytes], what: str = "") -> None:
        """Put an object in its place, whole; in any thread. what : the object, as errors are to name it

        Raises RemoteError.
        """
        import obstore

        try:
            # A long one goes in parts, and is there once the service was told that these are all.
            obstore.put(self._for_uploads, key, data, chunk_size=PART_BYTES)
        except Exception as error:
            patient = replace(self.access, seconds=self.upload_seconds)
            raise told_remotely(error, self.url, patient, what) from None

    def check(self) -> None:
        """Raise RemoteError where nobody wants answers any more."""
        if self.given_up:
            raise RemoteError("reading was given up")

    def ask(self, keys: Iterable[str]) -> None:
        """Begin to fetch objects that `get` is called for next."""
        for key in keys:
            self._asked[key] = request_pool().submit(self.fetch, key)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget those that were not called for."""
        for key in keys:
            if (asked := self._asked.pop(key, None)) is not None:
                asked.cancel()

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """The bytes of each. Raises RemoteError."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    def suffix(self, key: str, count: int) -> Any:
        """The last bytes of an object, as a span of `fetch`: not every service counts from the end."""
        whole = self.known.size_of(key)
        return {"suffix": count} if whole is None else (max(0, whole - count), whole)


def open_remote(url: RemoteUrl, access: Access) -> RemoteStore:
    """The store below a URL, for reading; nothing is asked of the service yet.

    Raises UsageError where the library is missing, or the profile is not there.
    """
    return RemoteStore(url, access, _bucket(url, access))


def _bucket(url: RemoteUrl, access: Access, whole: float | None = None) -> Any:
    """obstore's own store. whole : seconds that a request may take in all; None: those without a byte"""
    stores = load_library("obstore.store", f"{url} needs", EXTRA)
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=min(5.0, access.seconds)),
        "allow_http": _may_use_http(url),
        "pool_max_idle_per_host": "256",
    }
    if whole is None:  # of a long object all of it may take long
        client |= {"timeout": timedelta(days=1), "read_timeout": timedelta(seconds=access.seconds)}
    else:
        client["timeout"] = timedelta(seconds=whole)
    words: dict[str, Any] = {
        "client_options": client,
        "retry_config": {
            "max_retries": access.retries,
            "retry_timeout": timedelta(seconds=access.deadline),
            "backoff": {
                "init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=5), "base": 2,
            },
        },
    }  # fmt: skip
    profile = access.profile
    if profile is not None and url.scheme != "s3":
        raise UsageError(f"{url}: --profile is of s3:// addresses")
    if profile is None and url.scheme == "s3" and "AWS_ACCESS_KEY_ID" not in os.environ:
        profile = os.environ.get("AWS_PROFILE")
    if access.anonymous:
        words["skip_signature"] = True
    elif profile:
        words["credential_provider"] = _profile(url, profile)
    try:
        return getattr(stores, BUCKET_WORDS[url.scheme])(url.bucket, prefix=url.path or None, **words)
    except Exception as error:
        raise RemoteError(f"{url}: {told_remotely(error, url, access)}") from None


def _may_use_http(url: RemoteUrl) -> bool:
    """Whether the user's own address of the service is without TLS."""
    names = {
        "s3": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"),
        "gs": ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
        "az": ("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
    }
    emulated = url.scheme == "az" and os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in (
        "1",
        "true",
    )
    return emulated or any(os.environ.get(name, "").startswith("http://") for name in names[url.scheme])


def _profile(url: RemoteUrl, name: str) -> Any:
    needs = f"{url} with --profile needs"
    session = load_library("boto3", needs, "pip install boto3")
    provider = load_library("obstore.auth.boto3", needs, EXTRA)
    try:
        return provider.Boto3CredentialProvider(session.Session(profile_name=name))
    except Exception as error:
        told = first_line(error) if type(error).__name__ == "ProfileNotFound" else "it holds no credentials"
        raise UsageError(f"{url}: the profile {name!r} cannot be used: {told}") from None
