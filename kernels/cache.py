"""Where compiled kernels are kept between processes, and the lock under which they are compiled."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

_TEMPORARY = ("/tmp", "/var/tmp")
LOCK_WAIT_SECONDS = 120.0
"""A kernel compiles in seconds; past this wait the holder is taken for dead and compiling goes on."""


def user() -> int | None:
    """The number of the user whom new files belong to; None where users have none."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def is_own(found: os.stat_result) -> bool:
    """Whether nobody else can have written what is there: machine code is run as it is."""
    return user() is None or (found.st_uid == user() and not found.st_mode & 0o022)


def _cache_folder() -> Path | None:
    """The folder for compiled kernels, by version; None where nothing can be written."""
    name = f"numba-{version('numba')}-py{sys.version_info.major}.{sys.version_info.minor}"
    asked = os.environ.get("NUMBA_CACHE_DIR")
    home = _home_of_caches()
    with contextlib.suppress(OSError):  # there may be no working directory
        if asked:
            return _writable(Path(asked).absolute()) or _own_temporary_folder(name)
    return (home and _writable(home / "gradmf" / name)) or _own_temporary_folder(name)


def _home_of_caches() -> Path | None:
    """None for users without a home, as in containers."""
    asked = os.environ.get("XDG_CACHE_HOME", "")
    if Path(asked).is_absolute():  # its specification wants others ignored
        return Path(asked)
    try:
        home = Path("~").expanduser()
    except RuntimeError:  # no HOME, and no user of this number
        return None
    return home / ".cache" if home.is_absolute() and os.environ.get("HOME") != "" else None


def _own_temporary_folder(name: str) -> Path | None:
    """For homes that cannot be written, as in containers and batch jobs; never one that others can write."""
    if user() is None:
        return None
    for place in (os.environ.get("TMPDIR", ""), *_TEMPORARY):
        base = Path(place) / f"gradmf-{user()}"
        with contextlib.suppress(OSError):
            if not base.is_absolute():
                continue
            base.mkdir(mode=0o700, exist_ok=True)
            found = base.lstat()
            if stat.S_ISDIR(found.st_mode) and is_own(found) and not found.st_mode & 0o077:
                folder = _writable(base / name)
                if folder is not None:
                    return folder
    return None


def _writable(folder: Path) -> Path | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # Some file systems don't tell whose a file is: then machine code found there is never trusted.
            return folder if is_own(os.fstat(file.fileno())) else None
    except OSError:
        return None


CACHE_FOLDER = _cache_folder()


@contextlib.contextmanager
def compile_lock() -> Iterator[None]:
    """One process compiles while the others wait for what it leaves in the cache.

    Numba's cache index is rewritten without a lock: two processes that save different signatures at
    once can give both the same file, and later load machine code of the wrong type.
    """
    if CACHE_FOLDER is None or sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        descriptor = os.open(CACHE_FOLDER / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError:
        yield
        return
    try:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(descriptor)
