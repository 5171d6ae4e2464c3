"""Logs in Google's and Azure's buckets, as a server of our own has them, and in stores that others opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from bucket_server import BucketServer

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.documents.document import analysis_document

pytestmark = pytest.mark.extras

LOG = Path(__file__).parent.parent / "sample_logs" / "charlm-adamw.zarr"
SECRET = "bm90LXRvLWJlLXNlZW4tbm90LXRvLWJlLXNlZW4="


def document(run: Any) -> dict[str, Any]:
    found = json.loads(json.dumps(analysis_document(gradlog.analyze(run))))
    del found["run"]["path"]
    return found


@pytest.fixture(params=["gs", "az"])
def address(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[str, BucketServer]]:
    """The scheme with its separator, and the server that answers it."""
    with BucketServer().serving() as server:
        if request.param == "gs":
            account = {"disable_oauth": True, "gcs_base_url": server.url, "client_email": "somebody"}
            keys = tmp_path / "account.json"
            keys.write_text(json.dumps({**account, "private_key": SECRET, "private_key_id": ""}))
            monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(keys))
            monkeypatch.setenv("GOOGLE_BASE_URL", server.url)
        else:
            monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "somebody")
            monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", SECRET)
            monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", server.url)
        yield f"{request.param}://", server


def test_other_clouds(address: tuple[str, BucketServer], capsys: pytest.CaptureFixture[str]) -> None:
    """A log is put there, found by a pattern, analyzed, and its results written beside it."""
    scheme, server = address
    run = f"{scheme}bucket/sweep/run.zarr"
    assert main(["rechunk", str(LOG), run]) == 0
    assert document(run) == document(LOG)
    assert (
        main(
            [
                "analyze",
                f"{scheme}bucket/sweep/*.zarr",
                "--format",
                "json",
                "-o",
                f"{scheme}bucket/out/run.json",
            ]
        )
        == 0
    )
    [written] = json.loads(server.objects["out/run.json"])
    assert written["run"]["path"] == run
    assert main(["compare", f"{scheme}bucket/out/run.json", str(LOG), "--format", "json"]) == 0
    capsys.readouterr()
    for name, told in (("bucket/none.zarr", "nothing is there"), ("other/run.zarr", "'other'")):
        assert main(["analyze", scheme + name]) == 1
        error = capsys.readouterr().err
        assert f"{scheme}{name}: " in error
        assert told in error
        assert SECRET not in error
        assert error.count("\n") == 1


def test_logs_grow_in_other_clouds(address: tuple[str, BucketServer], tmp_path: Path) -> None:
    """As in a folder, also after a resume; a second writer is refused, as by S3."""
    scheme, server = address
    rng = np.random.default_rng(0)
    rows = [{"a": rng.standard_normal((3, 4)), "b": rng.standard_normal(5)} for _ in range(7)]
    url, folder = f"{scheme}bucket/run.zarr", tmp_path / "run.zarr"
    for place in (url, folder):
        with gradlog.create_log(place) as log:
            for step, row in enumerate(rows[:4]):
                log.append(step, row)
            if place == url:
                with pytest.raises(gradlog.UsageError, match=r"bucket/run\.zarr"):
                    gradlog.create_log(url, resume=True)
        with gradlog.create_log(place, resume=True) as log:
            for step, row in enumerate(rows[4:], 4):
                log.append(step, row)
    assert document(url) == document(folder)
    local = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    there = {key.removeprefix("run.zarr/"): data for key, data in server.objects.items()}
    assert there == local


def test_other_clouds_refuse(address: tuple[str, BucketServer], capsys: pytest.CaptureFixture[str]) -> None:
    scheme, server = address
    for path in LOG.rglob("*"):
        if path.is_file():
            server.put(f"run.zarr/{path.relative_to(LOG).as_posix()}", path.read_bytes())
    server.faults["run.zarr"] = [403] * 9
    assert main(["analyze", f"{scheme}bucket/run.zarr"]) == 1
    error = capsys.readouterr().err
    assert f"{scheme}bucket/run.zarr" in error
    assert "access refused (403)" in error
    assert ("GOOGLE_APPLICATION_CREDENTIALS" if scheme == "gs://" else "AZURE_STORAGE_ACCOUNT_KEY") in error
    assert SECRET not in error


def test_icechunk(tmp_path: Path) -> None:
    """A session's store, or the group in it, read as the log that was copied there."""
    import icechunk

    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    session = repository.writable_session("main")
    copied = zarr.open_group(session.store)
    for path, node in zarr.open_group(LOG, mode="r").members(max_depth=None):
        if isinstance(node, zarr.Group):
            copied.require_group(path)
            continue
        array = copied.create_array(path, shape=node.shape, dtype=node.dtype, chunks=node.chunks)
        array[...] = node[...]
    copied.attrs.update(zarr.open_group(LOG, mode="r").attrs)
    session.commit("a log")
    store = repository.readonly_session("main").store
    expected = document(LOG)
    assert document(store) == expected
    assert document(zarr.open_group(store, mode="r")) == expected


def test_fsspec() -> None:
    import fsspec
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
    from zarr.storage import FsspecStore

    files = AsyncFileSystemWrapper(fsspec.filesystem("file"), asynchronous=True)
    store = FsspecStore(files, read_only=True, path=str(LOG))
    expected = document(LOG)
    assert document(store) == expected
    assert document(zarr.open_group(store, mode="r")) == expected
