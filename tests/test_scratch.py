"""Scratch files: read from as from the log, whose chunks are decoded once; and nothing stays behind."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import add_array, foreign_store
from sweeps import sweep
from zarr.codecs import ZstdCodec

from gradmf import gradlog
from gradmf.gradlog.errors import UsageError
from gradmf.gradlog.logs import scratch as module
from gradmf.gradlog.logs.log import Tensor
from gradmf.gradlog.logs.scratch import Scratch, ScratchError, band_bytes, bytes_needed

Box = tuple[slice, ...]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Counted(Tensor):
    """A tensor in memory that counts the entries of it that are read, and waits where it is told to."""

    array: Array
    chunk: tuple[int, ...]
    counts: Array = field(repr=False)
    wait: threading.Event | None = None
    started: threading.Event = field(default_factory=threading.Event, repr=False)

    @classmethod
    def of(cls, array: Array, chunk: Sequence[int], **options: Any) -> Counted:
        return cls("w", array, tuple(chunk), np.zeros(array.shape, int), **options)

    @property
    def rows(self) -> int:
        return len(self.array)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]

    @property
    def dtype(self) -> str:
        return str(self.array.dtype)

    @property
    def chunks(self) -> tuple[int, ...]:
        return self.chunk

    def read(self, rows: tuple[int, int], box: Box, out: Array, room: int = 0) -> None:  # noqa: ARG002
        self.started.set()
        if self.wait is not None:
            self.wait.wait()
        where = (slice(*rows), *box)
        self.counts[where] += 1
        out[...] = self.array[where].reshape(out.shape)


@pytest.fixture(autouse=True)
def no_open_files() -> Iterator[None]:
    """Every scratch file is closed, whatever happens in a test."""
    streams: list[Any] = []
    original = tempfile.TemporaryFile

    def opened(*given: Any, **options: Any) -> Any:
        streams.append(original(*given, **options))
        return streams[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", opened)
        yield
    assert all(stream.closed for stream in streams)


def noise(rows: int, shape: Sequence[int], dtype: str = "float32") -> Array:
    return np.random.default_rng(1).standard_normal((rows, *shape)).astype(dtype)


def whole(tensor: Tensor) -> Box:
    return tuple(slice(0, extent) for extent in tensor.shape)


def read(tensor: Tensor, rows: tuple[int, int], box: Box, dtype: Any = None) -> Array:
    width = int(np.prod([part.stop - part.start for part in box], dtype=int))
    out = np.full((rows[1] - rows[0], width), -1, dtype or tensor.compute_dtype)
    tensor.read(rows, box, out)
    return out


def capacity(*tensors: Tensor) -> int:
    return bytes_needed([[(tensor, whole(tensor)) for tensor in tensors]], (0, tensors[0].rows))


ENTRIES = ("<f2", "<f4", "<f8", ">f4", "bfloat16", "complex64", "packed")


def add(group: zarr.Group, kind: str, rows: int, shape: Sequence[int], **options: Any) -> None:
    """An array `w` of some kind of entries."""
    values = noise(rows, shape, "float64")
    if kind == "bfloat16":
        bits = (values.astype("f4").view(np.uint32) >> 16).astype(np.uint16)
        add_array(group, "w", bits, attributes={"gradlog": {"dtype": kind}}, **options)
    elif kind == "packed":
        integers = (100 * values).astype("i2")
        attributes = {"scale_factor": 0.5, "add_offset": 3.0, "_FillValue": 7}
        add_array(group, "w", integers, attributes=attributes, **options)
    elif kind == "complex64":
        add_array(group, "w", (values + 1j * values[::-1]).astype(kind), **options)
    else:
        add_array(group, "w", values.astype(kind), **options)


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(ENTRIES))
    rows = draw(st.integers(1, 9))
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple))
    chunks = tuple(draw(st.integers(1, extent + 1)) for extent in (rows, *shape))
    options: dict[str, Any] = {"chunks": chunks}
    zarr_format = draw(st.sampled_from((2, 3)))
    if zarr_format == 3:
        options["compressors"] = draw(st.sampled_from((None, ZstdCodec(level=1))))
        if draw(st.booleans()):
            options["shards"] = tuple(draw(st.integers(1, 2)) * chunk for chunk in chunks)
    elif draw(st.booleans()):
        options["compressors"] = None
    if zarr_format == 3 and kind == ">f4":
        kind = "<f4"
    return {"zarr_format": zarr_format, "kind": kind, "rows": rows, "shape": shape, **options}


def spans(extent: int) -> st.SearchStrategy[tuple[int, int]]:
    """(first, last + 1) of some, at least one, of so many."""
    return st.tuples(st.integers(0, extent - 1), st.integers(1, extent)).map(
        lambda pair: (min(pair[0], pair[1] - 1), max(pair[0] + 1, pair[1]))
    )


@settings(max_examples=sweep(150), deadline=None)
@given(layout=layouts(), data=st.data())
def test_as_read_from_the_log(layout: dict[str, Any], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PANEL_BYTES", data.draw(st.sampled_from((8, 24, 16 << 10))))
        patch.setattr(module, "BAND_BYTES", data.draw(st.sampled_from((1, 16 << 20))))
        patch.setattr(module, "READ_BYTES", data.draw(st.sampled_from((1, 1 << 20))))
        patch.setattr(module, "ROWS_AT_ONCE", data.draw(st.sampled_from((2, 1024))))
        path = Path(folder) / "run.zarr"
        group = zarr.open_group(path, mode="w", zarr_format=layout.pop("zarr_format"))
        add(group, **layout)
        log = gradlog.open_log(path, gradients=["w"])
        (tensor,) = log.tensors
        held = data.draw(spans(log.rows))
        limit = data.draw(st.sampled_from((0, capacity(tensor))))
        with Scratch(folder, limit, [f"file://{path}"]) as scratch:
            kept = scratch.hold(tensor, held)
            assert (kept.shape, kept.chunks, kept.dtype) == (tensor.shape, tensor.chunks, tensor.dtype)
            assert kept.read_in_part
            assert not kept.compressed
            for _ in range(3):
                first, last = data.draw(spans(held[1] - held[0]))
                rows = (held[0] + first, held[0] + last)
                box = tuple(slice(*data.draw(spans(extent))) for extent in tensor.shape)
                dtype = data.draw(st.sampled_from((tensor.compute_dtype, np.dtype(np.float64))))
                wanted = read(tensor, rows, box, dtype)
                beside = data.draw(st.integers(0, 2))
                out = np.full((len(wanted), wanted.shape[1] + 2 * beside), 5, dtype)
                kept.read(rows, box, out[:, beside : beside + wanted.shape[1]], 0)
                np.testing.assert_array_equal(out[:, beside : beside + wanted.shape[1]], wanted)
                assert (out[:, :beside] == 5).all()
                assert (out[:, beside + wanted.shape[1] :] == 5).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_pieces_of_large_cells(tmp_path: Path, dtype: str) -> None:
    """Panels of the size that they have, and reads that cross them."""
    values = noise(70, (3, 21_000), dtype)
    tensor = Counted.of(values, (8, 1, 20_000))
    with Scratch(tmp_path, capacity(tensor)) as scratch:
        kept = scratch.hold(tensor, (0, 70))
        for first, last in ((0, 4096), (4096, 12_288), (12_000, 20_003), (20_003, 21_000), (0, 21_000)):
            box = (slice(0, 3), slice(first, last))
            np.testing.assert_array_equal(read(kept, (0, 70), box), read(tensor, (0, 70), box))
            np.testing.assert_array_equal(read(kept, (5, 41), box), read(tensor, (5, 41), box))
        assert scratch.written == values.nbytes == kept.entry_bytes * values.size


def test_of_infinities_and_nan_nothing_is_lost(tmp_path: Path) -> None:
    values = np.array([[np.inf, -np.inf, np.nan, -0.0, 6e-8, 65504]], "f2")
    path = foreign_store(tmp_path / "run.zarr", {"a": values, "b": values.astype("f4"), "c": values})
    bits = np.array([[0x7F80, 0xFF80, 0x7FC0, 0x8000, 1, 0x7F7F]], np.uint16)
    add_array(zarr.open_group(path), "d", bits, attributes={"gradlog": {"dtype": "bfloat16"}})
    tensors = gradlog.open_log(path, gradients=["*"]).tensors
    with Scratch(tmp_path, capacity(*tensors)) as scratch:
        for tensor in tensors:
            kept = scratch.hold(tensor, (0, 1))
            wanted, found = read(tensor, (0, 1), whole(tensor)), read(kept, (0, 1), whole(tensor))
            np.testing.assert_array_equal(found, wanted)
            np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))
    assert [scratch.hold(tensor, (0, 1)).entry_bytes for tensor in tensors] == [2, 4, 2, 2]


def cells(tensor: Tensor) -> list[Box]:
    """Boxes of the grid."""
    axes = (
        [slice(at, min(at + size, extent)) for at in range(0, extent, size)]
        for size, extent in zip(tensor.chunks[1:], tensor.shape, strict=True)
    )
    return list(product(*axes))


def halves(box: Box) -> list[Box]:
    first, *rest = box
    middle = (first.start + first.stop) // 2
    return [(slice(*ends), *rest) for ends in ((first.start, middle), (middle, first.stop))]


def test_every_chunk_is_decoded_once(tmp_path: Path) -> None:
    """Cell after cell in pieces, in memory for one: its room is used again."""
    tensor = Counted.of(noise(23, (9, 6)), (5, 4, 6))
    rows = (3, 21)
    pieces = [[(tensor, half)] for box in cells(tensor) for half in halves(box)]
    assert bytes_needed(pieces, rows) == 18 * 24 * 4
    with Scratch(tmp_path, bytes_needed(pieces, rows)) as scratch:
        kept = scratch.hold(tensor, rows)
        for ((_, box),) in pieces:
            for block in ((3, 10), (10, 21)):
                np.testing.assert_array_equal(read(kept, block, box), read(tensor, block, box))
                tensor.counts[slice(*block), *box] -= 1
        assert (tensor.counts[3:21] == 1).all()
        assert not tensor.counts[:3].any()
        assert not tensor.counts[21:].any()
        assert scratch.written == 18 * 54 * 4
        read(kept, rows, cells(tensor)[0])  # which had to give way
        assert tensor.counts.max() == 2


def test_cells_that_are_read_together_stay(tmp_path: Path) -> None:
    tensor = Counted.of(noise(23, (9, 6)), (5, 4, 6))
    assert bytes_needed([[(tensor, whole(tensor))]], (0, 23)) == tensor.array.nbytes
    assert bytes_needed([[(tensor, (slice(3, 5), slice(1, 2)))]], (0, 23)) == 23 * 8 * 6 * 4
    assert bytes_needed([], (0, 23)) == 0
    with Scratch(tmp_path, tensor.array.nbytes) as scratch:
        kept = scratch.hold(tensor, (0, 23))
        for first in range(0, 23, 5):
            read(kept, (first, min(first + 5, 23)), whole(tensor))
    assert (tensor.counts == 1).all()


def test_several_tensors_share_the_folder(tmp_path: Path) -> None:
    tensors = [Counted.of(noise(12, (5,)) + number, (4, 5)) for number in range(3)]
    with Scratch(tmp_path, capacity(*tensors)) as scratch:
        held = [scratch.hold(tensor, (0, 12)) for tensor in tensors]
        for _ in range(2):
            for kept, tensor in zip(held, tensors, strict=True):
                np.testing.assert_array_equal(read(kept, (0, 12), (slice(0, 5),)), tensor.array)
    assert all((tensor.counts == 1).all() for tensor in tensors)


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_threads(tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """They read at once, whether or not the file that one reads gives way meanwhile."""
    monkeypatch.setattr(module, "PANEL_BYTES", 32)
    tensor = Counted.of(noise(40, (30, 20)), (7, 10, 10))
    values = tensor.array

    def work(seed: int) -> bool:
        rng, right = np.random.default_rng(seed), True
        for _ in range(60):
            ends = [np.sort(rng.choice(extent + 1, 2, replace=False)) for extent in values.shape]
            rows, *box = (slice(int(first), int(last)) for first, last in ends)
            found = read(kept, (rows.start, rows.stop), tuple(box))
            right &= np.array_equal(found, values[rows, *box].reshape(found.shape))
        return right

    with Scratch(tmp_path, int(share * capacity(tensor))) as scratch, ThreadPoolExecutor(4) as pool:
        kept = scratch.hold(tensor, (0, 40))
        assert all(pool.map(work, range(4)))
    if share == 1:
        assert (tensor.counts == 1).all()


def test_memory_is_that_of_a_band(tmp_path: Path) -> None:
    tensor = Counted.of(noise(64, (400, 1000)), (2, 400, 1000))
    room = 30 << 20
    assert band_bytes(tensor, 0) == 2 * 400_000 * 4
    with Scratch(tmp_path, capacity(tensor)) as scratch:
        kept = scratch.hold(tensor, (0, 64))
        out = np.empty((64, 1000), "f4")
        tracemalloc.start()
        kept.read((0, 64), (slice(0, 1), slice(0, 1000)), out, room)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert 2 * 400_000 * 4 < band_bytes(tensor, room) <= peak + (4 << 20)
    assert peak < band_bytes(tensor, room) + (4 << 20)
    assert (tensor.counts == 1).all()


# No room, and folders that are lost.


def lines(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def test_no_room_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"f_bavail": 10, "f_frsize": 4096, "f_blocks": 100, "f_bfree": 50})
    monkeypatch.setattr(os, "statvfs", lambda _: usage)
    with pytest.raises(ScratchError) as caught, Scratch(tmp_path, 41_000):
        pass
    assert lines(caught.value) == f"scratch folder {tmp_path}: 41,000 bytes are needed, 40,960 are free"
    assert caught.value.exit_code == 1
    with Scratch(tmp_path, 40_960):
        pass


@pytest.mark.parametrize("after", [0, 3])
def test_no_room_in_the_midst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    original, calls = os.pwrite, [0]

    def full(descriptor: int, data: Any, offset: int) -> int:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(descriptor, data[:7], offset)

    monkeypatch.setattr(os, "pwrite", full)
    tensor = Counted.of(noise(6, (5,)), (2, 5))
    with Scratch(tmp_path, 120) as scratch, pytest.raises(ScratchError) as caught:
        read(scratch.hold(tensor, (0, 6)), (0, 6), (slice(0, 5),))
    found = lines(caught.value)
    assert found.startswith(f"scratch folder {tmp_path}: No space left on device after 0 bytes; 120 are ")
    assert found.endswith(" are free")
    assert not list(tmp_path.iterdir())


def test_a_system_that_takes_and_gives_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes and reads may stop short at any byte."""
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:7], offset))
    monkeypatch.setattr(
        os, "preadv", lambda file, views, offset: preadv(file, [memoryview(views[0]).cast("B")[:9]], offset)
    )
    monkeypatch.setattr(module, "PANEL_BYTES", 16)
    tensor = Counted.of(noise(6, (10,)), (2, 10))
    with Scratch(tmp_path, capacity(tensor)) as scratch:
        kept = scratch.hold(tensor, (0, 6))
        for box in ((slice(0, 10),), (slice(4, 8),), (slice(2, 7),)):
            np.testing.assert_array_equal(read(kept, (0, 6), box), tensor.array[:, box[0]])


def test_a_file_that_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = Counted.of(noise(6, (5,)), (2, 5))
    with Scratch(tmp_path, capacity(tensor)) as scratch:
        kept = scratch.hold(tensor, (0, 6))
        read(kept, (0, 6), (slice(0, 5),))

        def fails(*_: Any) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "preadv", fails)
        with pytest.raises(ScratchError) as caught:
            read(kept, (0, 6), (slice(0, 5),))
        assert lines(caught.value) == f"scratch folder {tmp_path}: Input/output error"
        monkeypatch.setattr(os, "preadv", lambda *_: 0)
        with pytest.raises(ScratchError, match="the file ends too early"):
            read(kept, (0, 6), (slice(0, 5),))


def test_no_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(ScratchError, match=f"scratch folder {tmp_path}/a: No such file or directory"),
        Scratch(tmp_path / "a", 1),
    ):
        pass
    (tmp_path / "b").write_text("")
    with pytest.raises(ScratchError, match=r"not a directory"), Scratch(tmp_path / "b", 1):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_not_to_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ScratchError, match="it cannot be written to"), Scratch(tmp_path, 1):
        pass
    tmp_path.chmod(0o700)


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    """A file that is open stays; for the next one there is no place."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    tensor = Counted.of(noise(6, (5,)), (2, 3))
    with Scratch(folder, capacity(tensor)) as scratch:
        kept = scratch.hold(tensor, (0, 6))
        read(kept, (0, 6), (slice(0, 3),))
        folder.rmdir()  # which is empty
        np.testing.assert_array_equal(read(kept, (0, 6), (slice(1, 3),)), tensor.array[:, 1:3])
        with pytest.raises(ScratchError) as caught:
            read(kept, (0, 6), (slice(3, 5),))
    assert lines(caught.value) == f"scratch folder {folder}: No such file or directory"


def test_never_in_the_log(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", {"w": noise(4, (3,))})
    (path / "w" / "deep").mkdir()
    (tmp_path / "link").symlink_to(path / "w")
    logs = (path, f"file://{path}", "s3://elsewhere/run.zarr")
    for folder in (path, path / "w" / "deep", tmp_path / "link" / "deep"):
        for log in logs[:2]:
            with pytest.raises(UsageError, match="it lies in the log"), Scratch(folder, 1, [log]):
                pass
    for folder in (tmp_path, tmp_path / "link" / ".." / ".."):
        with Scratch(folder, 1, logs):
            pass


def test_rows_that_are_not_held(tmp_path: Path) -> None:
    with Scratch(tmp_path, 0) as scratch:
        kept = scratch.hold(Counted.of(noise(6, (5,)), (2, 5)), (1, 5))
        for rows in ((0, 2), (3, 6)):
            with pytest.raises(ValueError, match="not among the rows"):
                read(kept, rows, (slice(0, 5),))


# However it ends.


def test_faults_of_the_log_stay_its_own(tmp_path: Path) -> None:
    values = {"w": noise(20, (8,))}
    path = foreign_store(tmp_path / "run.zarr", values, chunks=(5, 8), compressors=ZstdCodec())
    (path / "w" / "c" / "2" / "0").write_bytes(b"nothing")
    (tensor,) = gradlog.open_log(path).tensors
    (tmp_path / "scratch").mkdir()
    with (
        Scratch(tmp_path / "scratch", capacity(tensor)) as scratch,
        pytest.raises(gradlog.DataError, match="chunk 2/0 of grid 4x1"),
    ):
        read(scratch.hold(tensor, (0, 20)), (0, 20), (slice(0, 8),))
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("closed", [False, True])
def test_the_writing_is_given_up(tmp_path: Path, closed: bool) -> None:
    """Whoever is interrupted need not wait until another thread has decoded all of a cell."""
    gate = threading.Event()
    tensor = Counted.of(noise(600, (5,)), (2, 5), wait=gate)
    with Scratch(tmp_path, capacity(tensor)) as scratch, ThreadPoolExecutor(1) as pool:
        kept = scratch.hold(tensor, (0, 600))
        done = pool.submit(kept.read, (0, 600), (slice(0, 5),), np.empty((600, 5), "f4"), 0)
        tensor.started.wait()
        ending = threading.Thread(target=scratch.close if closed else scratch.give_up)
        ending.start()
        while not (scratch._closed or scratch._given_up):
            pass
        gate.set()
        with pytest.raises(ScratchError, match="given up"):
            done.result()
        ending.join()
        assert not tensor.counts.all()
        if not closed:
            np.testing.assert_array_equal(read(kept, (0, 600), (slice(0, 5),)), tensor.array)


SCRIPT = """
import os, resource, sys, time
import numpy as np
from gradmf import gradlog
from gradmf.gradlog.logs.scratch import Scratch
path, folder, limit = sys.argv[1:]
(tensor,) = gradlog.open_log(path).tensors
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    with Scratch(folder, 1 << 20) as scratch:
        out = np.empty((20, 8), "f4")
        scratch.hold(tensor, (0, 20)).read((0, 20), (slice(0, 8),), out)
        print(out.sum(), os.listdir(folder), flush=True)
        if not int(limit):
            time.sleep(60)
except gradlog.GradmfError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="files without names")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_signals_leave_nothing(tmp_path: Path, number: signal.Signals) -> None:
    path = foreign_store(tmp_path / "run.zarr", {"w": noise(20, (8,))})
    folder = tmp_path / "scratch"
    folder.mkdir()
    command = [sys.executable, "-c", SCRIPT, path, folder, "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("[]\n")
        process.send_signal(number)
        process.communicate()
    assert process.returncode != 0
    assert not list(folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", {"w": noise(20, (8,))})
    folder = tmp_path / "scratch"
    folder.mkdir()
    command = [sys.executable, "-c", SCRIPT, path, folder, "100"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"scratch folder {folder}: File too large after 0 bytes; ")
    assert done.stdout.count("\n") == 1
    assert not list(folder.iterdir())


def test_what_is_thrown_away_is_closed(tmp_path: Path) -> None:
    """Without a word about files that nobody closed."""
    tensor = Counted.of(noise(6, (5,)), (2, 5))
    with Scratch(tmp_path, 0) as scratch:  # no room: each file gives way to the next
        kept = scratch.hold(tensor, (0, 6))
        for _ in range(3):
            read(kept, (0, 6), (slice(0, 5),))
    del kept, scratch
    gc.collect()
