"""What the stream that results go to can show, and what becomes of it when nobody reads."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from typing import IO, TextIO

_DRAWN = "▁█─…"


@dataclass(frozen=True)
class Terminal:
    """width : in columns; None for a pipe or a file, where nothing is ever shortened"""

    width: int | None = None
    color: bool = False
    rules: bool = False
    unicode: bool = True


def terminal_of(stream: TextIO, *, no_color: bool = False) -> Terminal:
    """What `stream` can show, by NO_COLOR and TERM too."""
    unicode = _carries(stream, _DRAWN)
    if not is_terminal(stream):
        return Terminal(unicode=unicode)
    capable = is_capable()
    return Terminal(
        width=shutil.get_terminal_size().columns,
        color=capable and not no_color and not os.environ.get("NO_COLOR"),
        rules=capable,
        unicode=unicode,
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches `stream`."""
    return stream is not None and not stream.closed and stream.isatty()


def is_capable() -> bool:
    """Whether terminals here understand control sequences."""
    return os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def drop_unwritten(stream: IO[str] | None) -> None:
    """Where `stream` cannot take what it still holds, let that go nowhere: Python flushes it at exit."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(OSError):
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _carries(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
