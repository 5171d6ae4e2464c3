"""Logs taken in parts, one after the other in this process: the sums that a cluster would form."""

from __future__ import annotations

import pickle
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import Array, foreign_store, network, walk
from sweeps import sweep
from test_parts import assert_close, make_parts, text
from test_reference import logs

from conftest import assert_analysis, write_store
from gradmf import gradlog
from gradmf.gradlog.cluster.cluster import PART_BYTES, parts_of_size
from gradmf.gradlog.cluster.failures import Failure, failure_of
from gradmf.gradlog.cluster.part_tasks import PartSums, add_parts, take_part
from gradmf.gradlog.cluster.workers import FAN_IN, ThisProcess, added_up
from gradmf.gradlog.engine import ranges


def in_parts(path: Path, count: int, options: gradlog.Settings, **how: Any) -> gradlog.Analysis:
    with gradlog.on_cluster(parts=count):
        return gradlog.analyze(path, options, **how)


@settings(max_examples=sweep(12), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=logs(),
    count=st.sampled_from([1, 2, 5, FAN_IN, FAN_IN + 3, 2 * FAN_IN + 1]),
    rank=st.sampled_from(["auto", "none"]),
    block=st.sampled_from([1 << 9, 1 << 26]),
    tile=st.sampled_from([3, 64, 4096]),
)
def test_parts_add_up_to_the_whole_and_to_what_merge_says(
    log: tuple[dict[str, Array], dict[str, tuple[int, ...]]], count: int, rank: str, block: int, tile: int
) -> None:
    tensors, chunks = log
    options = gradlog.Settings(rank=rank)
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK_BYTES", block)
        patch.setattr(ranges, "TILE_WIDTH", tile)
        folder = Path(place)
        path = write_store(folder / "run.zarr", tensors, chunks=chunks)
        found = in_parts(path, count, options)
        assert_analysis(found, tensors)
        assert_close(
            gradlog.analysis_document(found), gradlog.analysis_document(gradlog.analyze(path, options))
        )
        assert text(gradlog.merge_parts(make_parts(path, folder, count, options))) == text(found)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tensor in a few chunks, and small ones: borders of many parts lie inside of it."""
    tensors = {"big": walk(40, (300, 500), 1), "a": walk(40, (7,), 2), "z": walk(40, (900,), 3)}
    path = tmp_path_factory.mktemp("logs") / "wide.zarr"
    group = zarr.open_group(path, mode="w")
    for name, values in tensors.items():
        chunks = (10, 20, 500) if values.ndim == 3 else (10, *values.shape[1:])
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)
        array[...] = values
    return path


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """The same document up to the rounding of sums; what is left of a difference has lost digits."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected.keys() - {"seconds"}:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for at, each in enumerate(expected):
            assert_same(found[at], each, f"{where}[{at}]")
    elif isinstance(expected, float):
        # Searches go on from products of float32 tiles.
        lost = 1e-6 if ".search" in where or where.endswith((".residual", ".product")) else 1e-9
        assert found == pytest.approx(expected, rel=lost, abs=1e-9), where
    else:
        assert found == expected, where


@pytest.mark.parametrize(
    ("options", "how"),
    [
        (gradlog.Settings(windows=4), {}),
        (gradlog.Settings(groups=("[az]",)), {}),
        (gradlog.Settings(rank="none"), {"tensor_steps": True}),
        (gradlog.Settings(), {"search": True}),
        (gradlog.Settings(rank="none"), {"search": True}),
        (gradlog.Settings(subspace=3, window=8), {}),
        (gradlog.Settings(rank="sketch", sketch_dim=256), {}),
    ],
    ids=["windows", "groups", "steps", "search", "band", "subspace", "sketch"],
)
def test_all_measures_add_up(wide: Path, options: gradlog.Settings, how: dict[str, bool]) -> None:
    whole = gradlog.analysis_document(gradlog.analyze(wide, options, **how))
    for count in (3, 11):
        assert_same(gradlog.analysis_document(in_parts(wide, count, options, **how)), whole)


def test_advice_and_bounds_are_those_of_one_process(wide: Path) -> None:
    whole, advice = gradlog.bounds(gradlog.analyze_for_bounds(wide)), gradlog.advise(wide)
    with gradlog.on_cluster(parts=5):
        assert_same(
            gradlog.bounds_document(gradlog.bounds(gradlog.analyze_for_bounds(wide))),
            gradlog.bounds_document(whole),
        )
        found = gradlog.advise(wide)
    assert [decision.text for decision in found.decisions] == [each.text for each in advice.decisions]


def test_rows_that_are_not_finite_are_dropped_in_a_second_round(tmp_path: Path) -> None:
    tensors = {"a": walk(30, (500,), 1), "b": walk(30, (630,), 2)}
    tensors["a"][4, 17], tensors["b"][20, 300] = np.nan, np.inf
    path = foreign_store(tmp_path / "run.zarr", tensors, chunks=(10, 50))
    options = gradlog.Settings(nonfinite="drop")
    whole, found = gradlog.analyze(path, options), in_parts(path, 6, options)
    assert_close(gradlog.analysis_document(found), gradlog.analysis_document(whole))
    assert found.warnings == whole.warnings
    with pytest.raises(gradlog.DataError, match="2 entries are NaN or infinite, in 2 rows: first tensor 'a'"):
        in_parts(path, 6, gradlog.Settings())


def test_every_part_has_something_to_do(wide: Path) -> None:
    """A log in one or two ranges leaves no worker idle: its chunks allow for more."""
    done: list[int] = []
    with gradlog.on_cluster(parts=8) as cluster:
        taken = take_part

        def watched(task: Any, report: Any, common: Any) -> Any:
            done.append(sum(item.width for item in task.ranges))
            return taken(task, report, common)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gradmf.gradlog.cluster.part_tasks.take_part", watched)
            gradlog.analyze(wide)
        assert cluster.workers.count == 1
    assert len(done) == 8
    assert min(done) > 0
    assert max(done) < 2 * sum(done) / 8


def test_the_tree_follows_from_the_number_of_leaves() -> None:
    for leaves in (1, 2, FAN_IN, FAN_IN + 1, 5 * FAN_IN, FAN_IN**2 + 1):
        with ThisProcess().job() as job:
            held = job.map(lambda item, _report: str(item), range(leaves))
            told = job.value(added_up(job, lambda values: f"({' '.join(values)})", held))
        flat = told.replace("(", "").replace(")", "").split()
        assert flat == [str(leaf) for leaf in range(leaves)]
        assert told.count("(") == _nodes(leaves)


def _nodes(leaves: int) -> int:
    if leaves == 1:
        return 0
    groups, rest = divmod(leaves, FAN_IN)
    return groups + (rest > 1) + _nodes(groups + (rest > 0))


def test_parts_follow_from_the_size_of_a_log() -> None:
    assert parts_of_size(1, 10) == 1
    assert parts_of_size(10 * PART_BYTES, 100) == 10
    assert parts_of_size(139 * 10**12, 1000) == 4096
    # A part reads far more than the matrix of N x N that it hands on.
    assert parts_of_size(20 * 10**12, 10_000) == pytest.approx(20e12 / (16 * 8e8), rel=0.01)


def test_errors_are_values_and_the_first_is_told() -> None:
    error = gradlog.DataError("run.zarr: tensor 'a', row 3: damaged")
    failed = failure_of(error)
    assert isinstance(failed.error(), gradlog.DataError)
    assert str(failed.error()) == str(error)
    assert isinstance(failure_of(ZeroDivisionError("by zero")).error(), gradlog.ClusterError)
    assert "ZeroDivisionError: by zero" in failure_of(ZeroDivisionError("by zero")).text
    task: Any = None
    assert add_parts([PartSums(), failed, Failure("DataError", "later")], task) is failed


def test_a_log_that_changed_is_refused(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", network())
    with gradlog.on_cluster(parts=2), pytest.MonkeyPatch.context() as patch:

        def changed(task: Any, report: Any, common: Any) -> Any:
            seen = {name: (dtype, (9, 9), chunks) for name, (dtype, _, chunks) in common.seen.items()}
            return take_part(task, report, replace(common, seen=seen))

        patch.setattr("gradmf.gradlog.cluster.part_tasks.take_part", changed)
        with pytest.raises(gradlog.DataError, match=r"run.zarr: tensor '.*was float32 \(23, 9, 9\) when"):
            gradlog.analyze(path)


def test_logs_that_no_path_leads_back_to_are_refused(tmp_path: Path) -> None:
    """Whatever they are called: workers would open what lies there."""
    path = foreign_store(tmp_path / "run.zarr", network())
    group = zarr.open_group(path, mode="r")
    opened = gradlog.open_log(path)
    assert opened.source == str(path)
    made = gradlog.GradientLog(path=str(path), tensors=opened.tensors, rows=opened.rows, step=opened.step)
    for run in (group, gradlog.open_log(group), made):
        with gradlog.on_cluster(parts=2), pytest.raises(gradlog.UsageError, match="by path or URL"):
            gradlog.analyze(run)
    with gradlog.on_cluster(parts=2):
        assert text(gradlog.analyze(opened)) == text(gradlog.analyze(path))
    with pytest.raises(gradlog.UsageError, match="parts 0"), gradlog.on_cluster(parts=0):
        pass


def stored(path: Path) -> dict[str, Array]:
    """The rows of a sketch, by tensor."""
    return {tensor.name: np.asarray(tensor.array[...]) for tensor in gradlog.open_log(path).tensors}  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, 3, 11])
def test_sketches_add_up(wide: Path, tmp_path: Path, count: int) -> None:
    options = gradlog.Settings(sketch_dim=256, seed=5, rows=(2, None))
    gradlog.sketch_log(wide, tmp_path / "whole.zarr", options)
    for threads in (1, 3):
        with gradlog.on_cluster(parts=count):
            summary = gradlog.sketch_log(wide, tmp_path / f"{threads}.zarr", options, threads=threads)
        assert (summary.tensors, summary.projected) == (3, 2)
    whole, found, again = (stored(tmp_path / f"{name}.zarr") for name in ("whole", "1", "3"))
    for name, values in whole.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], again[name], err_msg=name)
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6 * np.abs(values).max())
    np.testing.assert_array_equal(found["a"], whole["a"])
    first, second = (gradlog.open_log(tmp_path / f"{name}.zarr") for name in ("whole", "1"))
    assert first.attributes == second.attributes
    np.testing.assert_array_equal(first.step, second.step)


@pytest.mark.parametrize("count", [1, 3, 11])
def test_projections_add_up(wide: Path, count: int) -> None:
    options = gradlog.Settings(project=256, windows=3)
    whole = gradlog.analysis_document(gradlog.analyze(wide, options, tensor_steps=True))
    found = [in_parts(wide, count, options, tensor_steps=True, threads=threads) for threads in (1, 3)]
    assert text(found[0]) == text(found[1])
    # The sums are rounded to float32 before they are analyzed.
    assert_close(gradlog.analysis_document(found[0]), whole)


def test_stored_sketches_are_analyzed_in_parts(wide: Path, tmp_path: Path) -> None:
    """With their standard errors, which need the sums of each group."""
    path = tmp_path / "sketch.zarr"
    gradlog.sketch_log(wide, path, gradlog.Settings(sketch_dim=4096))
    options = gradlog.Settings(windows=3, groups=("[az]",))
    expected = gradlog.analyze(path, options, tensor_steps=True)
    assert expected.total.energy_error is not None
    for count in (1, 3, 11):
        found = [in_parts(path, count, options, tensor_steps=True, threads=threads) for threads in (1, 3)]
        assert text(found[0]) == text(found[1])
        assert_same(gradlog.analysis_document(found[0]), gradlog.analysis_document(expected))
        assert text(gradlog.merge_parts(make_parts(path, tmp_path, count, gradlog.Settings()))) == text(
            in_parts(path, count, gradlog.Settings())
        )
    for options in (gradlog.Settings(subspace=2), gradlog.Settings(rank="exact")):
        with pytest.raises(gradlog.UsageError, match="a sketch: "):
            in_parts(path, 3, options)


def test_sketches_in_parts_tell_rows_that_are_not_finite(tmp_path: Path) -> None:
    tensors = {"a": walk(30, (500,), 1), "b": walk(30, (630,), 2), "c": walk(30, (9,), 3)}
    for name in tensors:
        spoiled = {**tensors, name: tensors[name].copy()}
        spoiled[name][7, 3] = np.nan
        path = foreign_store(tmp_path / f"{name}.zarr", spoiled, chunks=(10, 50))
        with gradlog.on_cluster(parts=4), pytest.raises(gradlog.DataError, match=rf"'{name}', row 7 \("):
            gradlog.sketch_log(path, tmp_path / "out.zarr", gradlog.Settings(sketch_dim=64))
    assert not (tmp_path / "out.zarr").exists()


def test_a_sketch_that_a_cluster_sends_back_has_to_fit(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", {f"w{at}": walk(40, (130,), at) for at in range(200)})
    options, memory = gradlog.Settings(sketch_dim=128), 2 << 20
    gradlog.sketch_log(path, tmp_path / "out.zarr", options, memory=memory)
    with gradlog.on_cluster(parts=2), pytest.raises(gradlog.MemoryLimitError, match="takes 4M, and comes"):
        gradlog.sketch_log(path, tmp_path / "again.zarr", options, memory=memory)
    assert not (tmp_path / "again.zarr").exists()


def test_many_runs_are_taken_whole(tmp_path: Path) -> None:
    """By functions that are sent by their names, with what they give: all of it can be pickled."""
    path = foreign_store(tmp_path / "run.zarr", network())
    whole = gradlog.analyze(path)
    with gradlog.on_cluster(whole_runs=True) as cluster:
        sent: list[Any] = []
        job = cluster.workers.job

        def watched(*how: Any) -> Any:
            made = job(*how)
            taken = made.map

            def sending(function: Any, items: Any) -> Any:
                sent.extend(items)
                return taken(pickle.loads(pickle.dumps(function)), pickle.loads(pickle.dumps(items)))

            made.map = sending  # type: ignore[method-assign]
            return made

        cluster.workers.job = watched  # type: ignore[method-assign]
        assert text(gradlog.analyze(path)) == text(whole)
        assert len(gradlog.advise(str(path)).decisions) == len(gradlog.advise(path).decisions)
        with pytest.raises(gradlog.StoreNotFoundError, match="no such file"):
            gradlog.analyze(tmp_path / "none.zarr")
    assert len(sent) == 4
    for value in (whole, gradlog.advise(path)):
        assert pickle.loads(pickle.dumps(value)).run == value.run
