"""Documents as JSON: one, a list, or one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any


def write_json(documents: Iterable[dict[str, Any]], encoding: str, *, several: bool) -> Iterator[str]:
    """Pieces of indented JSON: a list of the documents when `several`, else the only one."""
    if not several:
        for document in documents:
            yield _dump(document, encoding, indent=2) + "\n"
        return
    opening = "["
    for document in documents:
        yield f"{opening}\n{_dump(document, encoding, indent=2)}"
        opening = ","
    yield "\n]\n" if opening == "," else "[]\n"


def write_json_lines(documents: Iterable[dict[str, Any]], encoding: str) -> Iterator[str]:
    """Each document on a line of its own."""
    for document in documents:
        yield _dump(document, encoding, indent=None) + "\n"


def _dump(document: dict[str, Any], encoding: str, indent: int | None) -> str:
    separators = (",", ":") if indent is None else None
    text = json.dumps(document, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        # Escapes say the same in any encoding.
        return json.dumps(document, indent=indent, separators=separators, ensure_ascii=True, allow_nan=False)
    return text
