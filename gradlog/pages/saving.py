"""Reports as files: which endings there are, and files that appear whole or not at all."""

from __future__ import annotations

import os

from ..logs.places.finding import place_of
from ..naming import ending_of
from .library import load

ENDINGS = (".html", ".htm")
RULE = "a report is written to .html"
LIBRARIES = ("jinja2", "matplotlib")


def save_report(page: str, path: str | os.PathLike[str]) -> None:
    """Write a page of `report`, whole or not at all; a file that was there is replaced.

    Raises UsageError for another ending than .html or .htm, and OSError that names the path where the system
    refuses.
    """
    ending_of(path, ENDINGS, RULE)
    with place_of(path).whole_file() as file:
        file.write(page.encode("utf-8"))


def check_report(path: str | os.PathLike[str] | None = None) -> None:
    """Raise UsageError for what `report` and `save_report` would refuse, before anything is analyzed.

    path : of the file, None where there is none
    """
    if path is not None:
        ending_of(path, ENDINGS, RULE)
    for library in LIBRARIES:
        load(library)
    if path is not None:
        place_of(path).check_file()
