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

LOCK_WAIT_SECONDS = 120.0
"""A kernel compiles in seconds; past this wait the holder is taken for dead and compiling goes on."""


def _cache_folder() -> Path | None:
    """The folder for compiled kernels, by version; None where nothing can be written."""
    own = os.environ.get("NUMBA_CACHE_DIR")
    if own:
        return _writable(Path(own))
    name = f"numba-{version('numba')}-py{sys.version_info.major}.{sys.version_info.minor}"
    root = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return _writable(Path(root) / "gradmf" / name) or _own_temporary_folder(name)


def _own_temporary_folder(name: str) -> Path | None:
    """For homes that cannot be written, as in containers and batch jobs; never one that others can write."""
    if not hasattr(os, "getuid"):
        return None
    base = Path(tempfile.gettempdir()) / f"gradmf-{os.getuid()}"
    with contextlib.suppress(OSError):
        base.mkdir(mode=0o700, exist_ok=True)
        found = base.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return _writable(base / name)
    return None


def _writable(folder: Path) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
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
        descriptor = os.open(CACHE_FOLDER / "lock", os.O_RDWR | os.O_CREAT, 0o666)
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
