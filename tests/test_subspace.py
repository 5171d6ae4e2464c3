"""Leading subspaces of windows of training: against SVDs of whole windows, and planted ones."""

from __future__ import annotations

import csv
import io
import json
import tempfile
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

from conftest import flat, write_store
from gradmf import gradlog
from gradmf.cli.formats.as_table import draw_table
from gradmf.cli.main import main
from gradmf.cli.terminal.terminal import Terminal
from gradmf.gradlog.engine import ranges
from gradmf.gradlog.reports.analysis_report import analysis_report
from gradmf.kernels.window_gram import FLOOR

Doubles = NDArray[np.float64]


def leading(rows: Doubles, dimensions: int) -> Doubles:
    """(k, D) leading right singular vectors, as many as stand clear of rounding."""
    _, sigma, vectors = np.linalg.svd(rows, full_matrices=False)
    return vectors[:dimensions][sigma[:dimensions] ** 2 > FLOOR * sigma[0] ** 2]


def separated(rows: Doubles, dimensions: int) -> bool:
    """Whether the leading subspace is well defined: sigma_k stands apart, and none lies near the floor."""
    squares = np.linalg.svd(rows, compute_uv=False) ** 2
    if not squares.size or squares[0] == 0:
        return True
    shares = squares / squares[0]
    near = np.any((shares > FLOOR / 100) & (shares < 1e-7))
    gap = dimensions >= squares.size or shares[dimensions - 1] - shares[dimensions] > 1e-3
    return bool(gap or shares[dimensions - 1] < FLOOR / 100) and not near


def naive(rows: Doubles, window: int, dimensions: int) -> tuple[Doubles, list[float | None], bool]:
    """Fraction of each row, overlap of each window, and whether all of it is well defined."""
    fractions = np.full(len(rows), np.nan)
    overlaps: list[float | None] = []
    defined = True
    before = None
    for start in range(0, len(rows), window):
        here = rows[start : start + window]
        whole = len(here) == window
        basis = leading(here, dimensions) if whole and here.any() else None
        defined &= separated(here, dimensions) if whole else True
        overlap = None
        if before is not None:
            energy = (here**2).sum(axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                fractions[start : start + window] = ((here @ before.T) ** 2).sum(axis=1) / energy
            if basis is not None:
                overlap = float(((before @ basis.T) ** 2).sum() / min(len(before), len(basis)))
        overlaps.append(overlap)
        before = basis
    return fractions, overlaps, defined


def increments(gradients: Doubles) -> Doubles:
    return np.concatenate([np.zeros((1, gradients.shape[1])), np.diff(gradients, axis=0)])


def mean(values: Any) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None


def assert_measure(
    found: gradlog.SubspaceMeasure, rows: Doubles, window: int, dimensions: int, inside: Doubles | None = None
) -> None:
    fractions, overlaps, defined = naive(rows, window, dimensions)
    if not defined:
        return
    assert found.fraction == (None if mean(fractions) is None else pytest.approx(mean(fractions), abs=1e-5))
    assert found.overlap == (None if mean(overlaps) is None else pytest.approx(mean(overlaps), abs=1e-5))
    if inside is not None:
        np.testing.assert_allclose(inside, fractions, rtol=0, atol=1e-5)
        assert [p.row for p in found.windows] == list(range(0, len(rows), window))
        for point, overlap in zip(found.windows, overlaps, strict=True):
            assert point.overlap == (None if overlap is None else pytest.approx(overlap, abs=1e-5))


def assert_subspaces(analysis: gradlog.Analysis, tensors: dict[str, Array], window: int, k: int) -> None:
    gradients = flat(tensors)
    found = analysis.total.subspace
    assert found is not None
    assert (found.dimensions, found.window) == (k, window)
    inside = analysis.steps.inside
    assert_measure(found.gradients, gradients, window, k, inside["gradients"])
    assert_measure(found.increments, increments(gradients), window, k, inside["increments"])
    for tensor in analysis.tensors:
        values = flat({tensor.name: tensors[tensor.name]})
        assert tensor.subspace is not None
        assert tensor.subspace.gradients.windows == ()
        assert_measure(tensor.subspace.gradients, values, window, k)
        assert_measure(tensor.subspace.increments, increments(values), window, k)


@settings(
    max_examples=sweep(25),
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    log=logs(),
    k=st.integers(1, 6),
    extra=st.integers(0, 12),
    rank=st.sampled_from(["auto", "none", "incremental"]),
    threads=st.integers(1, 3),
    block=st.sampled_from([1 << 9, 1 << 26]),
    tile=st.sampled_from([3, 64, 4096]),
)
def test_reference(
    log: tuple[dict[str, Array], dict[str, tuple[int, ...]]],
    k: int,
    extra: int,
    rank: str,
    threads: int,
    block: int,
    tile: int,
) -> None:
    tensors, chunks = log
    window = max(2, k + extra)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK_BYTES", block)
        if rank != "incremental":  # whose narrow tensors lie in one tile each
            patch.setattr(ranges, "TILE_WIDTH", tile)
        path = write_store(Path(folder) / "run.zarr", tensors, chunks=chunks)
        options = gradlog.Settings(rank=rank, subspace=k, window=window)
        analysis = gradlog.analyze(path, options, threads=threads)
        assert_subspaces(analysis, tensors, window, k)


def analyzed(folder: Path, gradients: Array, k: int, window: int, **options: Any) -> gradlog.Analysis:
    path = format1_store(folder / "run.zarr", {"w": gradients})
    return gradlog.analyze(path, gradlog.Settings(subspace=k, window=window, **options))


def test_a_planted_subspace_holds_everything(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    gradients = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 700))
    found = analyzed(tmp_path, gradients, 4, 20).total.subspace
    assert found is not None
    for measure in (found.gradients, found.increments):
        assert measure.fraction == pytest.approx(1, abs=1e-9)
        assert measure.overlap == pytest.approx(1, abs=1e-9)
        assert measure.directions == 4


def test_white_noise_falls_in_by_chance(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    gradients = rng.standard_normal((3000, 200)).astype("float32")
    found = analyzed(tmp_path, gradients, 8, 30, rank="none").total.subspace
    assert found is not None
    assert found.gradients.fraction == pytest.approx(8 / 200, rel=0.03)
    assert found.gradients.overlap == pytest.approx(8 / 200, rel=0.05)


def test_a_rotating_plane(tmp_path: Path) -> None:
    """Window after window the plane turns by an angle in one direction: overlap (1 + cos^2) / 2."""
    rng = np.random.default_rng(3)
    angle, window, windows = 0.3, 25, 8
    basis = np.linalg.qr(rng.standard_normal((90, 3)))[0].T
    parts = []
    for number in range(windows):
        turned = np.cos(number * angle) * basis[1] + np.sin(number * angle) * basis[2]
        weights = np.linalg.qr(rng.standard_normal((window, 2)))[0]  # both directions carry the same energy
        parts.append(weights @ np.stack([basis[0], turned]))
    found = analyzed(tmp_path, np.concatenate(parts), 2, window).total.subspace
    assert found is not None
    expected = (1 + np.cos(angle) ** 2) / 2
    assert found.gradients.overlap == pytest.approx(expected, abs=1e-9)
    overlaps = [point.overlap for point in found.gradients.windows]
    assert overlaps[0] is None
    assert overlaps[1:] == pytest.approx([expected] * (windows - 1), abs=1e-9)


def test_predictable_gradients_keep_their_small_directions(tmp_path: Path) -> None:
    """A large mean, and movement a ten-thousandth of it: increments are not differences of Gram entries."""
    rng = np.random.default_rng(4)
    movement = rng.standard_normal((80, 3)) @ rng.standard_normal((3, 500))
    gradients = rng.standard_normal(500) + 1e-4 * movement
    analysis = analyzed(tmp_path, gradients, 3, 20)
    found = analysis.total.subspace
    assert found is not None
    assert found.increments.fraction == pytest.approx(1, abs=1e-7)
    assert found.increments.directions == 3
    assert_subspaces(analysis, {"w": gradients}, 20, 3)


def test_what_drowns_in_rounding_is_not_used(tmp_path: Path) -> None:
    gradients = np.outer(np.arange(1.0, 41.0), np.ones(300))
    gradients[:, 0] += 1e-9 * np.random.default_rng(5).standard_normal(40)
    found = analyzed(tmp_path, gradients, 5, 10).total.subspace
    assert found is not None
    assert found.gradients.directions == 1
    assert found.gradients.fraction == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 5, 9, 10, 11, 20])
def test_few_rows(tmp_path: Path, rows: int) -> None:
    gradients = walk(rows, (40,), 6, "float64")
    analysis = analyzed(tmp_path, gradients, 2, 10)
    assert_subspaces(analysis, {"w": gradients}, 10, 2)
    found = analysis.total.subspace
    assert found is not None
    assert (found.gradients.fraction is None) == (rows <= 10)
    assert (found.gradients.overlap is None) == (rows < 20)


def test_zeros_and_extreme_sizes(tmp_path: Path) -> None:
    gradients = walk(40, (30,), 7, "float64")
    gradients[10:20] = 0
    analysis = analyzed(tmp_path, gradients, 3, 10)
    assert_subspaces(analysis, {"w": gradients}, 10, 3)
    expected = analyzed(tmp_path / "a", walk(40, (30,), 8, "float64"), 3, 10).total.subspace
    for at, scale in enumerate((2.0**-400, 2.0**400)):
        scaled = analyzed(tmp_path / f"b{at}", walk(40, (30,), 8, "float64") * scale, 3, 10, rank="none")
        assert scaled.total.subspace == expected
    nothing = analyzed(tmp_path / "c", np.zeros((40, 30)), 3, 10).total.subspace
    assert nothing is not None
    assert nothing.gradients.fraction is nothing.gradients.overlap is nothing.gradients.directions is None


def test_dropped_steps_are_in_no_window(tmp_path: Path) -> None:
    gradients = walk(45, (30,), 9, "float64")
    broken = np.insert(gradients, [3, 17], np.nan, axis=0)
    expected = analyzed(tmp_path / "a", gradients, 3, 10).total.subspace
    assert analyzed(tmp_path / "b", broken, 3, 10, nonfinite="drop").total.subspace == expected


@pytest.mark.parametrize("rank", ["exact", "none", "incremental"])
def test_threads_and_blocks_change_no_bit(tmp_path: Path, rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {f"t{i}": walk(90, (size,), i) for i, size in enumerate((9000, 3, 700, 20_000))}
    path = format1_store(tmp_path / "run.zarr", tensors)
    options = gradlog.Settings(rank=rank, subspace=4)

    def found(threads: int) -> tuple[Any, ...]:
        analysis = gradlog.analyze(path, options, threads=threads)
        inside = [values.tobytes() for values in analysis.steps.inside.values()]
        return analysis.total.subspace, [tensor.subspace for tensor in analysis.tensors], inside

    one = found(1)
    assert found(3) == one
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 1 << 18)
    if rank != "exact":
        assert found(2) == one


def test_usage(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", {"w": walk(20, (5,), 1)})
    for options, told in (
        ({"subspace": 0}, "at least 1 dimension"),
        ({"subspace": 5, "window": 4}, "window 4: must have at least 5 rows"),
        ({"window": 4}, "window: goes with subspace"),
    ):
        with pytest.raises(gradlog.UsageError, match=told):
            gradlog.analyze(path, gradlog.Settings(**options))  # type: ignore[arg-type]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(format1_store(tmp_path / "run.zarr", {"a": walk(50, (40,), 1), "b": walk(50, (3,), 2)}))
    assert main(["analyze", path, "--subspace", "3", "--window", "10", "--format", "json"]) == 0
    text = capsys.readouterr().out
    document = json.loads(text)
    total = document["total"]["subspace"]
    assert (total["dimensions"], total["window"], len(total["gradients"]["windows"])) == (3, 10, 5)
    assert "windows" not in document["tensors"][0]["subspace"]["increments"]
    inside = document["steps"]["inside"]["increments"]
    assert inside[:10] == [None] * 10
    assert 0 < np.mean(inside[10:]) < 1
    (read,) = gradlog.read_analyses(text, "x")
    assert gradlog.analysis_document(read, findings=gradlog.find(read)) == document
    assert main(["analyze", path, "--subspace", "3", "--window", "10", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert float(rows[0]["subspace_fraction[gradients]"]) == total["gradients"]["fraction"]
    assert int(rows[2]["subspace_directions[increments]"]) == 3
    columns = "tensor,subspace_*"
    assert main(["analyze", path, "--subspace", "3", "--format", "csv", "--columns", columns]) == 0
    assert capsys.readouterr().out.startswith("tensor,subspace_fraction[gradients],subspace_overlap[")
    assert main(["analyze", path, "--subspace", "3", "--window", "10"]) == 0
    shown = capsys.readouterr().out
    assert "In the leading 3 directions of the 10 rows before" in shown
    assert "Share of gradients inside, window after window of 10 rows" in shown
    assert main(["analyze", path, "--format", "json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert "subspace" not in plain["total"]
    assert "inside" not in plain["steps"]
    for words, told in [
        (["--window", "1"], "is no window"),
        (["--subspace", "5", "--window", "4"], "--window 4 is shorter than the 5 directions"),
        (["--subspace", "0"], "0 is not in the range"),
    ]:
        assert main(["analyze", path, *words]) == 2
        assert told in capsys.readouterr().err


def test_memory_counts_the_windows(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", {"w": np.zeros((400, 50), "f4")})
    for rank in ("exact", "none", "incremental"):
        plain = gradlog.describe_plan(path, gradlog.Settings(rank=rank)).memory
        more = gradlog.describe_plan(path, gradlog.Settings(rank=rank, subspace=50)).memory
        assert more - plain > 8 * 4 * 200 * 400
        with pytest.raises(gradlog.MemoryLimitError, match="give --memory"):
            gradlog.describe_plan(path, gradlog.Settings(rank=rank, subspace=50), memory=3 << 20)


def test_chance_is_what_white_gradients_show(tmp_path: Path) -> None:
    """Of gradients; increments of white gradients share one of their two with the row before."""
    white = np.random.default_rng(5).standard_normal((240, 200))
    path = format1_store(tmp_path / "white.zarr", {"w": white})
    total = gradlog.analyze(path, gradlog.Settings(subspace=4, window=8)).total
    assert total.subspace is not None
    chance = gradlog.share_by_chance(4, 200)
    assert chance == 0.02
    assert total.subspace.gradients.fraction == pytest.approx(chance, rel=0.15)
    assert total.subspace.increments.fraction is not None
    assert total.subspace.increments.fraction > 1.2 * chance
    assert gradlog.share_by_chance(4, 2) == 1.0
    assert gradlog.share_by_chance(4, 0) is None


def test_a_table_says_why_there_is_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for at, (gradients, told) in enumerate(
        (
            (walk(20, (30,), 1), "20 rows are no more than a window of 20; give a --window of at most 19"),
            (
                walk(5, (30,), 1),
                "5 rows are no more than a window of 20; log more rows, or ask for a smaller",
            ),
            (walk(1, (30,), 1), "1 row is no more than a window of 20; log more rows\n"),
            (walk(39, (30,), 1), "overlap takes two whole windows: give a --window of at most 19"),
            (np.ones((40, 30)), "- where all of them are 0"),
            (np.zeros((40, 30)), "- where all of them are 0"),
            (walk(40, (30,), 1), "inside\n"),
        )
    ):
        path = format1_store(tmp_path / f"{at}.zarr", {"w": gradients})
        assert main(["analyze", str(path), "-q", "--subspace", "5"]) == 0
        assert told in capsys.readouterr().out


def test_what_was_asked_for_stays_at_80_columns(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", {"layer.weight": walk(40, (30, 9), 1)})
    analysis = gradlog.analyze(path, gradlog.Settings(subspace=3))
    lines = draw_table(analysis_report(analysis), Terminal(width=80, rules=True)).splitlines()
    (heading,) = [line for line in lines if line.startswith("tensor ")]
    assert heading.endswith("inside")
    assert max(map(len, lines)) <= 80
