"""A log that is gone on with: after kills, from checkpoints, and what cannot be resumed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import Array, add_array, chunk_files, copy, cut, flip, format1_store, network, walk
from sweeps import mostly_slow, sweep
from worker_process import let_end

from conftest import assert_analysis
from gradmf import gradlog

ROWS = 23
TENSORS = {**network(ROWS), "scale": walk(ROWS, (), 7), "blocks/0/w": walk(ROWS, (5, 4), 8, "float64")}


def write(path: Path, start: int, stop: int, tensors: dict[str, Array] = TENSORS, **options: Any) -> Path:
    """Rows `start` to `stop` - 1, of training steps ten times as large."""
    with gradlog.create_log(path, **{"chunk_rows": 4, "chunk_bytes": 400, **options}) as log:
        assert log.rows == start
        assert log.last_step == (10 * (start - 1) if start else None)
        for index in range(start, stop):
            log.append(10 * index, {n: v[index] for n, v in tensors.items()}, loss=index / 3)
    return path


def files(path: Path) -> dict[str, bytes]:
    """All files below a folder, by their paths."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@settings(max_examples=sweep(10), deadline=None)
@given(
    stops=st.lists(st.integers(1, ROWS), min_size=1, max_size=4, unique=True).map(sorted),
    chunk_rows=st.integers(1, 9),
)
def test_a_resumed_log_is_the_one_written_without_a_break(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int], chunk_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    for start, stop in zip([0, *stops], stops, strict=False):
        write(folder / "broken.zarr", start, stop, resume=True, chunk_rows=chunk_rows)
    whole = write(folder / "whole.zarr", 0, stops[-1], chunk_rows=chunk_rows)
    assert files(folder / "broken.zarr") == files(whole)


@settings(max_examples=sweep(10), deadline=None)
@given(data=st.data(), chunk_rows=st.integers(1, 9))
def test_rows_past_the_checkpoint_are_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, chunk_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    old = {name: values + 1 for name, values in TENSORS.items()}
    keep = data.draw(st.integers(0, 12))
    new = {name: np.concatenate([old[name][:keep], TENSORS[name][keep:]]) for name in TENSORS}
    stop = data.draw(st.integers(keep, ROWS).filter(bool))
    write(folder / "broken.zarr", 0, 12, old, chunk_rows=chunk_rows)
    after = 10 * (keep - 1) + data.draw(st.integers(0, 9))
    write(folder / "broken.zarr", keep, stop, new, chunk_rows=chunk_rows, resume=True, after_step=after)
    assert files(folder / "broken.zarr") == files(
        write(folder / "whole.zarr", 0, stop, new, chunk_rows=chunk_rows)
    )


def test_a_checkpoint_behind_the_last_row_cuts_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "run.zarr", 0, 7)
    before = files(path)
    write(path, 7, 7, resume=True, after_step=60)
    write(path, 7, 7, resume=True, after_step=2**63 - 1)
    assert files(path) == before


@pytest.mark.parametrize("keep", [2, 4, 6, 8, 9])
def test_notes_of_missing_rows_are_cut_too(tmp_path: Path, keep: int) -> None:
    def train(path: Path, start: int, stop: int, absent: set[int], **options: Any) -> Path:
        with gradlog.create_log(path, chunk_rows=4, missing="zero", **options) as log:
            for step in range(start, stop):
                log.append(step, {"w": [step], "expert": None if step in absent else [step, 1]})
        return path

    path = train(tmp_path / "run.zarr", 0, 10, {1, 5, 6, 7, 9})
    train(path, keep, keep, set(), resume=True, after_step=keep - 1)
    assert files(path) == files(train(tmp_path / "short.zarr", 0, keep, {1, 5, 6, 7, 9}))
    train(path, keep, 12, {4, 9, 11}, resume=True, after_step=keep - 1)
    absent = {row for row in {1, 5, 6, 7, 9} if row < keep} | {row for row in {4, 9, 11} if row >= keep}
    assert files(path) == files(train(tmp_path / "whole.zarr", 0, 12, absent))


def test_a_log_that_was_never_closed(tmp_path: Path) -> None:
    """Rows held in memory are lost with the process; training repeats them."""
    path = tmp_path / "run.zarr"
    log = gradlog.create_log(path, chunk_rows=4, chunk_bytes=400)
    for index in range(10):
        log.append(10 * index, {n: v[index] for n, v in TENSORS.items()}, loss=index / 3)
        if index == 8:
            log.flush()
    del log
    write(path, 9, ROWS, resume=True)
    assert files(path) == files(write(tmp_path / "whole.zarr", 0, ROWS))
    analysis = gradlog.analyze(path)
    assert_analysis(analysis, TENSORS)
    assert [warning.code for warning in analysis.warnings] == ["steps-strided"]


def test_rows_that_were_not_committed_are_cut(tmp_path: Path) -> None:
    """A process that died in a flush leaves tensors longer than `step`, uncounted chunks, and halves."""
    path = write(tmp_path / "run.zarr", 0, 11)
    longer = write(tmp_path / "longer.zarr", 0, 14)
    for name in ("scale", "fc.weight"):
        shutil.rmtree(path / "grads" / name)
        shutil.copytree(longer / "grads" / name, path / "grads" / name)
    shutil.copy(longer / "grads" / "fc.bias" / "c.3.0", path / "grads" / "fc.bias" / "c.3.0")
    (path / "grads" / "fc.bias" / "c.2.0.partial").write_bytes(b"half")
    (path / "grads" / "zarr.json.partial").write_bytes(b"half")
    (path / "step" / "late.partial" / "c").mkdir(parents=True)
    assert gradlog.open_log(path).rows == 11
    write(path, 11, 11, resume=True)
    assert files(path) == files(write(tmp_path / "whole.zarr", 0, 11))
    assert not list(path.rglob("*.partial"))


@pytest.mark.parametrize("left", ["nothing", "folder", "half"])
def test_the_same_line_begins_a_log(tmp_path: Path, left: str) -> None:
    path = tmp_path / "run.zarr"
    if left != "nothing":
        path.mkdir()
    if left == "half":
        (path / "zarr.json.0123.partial").write_bytes(b"{")
    write(path, 0, 9, resume=True, after_step=70, attributes={"model": "mlp"})
    assert files(path) == files(write(tmp_path / "whole.zarr", 0, 9, attributes={"model": "mlp"}))


def test_a_log_without_committed_rows_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    log = gradlog.create_log(path, chunk_rows=100, attributes={"model": "mlp"})
    log.append(0, {"other": np.ones(3)}, lr=0.1)
    del log
    write(path, 0, 9, resume=True)
    whole = write(tmp_path / "whole.zarr", 0, 9, attributes={"model": "mlp"})
    assert files(path) == files(whole)
    write(path, 0, 5, {"third": np.ones((5, 2))}, resume=True, after_step=-1, chunk_rows=3)
    assert [tensor.name for tensor in gradlog.open_log(path).tensors] == ["third"]
    assert gradlog.open_log(path).rows == 5


def test_attributes(tmp_path: Path) -> None:
    """Those given are put over those stored; what says which format it is stays."""
    path = write(tmp_path / "run.zarr", 0, 5, attributes={"model": "mlp", "host": "a", "lr": [1, 2]})
    write(path, 5, 7, resume=True, attributes={"host": "b", "lr": {"x": 1}, "gradlog": {"version": 9}})
    assert gradlog.open_log(path).attributes == {
        "model": "mlp",
        "host": "b",
        "lr": {"x": 1},
        "gradlog": {"version": 1},
    }
    write(path, 7, 9, resume=True)
    assert gradlog.open_log(path).attributes["host"] == "b"


def test_consolidated_metadata_is_dropped(tmp_path: Path) -> None:
    """Plain Zarr would go on reading the lengths of the day that it was consolidated."""
    path = write(tmp_path / "run.zarr", 0, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)
    write(path, 5, 9, resume=True)
    assert zarr.open_group(path, mode="r")["step"].shape == (9,)  # type: ignore[union-attr]
    assert not json.loads((path / "zarr.json").read_text()).get("consolidated_metadata")


def test_other_arrays_beside_the_log_are_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "run.zarr", 0, 9)
    group = zarr.open_group(path, mode="r+")
    add_array(group, "evaluations", np.arange(3))
    add_array(group, "weights/last", np.ones((2, 2)))
    write(path, 3, 12, resume=True, after_step=20)
    write(path, 0, 3, resume=True, after_step=-1)
    assert group["evaluations"][...].tolist() == [0, 1, 2]  # type: ignore[index, union-attr]
    assert group["weights/last"].shape == (2, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_dtypes(tmp_path: Path, dtype: str) -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    tensors = {"w": walk(9, (3, 2), 1).astype(kind), "b": walk(9, (), 2).astype(kind)}
    write(tmp_path / "run.zarr", 0, 6, tensors)
    write(tmp_path / "run.zarr", 6, 9, tensors, resume=True)
    assert files(tmp_path / "run.zarr") == files(write(tmp_path / "whole.zarr", 0, 9, tensors))
    assert gradlog.open_log(tmp_path / "run.zarr").tensors[0].dtype == dtype


def test_a_sample_log_is_resumed(tmp_path: Path) -> None:
    """Logs of earlier versions, in other codecs and chunks."""
    source = Path(__file__).parent.parent / "sample_logs" / "mlp-gd.zarr"
    path = copy(source, tmp_path / "run.zarr")
    before = gradlog.open_log(path)
    row = {t.name: np.asarray(t.array[before.rows - 1]) for t in before.tensors}
    series = {name: float(array[before.rows - 1]) for name, array in before.series.items()}
    with gradlog.create_log(path, resume=True, after_step=int(before.step[-2])) as log:
        assert log.rows == before.rows - 1
        log.append(int(before.step[-1]), row, **series)
    with gradlog.create_log(path, resume=True) as log:
        log.append(int(before.step[-1]) + 1, row, **series)
    after = gradlog.open_log(path)
    assert after.rows == before.rows + 1
    for old, new in zip(gradlog.open_log(source).tensors, after.tensors, strict=True):
        np.testing.assert_array_equal(new.array[: before.rows], old.array[...])


MISMATCHES: dict[str, tuple[dict[str, Any], dict[str, float], str]] = {
    "missing": ({"w": np.ones((3, 2), "f4")}, {"loss": 1}, "no gradient of 'b'.*missing='zero'"),
    "new": (
        {"w": np.ones((3, 2), "f4"), "b": 1.0, "c": 1.0, "d": 1.0},
        {"loss": 1},
        "the rows before have no gradient of 'c', 'd': .*missing='zero'",
    ),
    "shape": (
        {"w": np.ones((2, 3), "f4"), "b": np.float64(1)},
        {"loss": 1},
        r"'w' is float32\[2, 3\].*\[3, 2\]",
    ),
    "dtype": ({"w": np.ones((3, 2), "f8"), "b": np.float64(1)}, {"loss": 1}, "'w' is float64.*float32"),
    "series": ({"w": np.ones((3, 2), "f4"), "b": np.float64(1)}, {}, "this one lacks 'loss'"),
    "new series": (
        {"w": np.ones((3, 2), "f4"), "b": np.float64(1)},
        {"loss": 1, "lr": 1},
        "before lack 'lr'",
    ),
}


@pytest.mark.parametrize(("gradients", "series", "told"), MISMATCHES.values(), ids=MISMATCHES.keys())
def test_rows_unlike_those_stored(
    tmp_path: Path, gradients: dict[str, Any], series: dict[str, float], told: str
) -> None:
    good = {"w": np.ones((3, 2), "f4"), "b": np.float64(1)}
    with gradlog.create_log(tmp_path / "run.zarr", chunk_rows=2) as log:
        for step in range(5):
            log.append(step, good, loss=0.5)
    with gradlog.create_log(tmp_path / "run.zarr", resume=True) as log:
        with pytest.raises(gradlog.UsageError, match=rf"run\.zarr: row 5: .*{told}"):
            log.append(5, gradients, **series)
        log.append(5, good, loss=0.5)
    assert gradlog.open_log(tmp_path / "run.zarr").rows == 6


@pytest.mark.parametrize("step", [40, 35, -1])
def test_steps_go_on_behind_the_last(tmp_path: Path, step: int) -> None:
    path = write(tmp_path / "run.zarr", 0, 5)
    with gradlog.create_log(path, resume=True) as log:
        told = rf"step {step} comes after 40, .*resume=True, after_step=S"
        with pytest.raises(gradlog.UsageError, match=told):
            log.append(step, {name: values[5] for name, values in TENSORS.items()}, loss=1.0)
    assert gradlog.open_log(path).rows == 5


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "overwrite": ({"resume": True, "overwrite": True}, ".* choose one"),
    "after alone": ({"after_step": 3}, ".* needs resume=True"),
    "after a half": ({"resume": True, "after_step": 1.5}, r"after_step must be a whole number.*not 1\.5"),
    "after text": ({"resume": True, "after_step": "last"}, "after_step must be a whole number.*not 'last'"),
    "chunk rows": ({"resume": True, "chunk_rows": 5}, "its chunks hold 4 rows, not 5"),
    "attributes": ({"resume": True, "attributes": {"a": object()}}, "attributes must be what JSON holds"),
    "missing": ({"missing": "nan"}, "missing is 'fail' or 'zero', not 'nan'"),
    "nothing": ({}, "already there; choose another path, resume or overwrite it"),
}


@pytest.mark.parametrize(("options", "told"), OPTIONS.values(), ids=OPTIONS.keys())
def test_wrong_options_change_nothing(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    path = write(tmp_path / "run.zarr", 0, 5)
    before = files(path)
    with pytest.raises(gradlog.UsageError, match=rf"run\.zarr: {told}") as caught:
        gradlog.create_log(path, **options)
    assert caught.value.exit_code == 2
    assert files(path) == before


def _foreign(path: Path) -> None:
    add_array(zarr.open_group(path, mode="w"), "w", np.ones((3, 2)))


def _version(path: Path) -> None:
    zarr.open_group(path, mode="w", attributes={"gradlog": {"version": 2}})


def _old_zarr(path: Path) -> None:
    zarr.open_group(path, mode="w", zarr_format=2, attributes={"gradlog": {"version": 1}})


def _sketch(path: Path) -> None:
    gradlog.sketch_log(write(path.with_name("source.zarr"), 0, 9), path, gradlog.Settings(sketch_dim=64))


def _sharded(path: Path) -> None:
    format1_store(path, {"w": np.ones((8, 2))}, chunks=(2, 2), shards=(4, 2))


def _integers(path: Path) -> None:
    format1_store(path, {"w": np.ones((8, 2), np.int32)})


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("years")


def _file(path: Path) -> None:
    path.write_text("x")


FOREIGN = {
    _foreign: "not a gradient log of format 1",
    _version: "not a gradient log of format 1",
    _old_zarr: "not a gradient log of format 1",
    _sketch: "the sketch of a log",
    _sharded: "'grads/w' is laid out in another way",
    _integers: r"'grads/w' is int32\[8, 2\]",
    _folder: "not a Zarr store, so not resumed",
    _file: "a file, and logs are resumed as folders",
}


@pytest.mark.parametrize(("make", "told"), FOREIGN.items(), ids=[make.__name__ for make in FOREIGN])
@pytest.mark.parametrize("after_step", [None, -1])
def test_what_the_writer_did_not_write(tmp_path: Path, make: Any, told: str, after_step: int | None) -> None:
    path = tmp_path / "run.zarr"
    make(path)
    before = files(path.parent)
    with pytest.raises(gradlog.UsageError, match=rf"run\.zarr: {told}"):
        gradlog.create_log(path, resume=True, after_step=after_step)
    assert files(path.parent) == before


def _absent_chunk(path: Path) -> None:
    chunk_files(path, "grads/fc.weight")[-1].unlink()


def _flipped_chunk(path: Path) -> None:
    flip(chunk_files(path, "grads/fc.weight")[-1], 3)


def _short_chunk(path: Path) -> None:
    cut(chunk_files(path, "loss")[-1], 5)


def _absent_steps(path: Path) -> None:
    chunk_files(path, "step")[0].unlink()


def _short_tensor(path: Path) -> None:
    group = zarr.open_group(path, mode="r+")
    group["grads/scale"].resize((9,))  # type: ignore[union-attr]


def _no_step(path: Path) -> None:
    shutil.rmtree(path / "step")


def _no_metadata(path: Path) -> None:
    (path / "grads" / "scale" / "zarr.json").unlink()


def _no_series_metadata(path: Path) -> None:
    (path / "loss" / "zarr.json").unlink()


def _no_gradients(path: Path) -> None:
    shutil.rmtree(path / "grads")


def _torn_root(path: Path) -> None:
    cut(path / "zarr.json", 20)


def _torn_array(path: Path) -> None:
    cut(path / "grads" / "scale" / "zarr.json", 20)


def _wrong_ranges(path: Path) -> None:
    zarr.open_group(path, mode="r+")["grads/scale"].attrs["gradlog"] = {"absent_rows": [[3, 1]]}


DAMAGE = {
    _absent_chunk: r"rows 8 to 9 of 'fc.weight' cannot be read.*absent; after_step below 80 cuts them",
    _flipped_chunk: r"rows 8 to 9 of 'fc.weight' cannot be read.*; after_step below 80 cuts them",
    _short_chunk: r"rows 8 to 9 of 'loss' cannot be read",
    _absent_steps: r"rows 0 to 9 of 'step' cannot be read.*chunk step/c\.0 is absent",
    _short_tensor: "'scale' has 9 rows and `step` says 10: after_step=80 cuts those it lacks",
    _no_step: "`step` is missing, and .* holds rows",
    _no_metadata: "'grads/scale' has lost its metadata",
    _no_series_metadata: "'loss' has lost its metadata",
    _no_gradients: "no gradient arrays",
    _torn_root: "its metadata cannot be read",
    _torn_array: "'grads/scale' has lost its metadata",
    _wrong_ranges: r"the metadata of 'grads/scale' cannot be read: absent_rows holds \[3, 1\]",
}


@pytest.mark.parametrize(("damage", "told"), DAMAGE.items(), ids=[damage.__name__ for damage in DAMAGE])
def test_damage_is_told_and_left_as_it_is(tmp_path: Path, damage: Any, told: str) -> None:
    path = write(tmp_path / "run.zarr", 0, 10)
    damage(path)
    before = files(path)
    with pytest.raises(gradlog.DataError, match=rf"run\.zarr: {told}") as caught:
        gradlog.create_log(path, resume=True, attributes={"model": "other"})
    assert "\n" not in str(caught.value)
    assert files(path) == before
    if "after_step" in str(caught.value):
        keep = 8 if "after_step below 80" in str(caught.value) else 9
        write(path, keep, 12, resume=True, after_step=10 * keep - 1)
        assert_analysis(gradlog.analyze(path), {name: values[:12] for name, values in TENSORS.items()})


WORKER = """
import json, os, signal, sys, time, traceback
import numpy as np
from gradmf import gradlog

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}

def gradients(step, seed):
    rng = np.random.default_rng([step, seed])
    row = {"w": rng.standard_normal((3, 4)), "b": rng.standard_normal((), np.float32)}
    row["expert/0"] = rng.standard_normal(5) if step % 3 else None
    return row | ({"late": rng.standard_normal((2, 2))} if step >= 6 else {})

# In "mixed", "w" and "late" have a chunk a row, and the others are gathered.
LAYOUTS = {"tall": {"chunk_rows": 4}, "mixed": {"flush_every": 4}}

def train(path, stop, after=None, seeds=(0, 0), split=0, kill_at=0, ready=None, layout="tall", **_):
    seen = 0
    def count(event, arguments):
        nonlocal seen
        if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    if kill_at:
        sys.addaudithook(count)
    options = {"resume": True, "missing": "zero", "chunk_bytes": 100} | LAYOUTS[layout]
    with gradlog.create_log(path, after_step=after, **options) as log:
        first = 0 if log.last_step is None else log.last_step + 1
        for step in range(first, stop):
            log.append(step, gradients(step, seeds[step > split]), loss=step / 7)
            if step % 5 == 2:
                log.flush()
            if step == first + 6 and ready is not None:
                os.write(ready, b"x")

if __name__ == "__main__":
    gradlog.create_log  # imported once, for all children
    for line in sys.stdin:
        task = json.loads(line)
        if "kill_after" in task:
            reading, task["ready"] = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                train(**task)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        if "kill_after" in task:
            os.read(reading, 1)
            time.sleep(task["kill_after"])
            os.kill(child, signal.SIGKILL)
            os.close(reading)
            os.close(task["ready"])
        print(os.waitpid(child, 0)[1], flush=True)
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need processes that fork")


class Trainer:
    """Trainings in processes of their own: each resumes the log, and may be killed."""

    def __init__(self, script: Path) -> None:
        script.write_text(WORKER)
        self.server = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        scope: dict[str, Any] = {"__name__": "worker"}
        exec(WORKER, scope)
        self.gradients = functools.cache(scope["gradients"])

    def train(self, path: Path, stop: int, **task: Any) -> bool:
        """Whether it came to its end; False when it was killed."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps({"path": str(path), "stop": stop, **task}) + "\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        assert status in (0, 9), "training failed"
        return status == 0

    def check(self, path: Path, seeds: tuple[int, int], split: int) -> int:
        """Committed rows, all of which are as they were logged; 0 for a log that says it has none."""
        try:
            log = gradlog.open_log(path)
        except gradlog.DataError:
            step = path / "step" / "zarr.json"
            if step.exists() and json.loads(step.read_text())["shape"] != [0]:
                raise
            return 0
        assert all(tensor.absent_chunks == 0 for tensor in gradlog.describe(path).tensors)
        assert log.step.tolist() == list(range(log.rows))
        for tensor in log.tensors:
            stored = np.asarray(tensor.array[: log.rows])
            rows = [self.gradients(step, seeds[step > split]).get(tensor.name) for step in range(log.rows)]
            none = np.zeros(tensor.shape)
            np.testing.assert_array_equal(stored, [none if row is None else row for row in rows])
        return log.rows


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    found = Trainer(tmp_path_factory.mktemp("worker") / "worker.py")
    yield found
    let_end(found.server)


@needs_fork
@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", mostly_slow(["tall", "mixed"], ["mixed"]))
def test_kills_at_any_time(tmp_path: Path, trainer: Trainer, kills: int, layout: str) -> None:
    rng = np.random.default_rng(kills)
    path, rows = tmp_path / "run.zarr", 0
    for _ in range(kills):
        assert not trainer.train(path, 10**6, kill_after=float(rng.uniform(0, 0.03)), layout=layout)
        found = trainer.check(path, (0, 0), 0)
        assert found >= rows, "committed rows were lost"
        assert not found or gradlog.analyze(path).run.rows == found
        rows = found
    assert rows > 3 * kills
    stop = rows + 5
    assert trainer.train(path, stop, layout=layout)
    assert trainer.train(tmp_path / "whole.zarr", stop, layout=layout)
    assert trainer.check(path, (0, 0), 0) == stop
    assert files(path) == files(tmp_path / "whole.zarr")


@needs_fork
@pytest.mark.parametrize("every", [31, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", mostly_slow(["tall", "mixed"], ["mixed"]))
@pytest.mark.parametrize("scene", ["begin", "restart", "restart at a chunk", "from nothing"])
def test_kills_at_every_change_to_a_file(
    tmp_path: Path, trainer: Trainer, every: int, scene: str, layout: str
) -> None:
    """A log is begun, or training restarts from a checkpoint and logs other rows: the same after any kill."""
    after = {"begin": None, "restart": 5, "restart at a chunk": 3, "from nothing": -1}[scene]
    base, whole = tmp_path / "base.zarr", tmp_path / "whole.zarr"
    split = -1 if after is None else after
    if after is not None:
        assert trainer.train(base, 10, layout=layout)
    new = {"seeds": (0, 1), "split": split, "layout": layout}
    assert trainer.train(whole, 18, **new)
    expected = files(whole)
    survived = False
    # The rows are cut by the first changes.
    for kill_at in (*range(1, 40, min(every, 4)), *range(40, 2000, every)):
        path = tmp_path / "run.zarr"
        shutil.rmtree(path, ignore_errors=True)
        if after is not None:
            shutil.copytree(base, path)
        survived = trainer.train(path, 18, after=after, kill_at=kill_at, **new)
        told = f"killed before change {kill_at}"
        try:
            rows = trainer.check(path, (0, 1), split)
        except AssertionError:  # nothing was cut yet
            assert after is not None, told
            assert trainer.check(path, (0, 0), 0) == 10, told
            rows = 10
        assert after is None or rows >= after + 1, told
        assert trainer.train(path, 18, after=after, **new), told
        assert files(path) == expected, told
        if survived:
            break
    assert survived, "the training never ended"
    assert kill_at > 100


@needs_fork
def test_a_writer_that_is_interrupted_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in a flush: the rows stay held, and closing commits them."""
    script = tmp_path / "train.py"
    script.write_text(
        "import os, signal, sys, threading\n"
        "import numpy as np\n"
        "from gradmf import gradlog\n"
        "from gradmf.gradlog.logs import object_file\n"
        "original = object_file._write\n"
        "count = 0\n"
        "def interrupted(*arguments):\n"
        "    global count\n"
        "    count += 1\n"
        "    if count == int(sys.argv[2]):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    original(*arguments)\n"
        "object_file._write = interrupted\n"
        "try:\n"
        "    with gradlog.create_log(sys.argv[1], chunk_rows=4, chunk_bytes=64) as log:\n"
        "        for step in range(12):\n"
        "            log.append(step, {'w': np.full((4, 8), step + 1.0), 'b': step + 1.0})\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    for number in (12, 16, 19, 24):
        path = tmp_path / f"{number}.zarr"
        code = subprocess.run([sys.executable, str(script), str(path), str(number)], check=False).returncode
        assert code == 7
        log = gradlog.open_log(path)
        assert log.step.tolist() == list(range(log.rows))
        for tensor in log.tensors:
            stored = np.asarray(tensor.array[: log.rows]).reshape(log.rows, -1)
            np.testing.assert_array_equal(stored[:, 0], np.arange(log.rows) + 1.0)
        with contextlib.closing(gradlog.create_log(path, resume=True)) as resumed:
            assert resumed.rows == log.rows
