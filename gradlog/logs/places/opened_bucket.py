"""A bucket that somebody opened with obstore: read as one that a URL names, with their credentials."""

from __future__ import annotations

from typing import Any

from zarr.abc.store import Store
from zarr.storage import ObjectStore

from .access import current_access
from .remote_store import BUCKET_WORDS, RemoteStore
from .remote_url import RemoteUrl


def opened_bucket(store: Store) -> RemoteStore | None:
    """The store as a `RemoteStore`; None for any other than a bucket's."""
    if isinstance(store, RemoteStore):
        return store
    if type(store) is not ObjectStore:
        return None
    inner: Any = store.store
    scheme = next((word for word, name in BUCKET_WORDS.items() if type(inner).__name__ == name), None)
    if scheme is None:
        return None
    config = dict(inner.config)
    bucket = str(config.get("bucket") or config.get("container_name") or "")
    url = RemoteUrl(scheme, bucket, str(inner.prefix or ""))
    return RemoteStore(url, current_access(), inner, theirs=True)
