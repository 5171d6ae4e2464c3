"""Logs that grow in a bucket: what is there at any moment, who may write, and what becomes of errors."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bucket_fixtures import KEY, SECRET, credentials, moto, server, service  # noqa: F401
from bucket_server import BucketServer
from stores import network, walk
from worker_process import let_end

from gradmf import gradlog
from gradmf.gradlog.documents.document import analysis_document
from gradmf.gradlog.logs import bucket_folder, bucket_lock, uploads
from gradmf.gradlog.logs.bucket_lock import LOCK, BucketLock

pytestmark = pytest.mark.extras

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process forks")
URL = "s3://box/runs/run.zarr"
ROWS = 23
TENSORS = {**network(ROWS), "scale": walk(ROWS, (), 7), "blocks/0/w": walk(ROWS, (5, 4), 8, "float64")}
LAYOUTS: dict[str, dict[str, Any]] = {
    "default": {},
    "large tensors": {"chunk_rows": 1, "chunk_bytes": 150},
    "small tensors": {"chunk_rows": 4, "chunk_bytes": 400},
    "mixed": {"flush_every": 4, "chunk_bytes": 100},
}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of writers that are dead are taken over soon."""
    monkeypatch.setattr(bucket_lock, "LOOK", 0.02)
    monkeypatch.setattr(bucket_lock, "RENEWED", 0.05)
    monkeypatch.setattr(bucket_lock, "FRESH", 0.2)
    monkeypatch.setattr(BucketLock, "stands_still", 0.5)


def write(place: Any, start: int, stop: int, **options: Any) -> None:
    """Rows `start` to `stop` - 1, of training steps ten times as large."""
    with gradlog.create_log(place, **options) as log:
        assert log.rows == start
        assert log.last_step == (10 * (start - 1) if start else None)
        for index in range(start, stop):
            log.append(10 * index, {n: v[index] for n, v in TENSORS.items()}, loss=index / 3)


def files(path: Path) -> dict[str, bytes]:
    """All files below a folder, by their paths."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def objects(client: Any, url: str = URL) -> dict[str, bytes]:
    """All objects below a URL in moto's bucket, by their keys there."""
    prefix = url.removeprefix("s3://box/") + "/"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="box", Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    found = {}
    for key in keys:
        with contextlib.suppress(*(client.exceptions.NoSuchKey,) if key.endswith(LOCK) else ()):
            found[key.removeprefix(prefix)] = client.get_object(Bucket="box", Key=key)["Body"].read()
    return found


def document(run: Any) -> dict[str, Any]:
    found = json.loads(json.dumps(analysis_document(gradlog.analyze(run))))
    del found["run"]["path"]
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_log_in_a_bucket_is_the_one_on_a_disk(layout: str, moto: Any, tmp_path: Path) -> None:
    """Object by object, however it was resumed."""
    options = LAYOUTS[layout]
    write(tmp_path / "run.zarr", 0, ROWS, attributes={"model": "mlp"}, **options)
    write(URL, 0, 9, attributes={"model": "mlp"}, **options)
    write(URL, 9, 14, resume=True, **options)
    write(URL, 12, ROWS, resume=True, after_step=115, **options)
    assert objects(moto) == files(tmp_path / "run.zarr")
    assert document(URL) == document(tmp_path / "run.zarr")
    write(URL, 0, 5, resume=True, after_step=-1, **options)
    write(tmp_path / "short.zarr", 0, 5, attributes={"model": "mlp"}, **options)
    assert objects(moto) == files(tmp_path / "short.zarr")
    write(URL, 0, ROWS, overwrite=True, attributes={"model": "mlp"}, **options)
    assert objects(moto) == files(tmp_path / "run.zarr")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtypes_and_codecs(dtype: str, moto: Any, tmp_path: Path) -> None:
    from zarr.codecs import ZstdCodec

    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    values = walk(9, (3, 2), 1).astype(kind)
    for place in (URL, tmp_path / "run.zarr"):
        for start, stop in ((0, 5), (5, 9)):
            with gradlog.create_log(place, resume=True, compressors=ZstdCodec(level=1)) as log:
                for step in range(start, stop):
                    log.append(step, {"w": values[step]})
    assert objects(moto) == files(tmp_path / "run.zarr")


def test_no_object_of_a_committed_row_is_written_again(server: BucketServer) -> None:
    """But for `step`, the series and metadata, which are replaced whole."""
    with gradlog.create_log("s3://bucket/run.zarr", chunk_rows=4) as log:
        for step in range(20):
            log.append(step, {"w": np.full(3, step), "b": float(step)}, loss=0.0)
    puts = [line.removeprefix("PUT run.zarr/") for line in server.requests if line.startswith("PUT")]
    chunks = [key for key in puts if key.startswith("grads/") and not key.endswith("zarr.json")]
    assert sorted(chunks) == sorted(
        [*(f"grads/w/c.{band}.0" for band in range(5)), *(f"grads/b/c.{band}" for band in range(5))]
    )


def test_step_comes_last(server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks, then the lengths of arrays, then that of `step`: each once all before is there."""
    server.seconds = 0.003
    ended: list[str] = []
    begun: list[tuple[str, int]] = []
    uploader = bucket_folder._uploader

    def watched(*arguments: Any) -> Any:
        upload = uploader(*arguments)

        def one(key: str, data: bytes) -> None:
            begun.append((key, len(ended)))
            upload(key, data)
            ended.append(key)

        return one

    def rank(key: str) -> int:
        if not key.endswith("zarr.json"):
            return 0
        return 2 if key.startswith("step/") else 1

    def in_order(ranks: set[int]) -> None:
        assert {rank(key) for key, _ in begun} == ranks
        for key, number in begun:
            before = [other for other, _ in begun if rank(other) < rank(key)]
            if rank(key) == 1:  # the steps themselves may come at any time
                before = [other for other in before if not other.startswith("step/")]
            assert set(before) <= set(ended[:number]), f"{key} did not wait"
        begun.clear()
        ended.clear()

    monkeypatch.setattr(bucket_folder, "_uploader", watched)
    with gradlog.create_log("s3://bucket/run.zarr", chunk_rows=4) as log:

        def add(rows: int) -> None:
            for _ in range(rows):
                log.append(log.rows, {f"t{n}": np.full(3, log.rows) for n in range(9)}, loss=0.0)

        add(4)
        del begun[:13]  # the root, a group, nine tensors, `loss`, `step`
        in_order({0, 1, 2})
        add(2)
        assert begun == []
        log.flush()
        in_order({0, 1, 2})
    with gradlog.create_log("s3://bucket/other.zarr", chunk_rows=1, flush_every=4) as log:
        begun.clear()
        ended.clear()
        add(1)
        made = {key for key, _ in begun if rank(key)}
        for key, number in begun:
            assert rank(key) or made <= set(ended[:number]), f"{key} came before `step` is there"


def test_uploads_are_several_at_a_time_in_bounded_memory(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PENDING_BYTES", 21_000)
    server.seconds = 0.01
    under_way, most, held, lock = set[str](), 0, list[int](), threading.Lock()
    uploader = bucket_folder._uploader

    def watched(*arguments: Any) -> Any:
        upload = uploader(*arguments)

        def one(key: str, data: bytes) -> None:
            nonlocal most
            with lock:
                under_way.add(key)
                most = max(most, sum("/w/c." in each for each in under_way))
            upload(key, data)
            with lock:
                under_way.remove(key)

        return one

    put = uploads.Uploads.put

    def weighed(self: uploads.Uploads, key: str, data: bytes) -> None:
        put(self, key, data)
        held.append(sum(self._pending.values()))

    monkeypatch.setattr(bucket_folder, "_uploader", watched)
    monkeypatch.setattr(uploads.Uploads, "put", weighed)
    with gradlog.create_log("s3://bucket/run.zarr", chunk_rows=1, chunk_bytes=9000) as log:
        for step in range(3):
            log.append(step, {"w": np.full((100, 250), step)})
    assert 3 <= most <= 4  # chunks of 5,004 bytes
    assert 15_000 < max(held) <= 21_000
    assert gradlog.analyze("s3://bucket/run.zarr").run.rows == 3


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.usefixtures("hasty")
def test_a_tensor_that_appears_late(
    kill: bool, moto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers find it whole or not at all, also where the writer ends in the midst of making it."""

    def train(place: Any, start: int, stop: int) -> None:
        with gradlog.create_log(place, chunk_rows=4, missing="zero", resume=True) as log:
            assert log.rows == start
            for step in range(start, stop):
                late = {"experts/late": np.full(3, step)} if step > 8 else {}
                log.append(step, {"w": np.full(2, step), **late})
                log.flush()

    train(tmp_path / "run.zarr", 0, 12)
    train(URL, 0, 8)
    if kill:
        put = uploads.Uploads.put

        def dies(self: uploads.Uploads, key: str, data: bytes) -> None:
            if "late/c.1" in key:
                self.wait()  # for the chunk before, which is to be there
                raise MemoryError
            put(self, key, data)

        with monkeypatch.context() as patch:
            patch.setattr(uploads.Uploads, "put", dies)
            patch.setattr(gradlog.LogWriter, "close", lambda _: None)
            with pytest.raises(MemoryError):
                train(URL, 8, 12)
        gc.collect()
        assert "grads/experts/late/c.0.0" in objects(moto)
        assert [tensor.name for tensor in gradlog.open_log(URL).tensors] == ["w"]
        assert gradlog.analyze(URL).run.rows == 9
        write_again = gradlog.create_log(URL, resume=True)
        assert not [key for key in objects(moto) if "late" in key]
        write_again.close()
        train(URL, 9, 12)
    else:
        train(URL, 8, 12)
    assert objects(moto) == files(tmp_path / "run.zarr")


def test_a_late_tensor_whose_zeros_cannot_be_uploaded_is_given_again(server: BucketServer) -> None:
    with (
        gradlog.remote_access(retries=0),
        gradlog.create_log("s3://bucket/run.zarr", chunk_rows=2, missing="zero") as log,
    ):
        for step in range(5):
            log.append(step, {"w": [1.0]})
        server.faults = {"late/c.1": [403]}
        row = {"w": [1.0], "late": [2.0]}
        with pytest.raises(
            gradlog.DataError, match=r"^s3://bucket/run.zarr: cannot be written: 'grads/late/"
        ):
            log.append(5, row)
        assert log.rows == 5
        log.append(5, row)
    found = gradlog.open_log("s3://bucket/run.zarr")
    late = next(tensor for tensor in found.tensors if tensor.name == "late")
    assert np.asarray(late.array[...]).ravel().tolist() == [0, 0, 0, 0, 0, 2]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("moto", "hasty")
@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}, {}])
def test_a_second_writer_is_refused(options: dict[str, bool]) -> None:
    """In this process at once, in another as soon as the lock is seen to be renewed."""
    script = f"""
from gradmf import gradlog
try:
    gradlog.create_log({URL!r}, **{options})
except gradlog.UsageError as error:
    print(error)
"""
    told = f"{URL}: somebody else is writing this log (process {os.getpid()} on "
    with gradlog.create_log(URL) as log:
        log.append(0, {"w": [1.0]})
        log.flush()
        if not options:
            told = f"{URL}: already there"
        for _ in range(2):
            with pytest.raises(gradlog.UsageError) as caught:
                gradlog.create_log(URL, **options)  # type: ignore[arg-type]
            assert str(caught.value).startswith(told)
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.startswith(told), done.stdout + done.stderr
        log.append(1, {"w": [2.0]})
    with gradlog.create_log(URL, resume=True) as log:
        log.append(2, {"w": [3.0]})
    assert gradlog.open_log(URL).rows == 3


@pytest.mark.usefixtures("hasty")
def test_a_writer_that_begins_first_wins_where_two_begin(moto: Any) -> None:
    """Of many that begin at once one is given the log, and the others are told."""
    found: list[Any] = []

    def begin() -> None:
        try:
            found.append(gradlog.create_log(URL, resume=True))
        except gradlog.UsageError as error:
            found.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writers = [each for each in found if isinstance(each, gradlog.LogWriter)]
    assert len(writers) == 1
    assert all("somebody else is writing this log" in each for each in found if isinstance(each, str))
    writers[0].close()
    assert LOCK not in objects(moto)


@pytest.mark.usefixtures("hasty")
def test_a_writer_that_was_stopped_does_not_write_over_the_next(
    moto: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back when its lock was taken over, and finds out before it uploads anything."""
    with monkeypatch.context() as patch:
        patch.setattr(BucketLock, "_keep", lambda self: self._ended.wait())
        stopped = gradlog.create_log(URL, chunk_rows=1)
    stopped.append(0, {"w": [1.0]})
    begun = time.monotonic()
    monkeypatch.setattr(bucket_lock, "_held", set())  # as in another process
    with pytest.warns(RuntimeWarning, match=rf"^{URL}: its writer \(process .* seems to have been killed"):
        log = gradlog.create_log(URL, resume=True)
    with log:
        assert time.monotonic() - begun > 0.5
        log.append(1, {"w": [2.0]})
        log.flush()
        before = objects(moto)
        for _ in range(2):
            told = rf"^{URL}: another writer \(process {os.getpid()} on .*\) took this log over: this one was"
            with pytest.raises(gradlog.UsageError, match=told):
                stopped.append(1, {"w": [3.0]})
        assert {**objects(moto), LOCK: b""} == {**before, LOCK: b""}
        log.append(2, {"w": [3.0]})
    assert gradlog.open_log(URL).rows == 3


@pytest.mark.usefixtures("hasty")
def test_a_log_that_is_removed_meanwhile_is_told(moto: Any) -> None:
    log = gradlog.create_log(URL, chunk_rows=1)
    log.append(0, {"w": [1.0]})
    for key in objects(moto):
        moto.delete_object(Bucket="box", Key=f"runs/run.zarr/{key}")
    time.sleep(0.4)
    with pytest.raises(gradlog.UsageError, match=rf"^{URL}: its lock is gone: was the log removed"):
        log.append(1, {"w": [1.0]})
    assert objects(moto) == {}


@pytest.mark.usefixtures("hasty")
def test_a_writer_that_nobody_closed_lets_the_log_go(moto: Any) -> None:
    log = gradlog.create_log(URL, chunk_rows=1)
    log.append(0, {"w": [1.0]})
    assert LOCK in objects(moto)
    del log
    gc.collect()
    write_more = gradlog.create_log(URL, resume=True)
    assert write_more.rows == 1
    write_more.close()
    assert not any(
        thread.name in ("gradmf-lock", "gradmf-upload") for thread in _ended(threading.enumerate())
    )
    assert LOCK not in objects(moto)


def _ended(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Those that don't end soon."""
    for thread in threads:
        if thread.name in ("gradmf-lock", "gradmf-upload"):
            thread.join(2)
    return [thread for thread in threads if thread.is_alive()]


@pytest.mark.parametrize("retries", [0, 4])
def test_a_lock_whose_answers_are_lost(
    retries: int, server: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has done what it was asked for, and the client asks again."""
    monkeypatch.setattr(bucket_lock, "RENEWED", 60.0)
    server.faults = {LOCK: ["cut"]}
    with (
        gradlog.remote_access(retries=retries),
        gradlog.create_log("s3://bucket/run.zarr", chunk_rows=1) as log,
    ):
        assert not server.faults[LOCK]
        log._folder._lock._renewed -= 100.0  # type: ignore[attr-defined]
        server.faults = {LOCK: ["cut"]}
        log.append(0, {"w": [1.0]})
        assert not server.faults[LOCK]
    assert gradlog.open_log("s3://bucket/run.zarr").rows == 1


def test_a_log_that_is_overwritten_is_none_at_once(server: BucketServer) -> None:
    """Whatever of it is still there when a kill falls is no log, and can be overwritten."""
    for _ in range(2):
        server.requests.clear()
        with gradlog.create_log("s3://bucket/run.zarr", chunk_rows=1, overwrite=True) as log:
            for step in range(30):
                log.append(step, {"w": [1.0]}, loss=1.0)
    gone = [line.removeprefix("DELETE run.zarr/") for line in server.requests if line.startswith("DELETE")]
    assert gone[0] == "step/zarr.json"
    assert gone[-2:] == ["zarr.json", LOCK]
    assert len(gone) == 30 + 30 + 30 + 4 + 2


@needs_fork
@pytest.mark.usefixtures("server")
def test_a_process_that_was_forked_is_told() -> None:
    """It has neither the threads that upload nor the lock, which stays its parent's."""
    log = gradlog.create_log("s3://bucket/run.zarr", chunk_rows=1)
    log.append(0, {"w": [1.0]})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            log.append(1, {"w": [1.0]})
        except gradlog.UsageError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        assert told.read().startswith(
            "s3://bucket/run.zarr: written by another process, of which this one is"
        )
    os.waitpid(child, 0)
    log.append(1, {"w": [1.0]})
    log.close()
    assert gradlog.open_log("s3://bucket/run.zarr").rows == 2


def test_what_fails_once_is_uploaded_again(server: BucketServer, tmp_path: Path) -> None:
    server.faults = {"/w/c.3": [500], "/b/c.1": ["cut"], "step/zarr.json": [503], "loss/c.0": [500, "cut"]}
    for place in ("s3://bucket/run.zarr", tmp_path / "run.zarr"):
        with gradlog.create_log(place, chunk_rows=2) as log:
            for step in range(9):
                log.append(step, {"w": np.full(3, step), "b": [1.0]}, loss=float(step))
    assert not any(server.faults.values())
    found = {key.removeprefix("run.zarr/"): data for key, data in server.objects.items()}
    assert found == files(tmp_path / "run.zarr")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (500, r"the service failed \(500\) after 2 tries: try again later"),
        (403, r"access refused \(403\) to a request that was signed: credentials come from AWS_"),
        ("hang", r"no answer within 1 seconds after 2 tries: is the service reached from here\?"),
    ],
)
@pytest.mark.parametrize("place", ["/w/c.", "w/zarr.json", "step/c.", "step/zarr.json"])
def test_a_row_that_cannot_be_uploaded_is_told_and_may_come_again(
    fault: int | str, told: str, place: str, server: BucketServer, tmp_path: Path
) -> None:
    url = "s3://bucket/run.zarr"
    with gradlog.remote_access(seconds=0.5, retries=1, deadline=3.0):
        log = gradlog.create_log(url, chunk_rows=2)
    for step in range(3):
        log.append(step, {"w": np.full(3, step)}, loss=float(step))
    server.faults = {place: [fault] * 2}
    with pytest.raises(
        gradlog.DataError, match=f"^{url}: cannot be written: '.*{place}.*': {told}"
    ) as caught:
        log.append(3, {"w": np.full(3, 9)}, loss=0.0)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert (log.rows, log.committed, log.last_step) == (3, 2, 2)
    server.faults = {}
    assert gradlog.open_log(url).rows == 2
    log.append(3, {"w": np.full(3, 3)}, loss=3.0)
    log.append(4, {"w": np.full(3, 4)}, loss=4.0)
    log.close()
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=2) as whole:
        for step in range(5):
            whole.append(step, {"w": np.full(3, step)}, loss=float(step))
    assert {k.removeprefix("run.zarr/"): v for k, v in server.objects.items()} == files(tmp_path / "run.zarr")


def test_a_row_whose_chunk_cannot_be_uploaded_was_not_added(server: BucketServer) -> None:
    """Also where nothing is committed with it."""
    with gradlog.create_log("s3://bucket/run.zarr", chunk_rows=1, flush_every=10) as log:
        log.append(0, {"w": [0.0]})
        server.faults = {"/w/c.1": [403]}
        with pytest.raises(gradlog.DataError, match=r"'grads/w/c\.1\.0': access refused \(403\)"):
            log.append(1, {"w": [1.0]})
        assert (log.rows, log.last_step) == (1, 0)
        log.append(2, {"w": [2.0]})
    assert gradlog.open_log("s3://bucket/run.zarr").step.tolist() == [0, 2]
    assert gradlog.analyze("s3://bucket/run.zarr").total.energy == 4.0


def test_an_upload_may_take_longer_than_the_wait_for_a_byte(server: BucketServer) -> None:
    """Its own bytes are sent first, and several share the network."""
    with gradlog.remote_access(seconds=0.6, retries=0):
        log = gradlog.create_log("s3://bucket/run.zarr", chunk_rows=1)
    server.seconds = 0.8
    log.append(0, {"w": [1.0]})
    server.seconds = 0.0
    log.close()
    assert gradlog.open_log("s3://bucket/run.zarr").rows == 1


@pytest.mark.parametrize(
    ("url", "options", "kind", "told"),
    [
        ("s3://nobox/run.zarr", {}, gradlog.DataError, "there is no bucket 'nobox': mind its name"),
        ("s3://nobox/run.zarr", {"resume": True}, gradlog.DataError, "there is no bucket 'nobox'"),
        ("s3://box", {}, gradlog.UsageError, "a whole bucket: give a path inside of it"),
        ("s3://box/other", {}, gradlog.UsageError, "already there; choose another path, resume or overwrite"),
        ("s3://box/other", {"resume": True}, gradlog.UsageError, "not a Zarr store, so not resumed"),
        ("s3://box/other", {"overwrite": True}, gradlog.UsageError, "not a Zarr store, so not overwritten"),
        ("s3://box/other/file", {"resume": True}, gradlog.UsageError, "an object, and logs are folders"),
        ("s3://box/new", {"fsync": True}, gradlog.UsageError, "fsync is of disks"),
        ("s3://box/new", {"after_step": 1}, gradlog.UsageError, "after_step says where to resume"),
        ("https://box/new", {}, gradlog.UsageError, "plain HTTP cannot be listed"),
    ],
)
def test_where_no_log_can_be_written(
    url: str, options: dict[str, Any], kind: type[Exception], told: str, moto: Any
) -> None:
    moto.put_object(Bucket="box", Key="other/file", Body=b"some")
    with pytest.raises(kind, match=f"^{url}: {told}") as caught:
        gradlog.create_log(url, **options)
    assert "\n" not in str(caught.value)
    assert moto.list_objects_v2(Bucket="box")["KeyCount"] == 1


@pytest.mark.parametrize("key", ["run.zarr/", LOCK])
def test_a_service_that_refuses(key: str, server: BucketServer) -> None:
    server.faults = {key: [403] * 9}
    told = r"^s3://bucket/run.zarr: .*access refused \(403\) to a request that was signed"
    with pytest.raises(gradlog.DataError, match=told):
        gradlog.create_log("s3://bucket/run.zarr")
    assert server.objects == {}


def test_a_service_without_conditional_requests(server: BucketServer) -> None:
    server.faults = {LOCK: [501] * 9}
    told = r"^s3://bucket/run.zarr: the service knows no conditional requests \(If-None-Match\), by which"
    with pytest.raises(gradlog.UsageError, match=told):
        gradlog.create_log("s3://bucket/run.zarr")


def test_a_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with (
        gradlog.remote_access(retries=1),
        pytest.raises(gradlog.DataError, match=r"^s3://bucket/run.zarr: the service cannot be reached after"),
    ):
        gradlog.create_log("s3://bucket/run.zarr")


MISMATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"w": np.ones((2, 3), "f4"), "b": np.float64(1)}, r"'w' is float32\[2, 3\].*\[3, 2\]"),
    "dtype": ({"w": np.ones((3, 2), "f8"), "b": np.float64(1)}, "'w' is float64.*float32"),
    "names": ({"w": np.ones((3, 2), "f4")}, "no gradient of 'b'"),
}


@pytest.mark.usefixtures("moto")
@pytest.mark.parametrize(("row", "told"), MISMATCHES.values(), ids=MISMATCHES.keys())
def test_rows_unlike_those_stored(row: dict[str, Any], told: str) -> None:
    good = {"w": np.ones((3, 2), "f4"), "b": np.float64(1)}
    with gradlog.create_log(URL, chunk_rows=2) as log:
        for step in range(5):
            log.append(step, good, loss=0.5)
    with gradlog.create_log(URL, resume=True) as log:
        with pytest.raises(gradlog.UsageError, match=rf"^{URL}: row 5: .*{told}"):
            log.append(5, row, loss=0.5)
        log.append(5, good, loss=0.5)
    assert gradlog.open_log(URL).rows == 6


def test_damage_is_told_and_left_as_it_is(moto: Any) -> None:
    write(URL, 0, 10, chunk_rows=4, chunk_bytes=400)
    last = sorted(key for key in objects(moto) if key.startswith("grads/scale/c."))[-1]
    moto.delete_object(Bucket="box", Key=f"runs/run.zarr/{last}")
    before = objects(moto)
    told = rf"^{URL}: rows 8 to 9 of 'scale' cannot be read.*absent; after_step below 80 cuts them"
    with pytest.raises(gradlog.DataError, match=told):
        gradlog.create_log(URL, resume=True)
    assert objects(moto) == before
    write(URL, 8, 12, resume=True, after_step=79)
    assert gradlog.analyze(URL).run.rows == 12


def test_a_rank_writes_its_own_url(moto: Any, tmp_path: Path) -> None:
    for root in (tmp_path / "run.zarr", URL):
        for rank in range(2):
            boxes = {"w": {"global_shape": [8, 3], "offset": [4 * rank, 0]}}
            declared = {"rank": rank, "ranks": 2, "run": "r"}
            with gradlog.create_log(f"{root}/rank-00{rank}", declared=declared, boxes=boxes) as log:
                for row in range(9):
                    log.append(row, {"w": walk(9, (4, 3), rank)[row]})
    assert objects(moto) == files(tmp_path / "run.zarr")
    assert document(URL) == document(tmp_path / "run.zarr")


MADE = """
import numpy as np

def gradients(step, seed=0):
    rng = np.random.default_rng([step, seed])
    row = {"w": rng.standard_normal((30, 40)), "b": rng.standard_normal((), np.float32)}
    row["expert/0"] = rng.standard_normal(5) if step % 3 else None
    return row | ({"late": rng.standard_normal((2, 2))} if step >= 6 else {})
"""

WORKER = (
    MADE
    + """
import json, os, signal, sys, time, traceback
from gradmf import gradlog
from gradmf.gradlog.logs import bucket_folder, bucket_lock

bucket_lock.LOOK, bucket_lock.RENEWED, bucket_lock.FRESH = 0.02, 0.05, 0.2
bucket_lock.BucketLock.stands_still = 0.4
# In "mixed", "w" has a chunk a row, and the others are gathered.
LAYOUTS = {
    "tall": {"chunk_rows": 4, "chunk_bytes": 9000}, "mixed": {"flush_every": 4, "chunk_bytes": 3000},
}

def train(place, stop, layout, kill_at=0, after_step=None, seconds=0.0, seeds=(0, 0)):
    seen = 0
    uploader = bucket_folder._uploader
    def counted(*arguments):
        upload = uploader(*arguments)
        def one(key, data):
            nonlocal seen
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            upload(key, data)
        return one
    bucket_folder._uploader = counted
    options = {"resume": True, "missing": "zero", **LAYOUTS[layout]}
    with gradlog.create_log(place, after_step=after_step, **options) as log:
        for step in range(0 if log.last_step is None else log.last_step + 1, stop):
            seed = seeds[after_step is not None and step > after_step]
            log.append(step, gradients(step, seed), loss=step / 7)
            if step % 5 == 2:
                log.flush()
            time.sleep(seconds)

if __name__ == "__main__":
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                train(**task)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(os.waitpid(child, 0)[1], flush=True)
"""
)


class Trainer:
    """Trainings in processes of their own: each resumes the log, and may be killed before an upload."""

    def __init__(self, script: Path) -> None:
        script.write_text(WORKER)
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        scope: dict[str, Any] = {}
        exec(MADE, scope)
        self.gradients = functools.cache(scope["gradients"])

    def begin(self, place: Any, stop: int, layout: str, **task: Any) -> None:
        assert self.process.stdin is not None
        order = {"place": str(place), "stop": stop, "layout": layout, **task}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def ended(self) -> bool:
        """Whether it came to its end; False when it was killed."""
        assert self.process.stdout is not None
        status = int(self.process.stdout.readline())
        assert status in (0, signal.SIGKILL), "training failed"
        return status == 0

    def train(self, place: Any, stop: int, layout: str, **task: Any) -> bool:
        self.begin(place, stop, layout, **task)
        return self.ended()

    def check(self, url: str, seeds: tuple[int, int] = (0, 0), split: int = -1) -> int:
        """Committed rows, all of which are as they were logged; 0 for a log that says it has none."""
        try:
            log = gradlog.open_log(url)
        except gradlog.DataError as error:
            assert any(told in str(error) for told in EARLY), error  # noqa: PT017
            return 0
        assert all(tensor.absent_chunks == 0 for tensor in gradlog.describe(url).tensors)
        assert log.step.tolist() == list(range(log.rows))
        for tensor in log.tensors:
            stored = np.asarray(tensor.array[: log.rows])  # type: ignore[attr-defined]
            rows = [self.gradients(step, seeds[step > split]).get(tensor.name) for step in range(log.rows)]
            none = np.zeros(tensor.shape)
            np.testing.assert_array_equal(stored, [none if row is None else row for row in rows])
        return log.rows


EARLY = (
    "nothing is there",
    "nothing was logged yet",
    "without its `step`",
    "no gradient arrays",
    "not a Zarr",
)
"""What is said of a log without a committed row."""


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    found = Trainer(tmp_path / "worker.py")
    yield found
    let_end(found.process)


@needs_fork
@pytest.mark.parametrize("kills", [5, pytest.param(24, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", ["tall", "mixed"])
def test_kills_at_any_time(layout: str, kills: int, moto: Any, trainer: Trainer, tmp_path: Path) -> None:
    """Nothing that was committed is lost, and the log goes on to be the one that nobody killed."""
    rng = np.random.default_rng(kills)
    rows = 0
    for kill in range(kills):
        assert not trainer.train(URL, 10**6, layout, kill_at=int(rng.integers(1, 90) if kill else 5))
        found = trainer.check(URL)
        assert found >= rows, "committed rows were lost"
        assert not found or gradlog.analyze(URL).run.rows == found
        rows = found
    assert rows > kills
    stop = rows + 5
    assert trainer.train(URL, stop, layout)
    assert trainer.train(tmp_path / "whole.zarr", stop, layout)
    assert trainer.check(URL) == stop
    assert objects(moto) == files(tmp_path / "whole.zarr")


@needs_fork
@pytest.mark.parametrize("every", [11, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("after", [5, -1])
def test_kills_in_a_restart(after: int, every: int, server: BucketServer, trainer: Trainer) -> None:
    """Training goes on from a checkpoint and logs other rows: the same after a kill before any upload."""
    url, again = "s3://bucket/run.zarr", {"after_step": after, "seeds": (0, 1)}
    assert trainer.train(url, 10, "mixed")
    base = dict(server.objects)
    assert trainer.train(url, 18, "mixed", **again)
    expected = dict(server.objects)
    survived = False
    for kill_at in (1, 2, *range(3, 1000, every)):
        server.restore(base)
        survived = trainer.train(url, 18, "mixed", kill_at=kill_at, **again)
        told = f"killed before upload {kill_at}"
        try:
            rows = trainer.check(url, (0, 1), after)
        except AssertionError:  # nothing was cut yet
            assert trainer.check(url) == 10, told
            rows = 10
        assert rows >= after + 1, told
        assert trainer.train(url, 18, "mixed", **again)
        assert server.objects == expected, told
        if survived:
            break
    assert survived
    assert kill_at > 50


@needs_fork
@pytest.mark.usefixtures("moto")
def test_a_log_is_read_while_it_is_written(trainer: Trainer) -> None:
    """A prefix of its rows, and never a wrong number."""
    stop = 60
    trainer.begin(URL, stop, "mixed", seconds=0.02)
    seen: dict[int, tuple[float, float]] = {}
    while stop not in seen:
        try:
            found = gradlog.analyze(URL)
        except gradlog.DataError as error:
            assert any(told in str(error) for told in EARLY), error  # noqa: PT017
            assert not seen, "rows that were there are gone"
            continue
        assert found.run.rows >= max(seen, default=0)
        seen[found.run.rows] = found.total.energy, found.total.predictors[1].path_length
    assert trainer.ended()
    assert len(seen) > 5
    rows = [trainer.gradients(step) for step in range(stop)]
    shapes = {name: np.shape(value) for name, value in rows[7].items()}
    zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
    full = [zeros | {name: value for name, value in row.items() if value is not None} for row in rows]
    flat = np.array([np.concatenate([np.asarray(v, float).ravel() for v in row.values()]) for row in full])
    squares, steps = (flat**2).sum(axis=1), (np.diff(flat, axis=0) ** 2).sum(axis=1)
    for count, (energy, path_length) in seen.items():
        assert energy == pytest.approx(squares[:count].sum(), rel=1e-9)
        assert path_length == pytest.approx(squares[0] + steps[: count - 1].sum(), rel=1e-9)
