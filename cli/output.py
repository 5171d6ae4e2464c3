"""Where results go: stdout, or a file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .options import Presentation
from .terminal import Terminal, drop_unwritten, terminal_of

FILE_ENCODING = "utf-8"
_NOT_UTF8 = "surrogateescape"
"""Paths that are no valid UTF-8 come out as the bytes that they were."""


@dataclass
class Output:
    """An open place for results. encoding : of its text; keep : whether a file is to appear at the end"""

    stream: IO[str]
    place: str
    terminal: Terminal
    encoding: str
    keep: bool = True

    def write(self, pieces: Iterable[str], *, to_the_end: bool = False) -> None:
        """Write each piece as soon as it is there.

        to_the_end : go on for the sake of what follows from the results where nobody reads them any more
        """
        for piece in pieces:
            try:
                with _naming(self.place):
                    self.stream.write(piece)
                    self.stream.flush()
            except BrokenPipeError:
                if not to_the_end:
                    raise
                drop_unwritten(self.stream)


@contextlib.contextmanager
def open_output(shown: Presentation) -> Iterator[Output]:
    """Stdout, or the file that was asked for; a file stays as it was unless the block ends well."""
    if shown.out is None:
        yield _stdout(no_color=shown.no_color)
        return
    place = str(shown.out)
    target = Path(os.path.realpath(shown.out))
    # A device or a pipe must not give way to a file.
    plain = target.is_file() or not target.exists()
    with _naming(place), _nameless_file(target.parent) if plain else _open(target, "w") as stream:
        output = Output(stream, place, Terminal(), FILE_ENCODING)
        yield output
        if plain and output.keep:
            _publish(stream, target)


def _stdout(*, no_color: bool) -> Output:
    stream = sys.stdout
    if stream is None:
        raise OSError(errno.EBADF, "it is closed", "standard output")
    if hasattr(stream, "reconfigure"):
        # A name that the encoding cannot carry comes out escaped.
        stream.reconfigure(errors="backslashreplace")
    return Output(
        stream, "standard output", terminal_of(stream, no_color=no_color), stream.encoding or FILE_ENCODING
    )


def _nameless_file(folder: Path) -> IO[str]:
    """A file that nobody sees and that is gone when the program is, however it ends."""
    return tempfile.TemporaryFile("w+", dir=folder, encoding=FILE_ENCODING, errors=_NOT_UTF8, newline="")


def _open(path: Path, mode: str) -> IO[str]:
    return path.open(mode, encoding=FILE_ENCODING, errors=_NOT_UTF8, newline="")


def _publish(held: IO[str], target: Path) -> None:
    """Put the text of `held` at `target` in one step, with the rights of what was there before."""
    held.seek(0)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with _open(temporary, "x") as file:
            shutil.copyfileobj(held, file)
            file.flush()
            os.fsync(file.fileno())  # a machine that stops must not leave the name with half of the text
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _naming(place: str) -> Iterator[None]:
    """Let an error of the system that names no place name this one."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), place) from error
