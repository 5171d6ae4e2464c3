"""Objects of a log that is being written, each a file that is replaced whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .whole_file import named

PARTIAL = ".partial"
"""End of the names of what a process that died was still writing; nothing by such a name is part of a log."""

Bytes: TypeAlias = "bytes | NDArray[np.uint8]"


def put_object(path: str, pieces: Sequence[Bytes], durable: bool) -> None:
    """Put one object in its place, whole: a kill leaves the old one or the new one.

    path : of the file; folders above it are made; pieces : its bytes, one after the other
    durable : the bytes are on the disk, and not on their way to it, before the name is

    Raises OSError that names `path` when the system refuses; what was there is as it was.
    """
    beside = path + PARTIAL
    try:
        try:
            file = _create(beside)
        except FileNotFoundError:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            file = _create(beside)
        try:
            _write(file, pieces)
            if durable:
                os.fsync(file)
        finally:
            os.close(file)
        os.replace(beside, path)  # noqa: PTH105 (fast)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(beside).unlink()
        if isinstance(error, OSError):
            raise named(error, path) from error
        raise


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)


def _write(file: int, pieces: Sequence[Any]) -> None:
    left = [memoryview(piece) for piece in pieces]
    while left:
        written = os.writev(file, left) if hasattr(os, "writev") else os.write(file, left[0])
        while left and written >= left[0].nbytes:
            written -= left.pop(0).nbytes
        if left and written:
            left[0] = left[0][written:]
