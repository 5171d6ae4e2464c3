"""URLs of object stores: which are read, and what of one may be shown."""

from __future__ import annotations

import re

from ...errors import UsageError
from ...quick_dataclass import dataclass

SCHEMES = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure"}
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "azure": "az"}
_URL = re.compile(r"(?i)([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True)
class RemoteUrl:
    """A place in a bucket. scheme : "s3", "gs" or "az"; path : without slashes around it, "" for the root"""

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.path}" if self.path else "")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def above(self) -> RemoteUrl:
        """The folder that it lies in."""
        return RemoteUrl(self.scheme, self.bucket, self.path.rpartition("/")[0])

    def inside(self, path: str) -> RemoteUrl:
        """What lies in it."""
        return RemoteUrl(self.scheme, self.bucket, f"{self.path}/{path}".strip("/"))


def is_url(text: str) -> bool:
    """Whether a word is a URL of anything but a local file."""
    found = _URL.fullmatch(text)
    return found is not None and found[1].lower() != "file"


def without_secrets(text: str) -> str:
    """A word as it may be shown: a URL without what may be a password or a signature."""
    found = _URL.fullmatch(text)
    if found is None or (found[1].lower() in SCHEMES and "@" not in found[2] and "?" not in found[2]):
        return text
    host, slash, path = found[2].partition("/")
    return f"{found[1]}://{host.rpartition('@')[2].partition('?')[0]}{slash}{path.partition('?')[0]}"


def remote_url(text: str) -> RemoteUrl:
    """The place that a URL names. Raises UsageError for one that is not read, with the reason."""
    found = _URL.fullmatch(text)
    assert found is not None
    scheme, rest, shown = found[1].lower(), found[2], without_secrets(text)
    if scheme in ("http", "https"):
        raise UsageError(
            f"{shown}: plain HTTP cannot be listed, and absent chunks would not be noticed: give the "
            "s3://, gs:// or az:// address of the same bucket, or copy the store to a local disk"
        )
    if scheme in _ALIASES:
        raise UsageError(f"{shown}: write it as {_ALIASES[scheme]}://BUCKET/PATH")
    if scheme not in SCHEMES:
        raise UsageError(
            f"{shown}: no store is read there: known are {', '.join(f'{known}://' for known in SCHEMES)}; "
            "copy the store to a local disk first"
        )
    bucket, _, path = rest.partition("/")
    path = path.strip("/")
    if "@" in bucket or (scheme != "s3" and "?" in rest.rpartition("/")[2] and "=" in rest):
        raise UsageError(
            f"{shown}: credentials don't belong in a URL, which results repeat: docs/remote.md says where"
        )
    if not bucket:
        raise UsageError(f"{shown}: names no bucket: write it as {scheme}://BUCKET/PATH")
    if "" in path.split("/")[1:] or {".", ".."} & set(path.split("/")):
        raise UsageError(f"{shown}: a path with '//', '.' or '..' in it: keys of a bucket are no folders")
    return RemoteUrl(scheme, bucket, path)
