"""Logs in buckets: as moto's S3 has them, and a server of our own with latency and faults."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from bucket_fixtures import KEY, SECRET, credentials, moto, server, service  # noqa: F401
from bucket_server import BucketServer
from stores import add_array, foreign_store, format1_store, network, walk
from zarr.codecs import Crc32cCodec

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.documents import tensor_steps_document
from gradmf.gradlog.documents.document import analysis_document
from gradmf.gradlog.logs.places.access import Access
from gradmf.gradlog.logs.places.finding import place_of
from gradmf.gradlog.logs.places.remote_errors import told_remotely
from gradmf.gradlog.logs.places.remote_url import RemoteUrl

pytestmark = pytest.mark.extras

ROWS = 23


def store_object(key: str, data: bytes) -> None:
    """Put an object into moto's bucket, without a request."""
    from moto.s3.models import s3_backends

    s3_backends["123456789012"]["aws"].put_object("box", key, data)


def upload(folder: Path, prefix: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            store_object(key, path.read_bytes())
    return f"s3://box/{prefix}"


def serve(server: BucketServer, folder: Path, prefix: str = "run.zarr") -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            server.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"s3://bucket/{prefix}"


def document(run: Any) -> dict[str, Any]:
    found = json.loads(json.dumps(analysis_document(gradlog.analyze(run))))
    del found["run"]["path"]
    return found


def own_log(path: Path) -> Path:
    tensors = network(ROWS)
    with gradlog.create_log(path) as log:
        for row in range(ROWS):
            log.append(row, {name: values[row] for name, values in tensors.items()}, loss=float(row))
    return path


def make(layout: str, path: Path) -> Path:
    tensors = network(ROWS)
    if layout == "own":
        return own_log(path)
    if layout == "zstd":
        return format1_store(path, tensors)
    if layout == "v2":
        return foreign_store(path, tensors, zarr_format=2)
    if layout == "raw":
        return format1_store(path, {"w": walk(40, (9, 7), 3)}, chunks=(3, 4, 7), compressors=None)
    if layout == "shards":
        codecs = [Crc32cCodec()]
        return format1_store(
            path, {"w": walk(40, (16, 8), 1)}, chunks=(4, 4, 4), shards=(8, 16, 8), compressors=codecs
        )
    if layout == "shards of zstd":
        return format1_store(path, {"w": walk(40, (16, 8), 1)}, chunks=(4, 4, 4), shards=(8, 16, 8))
    if layout == "bare array":
        array = zarr.create_array(path, shape=(40, 30), chunks=(5, 10), dtype="float32")
        array[...] = walk(40, (30,), 1)
        return path
    assert layout == "ranks"
    for rank in range(2):
        boxes = {"w": {"global_shape": [8, 3], "offset": [4 * rank, 0]}}
        declared = {"rank": rank, "ranks": 2, "run": "r"}
        with gradlog.create_log(path / f"rank-00{rank}", declared=declared, boxes=boxes) as log:
            for row in range(9):
                log.append(row, {"w": walk(9, (4, 3), rank)[row]})
    return path


@pytest.mark.parametrize(
    "layout", ["own", "zstd", "v2", "raw", "shards", "shards of zstd", "bare array", "ranks"]
)
@pytest.mark.usefixtures("moto")
def test_a_log_in_a_bucket_gives_the_same_results(layout: str, tmp_path: Path) -> None:
    path = make(layout, tmp_path / "run.zarr")
    url = upload(path, "deep/run.zarr")
    assert document(url) == document(path)
    assert document(f"{url}/") == document(path)
    here, there = gradlog.describe(path), gradlog.describe(url)
    assert [(t.name, t.chunks, t.shards, t.stored_bytes, t.expected_chunks) for t in there.tensors] == [
        (t.name, t.chunks, t.shards, t.stored_bytes, t.expected_chunks) for t in here.tensors
    ]


@pytest.mark.usefixtures("moto")
def test_more_keys_than_a_page(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", {"w": walk(60, (50,), 1)}, chunks=(1, 2), compressors=None)
    url = upload(path, "run.zarr")
    assert gradlog.describe(url).tensors[0].expected_chunks == 1500
    (path / "grads" / "w" / "c" / "59" / "24").unlink()
    url = upload(path, "other.zarr")
    with pytest.raises(gradlog.DataError, match=r": 1 of 1500 chunks is absent: tensor 'w' rows 59-59; "):
        gradlog.analyze(url)


@pytest.mark.parametrize("layout", ["own", "shards"])
@pytest.mark.usefixtures("moto")
def test_an_absent_chunk_is_told_as_of_a_folder(layout: str, tmp_path: Path) -> None:
    path = make(layout, tmp_path / "run.zarr")
    lost = next(p for p in sorted((path / "grads").rglob("*")) if p.is_file() and p.name != "zarr.json")
    lost.unlink()
    url = upload(path, "run.zarr")
    with pytest.raises(gradlog.DataError) as here:
        gradlog.analyze(path)
    with pytest.raises(gradlog.DataError) as there:
        gradlog.analyze(url)
    assert str(there.value) == str(here.value).replace(str(path), url)


@pytest.mark.parametrize("layout", ["own", "zstd", "shards"])
@pytest.mark.usefixtures("moto")
def test_a_damaged_chunk_is_named(layout: str, tmp_path: Path) -> None:
    path = make(layout, tmp_path / "run.zarr")
    chunk = next(p for p in sorted((path / "grads").rglob("*")) if p.is_file() and p.name != "zarr.json")
    data = bytearray(chunk.read_bytes())
    data[len(data) // 3] ^= 0xFF
    data = data[:-5] if layout == "zstd" else data
    chunk.write_bytes(data)
    with pytest.raises(
        gradlog.DataError, match=r"^s3://box/run.zarr: tensor '.*': chunk .* cannot be decoded"
    ):
        gradlog.analyze(upload(path, "run.zarr"))


def test_words_of_the_command_line(moto: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Globs, results and sketches at URLs, and what reads them again."""
    path = own_log(tmp_path / "run.zarr")
    for name in ("a", "b"):
        upload(path, f"sweep/{name}.zarr")
    assert main(["info", "s3://box/sweep/*.zarr", "--format", "csv", "--columns", "run"]) == 0
    assert set(capsys.readouterr().out.split()[1:]) == {"s3://box/sweep/a.zarr", "s3://box/sweep/b.zarr"}
    assert main(["analyze", "s3://box/sw*/[a]*.zarr", "--format", "json", "-o", "s3://box/out/a.json"]) == 0
    (found,) = json.loads(moto.get_object(Bucket="box", Key="out/a.json")["Body"].read())
    assert found["run"]["path"] == "s3://box/sweep/a.zarr"
    assert main(["compare", "s3://box/out/a.json", "s3://box/sweep/b.zarr", "--format", "json"]) == 0
    capsys.readouterr()
    assert main(["sketch", "s3://box/sweep/a.zarr", "s3://box/small.zarr", "--dim", "64"]) == 0
    assert main(["sketch", str(path), str(tmp_path / "small.zarr"), "--dim", "64"]) == 0
    assert document("s3://box/small.zarr") == document(tmp_path / "small.zarr")
    capsys.readouterr()
    assert main(["sketch", str(path), "s3://box/small.zarr"]) == 2
    assert "s3://box/small.zarr: already there" in capsys.readouterr().err


@pytest.mark.usefixtures("moto")
def test_parts_in_a_bucket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own_log(tmp_path / "run.zarr")
    url = upload(path, "run.zarr")
    for part in ("1/2", "2/2"):
        assert main(["analyze", url, "--part", part, "-o", f"s3://box/parts/{part[0]}"]) == 0
    assert main(["merge", "s3://box/parts/*", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = document(path)["total"]
    lengths = [p["path_length"] for p in found["total"]["predictors"]]
    assert lengths == pytest.approx([p["path_length"] for p in expected["predictors"]], rel=1e-12)
    assert main(["merge", "s3://box/parts/1", "s3://box/parts/3"]) == 1
    assert "s3://box/parts/3: nothing is there" in capsys.readouterr().err


TABLE = "out/run.json.steps.npz"
ASKED = ("--tensor-steps", "--format", "json", "-q")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of tensors by step go beside their document, however few they are."""
    monkeypatch.setattr(tensor_steps_document, "MOST_NUMBERS", 0)


@pytest.mark.usefixtures("tables")
def test_a_long_table_lies_beside_its_document(
    moto: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(own_log(tmp_path / "run.zarr"))
    assert main(["analyze", path, *ASKED, "-o", "s3://box/out/run.json"]) == 0
    assert main(["analyze", path, *ASKED, "-o", str(tmp_path / "run.json")]) == 0
    keys = [found["Key"] for found in moto.list_objects_v2(Bucket="box")["Contents"]]
    assert keys == ["out/run.json", TABLE]
    stored = moto.get_object(Bucket="box", Key=TABLE)["Body"].read()
    assert stored == (tmp_path / "run.json.steps.npz").read_bytes()
    (here,), (there,) = map(gradlog.load_analyses, (tmp_path / "run.json", "s3://box/out/run.json"))
    assert here.tensor_steps is not None
    assert analysis_document(there) == analysis_document(here)
    capsys.readouterr()
    words = ["compare", "s3://box/out/run.json", path]
    assert main(words) == 0
    assert not capsys.readouterr().err
    store_object(TABLE, stored[:-1])
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gradmf: error: s3://box/{TABLE}: changed, cut short or of another result: ")
    moto.delete_object(Bucket="box", Key=TABLE)
    assert main(words) == 1
    assert capsys.readouterr().err == (
        f"gradmf: error: s3://box/{TABLE}: missing, with the sums of tensors by step of "
        "s3://box/out/run.json: keep both files together, or analyze again\n"
    )


@pytest.mark.parametrize(
    ("faults", "asked"),
    [([403], [f"PUT {TABLE}"]), (["none", 403], [f"PUT {TABLE}", "PUT out/run.json", f"DELETE {TABLE}"])],
)
@pytest.mark.usefixtures("tables")
def test_an_upload_that_fails_leaves_neither(
    server: BucketServer,
    faults: list[int | str],
    asked: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the table, or of the document behind it."""
    path = str(own_log(tmp_path / "run.zarr"))
    server.faults = {"run.json": faults}
    assert (
        main(["analyze", path, "--tensor-steps", "--format", "json", "-o", "s3://bucket/out/run.json"]) == 1
    )
    key = "out/run.json" if len(asked) > 1 else TABLE
    assert capsys.readouterr().err.startswith(f"gradmf: error: s3://bucket/{key}: cannot be written: ")
    assert [line for line in server.requests if not line.startswith("LIST")] == asked
    assert server.objects == {}


def test_a_table_that_cannot_be_read_is_told(
    server: BucketServer, tables: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tables is None
    path = str(own_log(tmp_path / "run.zarr"))
    assert (
        main(["analyze", path, "--tensor-steps", "--format", "json", "-o", "s3://bucket/out/run.json"]) == 0
    )
    server.faults = {TABLE: [403]}
    capsys.readouterr()
    assert main(["bounds", "s3://bucket/out/run.json"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gradmf: error: s3://bucket/{TABLE}: access refused (403)")


def test_nothing_is_written_where_results_fail(
    moto: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(tmp_path / "none.zarr"), "-o", "s3://box/out.json"]) == 1
    assert "Contents" not in moto.list_objects_v2(Bucket="box")
    capsys.readouterr()
    assert main(["analyze", str(own_log(tmp_path / "run.zarr")), "-o", "s3://nobox/out.json"]) == 1
    assert capsys.readouterr().err.startswith(
        "gradmf: error: s3://nobox/out.json: there is no bucket 'nobox'"
    )


@pytest.mark.usefixtures("moto")
def test_logs_are_copied_and_imported_to_a_bucket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own_log(tmp_path / "run.zarr")
    assert main(["rechunk", str(path), "s3://box/copies/run.zarr", "-q"]) == 0
    assert document("s3://box/copies/run.zarr")["total"] == document(path)["total"]
    assert main(["rechunk", str(path), "s3://box/copies/run.zarr", "-q"]) == 2
    assert main(["rechunk", "s3://box/copies/run.zarr", "s3://box/copies/run.zarr/inside", "-q"]) == 2
    assert "it lies in the log s3://box/copies/run.zarr" in capsys.readouterr().err
    for step in range(3):
        np.savez(tmp_path / f"step-{step}.npz", weight=np.full((2, 3), 1.0 + step, np.float32))
    sources = [str(tmp_path / f"step-{step}.npz") for step in range(3)]
    assert main(["import", *sources, "-o", "s3://box/imported.zarr", "-q"]) == 0
    assert gradlog.open_log("s3://box/imported.zarr").step.tolist() == [0, 1, 2]
    assert main(["import", *sources, "-o", "s3://nowhere/imported.zarr", "-q"]) == 1


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://nobox/run.zarr", "there is no bucket 'nobox': mind its name"),
        ("s3://box/nothing", "nothing is there: no object has this name or prefix"),
        ("s3://box/none*.zarr", "nothing is there"),
        (
            "s3://box/other",
            "not a Zarr store: the prefix has no zarr.json, .zgroup or .zarray; it holds file",
        ),
        ("s3://box/other/file", "not a Zarr store: an object of 4 bytes"),
        ("s3://box/res.json", "not a Zarr store: JSON: results of gradmf analyze go to gradmf compare"),
        ("s3://box/runs", "not a Zarr store: but 1 inside it, such as s3://box/runs/a.zarr; give that"),
    ],
)
def test_what_is_no_log(url: str, told: str, moto: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for key, body in (("other/file", b"some"), ("res.json", b"{}"), ("runs/a.zarr/zarr.json", b"{}")):
        moto.put_object(Bucket="box", Key=key, Body=body)
    assert main(["analyze", url]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gradmf: error: {url}: {told}")


@pytest.mark.usefixtures("moto")
def test_profiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = upload(own_log(tmp_path / "run.zarr"), "run.zarr")
    (tmp_path / "credentials").write_text(
        f"[research]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert main(["info", url, "--profile", "research"]) == 0
    capsys.readouterr()
    assert main(["info", url, "--profile", "other"]) == 2
    assert "the profile 'other' cannot be used: " in capsys.readouterr().err
    assert main(["info", url]) == 1
    told = capsys.readouterr().err
    assert "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, --profile" in told
    monkeypatch.setenv("AWS_PROFILE", "research")
    assert main(["info", url]) == 0


@pytest.mark.usefixtures("moto")
def test_stores_that_others_opened(tmp_path: Path) -> None:
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    path = make("shards", tmp_path / "run.zarr")
    upload(path, "run.zarr")
    inner = S3Store("box", prefix="run.zarr", client_options={"allow_http": True}, secret_access_key=SECRET)
    store = ObjectStore(inner, read_only=True)
    for opened in (store, zarr.open_group(store, mode="r")):
        log = gradlog.open_log(opened)
        assert SECRET not in log.path
        assert document(log) == document(path)


@pytest.fixture
def run(server: BucketServer, tmp_path: Path) -> str:
    return serve(server, format1_store(tmp_path / "run.zarr", {"w": walk(40, (30,), 1)}, chunks=(5, 10)))


def test_one_request_a_chunk(server: BucketServer, run: str, tmp_path: Path) -> None:
    tensors = {f"layer{number:02}.w": walk(40, (30,), number) for number in range(20)}
    for codecs in (None, "auto"):
        path = format1_store(tmp_path / f"{codecs}.zarr", tensors, chunks=(5, 10), compressors=codecs)
        url = serve(server, path, f"{codecs}.zarr")
        server.requests.clear()
        gradlog.analyze(url)
        chunks = [line for line in server.requests if "/c/" in line and "/step/" not in line]
        assert len(chunks) == len(set(chunks)) == 20 * 8 * 3
        assert sum(line.startswith("LIST") for line in server.requests) <= 6
        assert not any(line.startswith("HEAD") for line in server.requests)
    assert run


def test_a_small_log_is_opened_in_three_waits(server: BucketServer, run: str) -> None:
    """What is asked for together comes in any order; `step` before what else grows, and nothing twice."""
    server.requests.clear()
    gradlog.analyze(run)
    asked = [line.replace("run.zarr/", "") for line in server.requests]
    assert sorted(asked[:3]) == ["GET step/zarr.json", "GET zarr.json", "LIST "]
    assert sorted(asked[3:5]) == ["GET grads/zarr.json", "LIST "]
    assert sorted(asked[5:7]) == ["GET grads/w/zarr.json", "GET step/c/0"]
    assert sorted(asked[7:]) == sorted(
        f"GET grads/w/c/{row}/{column}" for row in range(8) for column in range(3)
    )


def test_what_comes_after_the_survey_of_a_log_is_found(server: BucketServer, run: str) -> None:
    """Of a log that is opened again."""
    assert gradlog.open_log(run).rows == 40
    server.put("run.zarr/extra/zarr.json", server.objects["run.zarr/grads/zarr.json"])
    server.put("run.zarr/grads/v/zarr.json", server.objects["run.zarr/grads/w/zarr.json"])
    assert [tensor.name for tensor in gradlog.open_log(run).tensors] == ["v", "w"]


def test_a_chunk_that_comes_behind_the_survey_is_not_absent(server: BucketServer, run: str) -> None:
    """It was listed before the metadata was read: what lacks then is looked for again."""
    last = server.remove("run.zarr/grads/w/c/7/2")
    log = gradlog.open_log(run)
    server.put("run.zarr/grads/w/c/7/2", last)
    assert gradlog.describe(log).tensors[0].absent_chunks == 0
    server.remove("run.zarr/grads/w/c/7/2")
    assert gradlog.describe(run).tensors[0].absent_chunks == 1
    with pytest.raises(gradlog.DataError, match="1 of 24 chunks is absent"):
        gradlog.analyze(run)


def test_what_fails_once_is_asked_for_again(server: BucketServer, run: str, tmp_path: Path) -> None:
    expected = document(tmp_path / "run.zarr")
    server.faults = {"zarr.json": [500], "/w/c/3/1": ["cut"], "/w/c/2/0": [503], "run.zarr/": [500]}
    assert document(run) == expected
    assert not any(server.faults.values())


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (500, r"tensor 'w': 'grads/w/c/3/1': the service failed \(500\) after 2 tries: try again later$"),
        (403, r"tensor 'w': 'grads/w/c/3/1': access refused \(403\) to a request that was signed: cred"),
        ("hang", r"tensor 'w': 'grads/w/c/3/1': no answer within 0.5 seconds after 2 tries: is the"),
        ("cut", r"tensor 'w': 'grads/w/c/3/1': "),
    ],
)
def test_what_goes_on_failing_is_told_in_a_line(
    fault: int | str, told: str, server: BucketServer, run: str
) -> None:
    server.faults = {"/w/c/3/1": [fault] * 20}
    with (
        gradlog.remote_access(seconds=0.5, retries=1, deadline=3.0),
        pytest.raises(gradlog.DataError, match=f"^{run}: {told}") as caught,
    ):
        gradlog.analyze(run)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None or len(str(caught.value.__cause__)) < 500


def test_what_is_removed_meanwhile_is_not_read_as_zeros(server: BucketServer, run: str) -> None:
    log = gradlog.open_log(run)
    gradlog.describe(log)
    del server.objects["run.zarr/grads/w/c/3/1"]
    with pytest.raises(gradlog.DataError, match=r"'grads/w/c/3/1' was removed while the log was read"):
        gradlog.analyze(log)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "Received redirect without LOCATION, this normally indicates an incorrectly configured region",
            "the bucket is in another region: set AWS_REGION",
        ),
        (
            "status code: 400: <Code>AuthorizationHeaderMalformed</Code> the region 'us-east-1' is wrong; "
            "expecting 'eu-west-1'",
            "the bucket is in eu-west-1: set AWS_REGION=eu-west-1",
        ),
        (
            "status code: 403 Forbidden: <Code>SignatureDoesNotMatch</Code><StringToSign>x</StringToSign>",
            "access refused (403): the secret key does not fit the access key; credentials come from AWS_ACC",
        ),
        ("status code: 429 Too Many Requests", "the service refused the request (429)"),
        (
            f"odd: https://host/key?X-Amz-Signature={SECRET} failed\n\nDebug source:\nGeneric {{ {SECRET} }}",
            "the request failed: odd: failed",
        ),
    ],
)
def test_errors_are_told_by_what_is_known_of_them(text: str, told: str) -> None:
    error = told_remotely(RuntimeError(text), RemoteUrl("s3", "bucket", "run.zarr"), Access())
    assert str(error).startswith(told)
    assert SECRET not in str(error)


def test_a_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with (
        gradlog.remote_access(retries=1),
        pytest.raises(gradlog.DataError, match=r"^s3://bucket/run.zarr: the service cannot be reached after"),
    ):
        gradlog.analyze("s3://bucket/run.zarr")


def test_listings_of_many_chunks_are_asked_for_together(server: BucketServer, tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "run.zarr", attributes={"gradlog": {"version": 1}})
    for name in ("a", "a.b", "b"):
        group.create_array(f"grads/{name}", shape=(40, 100), chunks=(1, 1), dtype="f4", compressors=None)
    add_array(group, "step", np.arange(40))
    url = serve(server, tmp_path / "run.zarr")
    for name in ("a", "a.b", "b"):
        for number in range(4000):
            server.put(f"run.zarr/grads/{name}/c/{number // 100}/{number % 100}", bytes(4))
    del server.objects["run.zarr/grads/a.b/c/7/7"]
    server.requests.clear()
    assert [tensor.absent_chunks for tensor in gradlog.describe(url).tensors] == [0, 1, 0]
    assert sum(line.startswith("LIST") for line in server.requests) <= 12 + 16 + 4


def test_secrets_are_in_no_message_and_no_result(
    server: BucketServer, run: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []
    for faults in ({}, {"run.zarr": [403] * 9}, {"/c/": [500] * 99}, {"zarr.json": ["cut"] * 9}):
        server.faults = dict(faults)
        with gradlog.remote_access(retries=0):
            code = main(["analyze", run, "--format", "json"])
        assert code == (1 if faults else 0)
        out, err = capsys.readouterr()
        shown += [out, err]
        assert len(err.splitlines()) == (1 if faults else 0)
    server.faults = {}
    store = place_of(run).open().store
    shown += [caplog.text, repr(store), str(store), str(gradlog.open_log(run))]
    shown.append(pickle.dumps(store).decode("latin-1"))
    for text in shown:
        assert SECRET not in text
        assert KEY not in text
    assert pickle.loads(pickle.dumps(store)).url == store.url  # type: ignore[attr-defined]


def test_a_local_log_loads_nothing_of_buckets(tmp_path: Path) -> None:
    path = own_log(tmp_path / "run.zarr")
    code = (
        "import sys; from gradmf.cli.main import main; main(['analyze', sys.argv[1]]); "
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in ('obstore', 'boto3')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "name"),
    [(["plot"], "run.png"), (["report"], "run.html"), (["export", "--to", "csv"], "run.csv")],
)
@pytest.mark.usefixtures("moto")
def test_a_bucket_that_is_not_there_is_told_before_anything_is_analyzed(
    words: list[str], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "no-such.zarr", "-o", f"s3://nobox/{name}"]) == 1
    told = capfd.readouterr().err
    assert told.startswith(f"gradmf: error: s3://nobox/{name}: there is no bucket 'nobox'")
    assert "no-such.zarr" not in told


def test_a_profile_without_boto3_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert main(["info", "s3://box/run.zarr", "--profile", "research"]) in (1, 2)
    assert capfd.readouterr().err == (
        "gradmf: error: s3://box/run.zarr with --profile needs the library boto3, which is not installed: "
        "pip install boto3\n"
    )
