"""Where results go: stdout, or a file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from gradmf.gradlog.logs.places.files_beside import FilesBeside
from gradmf.gradlog.logs.places.finding import place_of
from gradmf.gradlog.logs.places.local_place import LocalPlace
from gradmf.gradlog.logs.whole_file import is_replaced, named
from gradmf.gradlog.quick_dataclass import dataclass

from .terminal import ClosedStream, Terminal, closed_output, drop_unwritten, terminal_of

if TYPE_CHECKING:
    from ..options.showing import Presentation

FILE_ENCODING = "utf-8"
_NOT_UTF8 = "surrogateescape"
"""Paths that are no valid UTF-8 come out as the bytes that they were."""


@dataclass
class Output:
    """An open place for results. encoding : of its text; keep : whether a file is to appear at the end

    beside : takes files that are to stand beside that file; None where there is none, as on stdout
    """

    stream: TextIO
    place: str
    terminal: Terminal
    encoding: str
    keep: bool = True
    beside: FilesBeside | None = None

    def write(self, pieces: Iterable[str], *, to_the_end: bool = False) -> None:
        """Write each piece as soon as it is there.

        to_the_end : go on for the sake of what follows from the results where nobody reads them any more
        """
        for piece in pieces:
            try:
                with naming(self.place):
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
    place, target = shown.out, place_of(shown.out)
    target.check_file()
    local = target.path if isinstance(target, LocalPlace) else None
    with naming(place):
        plain = local is None or is_replaced(local)
        stream = _nameless_file(local) if plain else _open(cast("Path", local))
    beside = FilesBeside(target)
    output = Output(stream, place, Terminal(), FILE_ENCODING, beside=beside if plain else None)
    try:
        yield output
        if plain and output.keep:
            with naming(place), beside.removed_on_failure(), target.whole_file() as file:
                stream.flush()
                stream.seek(0)
                shutil.copyfileobj(stream.buffer, file)
                beside.put(file)  # whose name comes last
    finally:
        beside.close()
        with naming(place):
            stream.close()


def _stdout(*, no_color: bool) -> Output:
    stream = sys.stdout
    if stream is None or isinstance(stream, ClosedStream):
        raise closed_output()  # before all the work
    if hasattr(stream, "reconfigure"):
        # A name that the encoding cannot carry comes out escaped.
        stream.reconfigure(errors="backslashreplace")
    return Output(
        stream, "standard output", terminal_of(stream, no_color=no_color), stream.encoding or FILE_ENCODING
    )


def _nameless_file(path: Path | None) -> TextIO:
    """A file beside `path` that nobody sees and that is gone when the program is, however it ends."""
    folder = None if path is None else Path(os.path.realpath(path)).parent
    try:
        return cast(
            "TextIO",
            tempfile.TemporaryFile("w+", dir=folder, encoding=FILE_ENCODING, errors=_NOT_UTF8, newline=""),
        )
    except OSError as error:
        raise named(error, path or tempfile.gettempdir()) from error


def _open(path: Path) -> TextIO:
    return path.open("w", encoding=FILE_ENCODING, errors=_NOT_UTF8, newline="")


@contextlib.contextmanager
def naming(place: str) -> Iterator[None]:
    """Let an error of the system that names no place, or a hidden file beside this one, name this one."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError) or hasattr(error, "exit_code"):
            raise
        culprit = "" if error.filename is None else str(error.filename)
        if culprit and f"{os.sep}.{Path(place).name}." not in culprit:
            raise
        raise named(error, place) from error
