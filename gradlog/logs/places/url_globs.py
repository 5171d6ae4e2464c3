"""Runs by a pattern in a URL: `s3://bucket/sweep/*.zarr`, a listing for every folder that is looked into."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from .access import current_access
from .remote_url import RemoteUrl, is_url, remote_url

_MAGIC = re.compile(r"[*?\[]")


def is_pattern(text: str) -> bool:
    """Whether a word is a URL with a pattern behind the bucket."""
    return is_url(text) and _MAGIC.search(text.partition("://")[2].partition("/")[2]) is not None


def matching_urls(text: str) -> list[str]:
    """URLs of the folders and objects that match, sorted. text : as of `is_pattern`

    `*`, `?` and `[abc]` stand for parts of a name, as in a shell: none for a slash.

    Raises UsageError for URLs that are not read, DataError where a service refuses.
    """
    from .url_place import UrlPlace

    pattern = remote_url(text)
    found = [RemoteUrl(pattern.scheme, pattern.bucket, "")]
    parts = pattern.path.split("/")
    for number, part in enumerate(parts):
        if not _MAGIC.search(part):
            found = [url.inside(part) for url in found]
            continue
        last = number == len(parts) - 1
        found = [
            url.inside(entry.name)
            for url in found
            for entry in UrlPlace(url, current_access()).entries()
            if fnmatchcase(entry.name, part) and (last or entry.size is None)
        ]
    if not _MAGIC.search(parts[-1]):
        found = [url for url in found if UrlPlace(url, current_access()).exists()]
    return sorted(map(str, found))
