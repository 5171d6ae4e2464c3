"""Documents as JSON: one, a list, or one a line."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rendering import Page, Views

PIECE = 1 << 20
"""Characters of a piece, about."""


def write_document(results: Iterable[Any], views: Views[Any], page: Page) -> Iterator[str]:
    """One document: of the only result, or a list of those of several."""
    return write_json(map(views.document, results), page.encoding, several=page.several)


def write_lines(results: Iterable[Any], views: Views[Any], page: Page) -> Iterator[str]:
    """A document a line."""
    return write_json_lines(map(views.line or views.document, results), page.encoding)


def write_json(documents: Iterable[dict[str, Any]], encoding: str, *, several: bool) -> Iterator[str]:
    """Pieces of indented JSON: a list of the documents when `several`, else the only one."""
    if not several:
        for document in documents:
            yield from _joined(_indented(document, 0, encoding))
            yield "\n"
        return
    opening = "["
    for document in documents:
        yield f"{opening}\n"
        yield from _joined(_indented(document, 0, encoding))
        opening = ","
    yield "\n]\n" if opening == "," else "[]\n"


def write_json_lines(documents: Iterable[dict[str, Any]], encoding: str) -> Iterator[str]:
    """Each document on a line of its own."""
    for document in documents:
        yield _dump(document, encoding) + "\n"  # one call: pieces take four times as long


def _joined(texts: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def _indented(value: Any, level: int, encoding: str) -> Iterator[str]:
    """What `json.dumps(value, indent=2)` gives, in pieces: a long series never stands there whole as text
    of single numbers, and is written by encoders in C, which know no such indentation."""
    inner, outer = "\n" + "  " * (level + 1), "\n" + "  " * level
    if isinstance(value, dict) and value:
        before = "{"
        for key, item in value.items():
            yield f"{before}{inner}{_key(key, encoding)}: "
            yield from _indented(item, level + 1, encoding)
            before = ","
        yield outer + "}"
    elif isinstance(value, list) and value and (types := set(map(type, value))) <= _NUMBERS:
        if types <= _FLOATS:
            import orjson  # five times as fast: the time that the analysis of a long log ends with

            numbers = orjson.dumps(value).decode()
        else:
            numbers = _dump(value, encoding)
        yield f"[{inner}{numbers[1:-1].replace(',', ',' + inner)}{outer}]"
    elif isinstance(value, list) and value:
        before = "["
        for item in value:
            yield before + inner
            yield from _indented(item, level + 1, encoding)
            before = ","
        yield outer + "]"
    else:
        yield _dump(value, encoding)


_FLOATS = {float, type(None)}
_NUMBERS = {int, float, type(None)}


@functools.lru_cache(maxsize=1024)
def _key(key: str, encoding: str) -> str:
    return _dump(key, encoding)


@functools.cache
def _encoder(ensure_ascii: bool) -> json.JSONEncoder:
    # `json.dumps` makes one for each value.
    return json.JSONEncoder(separators=(",", ":"), ensure_ascii=ensure_ascii, allow_nan=False)


def _dump(value: Any, encoding: str) -> str:
    text = _encoder(False).encode(value)
    if type(value) in _NUMBERS:
        return text
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        # Escapes say the same in any encoding.
        return _encoder(True).encode(value)
    return text
