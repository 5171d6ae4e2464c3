"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def is_replaced(path: str | os.PathLike[str]) -> bool:
    """Whether writing to `path` replaces a file or makes one; a device or a pipe is written to instead."""
    place = Path(path)
    return place.is_file() or not place.exists()


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A stream whose bytes stand at `path` in one step when the block ends well.

    A file that was there leaves its rights to the new one.

    Raises OSError that names `path` where the system refuses.
    """
    if not is_replaced(path):
        with Path(path).open("wb") as stream:
            yield stream
        return
    target = Path(os.path.realpath(path))
    # Not by the number of the process: in a container that of the next is the same, and would be in its way.
    temporary = target.with_name(f".gradmf-{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # a machine that stops must not leave the name with half of the bytes
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
        raise
