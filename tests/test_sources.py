"""What stands for a run besides a path: groups, arrays and stores that were opened with zarr."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from stores import add_array
from zarr.storage import LocalStore, MemoryStore, StorePath, ZipStore

from conftest import assert_analysis, write_store
from gradmf import gradlog
from gradmf.gradlog.documents.plain_values import plain_values
from gradmf.gradlog.logs.places.finding import folder_to_write

ROWS = 30


def gradients() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    walks = np.cumsum(rng.standard_normal((ROWS, 60)), axis=0)
    return {"a/w": walks[:, :48].reshape(ROWS, 6, 8).astype(np.float32), "b": walks[:, 48:]}


def fill(group: zarr.Group, marked: bool = True) -> zarr.Group:
    """Write the gradients and their steps into a group."""
    for name, values in gradients().items():
        array = group.create_array(
            f"grads/{name}", shape=values.shape, chunks=(8, *values.shape[1:]), dtype=values.dtype
        )
        array[...] = values
    add_array(group, "step", np.arange(ROWS))
    if marked:
        group.attrs["gradlog"] = {"version": 1}
    return group


def made(kind: str, folder: Path) -> Any:
    return {
        "memory": lambda: MemoryStore(),
        "local": lambda: LocalStore(folder / "run.zarr"),
        "zip": lambda: ZipStore(folder / "run.zip", mode="w"),
    }[kind]()


def figures(analysis: gradlog.Analysis) -> Any:
    document = gradlog.analysis_document(analysis)
    del document["run"]["path"]
    return plain_values(document)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kind", ["memory", "local", "zip"])
@pytest.mark.parametrize("inside", ["", "runs/first"])
def test_a_group_is_a_run(tmp_path: Path, kind: str, zarr_format: Any, inside: str) -> None:
    store = made(kind, tmp_path)
    group = zarr.create_group(store, path=inside, zarr_format=zarr_format)
    fill(group, marked=kind != "zip")  # attributes cannot be replaced in a zip file
    found = gradlog.analyze(group)
    assert_analysis(found, gradients())
    assert found.run.path == str(group.store_path)
    for run in (group.store_path, StorePath(store, inside), *([] if inside else [store])):
        other = gradlog.analyze(run)
        assert (figures(other), other.run.path) == (figures(found), found.run.path)
    described = gradlog.describe(group)
    assert (described.path, described.zarr_format, described.rows) == (found.run.path, zarr_format, ROWS)
    assert [tensor.expected_chunks for tensor in described.tensors] == [4, 4]
    assert all(tensor.stored_bytes > 0 for tensor in described.tensors)
    if kind == "zip":
        store.close()


def test_every_function_takes_a_group(tmp_path: Path) -> None:
    path = write_store(tmp_path / "run.zarr", gradients())
    group = zarr.open_group(path, mode="r")
    settings = gradlog.Settings(subspace=2, window=5)
    steps = np.arange(ROWS)
    relation = gradlog.relate(group, path, (steps, steps), settings)
    np.testing.assert_allclose(relation.cosine, 1)
    gradlog.check_relation(path, group, ((None, None), (None, None)), settings)
    plans = [dataclasses.asdict(gradlog.describe_plan(run)) for run in (group, path)]
    assert [plan.pop("path") for plan in plans] == [str(group.store_path), str(path)]
    assert plans[0] == plans[1]
    assert gradlog.advise(group, only=["dead"]).run.path == str(group.store_path)
    assert gradlog.open_as_asked(group, settings).rows == ROWS
    gradlog.sketch_log(group, tmp_path / "sketch.zarr", gradlog.Settings(sketch_dim=64))
    gradlog.write_part(gradlog.analyze_part(group, gradlog.PartNumber(1, 1)), tmp_path / "part")
    assert figures(gradlog.merge_parts([tmp_path / "part"])) == figures(gradlog.analyze(path))
    for limits in ({}, {"project": 64, "rank": "none"}):
        analysis = gradlog.analyze_for_bounds(
            group, gradlog.Settings(**limits), threads=1, memory=1 << 28, progress=None
        )
        assert analysis.run.path == str(group.store_path)


def test_a_group_reads_as_fast_as_its_path(tmp_path: Path) -> None:
    path = write_store(tmp_path / "run.zarr", gradients())
    readers = [
        {tensor.reader for tensor in gradlog.open_log(run).tensors}
        for run in (path, zarr.open_group(path), path.as_uri())
    ]
    assert readers[0] == readers[1] == readers[2]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_is_a_run(zarr_format: Any) -> None:
    values = gradients()["b"]
    array = zarr.create_array(MemoryStore(), name="x/gradients", data=values, zarr_format=zarr_format)
    (tensor,) = gradlog.analyze(array).tensors
    assert (tensor.name, tensor.energy) == ("grads", pytest.approx((values**2).sum()))


def test_nothing_is_written_to_what_is_given(tmp_path: Path) -> None:
    for store in (MemoryStore(), LocalStore(tmp_path / "run.zarr")):
        group = fill(zarr.create_group(store))

        def content(group: zarr.Group = group) -> dict[str, Any]:
            return {key: array[...].tobytes() for key, array in group["grads"].arrays()}

        before = content()
        gradlog.analyze(group)
        assert content() == before
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run.zarr").rglob("*")}
    gradlog.analyze(zarr.open_group(tmp_path / "run.zarr", mode="r"))
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "run.zarr").rglob("*")}


def test_what_is_no_log_is_told_by_its_place(tmp_path: Path) -> None:
    empty = zarr.create_group(MemoryStore(), path="deep")
    with pytest.raises(gradlog.DataError, match=rf"^{empty.store_path}: no gradient arrays"):
        gradlog.analyze(empty)
    for store in (MemoryStore(), StorePath(MemoryStore(), "nothing")):
        with pytest.raises(
            gradlog.DataError, match=r"^memory://.*: the Zarr metadata cannot be read: there is"
        ):
            gradlog.open_log(store)
    lost = tmp_path / "lost.zarr"
    with pytest.raises(gradlog.StoreNotFoundError, match=rf"^file://{lost}: no such file or directory$"):
        gradlog.open_log(LocalStore(lost))
    with pytest.raises(gradlog.StoreNotFoundError, match=r"lost.zip: no such file or directory$"):
        gradlog.open_log(ZipStore(tmp_path / "lost.zip"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "torn.zip").write_bytes(b"PK")
    with pytest.raises(gradlog.DataError, match=r"^zip://.*torn.zip: the store cannot be opened: "):
        gradlog.open_log(ZipStore(tmp_path / "torn.zip"))


def test_faults_of_a_group_name_its_place(tmp_path: Path) -> None:
    group = fill(zarr.create_group(LocalStore(tmp_path), path="run"))
    (tmp_path / "run" / "grads" / "b" / "c" / "1" / "0").unlink()
    with pytest.raises(gradlog.DataError, match=rf"^file://{tmp_path}/run: 1 of 8 chunks is absent"):
        gradlog.analyze(group)


def test_a_zip_file_opened_to_be_written_is_not_emptied(tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    with ZipStore(path, mode="w") as store:
        fill(zarr.create_group(store), marked=False)
    whole = path.read_bytes()
    assert gradlog.open_log(ZipStore(path, mode="w")).rows == ROWS
    assert gradlog.open_log(ZipStore(path)).rows == ROWS
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.org/run.zarr", r"^https://example.org/run.zarr: plain HTTP cannot be listed"),
        ("https://me:word@example.org/run.zarr?sig=word", r"^https://example.org/run.zarr: plain HTTP"),
        (
            "hdfs://host/run.zarr",
            "^hdfs://host/run.zarr: no store is read there: known are s3://, gs://, az://",
        ),
        ("gcs://bucket/run.zarr", "write it as gs://BUCKET/PATH"),
        ("s3://key:word@bucket/run.zarr", "^s3://bucket/run.zarr: credentials don't belong in a URL"),
        ("az://box/run.zarr?sv=1&sig=word", "^az://box/run.zarr: credentials don't belong in a URL"),
        ("s3://", "names no bucket"),
        ("s3://bucket/a//b", "keys of a bucket are no folders"),
    ],
)
def test_urls_that_are_not_read_are_refused_without_a_request(url: str, told: str) -> None:
    with pytest.raises(gradlog.UsageError, match=told) as caught:
        gradlog.analyze(url)
    assert "word" not in str(caught.value)


def test_the_library_of_urls_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    told = r"^s3://bucket/run.zarr needs the library obstore, which .*: pip install 'gradmf\[remote\]'$"
    with pytest.raises(gradlog.UsageError, match=told):
        gradlog.analyze("s3://bucket/run.zarr")


def test_the_library_is_named_before_a_log_is_begun_at_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    told = r"^s3://bucket/run.zarr needs the library obstore, which .*: pip install 'gradmf\[remote\]'$"
    with pytest.raises(gradlog.UsageError, match=told):
        gradlog.create_log("s3://bucket/run.zarr")


def test_what_others_write_bit_by_bit_is_not_written_to_urls() -> None:
    told = "^s3://bucket/events: its files are written to a local folder only$"
    with pytest.raises(gradlog.UsageError, match=told):
        folder_to_write("s3://bucket/events?X-Amz-Signature=word")
