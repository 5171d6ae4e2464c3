"""Files and folders that appear whole or not at all: made under a name beside their own, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def in_one_step(temporary: Path, target: Path) -> Iterator[None]:
    """Let the file that the block makes at `temporary` take the place of `target` once the block ends well.

    Else it is removed. Both lie in one file system.
    """
    try:
        yield
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


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
    temporary = _beside(target)
    try:
        with in_one_step(temporary, target):
            with temporary.open("xb") as stream:
                yield stream
                stream.flush()
                # A machine that stops must not leave the name with half of the bytes.
                os.fsync(stream.fileno())
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    except OSError as error:
        raise named(error, path) from error


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str], temporary: Path | None = None) -> Iterator[Path]:
    """A folder for the block to fill, which stands at `path` in one step when the block ends well.

    Nothing is at `path` before, nor after a block that did not end well. Until then nobody else sees into
    the folder, and errors of the system that come from within it name `path`.

    temporary : where it is filled, in the same file system; by default beside `path`
    """
    target = Path(path).absolute()
    folder = temporary or _beside(target)
    moving = False
    try:
        folder.mkdir()
        rights = stat.S_IMODE(folder.stat().st_mode)
        folder.chmod(stat.S_IRWXU)
        yield folder
        folder.chmod(rights)
        moving = True
        folder.rename(target)
    except BaseException as error:
        if moving and not folder.exists():  # interrupted behind the last step
            with contextlib.suppress(OSError):
                target.rename(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and str(folder) in str(error.filename):
            raise named(error, path) from error
        raise


def is_replaced(path: str | os.PathLike[str]) -> bool:
    """Whether writing to `path` replaces a file or makes one; a device or a pipe is written to instead."""
    place = Path(path)
    return place.is_file() or not place.exists()


def named(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """The same error of the system, told of `path`."""
    return OSError(error.errno, error.strerror or str(error), os.fspath(path))


def _beside(target: Path) -> Path:
    # Not by the number of the process: in a container that of the next is the same, and would be in its way.
    return target.with_name(f".gradmf-{os.urandom(8).hex()}.tmp")
