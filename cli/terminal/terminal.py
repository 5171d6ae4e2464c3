"""What the stream that results go to can show, and what becomes of it when nobody reads."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
from typing import IO, TextIO

from gradmf.gradlog.quick_dataclass import dataclass

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


class ClosedStream(io.TextIOBase):
    """Stands for a stream that the process was started without: says so to who writes."""

    def write(self, text: str) -> int:
        if str(text):
            raise closed_output()
        return 0


def closed_output() -> OSError:
    """The error of a stdout that is closed."""
    return OSError(errno.EBADF, "it is closed", "standard output")


def stand_in_for_closed() -> None:
    """Where standard streams are closed, let no file that is opened later take their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = ClosedStream()


def _carries(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
