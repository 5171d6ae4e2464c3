"""Analyses on a real Dask cluster of processes: same bits, whatever happens to workers; errors in a line."""

from __future__ import annotations

import json
import os
import pickle
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
import zarr
from stores import foreign_store, network, walk
from test_cluster import in_parts, stored
from test_parts import make_parts, text

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.cluster import dask_workers, part_tasks
from gradmf.gradlog.cluster.cluster import Cluster, taken_by
from gradmf.gradlog.cluster.dask_workers import DaskWorkers
from gradmf.gradlog.documents import tensor_steps_document

pytestmark = [pytest.mark.extras, pytest.mark.filterwarnings("default")]

PROGRAM = [sys.executable, "-m", "gradmf"]


def cluster_of(workers: int, threads: int = 1) -> Any:
    """Processes of so many threads each, as `local:N` makes them of one."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers, threads_per_worker=threads, memory_limit=0, dashboard_address=":0",
        silence_logs=50,
    )  # fmt: skip


@pytest.fixture(scope="module")
def service() -> Iterator[Any]:
    """A cluster of two processes of one thread, as `local:2` makes it."""
    with cluster_of(2) as cluster:
        yield cluster


@pytest.fixture
def workers(service: Any) -> Iterator[DaskWorkers]:
    with dask_workers.open_workers(service.scheduler_address, patience=3.0) as found:
        yield found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "run.zarr"
    group = zarr.open_group(path, mode="w")
    for name, shape, chunks in (
        ("big", (300, 500), (10, 20, 500)),
        ("a", (7,), (10, 7)),
        ("z", (900,), (10, 90)),
    ):
        values = walk(40, shape, len(name))
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)[...] = values
    return path


@pytest.mark.parametrize("count", [1, 3, 8, 20])
def test_the_bits_are_those_of_merge(workers: DaskWorkers, run: Path, tmp_path: Path, count: int) -> None:
    options = gradlog.Settings(windows=3)
    with taken_by(Cluster(workers, count)):
        found = gradlog.analyze(run, options)
    assert text(found) == text(in_parts(run, count, options))
    assert text(found) == text(gradlog.merge_parts(make_parts(run, tmp_path, count, options)))
    assert workers.count == 2


def test_the_command_prints_what_one_process_prints(
    service: Any, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["analyze", "--parts", "4"], ["bounds"], ["advise"]):
        words = [command[0], str(run), "--format", "csv"]
        assert main([*words, "--dask", service.scheduler_address, *command[1:]]) == 0
        found, told = capsys.readouterr()
        assert "2 workers of Dask at tcp://127.0.0.1:" in told
        assert main(words) == 0
        expected = capsys.readouterr().out
        assert found.count("\n") == expected.count("\n")
        assert [line.split(",")[:5] for line in found.splitlines()] == [
            line.split(",")[:5] for line in expected.splitlines()
        ]


def test_a_long_table_lies_beside_its_document(
    service: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_steps_document, "MOST_NUMBERS", 0)
    words = ["analyze", str(run), "--tensor-steps", "--format", "json", "-q", "--parts", "4"]
    out = tmp_path / "run.json"
    assert main([*words, "--dask", service.scheduler_address, "-o", str(out)]) == 0
    (found,) = gradlog.load_analyses(out)
    assert (tmp_path / "run.json.steps.npz").exists()
    expected = in_parts(run, 4, gradlog.Settings(), tensor_steps=True)
    assert text(found) == text(expected)


def test_sketches_are_those_of_parts_in_one_process(
    service: Any, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--dask", service.scheduler_address, "--parts", "5", "-q"]
    assert main(["sketch", str(run), str(tmp_path / "far.zarr"), "--dim", "256", *where]) == 0
    with gradlog.on_cluster(parts=5):
        gradlog.sketch_log(run, tmp_path / "here.zarr", gradlog.Settings(sketch_dim=256))
    found, expected = stored(tmp_path / "far.zarr"), stored(tmp_path / "here.zarr")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    capsys.readouterr()
    for words, path, options in (
        (["--project", "256"], run, gradlog.Settings(project=256)),
        ([], tmp_path / "far.zarr", gradlog.Settings()),
    ):
        assert main(["analyze", str(path), *words, "--format", "json", *where]) == 0
        document = json.loads(capsys.readouterr().out)
        here = json.loads(text(in_parts(path, 5, options)))
        for key in here.keys() - {"cost"}:
            assert document[key] == here[key], key


def test_many_runs_and_one_that_fails(
    service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(foreign_store(tmp_path / f"run{at:02}.zarr", network(12))) for at in range(20)]
    (tmp_path / "run07.zarr" / "zarr.json").unlink()
    words = ["analyze", *paths, "--format", "jsonl"]
    assert main([*words, "--dask", service.scheduler_address, "-q"]) == 1
    found, told = capsys.readouterr()
    assert main([*words, "-q"]) == 1
    expected = capsys.readouterr()

    def documents(lines: str) -> list[Any]:
        return [{**json.loads(line), "cost": None} for line in lines.splitlines()]

    assert documents(found) == documents(expected.out)
    assert [d["run"]["path"] for d in documents(found)] == [path for path in paths if "run07" not in path]
    assert told == expected.err
    assert "run07.zarr: " in told


def test_comparisons_are_the_same(service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(foreign_store(tmp_path / f"run{at}.zarr", network(40))) for at in range(3)]
    words = ["compare", *paths, "--format", "csv"]
    assert main([*words, "--dask", service.scheduler_address, "-q"]) == 0
    found = capsys.readouterr().out
    assert main(words) == 0
    assert found == capsys.readouterr().out


def test_a_worker_that_is_killed_costs_nothing_but_time(run: Path) -> None:
    """Killed while it holds sums of parts: they are taken again, and the bits stay."""
    with (
        cluster_of(2) as cluster,
        dask_workers.open_workers(cluster.scheduler_address) as workers,
    ):
        pids = workers.client.run(os.getpid)
        killed: list[int] = []

        def kill(done: int, total: int) -> None:
            held = workers.client.has_what()
            for address, keys in held.items():
                if keys and not killed and done < total:
                    killed.append(pids[address])
                    os.kill(pids[address], signal.SIGKILL)

        with taken_by(Cluster(workers, 60)):
            found = gradlog.analyze(run, progress=kill)
        assert killed
        assert text(found) == text(in_parts(run, 60, gradlog.Settings()))


def test_nothing_is_left_after_an_error_or_an_interrupt(workers: DaskWorkers, run: Path) -> None:
    class StopError(Exception):
        pass

    def stop(_done: int, _total: int) -> None:
        raise StopError

    with pytest.raises(StopError), taken_by(Cluster(workers, 200)):
        gradlog.analyze(run, progress=stop)
    _wait_until(lambda: not workers.client.run_on_scheduler(_tasks))


def _tasks(dask_scheduler: Any) -> list[str]:
    return [str(key) for key in dask_scheduler.tasks]


def _wait_until(is_so: Any, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_interrupted_command_ends_at_once_and_leaves_no_task(
    service: Any, workers: DaskWorkers, run: Path
) -> None:
    command = [*PROGRAM, "analyze", str(run), "--dask", service.scheduler_address, "--parts", "4000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        _wait_until(lambda: len(workers.client.run_on_scheduler(_tasks)) > 100, 60)
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in told
    _wait_until(lambda: not workers.client.run_on_scheduler(_tasks))


def test_errors_are_those_of_one_process(workers: DaskWorkers, run: Path, tmp_path: Path) -> None:
    damaged = foreign_store(tmp_path / "damaged.zarr", {"a": walk(30, (50,), 1)}, chunks=(10, 50))
    (damaged / "a" / "c" / "1" / "0").write_bytes(b"nothing of the kind")
    with pytest.raises(gradlog.DataError) as alone:
        gradlog.analyze(damaged)
    with taken_by(Cluster(workers, 3)), pytest.raises(gradlog.DataError) as found:
        gradlog.analyze(damaged)
    assert str(found.value) == str(alone.value)
    with taken_by(Cluster(workers, 3)), pytest.raises(gradlog.UsageError, match="no parts"):
        gradlog.analyze(run, gradlog.Settings(rank="incremental"))


def test_a_store_that_workers_do_not_see(workers: DaskWorkers, tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", network())

    with pytest.MonkeyPatch.context() as patch, taken_by(Cluster(workers, 2)):
        patch.setattr(part_tasks, "PassTask", _elsewhere_task(part_tasks.PassTask))
        with pytest.raises(
            gradlog.StoreNotFoundError, match=r"run\.zarr: worker tcp://.* sees nothing there"
        ):
            gradlog.analyze(path)


def _elsewhere_task(made: Any) -> Any:
    return lambda **fields: made(**{**fields, "path": fields["path"] + ".elsewhere"})


def test_clusters_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(foreign_store(tmp_path / "run.zarr", network()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dask_workers, "CONNECT_SECONDS", 1.0)
        assert main(["analyze", path, "--dask", "tcp://127.0.0.1:9"]) == 1
        told = capsys.readouterr().err
        assert told.startswith("gradmf: error: tcp://127.0.0.1:9: no scheduler of Dask answers within 1 s")
        assert told.count("\n") == 1
    for word, message in (
        ("nothing.json", "--dask nothing.json: no such file"),
        ("local:0", "--dask local:0: give local or local:N"),
        ("local:x", "--dask local:x: give local or local:N"),
    ):
        assert main(["analyze", path, "--dask", word]) == 2
        assert message in capsys.readouterr().err
    for words in (["--parts", "2"], ["--dask", "local", "--scratch", "."], ["--dask", "local", "--plan"]):
        assert main(["analyze", path, *words]) == 2


def test_workers_without_gradmf_or_with_another_one(service: Any) -> None:
    from distributed import Client

    with (
        Client(service.scheduler_address, set_as_default=False) as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        versions = dask_workers._what_is_there()

        def said(**different: str | None) -> Any:
            mine = versions()
            return lambda: lambda: {**mine, **different}

        patch.setattr(dask_workers, "_what_is_there", _first_then(said(), said(gradmf="0.0.1")))
        with pytest.raises(
            gradlog.ClusterError, match=r"worker tcp://\S+: gradmf .* not 0\.0\.1: have the same"
        ):
            dask_workers.check_workers(client)
        patch.setattr(dask_workers, "_what_is_there", _first_then(said(gradmf=None), said()))
        with pytest.raises(gradlog.ClusterError, match=r"worker tcp://\S+: gradmf missing, not "):
            dask_workers.check_workers(client)
        patch.setattr(dask_workers, "_what_is_there", _first_then(said(), said(numpy="1.0")))
        count, told = dask_workers.check_workers(client)
        assert count == 2
        assert len(told) == 2
        assert "not 1.0" in told[0]


def _first_then(*made: Any) -> Any:
    found = iter(made)
    return lambda: next(found)()


def test_when_all_workers_are_gone(run: Path) -> None:
    with (
        cluster_of(1) as cluster,
        dask_workers.open_workers(cluster.scheduler_address, patience=1.0) as workers,
    ):
        scale = threading.Thread(target=lambda: cluster.scale(0))

        def leave(_done: int, _total: int) -> None:
            if not scale.ident:
                scale.start()

        with (
            taken_by(Cluster(workers, 500)),
            pytest.raises(gradlog.ClusterError, match="all workers are gone, and none came back within 1 s"),
        ):
            gradlog.analyze(run, progress=leave)
        scale.join()


def test_workers_of_several_threads_take_one_part_at_a_time(run: Path) -> None:
    with (
        cluster_of(1, threads=3) as cluster,
        dask_workers.open_workers(cluster.scheduler_address) as workers,
        taken_by(Cluster(workers, 9)),
    ):
        assert text(gradlog.analyze(run)) == text(in_parts(run, 9, gradlog.Settings()))


def test_secrets_are_in_no_task_and_no_result(
    workers: DaskWorkers, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "wJalrXUtnFEMI-not-to-be-seen"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOTTOBESEEN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    sent: list[bytes] = []
    submit = workers.client.submit

    def watched(*task: Any, **how: Any) -> Any:
        from distributed import Future

        plain = [part for part in task if not isinstance(part, Future | list)]
        sent.append(pickle.dumps(plain))
        return submit(*task, **how)

    monkeypatch.setattr(workers.client, "submit", watched)
    with gradlog.remote_access(profile="research"), taken_by(Cluster(workers, 4)):
        found = gradlog.analyze(run)
    with taken_by(Cluster(workers, whole_runs=True)):
        gradlog.analyze(run)
    assert len(sent) > 4
    assert b"research" in b"".join(sent)
    assert secret.encode() not in b"".join([*sent, pickle.dumps(found)])
