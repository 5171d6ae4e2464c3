"""The writer of format 1: what it stores, what it refuses, and what a crash leaves behind."""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import Array, chunk_files, network, walk
from sweeps import WHOLE, sweep
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from conftest import assert_analysis
from gradmf import gradlog
from gradmf.gradlog.logs import object_file
from gradmf.gradlog.logs import writer as log_writer
from gradmf.gradlog.logs.stored_array import Layout

ROWS = 23


def row(tensors: dict[str, Array], index: int) -> dict[str, Array]:
    return {name: values[index] for name, values in tensors.items()}


def write(path: Path, tensors: dict[str, Array], **options: Any) -> Path:
    rows = len(next(iter(tensors.values())))
    with gradlog.create_log(path, **options) as writer:
        for index in range(rows):
            writer.append(10 * index, row(tensors, index), loss=index / 3, lr=1e-3)
    return path


def stored(path: Path, name: str) -> Array:
    array = zarr.open_group(path, mode="r")[name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...])


@pytest.mark.parametrize("chunk_rows", [1, 4, 23, 100, None])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_read_back(tmp_path: Path, chunk_rows: int | None, dtype: str) -> None:
    tensors = network(ROWS, dtype)
    path = write(tmp_path / "run.zarr", tensors, chunk_rows=chunk_rows)
    for name, values in tensors.items():
        found = stored(path, f"grads/{name}")
        assert found.dtype == values.dtype
        assert found.tobytes() == values.tobytes()
    assert stored(path, "step").dtype == np.int64
    assert stored(path, "step").tolist() == list(range(0, 10 * ROWS, 10))
    assert stored(path, "loss").tolist() == [index / 3 for index in range(ROWS)]
    analysis = gradlog.analyze(path)
    assert_analysis(analysis, tensors)
    assert [warning.code for warning in analysis.warnings] == ["steps-strided"]
    assert analysis.run.dtypes == (dtype,)
    description = gradlog.describe(path)
    assert description.format_version == 1
    assert set(description.series) == {"loss", "lr"}


@pytest.mark.parametrize("task_bytes", [1, 500, 1 << 20])
@pytest.mark.parametrize("chunk_rows", [1, 4, None])
def test_gradients_that_are_read_as_they_are_written(
    tmp_path: Path, chunk_rows: int | None, task_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same log, byte by byte; a row of which one cannot be read is not added, and may come again."""
    monkeypatch.setattr(log_writer, "TASK_BYTES", task_bytes)
    tensors = network(ROWS)
    path = write(tmp_path / "run.zarr", tensors, chunk_rows=chunk_rows)
    like = {name: np.broadcast_to(np.zeros((), v.dtype), v.shape[1:]) for name, v in tensors.items()}
    last = sorted(tensors)[-1]
    wrong = {"cannot": OSError("gone"), "shape": np.zeros((2, 1), "f4"), "dtype": np.zeros(like[last].shape)}
    with (
        ThreadPoolExecutor(2) as pool,
        gradlog.create_log(tmp_path / "read.zarr", chunk_rows=chunk_rows) as writer,
    ):
        for index in range(ROWS):
            values = row(tensors, index)

            def read(name: str, values: dict[str, Any] = values) -> Array:
                if isinstance(values[name], OSError):
                    raise values[name]
                found: Array = values[name]
                return found

            numbers = {"loss": index / 3, "lr": 1e-3}
            for odd in wrong.values() if index in (0, 2, 3) else ():
                with pytest.raises((OSError, gradlog.UsageError), match=r"gone|in the rows before it is"):
                    writer.append_read(
                        10 * index,
                        like,
                        functools.partial(read, values=values | {last: odd}),
                        pool,
                        **numbers,
                    )
                assert writer.rows == index
            writer.append_read(10 * index, like, read, pool, **numbers)
    assert files(tmp_path / "read.zarr") == files(path)


def test_what_stands_in_the_store(tmp_path: Path) -> None:
    tensors = {**network(), "number": walk(ROWS, (), 7)}
    path = write(tmp_path / "run.zarr", tensors, chunk_rows=5, attributes={"model": "mlp", "depth": [1, 2]})
    root = json.loads((path / "zarr.json").read_text())
    assert root["zarr_format"] == 3
    assert root["attributes"] == {"model": "mlp", "depth": [1, 2], "gradlog": {"version": 1}}
    for name, values in tensors.items():
        metadata = json.loads((path / "grads" / name / "zarr.json").read_text())
        assert metadata["dimension_names"][0] == "step"
        assert len(metadata["dimension_names"]) == values.ndim
        assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", "crc32c"]
    assert gradlog.analyze(path).run.attributes["model"] == "mlp"


@pytest.mark.parametrize("compressors", [(), (ZstdCodec(level=1),)], ids=["plain", "zstd"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint16", "int64"])
def test_metadata_is_what_zarr_makes(dtype: str, compressors: Any) -> None:
    document, _ = Layout(1000, compressors).template(2, np.dtype(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            MemoryStore(), shape=(1, 1, 1), chunks=(1, 1, 1), dtype=dtype,
            compressors=(*compressors, Crc32cCodec()), dimension_names=("step", "dim_0", "dim_1"),
            chunk_key_encoding={"name": "default", "separator": "."},
        )  # fmt: skip
    made = array.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()
    assert document == json.loads(made)


def test_a_declared_format_cannot_be_overwritten_by_attributes(tmp_path: Path) -> None:
    path = write(tmp_path / "run.zarr", network(), attributes={"gradlog": {"version": 7}})
    assert gradlog.analyze(path).run.rows == ROWS


def test_every_chunk_is_stored_even_where_all_is_zero(tmp_path: Path) -> None:
    tensors = {name: np.zeros_like(values) for name, values in network().items()}
    path = write(tmp_path / "run.zarr", tensors, chunk_rows=5)
    for name in tensors:
        assert len(chunk_files(path, f"grads/{name}")) == 5
    for name in ("step", "loss", "lr"):
        assert len(chunk_files(path, name)) == 5
    assert [warning.code for warning in gradlog.analyze(path).warnings] == ["steps-strided"]


@pytest.mark.parametrize("chunk_bytes", [1, 64, 1 << 10, 1 << 22])
def test_chunks_of_any_size(tmp_path: Path, chunk_bytes: int) -> None:
    tensors = {**network(), "wide": walk(ROWS, (3, 100), 9)}
    path = write(tmp_path / "run.zarr", tensors, chunk_bytes=chunk_bytes)
    assert_analysis(gradlog.analyze(path), tensors)
    for tensor in gradlog.describe(path).tensors:
        assert tensor.absent_chunks == 0


def test_default_chunks_are_a_few_megabytes(tmp_path: Path) -> None:
    values = np.ones((40, 1 << 20), "f4")
    path = write(tmp_path / "run.zarr", {"w": values, "b": values[:, :10]})
    sizes = [place.stat().st_size for place in chunk_files(path, "grads/w")]
    assert 1 << 20 <= max(sizes) <= 8 << 20


def test_compressed(tmp_path: Path) -> None:
    tensors = {"w": np.repeat(walk(ROWS, (1,), 1), 500, axis=1)}
    for number, compressors in enumerate((ZstdCodec(level=1), [ZstdCodec(level=1)])):
        path = write(tmp_path / f"{number}.zarr", tensors, compressors=compressors)
        assert_analysis(gradlog.analyze(path), tensors)
        (description,) = gradlog.describe(path).tensors
        assert description.codecs == ("bytes", "zstd", "crc32c")
        assert description.stored_bytes < description.raw_bytes / 3


def test_bfloat16(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = walk(ROWS, (5, 3), 2).astype(ml_dtypes.bfloat16)
    path = write(tmp_path / "run.zarr", {"w": values})
    analysis = gradlog.analyze(path)
    assert analysis.run.dtypes == ("bfloat16",)
    assert_analysis(analysis, {"w": values.astype("f4")})
    assert stored(path, "grads/w").tobytes() == values.tobytes()


class _Tensor:
    """What the writer asks of a tensor of PyTorch, which NumPy cannot take before it is in main memory."""

    def __init__(self, values: Array, dtype: str, layout: str = "strided", *, moved: bool = False) -> None:
        self._values, self.dtype, self.layout, self._moved = values, dtype, layout, moved

    def detach(self) -> _Tensor:
        return self

    def to(self, device: str) -> _Tensor:
        assert device == "cpu"
        return _Tensor(self._values, self.dtype, self.layout, moved=True)

    def to_dense(self) -> _Tensor:
        return _Tensor(self._values, self.dtype, moved=self._moved)

    def contiguous(self) -> _Tensor:
        return self

    def view(self, dtype: str) -> _Tensor:
        return _Tensor(self._values.view(np.dtype(dtype)), dtype, self.layout, moved=self._moved)

    def numpy(self) -> Array:
        if not self._moved or self.layout != "strided" or self.dtype == "bfloat16":
            raise TypeError("can't convert to NumPy")
        return self._values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy is not False)

    def __float__(self) -> float:
        return float(self.numpy())


def test_tensors_of_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"Tensor": _Tensor, "strided": "strided", "bfloat16": "bfloat16", "int16": "int16"}
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(**names))
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    short = plain.view(np.uint32) >> 16  # bfloat16 is the upper half of float32
    gradients = {
        "plain": _Tensor(plain, "float32"),
        "sparse": _Tensor(plain, "float32", "sparse_coo"),
        "short": _Tensor(short.astype(np.uint16), "bfloat16"),
    }
    with gradlog.create_log(tmp_path / "run.zarr") as log:
        log.append(0, gradients, loss=_Tensor(np.asarray(0.5), "float32"))  # type: ignore[arg-type]
    stored = zarr.open_group(tmp_path / "run.zarr", mode="r")
    assert np.array_equal(stored["grads/plain"][0], plain)
    assert np.array_equal(stored["grads/sparse"][0], plain)
    assert stored["grads/short"].attrs["gradlog"] == {"dtype": "bfloat16"}
    assert float(stored["loss"][0]) == 0.5
    energies = {tensor.name: tensor.energy for tensor in gradlog.analyze(tmp_path / "run.zarr").tensors}
    assert energies == dict.fromkeys(("plain", "sparse", "short"), 55.0)


@pytest.mark.parametrize("value", [[0.1], np.array([0.1, 0.2]), "x", "0.1", b"1", None, 1j, 10**400])
def test_a_series_takes_numbers(tmp_path: Path, value: Any) -> None:
    with (
        gradlog.create_log(tmp_path / "run.zarr") as log,
        pytest.raises(gradlog.UsageError, match="series 'lr' takes a number a row, not "),
    ):
        log.append(0, {"w": np.ones(3)}, lr=value)


@pytest.mark.parametrize("dtype", ["int32", "bool", ">f4", ">f8", "longdouble"])
def test_other_types_become_floats(tmp_path: Path, dtype: str) -> None:
    values = np.arange(12).reshape(4, 3).astype(dtype)
    path = write(tmp_path / "run.zarr", {"w": values})
    found = stored(path, "grads/w")
    assert found.dtype == np.dtype("float64" if dtype == ">f8" else "float32")
    np.testing.assert_array_equal(found, values.astype(found.dtype))


def test_lists_and_scalars(tmp_path: Path) -> None:
    with gradlog.create_log(tmp_path / "run.zarr") as writer:
        writer.append(0, {"w": [[1.0, 2.0]], "scale": 0.5})
        writer.append(1, {"scale": np.float64(0.25), "w": np.array([[3.0, 4.0]])})
    assert stored(tmp_path / "run.zarr", "grads/w").tolist() == [[[1, 2]], [[3, 4]]]
    assert stored(tmp_path / "run.zarr", "grads/scale").tolist() == [0.5, 0.25]


def test_rows_are_copied(tmp_path: Path) -> None:
    """A training loop reuses its gradient buffers."""
    buffer = np.zeros(3, "f4")
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=10) as writer:
        for step in range(4):
            buffer[:] = step
            writer.append(step, {"w": buffer})
    assert stored(tmp_path / "run.zarr", "grads/w")[:, 0].tolist() == [0, 1, 2, 3]


@settings(max_examples=sweep(25), deadline=None)
@given(chunk_rows=st.integers(1, 7), flushes=st.sets(st.integers(0, 19)), rows=st.integers(1, 20))
def test_committed_rows_at_any_moment(
    tmp_path_factory: pytest.TempPathFactory, chunk_rows: int, flushes: set[int], rows: int
) -> None:
    tensors = {"w": walk(rows, (3, 2), 1), "b": walk(rows, (), 2)}
    path = tmp_path_factory.mktemp("log") / "run.zarr"
    writer = gradlog.create_log(path, chunk_rows=chunk_rows)
    committed = 0
    for index in range(rows):
        writer.append(index, row(tensors, index))
        if (index + 1) % chunk_rows == 0:
            committed = index + 1
        if index in flushes:
            writer.flush()
            committed = index + 1
        if committed:
            analysis = gradlog.analyze(path)
            assert_analysis(analysis, {name: values[:committed] for name, values in tensors.items()})
            assert len(stored(path, "step")) == committed
        elif (path / "step").exists():
            with pytest.raises(gradlog.DataError, match="no committed rows"):
                gradlog.analyze(path)
    writer.close()
    assert_analysis(gradlog.analyze(path), tensors)


class Crash(Exception):  # noqa: N818
    """The process dies."""


@pytest.fixture
def crash_after(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Writes to the store that still succeed; the next one, and all after it, do not happen."""
    left = {"writes": 1 << 30}
    original = object_file.put_object

    def counted(path: str, *arguments: Any) -> None:
        if left["writes"] <= 0:
            raise Crash(path)
        left["writes"] -= 1
        original(path, *arguments)

    monkeypatch.setattr(object_file, "put_object", counted)
    return left


@pytest.mark.parametrize("flush_every", [None, 3])
def test_a_crash_at_any_write_leaves_a_prefix(
    tmp_path: Path, crash_after: dict[str, int], flush_every: int | None
) -> None:
    """After a crash the log says nothing, or holds rows 0 .. k - 1 as they were appended."""
    tensors = {"w": walk(11, (3,), 1) + 5, "b": walk(11, (), 2) + 5}
    seen = set()
    for writes in range(0, 200, 1 if WHOLE else 3):
        path = tmp_path / f"{writes}.zarr"
        crash_after["writes"] = writes
        durable = 0
        finished = False
        try:
            writer = gradlog.create_log(path, chunk_rows=4)
            for index in range(11):
                writer.append(100 + index, row(tensors, index), loss=float(index))
                if flush_every and index % flush_every == 0:
                    writer.flush()
                    durable = index + 1
                elif (index + 1) % 4 == 0:
                    durable = index + 1
            writer.close()
            finished = True
        except Crash:
            pass
        crash_after["writes"] = 1 << 30
        try:
            analysis = gradlog.analyze(path)
        except gradlog.DataError:
            if durable:
                raise
            continue
        rows = analysis.run.rows
        seen.add(rows)
        assert rows >= durable, f"after {writes} writes: {rows} rows of {durable} that were safe"
        assert analysis.steps.step.tolist() == list(range(100, 100 + rows)), f"after {writes} writes"
        for name, values in tensors.items():
            np.testing.assert_array_equal(stored(path, f"grads/{name}")[:rows], values[:rows])
        if finished:
            assert rows == 11
            break
    else:
        pytest.fail("the log was never finished")
    assert {4, 8, 11} <= seen if flush_every is None else {1, 4, 7, 8, 10, 11} <= seen


def test_a_log_that_was_never_closed(tmp_path: Path) -> None:
    tensors = network(10)
    writer = gradlog.create_log(tmp_path / "run.zarr", chunk_rows=4)
    for index in range(10):
        writer.append(index, row(tensors, index))
    del writer
    assert_analysis(gradlog.analyze(tmp_path / "run.zarr"), {name: v[:8] for name, v in tensors.items()})


def test_an_error_in_the_loop_keeps_the_rows(tmp_path: Path) -> None:
    tensors = network(10)
    writer = gradlog.create_log(tmp_path / "run.zarr")

    def train() -> None:
        with writer:
            for index in range(6):
                writer.append(index, row(tensors, index))
            raise RuntimeError("loss is NaN")

    with pytest.raises(RuntimeError, match="loss is NaN"):
        train()
    assert_analysis(gradlog.analyze(tmp_path / "run.zarr"), {name: v[:6] for name, v in tensors.items()})


def test_closed(tmp_path: Path) -> None:
    writer = gradlog.create_log(tmp_path / "run.zarr")
    writer.append(0, {"w": [1.0]})
    writer.close()
    writer.close()
    with pytest.raises(gradlog.UsageError, match="closed"):
        writer.append(1, {"w": [2.0]})
    assert stored(tmp_path / "run.zarr", "step").tolist() == [0]


MISMATCHES: dict[str, tuple[dict[str, Any], dict[str, float], str]] = {
    "shape": ({"w": np.zeros((2, 4), "f4"), "b": np.zeros(3, "f4")}, {"loss": 1.0}, "'w'"),
    "transposed": ({"w": np.zeros((3, 2), "f4"), "b": np.zeros(3, "f4")}, {"loss": 1.0}, "'w'"),
    "dtype": ({"w": np.zeros((2, 3), "f8"), "b": np.zeros(3, "f4")}, {"loss": 1.0}, "'w'"),
    "missing": ({"w": np.zeros((2, 3), "f4")}, {"loss": 1.0}, "b"),
    "added": ({n: np.zeros(s, "f4") for n, s in {"w": (2, 3), "b": 3, "c": 1}.items()}, {"loss": 1.0}, "c"),
    "no-series": ({"w": np.zeros((2, 3), "f4"), "b": np.zeros(3, "f4")}, {}, "loss"),
    "other-series": ({"w": np.zeros((2, 3), "f4"), "b": np.zeros(3, "f4")}, {"loss": 1.0, "lr": 1.0}, "lr"),
    "empty": ({}, {}, "at least one"),
    "name": ({"w": np.zeros((2, 3), "f4"), 3: np.zeros(3, "f4")}, {"loss": 1.0}, "3"),  # type: ignore[dict-item]
    "text": ({"w": "hello", "b": np.zeros(3, "f4")}, {"loss": 1.0}, "'w'"),
    "none": ({"w": None, "b": np.zeros(3, "f4")}, {"loss": 1.0}, "'w'"),
    "complex": ({"w": np.zeros((2, 3), "c8"), "b": np.zeros(3, "f4")}, {"loss": 1.0}, "'w'"),
    "ragged": ({"w": [[1.0], [1.0, 2.0]], "b": np.zeros(3, "f4")}, {"loss": 1.0}, "'w'"),
    "vector-series": (
        {"w": np.zeros((2, 3), "f4"), "b": np.zeros(3, "f4")},
        {"loss": [1.0, 2.0]},  # type: ignore[dict-item]
        "loss",
    ),
}


@pytest.mark.parametrize(("gradients", "series", "mention"), MISMATCHES.values(), ids=MISMATCHES.keys())
@pytest.mark.parametrize("before", [0, 3])
def test_mismatched_rows_are_refused_and_change_nothing(
    tmp_path: Path, gradients: dict[str, Any], series: dict[str, float], mention: str, before: int
) -> None:
    good = {"w": np.ones((2, 3), "f4"), "b": np.ones(3, "f4")}
    name = next(name for name, case in MISMATCHES.items() if case[0] is gradients)
    wrong_at_first = {"text", "none", "complex", "ragged", "vector-series", "empty", "name"}
    if before == 0 and name not in wrong_at_first:
        pytest.skip("a first row sets the rule")
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=2) as writer:
        for step in range(before):
            writer.append(step, good, loss=0.5)
        with pytest.raises(gradlog.UsageError) as caught:
            writer.append(before, gradients, **series)
        assert mention in str(caught.value)
        assert str(caught.value).startswith(f"{tmp_path / 'run.zarr'}: row {before}: ")
        writer.append(before, good, loss=0.5)
    assert stored(tmp_path / "run.zarr", "step").tolist() == list(range(before + 1))
    assert (stored(tmp_path / "run.zarr", "grads/w") == 1).all()


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", ".", "..", "../escaped", "a/../b", "zarr.json", "a/zarr.json"]
)
def test_names_that_zarr_cannot_hold(tmp_path: Path, name: str) -> None:
    """Refused with the name, or read back as written; nothing is written outside the log."""
    (tmp_path / "log").mkdir()
    try:
        with gradlog.create_log(tmp_path / "log" / "run.zarr") as writer:
            writer.append(0, {name: [1.0, 2.0], "w": [3.0]})
    except gradlog.UsageError as error:
        assert repr(name) in str(error)  # noqa: PT017
    else:
        assert {t.name for t in gradlog.open_log(tmp_path / "log" / "run.zarr").tensors} == {name, "w"}
    assert [place.name for place in tmp_path.iterdir()] == ["log"]
    assert [place.name for place in (tmp_path / "log").iterdir()] == ["run.zarr"]


def test_a_tensor_cannot_stand_inside_another(tmp_path: Path) -> None:
    try:
        with gradlog.create_log(tmp_path / "run.zarr") as writer:
            writer.append(0, {"a": [1.0, 2.0], "a/b": [3.0]})
    except gradlog.UsageError:
        return
    assert [t.name for t in gradlog.open_log(tmp_path / "run.zarr").tensors] == ["a", "a/b"]


@pytest.mark.parametrize("name", ["step", "grads"])
def test_series_of_a_reserved_name(tmp_path: Path, name: str) -> None:
    with gradlog.create_log(tmp_path / "run.zarr") as writer, pytest.raises(gradlog.UsageError, match=name):
        writer.append(0, {"w": [1.0]}, **{name: 3.0})


def test_something_is_there_already(tmp_path: Path) -> None:
    path = write(tmp_path / "run.zarr", network(5))
    with pytest.raises(gradlog.UsageError, match="already there") as caught:
        gradlog.create_log(path)
    assert caught.value.exit_code == 2
    assert gradlog.analyze(path).run.rows == 5
    write(path, {"other": walk(3, (2,), 1)}, overwrite=True)
    assert [tensor.name for tensor in gradlog.open_log(path).tensors] == ["other"]
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "thesis.txt").write_text("years")
    for precious in (tmp_path / "file", tmp_path / "folder"):
        with pytest.raises(gradlog.UsageError, match="not a Zarr store, so not overwritten"):
            write(precious, network(5), overwrite=True)
        assert precious.exists()
    assert (tmp_path / "folder" / "sub" / "thesis.txt").read_text() == "years"


def test_bad_options(tmp_path: Path) -> None:
    for options in ({"chunk_rows": 0}, {"chunk_rows": -1}, {"chunk_bytes": 0}):
        with pytest.raises(gradlog.UsageError, match="chunk_"):
            gradlog.create_log(tmp_path / "run.zarr", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize("value", [object(), float("nan"), np.float32("inf")])
def test_attributes_that_json_cannot_hold(tmp_path: Path, value: object) -> None:
    with pytest.raises(gradlog.UsageError, match=r"run\.zarr: attributes must be what JSON holds"):
        gradlog.create_log(tmp_path / "run.zarr", attributes={"model": {"x": [value]}})
    assert not (tmp_path / "run.zarr").exists()


def test_a_log_is_read_while_it_is_written(tmp_path: Path) -> None:
    tensors = network(12)
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=4) as writer:
        for index in range(12):
            writer.append(index, row(tensors, index))
            if index >= 4:
                description = gradlog.describe(tmp_path / "run.zarr")
                assert description.rows == 4 * ((index + 1) // 4)
                assert all(tensor.absent_chunks == 0 for tensor in description.tensors)


@pytest.mark.parametrize("step", [5, 4, -1])
def test_steps_that_repeat_or_go_back(tmp_path: Path, step: int) -> None:
    with gradlog.create_log(tmp_path / "run.zarr") as writer:
        for earlier in (-3, 5):
            writer.append(earlier, {"w": [1.0]})
        with pytest.raises(gradlog.UsageError) as caught:
            writer.append(step, {"w": [2.0]})
        writer.append(6, {"w": [3.0]})
    told = f"{tmp_path / 'run.zarr'}: row 2: training step {step} comes after 5"
    assert str(caught.value).startswith(told)
    assert "resume=True, after_step=S" in str(caught.value)
    assert stored(tmp_path / "run.zarr", "step").tolist() == [-3, 5, 6]
    assert stored(tmp_path / "run.zarr", "grads/w").ravel().tolist() == [1, 1, 3]


BAD_STEPS = [1.5, np.nan, np.inf, None, "5", b"5", True, np.True_, [5], np.array([5]), np.array([True]), 5j]
BAD_STEPS += [2**63, -(2**63) - 1, np.uint64(2**63), 1e300, np.float32(0.5), object(), 10**400]


@pytest.mark.parametrize("step", BAD_STEPS, ids=lambda step: repr(step)[:20])
def test_what_is_no_training_step(tmp_path: Path, step: Any) -> None:
    with gradlog.create_log(tmp_path / "run.zarr") as writer:
        with pytest.raises(gradlog.UsageError) as caught:
            writer.append(step, {"w": [1.0]})
        writer.append(1, {"w": [1.0]})
    message = str(caught.value)
    assert message.startswith(
        f"{tmp_path / 'run.zarr'}: row 0: the training step must be a whole number from -2"
    )
    assert repr(step)[:40] in message
    assert stored(tmp_path / "run.zarr", "step").tolist() == [1]


GOOD_STEPS = [5, 5.0, np.int32(5), np.uint64(5), np.float16(5), np.array(5), np.array(5.0), 2**63 - 1]


@pytest.mark.parametrize("step", GOOD_STEPS, ids=lambda step: f"{type(step).__name__} {step}")
def test_what_is_a_training_step(tmp_path: Path, step: Any) -> None:
    with gradlog.create_log(tmp_path / "run.zarr") as writer:
        writer.append(-(2**63), {"w": [1.0]})
        writer.append(step, {"w": [1.0]})
    assert stored(tmp_path / "run.zarr", "step").tolist() == [-(2**63), int(step)]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("missing", ["fail", "zero"])
def test_tensors_without_entries(tmp_path: Path, missing: Any, known: bool) -> None:
    """Ranks of FSDP and ZeRO-3 hold them."""
    with gradlog.create_log(tmp_path / "run.zarr", missing=missing) as writer:
        if known:
            writer.append(0, {"w": [1.0], "b": 1.0})
        told = (
            r"the gradient of 'w' has no entries, shape \[0, 4\]: gather a partitioned parameter \(FSDP, ZeRO"
        )
        with pytest.raises(gradlog.UsageError, match=told):
            writer.append(1, {"w": np.empty((0, 4)), "b": 1.0})
        writer.append(1, {"w": [1.0], "b": 1.0})


@pytest.mark.parametrize("name", ["loss/train", "", "__x", "zarr.json"])
def test_names_of_series(tmp_path: Path, name: str) -> None:
    with (
        gradlog.create_log(tmp_path / "run.zarr") as writer,
        pytest.raises(gradlog.UsageError, match=f"'{name}' cannot be the name of a series"),
    ):
        writer.append(0, {"w": [1.0]}, **{name: 3.0})


@pytest.mark.skipif(find_spec("zarrs") is None, reason="zarrs is not installed")
def test_chunks_of_zeros_are_stored_with_zarrs_too(tmp_path: Path) -> None:
    """zarrs leaves chunks of zeros out, whatever it is told: the writer doesn't write with it."""
    zarrs = zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    with zarrs, gradlog.create_log(tmp_path / "run.zarr", chunk_rows=2) as log:
        for step in range(5):
            log.append(step, {"w": np.zeros((3, 2), np.float32)})
    assert gradlog.describe(tmp_path / "run.zarr").tensors[0].absent_chunks == 0
    assert gradlog.analyze(tmp_path / "run.zarr").total.energy == 0


def files(path: Path) -> dict[str, bytes]:
    """All files below a folder, by their paths."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Writes until the disk is full, and how many fail then, before there is space again."""
    left = {"writes": 1 << 30, "failures": 0}
    original = object_file._write

    def limited(*arguments: Any) -> None:
        left["writes"] -= 1
        if left["writes"] < 0 < left["failures"]:
            left["failures"] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(*arguments)

    monkeypatch.setattr(object_file, "_write", limited)
    return left


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_costs_no_row(tmp_path: Path, full_disk: dict[str, int], every: int) -> None:
    """Whichever write fails: the error is the system's, and doing it again goes on as if nothing had been."""
    tensors = {"w": walk(11, (3, 4), 1), "b": walk(11, (), 2), "late": walk(11, (2,), 3)}

    def train(path: Path) -> int:
        """Number of errors."""
        errors = 0

        def patiently(work: Callable[[], Any]) -> Any:
            nonlocal errors
            for _ in range(3):
                try:
                    return work()
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017
                    assert str(path) in str(error)  # noqa: PT017
                    errors += 1
            raise AssertionError("there is space again")

        def log_row(writer: gradlog.LogWriter, index: int) -> None:
            row = {name: values[index] for name, values in tensors.items() if name != "late" or index > 5}
            writer.append(index, row, loss=index / 3)

        writer = patiently(
            lambda: gradlog.create_log(path, chunk_rows=4, chunk_bytes=64, missing="zero", resume=True)
        )
        for index in range(11):
            patiently(lambda index=index: log_row(writer, index))
            assert writer.rows == index + 1
            if index % 5 == 2:
                patiently(writer.flush)
        patiently(writer.close)
        return errors

    assert train(tmp_path / "whole.zarr") == 0
    for writes in range(0, 1000, every):
        full_disk.update(writes=writes, failures=1 + writes % 2)
        errors = train(tmp_path / f"{writes}.zarr")
        assert files(tmp_path / f"{writes}.zarr") == files(tmp_path / "whole.zarr"), f"after {writes} writes"
        if errors == 0:
            break
    else:
        pytest.fail("the disk was never large enough")
    assert writes > 50


def test_rows_that_a_full_disk_held_up(tmp_path: Path, full_disk: dict[str, int]) -> None:
    """A loop that takes an error for the loss of a row goes on; the row that raised was not added."""
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=2) as writer:
        writer.append(0, {"w": [0.0]})
        full_disk.update(writes=0, failures=100)
        for step in (1, 2):
            with pytest.raises(OSError, match=r"No space left on device.*run\.zarr"):
                writer.append(step, {"w": [float(step)]})
            assert (writer.rows, writer.last_step) == (1, 0)
        with pytest.raises(OSError, match="No space left on device"):
            writer.flush()
        full_disk.update(failures=0)
        writer.append(3, {"w": [3.0]})
    assert stored(tmp_path / "run.zarr", "step").tolist() == [0, 3]
    assert stored(tmp_path / "run.zarr", "grads/w").ravel().tolist() == [0, 3]


def test_closing_on_a_full_disk(tmp_path: Path, full_disk: dict[str, int]) -> None:
    writer = gradlog.create_log(tmp_path / "run.zarr")
    writer.append(0, {"w": [1.0]})
    full_disk.update(writes=0, failures=3)
    with pytest.raises(OSError, match="No space left on device"):
        writer.close()
    with pytest.raises(OSError, match="No space left on device"), writer:
        pass
    with pytest.raises(ZeroDivisionError) as caught, writer:
        raise ZeroDivisionError
    assert "run.zarr: its last rows could not be written either" in caught.value.__notes__[0]
    writer.close()
    assert stored(tmp_path / "run.zarr", "step").tolist() == [0]


def noted(path: Path, name: str) -> Any:
    """The rows of a tensor that are noted as filled with zeros."""
    declared: Any = zarr.open_group(path, mode="r")[f"grads/{name}"].attrs.get("gradlog", {})
    return declared.get("absent_rows")


@settings(max_examples=sweep(15), deadline=None)
@given(data=st.data(), chunk_rows=st.integers(1, 6), rows=st.integers(1, 14))
def test_missing_gradients_are_stored_as_zeros(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, chunk_rows: int, rows: int
) -> None:
    """Unfreezing, freezing, experts without tokens: the log is that of zeros, and says where they are."""
    path = tmp_path_factory.mktemp("log") / "run.zarr"
    tensors = {"w": walk(rows, (3, 2), 1), "b": walk(rows, (), 2), "e/0": walk(rows, (7, 2), 3, "float64")}
    there = {name: np.ones(rows, bool) for name in tensors}
    for name in ("b", "e/0"):
        there[name] = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    flushes = data.draw(st.sets(st.integers(0, rows)))
    with gradlog.create_log(path, chunk_rows=chunk_rows, chunk_bytes=40, missing="zero") as writer:
        for index in range(rows):
            row = {name: values[index] for name, values in tensors.items() if there[name][index]}
            writer.append(index, row if index % 2 else dict.fromkeys(tensors) | row)
            if index in flushes:
                writer.flush()
                assert gradlog.open_log(path).rows == index + 1
    log = gradlog.open_log(path)
    assert [tensor.name for tensor in log.tensors] == sorted(name for name in tensors if there[name].any())
    described = {tensor.name: tensor for tensor in gradlog.describe(path).tensors}
    assert all(tensor.absent_chunks == 0 for tensor in described.values())
    for tensor in log.tensors:
        expected = tensors[tensor.name] * there[tensor.name].reshape(-1, *(1,) * len(tensor.shape))
        assert tensor.rows == rows
        np.testing.assert_array_equal(tensor.array[...], expected)
        found = [row for first, last in noted(path, tensor.name) or () for row in range(first, last + 1)]
        assert found == np.flatnonzero(~there[tensor.name]).tolist()
        assert [list(pair) for pair in described[tensor.name].absent_rows] == (noted(path, tensor.name) or [])


def test_a_late_tensor_in_bfloat16(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=2, missing="zero") as writer:
        for step in range(5):
            late = {"late": np.ones(3, ml_dtypes.bfloat16)} if step == 3 else {}
            writer.append(step, {"w": [1.0], **late})
    (late, _) = gradlog.open_log(tmp_path / "run.zarr").tensors
    assert late.dtype == "bfloat16"
    assert stored(tmp_path / "run.zarr", "grads/late").astype(bool).any(axis=1).tolist() == [0, 0, 0, 1, 0]
    assert noted(tmp_path / "run.zarr", "late") == [[0, 2], [4, 4]]


def test_zeros_are_asked_for(tmp_path: Path) -> None:
    """By default a gradient that comes or goes is refused, with what to do about it."""
    with gradlog.create_log(tmp_path / "run.zarr") as writer:
        writer.append(0, {name: [1.0] for name in "abcdefg"}, loss=1.0)
        cases: list[tuple[dict[str, Any], str]] = [
            ({"a": [1.0]}, "no gradient of 'b', 'c', 'd', 'e' and 2 more, which the rows before have: "),
            (
                {name: [1.0] if name != "c" else None for name in "abcdefg"},
                "no gradient of 'c', which the rows",
            ),
            ({name: [1.0] for name in "abcdefgh"}, "the rows before have no gradient of 'h': "),
            ({name: [1.0] if name != "h" else None for name in "abcdefgh"}, "the gradient of 'h' is None: "),
        ]
        for gradients, told in cases:
            with pytest.raises(gradlog.UsageError) as caught:
                writer.append(1, gradients, loss=1.0)
            assert f"run.zarr: row 1: {told}" in str(caught.value)
            assert "missing='zero'" in str(caught.value)
            assert "log only parameters that have a gradient in every row" in str(caught.value)
    assert gradlog.open_log(tmp_path / "run.zarr").rows == 1


def test_rows_without_any_gradient(tmp_path: Path) -> None:
    """They come of logging behind zero_grad(), and are refused however missing ones are dealt with."""
    with gradlog.create_log(tmp_path / "run.zarr", missing="zero") as writer:
        for gradients in ({}, {"w": None}):
            with pytest.raises(gradlog.UsageError, match="at least one tensor"):
                writer.append(0, gradients)
        writer.append(0, {"w": [1.0], "b": None})
        with pytest.raises(gradlog.UsageError, match="at least one tensor"):
            writer.append(1, {"w": None})
        for wrong in ({"w": [1.0, 2.0]}, {"w": [1.0], "w/x": [1.0]}):
            with pytest.raises(gradlog.UsageError, match="'w'"):
                writer.append(1, wrong)
        with pytest.raises(gradlog.UsageError, match="those before lack 'loss'"):
            writer.append(1, {"w": [1.0]}, loss=0.5)
        writer.append(1, {"w": [1.0], "b": [2.0]})
    assert stored(tmp_path / "run.zarr", "grads/b").ravel().tolist() == [0, 2]


def test_the_note_of_missing_rows_stays_small(tmp_path: Path) -> None:
    """An expert that every other row misses: past 1,000 ranges neighbours are merged, and that is told."""
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=500, missing="zero") as writer:
        for step in range(3000):
            writer.append(step, {"w": 1.0, "expert": 1.0 if step % 2 else None})
            if step == 1998:
                writer.flush()
                assert noted(tmp_path / "run.zarr", "expert") == [[row, row] for row in range(0, 1999, 2)]
    ranges = noted(tmp_path / "run.zarr", "expert")
    assert len(ranges) <= 1000
    covered = np.zeros(3000, bool)
    for first, last in ranges:
        covered[first : last + 1] = True
    assert covered[::2].all()
    declared = zarr.open_group(tmp_path / "run.zarr", mode="r")["grads/expert"].attrs["gradlog"]
    assert declared["absent_rows_merged"] is True
    (described, _) = gradlog.describe(tmp_path / "run.zarr").tensors
    assert (len(described.absent_rows), described.absent_rows_merged) == (len(ranges), True)


def test_a_wrong_note_of_missing_rows_is_told_and_the_rest_described(tmp_path: Path) -> None:
    with gradlog.create_log(tmp_path / "run.zarr", missing="zero") as writer:
        writer.append(0, {"w": 1.0})
    zarr.open_group(tmp_path / "run.zarr", mode="r+")["grads/w"].attrs["gradlog"] = {"absent_rows": [[3, 1]]}
    log = gradlog.describe(tmp_path / "run.zarr")
    assert log.tensors[0].absent_rows == ()
    assert [warning.code for warning in log.warnings] == ["absent-rows-unreadable"]
    assert log.warnings[0].message == "tensor 'w': absent_rows holds [3, 1], which is out of order"
