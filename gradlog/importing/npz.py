"""Files .npz of NumPy, one a training step."""

from __future__ import annotations

import contextlib
import functools
import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, first_line
from .snapshot import Contents, Kind, Snapshot, Values, is_scalar_name, native, numpy_kind

_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a member of a zip archive: signature, length of the name, length of the extra field."""


_HEADER_BYTES = 1 << 12
"""More than the headers of arrays have."""


class NpzFile(Snapshot):
    """An archive of arrays. Those that are not compressed are mapped; checksums of all are looked at."""

    def __init__(self, path: str) -> None:
        self.place = path

    def contents(self) -> Contents:
        """What it holds, without reading entries. Raises DataError that names it."""
        tensors: dict[str, Kind] = {}
        left_out: dict[str, str] = {}
        scalars: dict[str, float] = {}
        with self._members() as (members, archive, mapped):
            for name, info in members.items():
                with self._naming(name):
                    start = _first_bytes(archive, mapped, info)
                    shape, dtype, _, first = _header(start)
                    if dtype.hasobject:
                        left_out[name] = "Python objects, which are not loaded"
                        continue
                    kind = numpy_kind(shape, dtype)
                    if not shape and is_scalar_name(name) and kind.is_plain:
                        scalars[name] = np.frombuffer(start, dtype, 1, first)[0].item()
                    else:
                        tensors[name] = kind
        return Contents.with_scalars(tensors, scalars, left_out)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Values]:
        """Its entries, for as long as the block lasts."""
        with self._members() as (members, archive, mapped):

            def values(name: str) -> NDArray[Any]:
                info = members[name]
                with self._naming(name):
                    shape, dtype, fortran, first = _header(_first_bytes(archive, mapped, info))
                    if info.compress_type == zipfile.ZIP_STORED:
                        entries = _checked_bytes(mapped, info)[first:].view(dtype)
                    else:
                        entries = np.empty(Kind(shape, dtype.name).entries, dtype)
                        with archive.open(info) as member:
                            member.read(first)
                            _read_whole(member, entries.view(np.uint8))
                    return native(entries.reshape(shape, order="F" if fortran else "C"))

            yield values

    @contextlib.contextmanager
    def _members(self) -> Iterator[tuple[dict[str, zipfile.ZipInfo], zipfile.ZipFile, Any]]:
        """Members by the names of their arrays, the archive, and all of its bytes, uint8."""
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(Path(self.place).open("rb"))
            try:
                archive = stack.enter_context(zipfile.ZipFile(file))
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
            except (zipfile.BadZipFile, ValueError, OSError) as error:
                raise self.fault(
                    f"no .npz file that can be read (cut short?): {first_line(error)}"
                ) from error
            yield members, archive, mapped

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError) as error:
            raise self.fault(f"array '{name}' cannot be read: {first_line(error)}") from error


def _first_bytes(archive: zipfile.ZipFile, mapped: Any, info: zipfile.ZipInfo) -> bytes:
    """The header of an array and what follows, as far as any header reaches."""
    if info.compress_type == zipfile.ZIP_STORED:
        found: bytes = _stored_bytes(mapped, info)[:_HEADER_BYTES].tobytes()
        return found
    with archive.open(info) as member:
        return member.read(_HEADER_BYTES)


def _header(start: bytes) -> tuple[tuple[int, ...], np.dtype[Any], bool, int]:
    """Shape, dtype, whether entries are in Fortran order, and where the first of them lies."""
    wide = 2 if start[6:7] == b"\x01" else 4
    first = 8 + wide + int.from_bytes(start[8 : 8 + wide], "little")
    return (*_parsed(start[:first]), first)


@functools.lru_cache(maxsize=1 << 14)
def _parsed(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Arrays of one name have the same header in every file."""
    stream = io.BytesIO(header)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return shape, dtype, fortran


def _checked_bytes(mapped: Any, info: zipfile.ZipInfo) -> Any:
    stored = _stored_bytes(mapped, info)
    if zlib.crc32(stored) != info.CRC:
        raise zipfile.BadZipFile("its checksum is wrong")
    return stored


def _stored_bytes(mapped: Any, info: zipfile.ZipInfo) -> Any:
    """(bytes,) uint8 of a member that is not compressed. mapped : all bytes of the archive"""
    header = mapped[info.header_offset : info.header_offset + _LOCAL_HEADER.size].tobytes()
    if len(header) < _LOCAL_HEADER.size:
        raise zipfile.BadZipFile("the archive is cut short")
    signature, name, extra = _LOCAL_HEADER.unpack(header)
    first = info.header_offset + _LOCAL_HEADER.size + name + extra
    found = mapped[first : first + info.file_size]
    if signature != b"PK\x03\x04" or found.size != info.file_size:
        raise zipfile.BadZipFile("the archive is cut short")
    return found


def _read_whole(member: IO[bytes], out: Any) -> None:
    """Fill `out`, (bytes,) uint8."""
    done = 0
    view = memoryview(out)
    while done < out.size:
        count = member.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("it ends too early")
        done += count
    if member.read(1):  # which also lets the checksum be looked at
        raise ValueError("it holds more than its header says")
