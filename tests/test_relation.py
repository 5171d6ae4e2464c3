"""Two runs side by side: cosines and overlaps against SVDs of whole windows, and planted directions."""

from __future__ import annotations

import csv
import io
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import Array, format1_store, walk
from sweeps import sweep
from test_reference import logs
from test_subspace import increments, leading, mean, separated

from conftest import flat, write_store
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.engine import ranges
from gradmf.gradlog.engine.blocks import BlockReader
from gradmf.gradlog.runs.pairing import Pairing
from gradmf.gradlog.runs.relation import relate

Doubles = NDArray[np.float64]


def related(first: Path, second: Path, k: int, window: int, **resources: Any) -> gradlog.Relation:
    options = gradlog.Settings(subspace=k, window=window)
    steps = tuple(gradlog.open_log(path).step for path in (first, second))
    return relate(first, second, steps, options, **resources)  # type: ignore[arg-type]


def overlap(a: Doubles, b: Doubles, k: int, window: int) -> tuple[list[float | None], bool]:
    found: list[float | None] = []
    defined = True
    for start in range(0, len(a), window):
        x, y = a[start : start + window], b[start : start + window]
        if len(x) < window or not x.any() or not y.any():
            found.append(None)
            continue
        defined &= separated(x, k) and separated(y, k)
        left, right = leading(x, k), leading(y, k)
        found.append(float(((left @ right.T) ** 2).sum() / min(len(left), len(right))))
    return found, defined


def assert_scope(found: gradlog.ScopeRelation, a: Doubles, b: Doubles, k: int, window: int) -> None:
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    expected = [mean(cosines)]
    checked = [found.cosine]
    for value, x, y in (
        (found.gradients, a, b),
        (found.increments, increments(a), increments(b)),
    ):
        overlaps, defined = overlap(x, y, k, window)
        if defined:
            expected.append(mean(overlaps))
            checked.append(value)
    for one, other in zip(checked, expected, strict=True):
        assert one == (None if other is None else pytest.approx(other, abs=1e-5))


@settings(
    max_examples=sweep(20),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    log=logs(),
    k=st.integers(1, 5),
    extra=st.integers(0, 9),
    threads=st.integers(1, 3),
    block=st.sampled_from([1 << 9, 1 << 26]),
    tile=st.sampled_from([3, 64, 4096]),
    seed=st.integers(0, 99),
)
def test_reference(
    log: tuple[dict[str, Array], dict[str, tuple[int, ...]]],
    k: int,
    extra: int,
    threads: int,
    block: int,
    tile: int,
    seed: int,
) -> None:
    tensors, chunks = log
    rng = np.random.default_rng(seed)
    others = {
        name: (values + rng.standard_normal(values.shape)).astype(values.dtype)
        for name, values in tensors.items()
    }
    window = max(2, k + extra)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK_BYTES", block)
        patch.setattr(ranges, "TILE_WIDTH", tile)
        first = write_store(Path(folder) / "a.zarr", tensors, chunks=chunks)
        second = write_store(Path(folder) / "b.zarr", others)
        found = related(first, second, k, window, threads=threads)
    assert_scope(found.total, flat(tensors), flat(others), k, window)
    for tensor in found.tensors:
        assert tensor.name is not None
        sides = (flat({tensor.name: side[tensor.name]}) for side in (tensors, others))
        assert_scope(tensor, *sides, k, window)


def test_a_planted_common_subspace(tmp_path: Path) -> None:
    """Two of three directions are common to both runs, with equal energy: overlap 2/3; cosines are known."""
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.standard_normal((60, 4)))[0].T
    weights = np.concatenate([np.linalg.qr(rng.standard_normal((20, 3)))[0] for _ in range(4)])
    a, b = weights @ basis[:3], weights @ basis[[0, 1, 3]]
    first, second = (
        format1_store(tmp_path / name, {"w": values}) for name, values in (("a.zarr", a), ("b.zarr", b))
    )
    found = related(first, second, 3, 20)
    assert found.total.gradients == pytest.approx(2 / 3, abs=1e-9)
    assert [point.gradients for point in found.windows] == pytest.approx([2 / 3] * 4, abs=1e-9)
    expected = (weights[:, :2] ** 2).sum(axis=1) / (weights**2).sum(axis=1)
    np.testing.assert_allclose(found.cosine, expected, atol=1e-12)
    alike = related(first, first, 3, 20).total
    assert (alike.cosine, alike.gradients, alike.increments) == pytest.approx((1, 1, 1), abs=1e-6)
    exchanged = related(second, first, 3, 20)
    assert exchanged.total.increments == pytest.approx(found.total.increments, rel=1e-9)


def test_equal_steps_are_matched(tmp_path: Path) -> None:
    """Other first steps and gaps: only steps in both count, and increments are between those."""
    a, b = walk(60, (40,), 1, "float64"), walk(50, (40,), 2, "float64")
    steps_a, steps_b = np.arange(60), np.sort(np.random.default_rng(3).permutation(90)[:50])
    first = format1_store(tmp_path / "a.zarr", {"w": a}, step=steps_a)
    second = format1_store(tmp_path / "b.zarr", {"w": b}, step=steps_b)
    found = related(first, second, 2, 8)
    common = np.intersect1d(steps_a, steps_b)
    assert found.step.tolist() == common.tolist()
    assert_scope(found.total, a[np.isin(steps_a, common)], b[np.isin(steps_b, common)], 2, 8)


def test_any_threads_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 1 << 18)
    tensors = {f"t{i}": walk(50, (size,), i) for i, size in enumerate((9000, 3, 700, 20_000))}
    first = format1_store(tmp_path / "a.zarr", tensors)
    second = format1_store(tmp_path / "b.zarr", {name: -values[::-1] for name, values in tensors.items()})
    one = related(first, second, 4, 10, threads=1)
    for threads, memory in ((2, 1 << 30), (3, 24 << 20)):
        other = related(first, second, 4, 10, threads=threads, memory=memory)
        assert (other.total, other.windows, other.tensors) == (one.total, one.windows, one.tensors)
        assert other.cosine.tobytes() == one.cosine.tobytes()
    with pytest.raises(gradlog.MemoryLimitError, match=r"matrices of windows of 10 rows .* give --memory"):
        related(first, second, 4, 10, memory=1 << 20)


def test_one_block_is_decoded_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding takes memory beside the block: that of one reader, not of both."""
    at_work, most = [], []
    read = BlockReader._read

    def noting(self: BlockReader, *given: Any) -> Any:
        at_work.append(self)
        most.append(len(at_work))
        time.sleep(0.005)
        block = read(self, *given)
        at_work.remove(self)
        return block

    monkeypatch.setattr(BlockReader, "_read", noting)
    path = format1_store(tmp_path / "a.zarr", {f"t{i}": walk(20, (5000,), i) for i in range(3)})
    related(path, path, 2, 5)
    assert most == [1] * 6


def test_ranges_follow_the_chunks_of_both_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one log's chunks are wide and the other's narrow, neither is decoded twice; doubles fit."""
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 1 << 16)
    values = walk(20, (60_000,), 1)
    stores = {
        "narrow": ("f4", (20, 2500)),
        "wide": ("f4", (10, 30_000)),
        "double": ("f8", (20, 2500)),
    }
    paths = {
        name: format1_store(tmp_path / f"{name}.zarr", {"w": values.astype(dtype)}, chunks=chunks)
        for name, (dtype, chunks) in stores.items()
    }
    options, steps = gradlog.Settings(subspace=2, window=5), (np.arange(20),) * 2
    for first, second in itertools.permutations(stores, 2):
        plans = Pairing.of(paths[first], paths[second], options).plan(steps, options, 1 << 30, 2)[2]
        for plan, name in zip(plans, (first, second), strict=True):
            borders = {segment.box[0].start for item in plan.ranges for segment in item.segments}
            assert all(border % stores[name][1][1] == 0 for border in borders)
        memory = 6 << 20
        tight = Pairing.of(paths[first], paths[second], options).plan(steps, options, memory, 1)[2]
        assert sum(plan.memory for plan in tight) <= 1.1 * memory


def test_what_cannot_be_related(tmp_path: Path) -> None:
    a = format1_store(tmp_path / "a.zarr", {"u": walk(20, (4,), 1), "v": walk(20, (3, 2), 1)})
    for name, tensors, step, told in (
        (
            "b",
            {"u": walk(20, (4,), 1)},
            None,
            r"b.zarr: other .*a.zarr: tensor 'v' is not in both",
        ),
        ("c", {"u": walk(20, (4,), 1), "v": walk(20, (6,), 1)}, None, r"tensor 'v' is 6, not 3x2"),
        (
            "d",
            {"u": walk(20, (4,), 1), "v": walk(20, (3, 2), 1)},
            range(30, 50),
            "no training step in common",
        ),
        ("e", {"u": walk(20, (4,), 1), "v": walk(20, (3, 2), 1)}, [0, 1] * 10, "training step 0 after 1"),
    ):
        other = format1_store(tmp_path / f"{name}.zarr", tensors, step=step)  # type: ignore[arg-type]
        with pytest.raises(gradlog.DataError, match=told):
            related(a, other, 2, 5)


def test_what_cannot_be_related_is_told_before_gradients_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {"u": walk(40, (30,), 1), "v": walk(40, (5,), 2)}
    a = str(format1_store(tmp_path / "a.zarr", tensors))
    b = str(format1_store(tmp_path / "b.zarr", {**tensors, "u": walk(40, (30,), 3)}))
    c = str(format1_store(tmp_path / "c.zarr", {"u": walk(40, (30,), 1)}))
    assert main(["compare", a, c, b, "-q", "--subspace", "2"]) == 1
    out, told = capsys.readouterr()
    assert told.startswith(f"gradmf: error: {c}: other parameters")
    assert "A and C at 40 equal steps" not in out
    assert "A and B at 40 equal steps" in out

    def untouched(*_given: Any, **_options: Any) -> None:
        raise AssertionError("gradients are read")

    monkeypatch.setattr("gradmf.gradlog.analyze", untouched)
    assert main(["compare", a, c, "--subspace", "2"]) == 1
    assert "tensor 'v' is not in both" in capsys.readouterr().err
    assert main(["compare", a, b, "--subspace", "2", "--rows", "0:9", "--rows", "9:18"]) == 1
    assert "no training step in common" in capsys.readouterr().err
    assert main(["compare", a, b, "--subspace", "2", "--memory", "1M"]) == 2
    assert "give --memory" in capsys.readouterr().err


def test_a_table_says_why_there_is_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gradients = walk(40, (30,), 1)
    first = format1_store(tmp_path / "a.zarr", {"w": gradients})
    for at, (other, told) in enumerate(
        (
            (gradients[:1], "A and B at 1 equal step\n"),
            (gradients[:1], "mean over steps; no overlap: 1 step makes no whole window of 20: log more rows"),
            (gradients[:4], "4 steps make no whole window of 20: log more rows, or ask for a smaller"),
            (gradients[:15], "15 steps make no whole window of 20: give a --window of at most 15"),
            (np.repeat(gradients[:1], 40, axis=0), "; - where all of a run's are 0"),
            (0 * gradients, "; - where all of a run's are 0"),
            (gradients[::-1], "means over steps and windows of 20; noise would overlap by 16.7%\n"),
        )
    ):
        second = format1_store(tmp_path / f"{at}.zarr", {"w": other})
        assert main(["compare", str(first), str(second), "-q", "--subspace", "5"]) == 0
        assert told in capsys.readouterr().out


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = str(format1_store(tmp_path / "a.zarr", {"u": walk(40, (30,), 1), "v": walk(40, (5,), 2)}))
    values = {"u": walk(40, (30,), 3), "v": walk(40, (5,), 4)}
    values["u"][7, 3] = np.nan
    b = str(format1_store(tmp_path / "b.zarr", values))
    words = ["compare", a, b, "--subspace", "2", "--window", "10", "--nonfinite", "drop", "-q"]
    assert main([*words, "--format", "json"]) == 0
    relation = json.loads(capsys.readouterr().out)["relation"]
    assert relation["step"] == [step for step in range(40) if step != 7]
    assert [window["step"] for window in relation["windows"]] == [0, 11, 21, 31]
    assert relation["windows"][3]["increments"] is None
    assert [tensor["name"] for tensor in relation["tensors"]] == ["u", "v"]
    assert main([*words, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (cosine,) = [row for row in rows if (row["quantity"], row["scope"]) == ("cosine", "total")]
    assert float(cosine["value"]) == relation["total"]["cosine"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "A and B at 39 equal steps" in shown
    assert "Cosine of the gradients of A and B over training" in shown
    assert main(["compare", a, b, "--nonfinite", "drop", "--format", "json"]) == 0
    assert "relation" not in json.loads(capsys.readouterr().out)
    assert main(["analyze", a, "--format", "json", "-o", str(tmp_path / "a.json")]) == 0
    for arguments, told in [
        (
            [str(tmp_path / "a.json"), b, "--subspace", "2"],
            f"give the store of {a}",
        ),
        ([a, b, "--window", "2"], "--window goes with --subspace"),
    ]:
        assert main(["compare", *arguments]) == 2
        assert told in capsys.readouterr().err
