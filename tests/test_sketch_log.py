"""Sketches as logs: written whole, the plain projection of every row, and analyzed with honest errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import projection_reference as plain
import pytest
import zarr
from numpy.typing import NDArray
from stores import add_array

import reference
from conftest import flat, write_store
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.measures.sketch.projected_rows import Piece, project_rows
from gradmf.gradlog.results.projection import DEVIATIONS, Projection
from gradmf.gradlog.statistics.jackknife import standard_errors

ROWS, DIM, SEEDS = 40, 64, 200


def tensors() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(4)
    drift = np.cumsum(rng.standard_normal((ROWS, 1000)) * 0.8 ** np.arange(1000)[::-1].clip(0, 40), axis=0)
    heavy = rng.standard_normal((ROWS, 700)) * 0.01
    heavy[:, [3, 500]] += 1 + rng.standard_normal((ROWS, 2)) * 0.3
    return {
        "drift.weight": drift.reshape(ROWS, 20, 50).astype(np.float32),
        "heavy": heavy,
        "small": drift[:, :30].astype(np.float16),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "run.zarr"
    write_store(path, tensors(), chunks={"drift.weight": (16, 7, 50)}, step=range(0, 10 * ROWS, 10))
    group = zarr.open_group(path)
    group.attrs["optimizer"] = "sgd"
    add_array(group, "loss", np.linspace(1, 0, ROWS))
    return path


def sketch(store: Path, out: Path, dim: int = DIM, seed: int = 0, **options: Any) -> Path:
    gradlog.sketch_log(store, out, gradlog.Settings(sketch_dim=dim, seed=seed), **options)
    return out


def test_a_sketch_is_the_plain_projection(store: Path, tmp_path: Path) -> None:
    settings = gradlog.Settings(sketch_dim=DIM, seed=6, rows=(5, None))
    done: list[tuple[int, int]] = []
    summary = gradlog.sketch_log(
        store, tmp_path / "out.zarr", settings, progress=lambda now, total: done.append((now, total))
    )
    assert (summary.rows, summary.tensors, summary.projected) == (ROWS - 5, 3, 2)
    assert done[-1][0] == done[-1][1] == summary.bytes_read
    log = gradlog.open_log(tmp_path / "out.zarr")
    assert log.step.tolist() == list(range(50, 400, 10))
    np.testing.assert_array_equal(log.series["loss"][...], np.linspace(1, 0, ROWS)[5:])
    assert log.attributes["optimizer"] == "sgd"
    projection = {"kind": "signed-runs", "dim": DIM, "groups": 8, "seed": 6}
    assert log.attributes["gradlog"] == {"version": 1, "projection": projection}
    for tensor in log.tensors:
        values = tensors()[tensor.name][5:]
        found = np.asarray(tensor.array[...])
        if tensor.name == "small":
            assert found.dtype == np.float16
            np.testing.assert_array_equal(found, values)
            continue
        assert found.dtype == values.dtype
        assert tensor.made_of == values.shape[1:]
        expected = plain.project(values.reshape(len(values), -1), tensor.name, DIM, 6)
        np.testing.assert_allclose(
            found.reshape(len(values), -1), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max()
        )
    assert not list(tmp_path.glob(".out*"))


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_threads_and_memory_never_change_a_bit(store: Path, tmp_path: Path) -> None:
    one = files(sketch(store, tmp_path / "a.zarr", threads=1))
    assert one == files(sketch(store, tmp_path / "b.zarr", threads=4))
    assert one == files(sketch(store, tmp_path / "c.zarr", threads=2, memory=2 << 20))


def test_standard_errors_of_sums_and_ratios_hold() -> None:
    """Energies, path lengths and kappas from groups: 95% of 1,000 seeds within 2.365 standard errors."""
    seeds = 1000
    for name, values in tensors().items():
        gradients = values.reshape(ROWS, -1).astype(np.float64)
        moves = np.diff(gradients, axis=0, prepend=0)
        truth = np.array([(gradients**2).sum(), (moves**2).sum()])
        truth = np.append(truth, truth[1] / truth[0])
        both = np.concatenate([gradients, moves])
        held = np.zeros((seeds, 3))
        for seed in range(seeds):
            projection = Projection(DIM, seed)
            sums = np.zeros((2 * ROWS, DIM))
            whole = [Piece(0, both.shape[1], 0)]
            project_rows(both, (0, 2 * ROWS), whole, projection.bases(name), 8, sums)
            groups = (sums**2).reshape(2, ROWS, 8, -1).sum(axis=(1, 3)).T / 8
            totals = groups.sum(axis=0)
            errors = standard_errors(totals, groups, lambda row: np.append(row, row[1] / row[0]))
            found = np.append(totals, totals[1] / totals[0])
            held[seed] = np.abs(found - truth) <= DEVIATIONS * errors + 1e-9 * truth
        assert (held.mean(axis=0) >= 0.93).all(), (name, held.mean(axis=0))


@pytest.mark.slow
def test_intervals_of_every_figure_hold(store: Path, tmp_path: Path) -> None:
    """Over 200 seeds: path lengths, kappas and energies within 2.4 standard errors, and ranks in bounds."""
    specs = ("one-step", "ema:0.9")
    truths = {"total": flat(tensors()), **{name: flat({name: v}) for name, v in tensors().items()}}
    held: dict[tuple[str, str], list[bool]] = {}
    for seed in range(SEEDS):
        path = sketch(store, tmp_path / f"{seed}.zarr", seed=seed, threads=1)
        analysis = gradlog.analyze(path, gradlog.Settings(predictors=specs, epsilons=(0.2, 0.05)), threads=1)
        scopes = [("total", analysis.total), *((t.name, t) for t in analysis.tensors)]
        for name, scope in scopes:
            values = truths[name]
            if name == "small":
                assert scope.energy_error is None
                assert scope.predictors[1].kappa_error is None
                assert scope.spectrum is not None
                assert scope.spectrum.method == "exact"
                continue
            assert scope.energy_error is not None

            def note(what: str, found: float, error: float, truth: float, name: str = name) -> None:
                held.setdefault((name, what), []).append(abs(found - truth) <= 2.365 * error + 1e-6 * truth)

            note("energy", scope.energy, scope.energy_error, float((values**2).sum()))
            for result in scope.predictors[1:]:
                expected = reference.path_length(values, result.predictor)
                assert result.path_length_error is not None
                note(
                    f"P {result.predictor}",
                    result.path_length,
                    result.path_length_error,
                    expected.path_length,
                )
                for word in ("kappa", "scaled_kappa"):
                    truth = getattr(expected, word)
                    error = getattr(result, f"{word}_error")
                    note(f"{word} {result.predictor}", getattr(result, word), error, truth)
            assert scope.spectrum is not None
            spectrum = reference.spectrum(values)
            for rank in scope.spectrum.rank:
                inside = rank.lower <= spectrum.rank(rank.epsilon) <= rank.upper
                held.setdefault((name, f"r* {rank.epsilon}"), []).append(inside)
    shares = {what: np.mean(found) for what, found in held.items()}
    assert all(len(found) == SEEDS for found in held.values())
    assert not {what: share for what, share in shares.items() if share < 0.92}, shares


def test_analysis_of_a_sketch(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sketch(store, tmp_path / "out.zarr", dim=256)
    analysis = gradlog.analyze(path)
    assert [(t.name, t.shape) for t in analysis.tensors] == [
        ("drift.weight", (20, 50)), ("heavy", (700,)), ("small", (30,)),
    ]  # fmt: skip
    assert analysis.run.parameters == 1730
    document = gradlog.analysis_document(analysis)
    assert {"path_length_error", "kappa_error"} <= set(document["total"]["predictors"][0])
    assert document["total"]["spectrum"]["method"] == "sketch"
    assert "kappa_error" not in document["tensors"][2]["predictors"][0]
    for threads in (1, 3):
        again = gradlog.analysis_document(gradlog.analyze(path, threads=threads))
        assert again == document
    # The spectrum is that of the log's own sketch, up to the rounding of stored sums.
    own = gradlog.analyze(store, gradlog.Settings(rank="sketch", sketch_dim=256))
    assert analysis.total.spectrum is not None
    assert own.total.spectrum is not None
    for found, expected in zip(analysis.total.spectrum.rank, own.total.spectrum.rank, strict=True):
        assert abs(found.lower - expected.lower) <= 3
    assert main(["analyze", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "+-" in shown
    assert "95% of errors" in shown
    assert main(["analyze", str(path), "--rank", "none", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["predictors"][1]["kappa_error"] > 0
    assert main(["info", str(path)]) == 0
    assert "signed-runs" in capsys.readouterr().out
    assert main(["analyze", str(path), "-q", "--fail-if", "kappa[one-step] > 0.000001"]) == 3


def test_what_a_sketch_cannot_answer(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sketch(store, tmp_path / "out.zarr")
    for options in (
        {"rank": "exact"}, {"rank": "incremental"}, {"sketch_dim": 128}, {"seed": 2}, {"subspace": 2}
    ):  # fmt: skip
        with pytest.raises(gradlog.UsageError, match="a sketch"):
            gradlog.analyze(path, gradlog.Settings(**options))
    with pytest.raises(gradlog.UsageError, match="a sketch: --search"):
        gradlog.analyze(path, search=True)
    assert main(["advise", str(path)]) == 0
    assert "rank: a sketch holds no gradient matrices" in capsys.readouterr().out
    with pytest.raises(gradlog.UsageError, match="a sketch already"):
        gradlog.sketch_log(path, tmp_path / "again.zarr")
    assert not (tmp_path / "again.zarr").exists()
    group = zarr.open_group(path)
    group.attrs["gradlog"] = {
        "version": 1,
        "projection": {"kind": "dense", "dim": 64, "groups": 8, "seed": 0},
    }
    with pytest.raises(gradlog.DataError, match="does not know"):
        gradlog.analyze(path)
    other = {"kind": "signed-runs", "dim": 128, "groups": 8, "seed": 0}
    group.attrs["gradlog"] = {"version": 1, "projection": other}
    with pytest.raises(gradlog.DataError, match="has shape"):
        gradlog.analyze(path)


def test_sketches_of_an_earlier_kind_are_analyzed(store: Path, tmp_path: Path) -> None:
    path = sketch(store, tmp_path / "out.zarr")
    expected = gradlog.analysis_document(gradlog.analyze(path))
    group = zarr.open_group(path)
    earlier = {"kind": "sparse-sign", "dim": DIM, "groups": 8, "seed": 0}
    group.attrs["gradlog"] = {"version": 1, "projection": earlier}
    analysis = gradlog.analyze(path)
    found = gradlog.analysis_document(analysis)
    assert found["total"]["predictors"] == expected["total"]["predictors"]
    assert found["total"]["spectrum"]["rank"] == expected["total"]["spectrum"]["rank"]
    assert found["total"]["spectrum"]["projection"] == earlier
    [read] = gradlog.read_analyses(json.dumps(found), "result.json")
    assert read.total.spectrum is not None
    assert read.total.spectrum.projection == Projection(DIM, kind="sparse-sign")


def test_rows_of_other_projections_are_not_related(store: Path, tmp_path: Path) -> None:
    one, other, earlier = (
        sketch(store, tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 1), ("c", 0))
    )
    zarr.open_group(earlier).attrs["gradlog"] = {
        "version": 1,
        "projection": {"kind": "sparse-sign", "dim": DIM, "groups": 8, "seed": 0},
    }
    settings = gradlog.Settings(subspace=2, window=20)
    steps = gradlog.open_log(one).step
    for path in (other, earlier, store):
        with pytest.raises(gradlog.DataError, match="only what the same projection made"):
            gradlog.relate(one, path, (steps, steps), settings)
    assert gradlog.relate(one, one, (steps, steps), settings).total.cosine == pytest.approx(1.0)


def test_bad_ways_to_sketch(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there.zarr"
    there.mkdir()
    ways = [
        ([str(store), str(there)], 2, "already there"),
        ([str(store), str(tmp_path / "no" / "out.zarr")], 2, "there is no folder"),
        ([str(store), str(tmp_path / "o.zarr"), "--dim", "100"], 2, "power of two"),
        ([str(store), str(tmp_path / "o.zarr"), "--dim", "32"], 2, "power of two"),
        ([str(store), str(tmp_path / "o.zarr"), "--tensor", "none*"], 2, "no tensor matches"),
        ([str(store), str(tmp_path / "o.zarr"), "--memory", "50K"], 2, "give --memory"),
        (["nowhere", str(tmp_path / "o.zarr")], 1, "no such file"),
    ]
    for words, code, told in ways:
        assert main(["sketch", *words]) == code
        shown = capsys.readouterr()
        assert told in shown.err
        assert shown.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["there.zarr"]
    assert main(["sketch", str(store), str(tmp_path / "o.zarr"), "--dim", "64", "--seed", "1"]) == 0
    assert "2 of 3 tensors projected to 64 dimensions with seed 1" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["drift.weight", "small"])
def test_rows_that_are_not_finite_leave_nothing_behind(tmp_path: Path, name: str) -> None:
    values = tensors()
    values[name][7].flat[3] = np.inf
    path = write_store(tmp_path / "run.zarr", values, step=range(0, 10 * ROWS, 10))
    with pytest.raises(gradlog.DataError, match=rf"'{name}', row 7 \(training step 70\)"):
        sketch(path, tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_projecting_is_sketching_into_memory(store: Path, tmp_path: Path) -> None:
    options = {"predictors": ("one-step",), "epsilons": (0.2,)}
    path = tmp_path / "out.zarr"
    gradlog.sketch_log(store, path, gradlog.Settings(sketch_dim=128, seed=4, rows=(3, 30), tensors=("*a*",)))
    expected = gradlog.analysis_document(gradlog.analyze(path, gradlog.Settings(**options)))  # type: ignore[arg-type]
    wanted = gradlog.Settings(project=128, seed=4, rows=(3, 30), tensors=("*a*",), **options)  # type: ignore[arg-type]
    found = gradlog.analysis_document(gradlog.analyze(store, wanted))
    for key in ("total", "tensors", "steps"):
        assert found[key] == expected[key]
    assert found["run"]["path"] == str(store)
    assert found["settings"]["project"] == 128


def test_what_cannot_be_projected(store: Path) -> None:
    for options in ({"rank": "exact"}, {"subspace": 3}, {"nonfinite": "drop"}, {"project": 100}):
        with pytest.raises(gradlog.UsageError):
            gradlog.analyze(store, gradlog.Settings(**{"project": 128, **options}))  # type: ignore[arg-type]
    with pytest.raises(gradlog.UsageError, match="--search"):
        gradlog.analyze(store, gradlog.Settings(project=128), search=True)
    with pytest.raises(gradlog.MemoryLimitError, match=r"gradmf sketch --dim 1024|give --memory"):
        gradlog.analyze(store, gradlog.Settings(project=1024), memory=1 << 20)


def test_the_plan_of_a_projection_tells_both_passes(store: Path) -> None:
    plan = gradlog.describe_plan(store, gradlog.Settings(project=128), memory=64 << 20)
    assert plan.words[0].startswith("two passes: one writes a random projection of every gradient to 128")
    assert "standard errors, with 95% intervals of r* up to 32" in plan.words[1]
    assert "the sketch, " in plan.words[-1]
    size = ROWS * 4 * (128 * 2 + 3)
    alone = gradlog.describe_plan(store, gradlog.Settings(rank="sketch", sketch_dim=128), memory=64 << 20)
    assert plan.memory >= alone.memory // 2 + size
    without = gradlog.describe_plan(store, gradlog.Settings(project=128, rank="none"), memory=64 << 20)
    assert "r*" not in "".join(without.words)


def test_what_serves_nothing_is_said(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, word in (
        ({"rank": "exact", "sketch_dim": 64}, "--sketch-dim: no sketch is made with --rank exact"),
        ({"rank": "none", "seed": 3}, "--seed: no sketch is made with --rank none"),
        ({"project": 128, "sketch_dim": 64}, "leave --sketch-dim away"),
    ):
        with pytest.raises(gradlog.UsageError, match=word):
            gradlog.analyze(store, gradlog.Settings(**options))  # type: ignore[arg-type]
    for options, word in (({"sketch_dim": 64}, "--sketch-dim"), ({"seed": 3}, "--seed")):
        warning, strided = gradlog.analyze(store, gradlog.Settings(**options)).warnings  # type: ignore[arg-type]
        assert (warning.code, strided.code) == ("sketch-unused", "steps-strided")
        assert f"no sketch is made, and {word} serves nothing" in warning.message
    assert main(["analyze", str(store), "-q", "--seed", "3"]) == 0
    assert "no sketch is made" in capsys.readouterr().err


def test_layouts_give_the_same_sketch(tmp_path: Path) -> None:
    """Sharded and zipped stores, and bfloat16, have the sketch of their values."""
    rng = np.random.default_rng(8)
    bits = (rng.standard_normal((30, 700)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    declared = {"gradlog": {"dtype": "bfloat16"}}

    def written(place: Any, data: NDArray[Any], **layout: Any) -> None:
        group = zarr.open_group(place, mode="w")
        group.attrs["gradlog"] = {"version": 1}
        add_array(group, "grads/w", data, **layout)
        add_array(group, "step", np.arange(1, 31))

    written(tmp_path / "plain", values, chunks=(10, 350))
    written(tmp_path / "sharded", values, chunks=(5, 50), shards=(15, 350))
    written(tmp_path / "bfloat16", bits, chunks=(30, 100), attributes=declared)
    written(tmp_path / "folder", values, chunks=(7, 700))
    shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "folder")
    found = {}
    for name in ("plain", "sharded", "bfloat16", "zipped.zip"):
        sketched = sketch(tmp_path / name, tmp_path / f"{name}.sketch", dim=64, seed=2)
        found[name] = np.asarray(zarr.open_group(sketched)["grads/w"])
        spectrum = gradlog.analyze(
            tmp_path / name, gradlog.Settings(rank="sketch", sketch_dim=64)
        ).total.spectrum
        assert spectrum is not None
        assert spectrum.method == "sketch"
        assert spectrum.energy == pytest.approx(
            float((np.diff(values.astype(float), axis=0) ** 2).sum()), rel=1e-9
        )
    for name, sums in found.items():
        np.testing.assert_array_equal(sums, found["plain"], err_msg=name)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("columns", [1, 300])
def test_the_shortest_and_narrowest_logs(tmp_path: Path, rows: int, columns: int) -> None:
    values = np.random.default_rng(rows).standard_normal((rows, columns))
    path = write_store(tmp_path / "run.zarr", {"w": values})
    truth = min(rows - 1, columns)
    for place in (path, sketch(path, tmp_path / "sketch.zarr", dim=64)):
        spectrum = gradlog.analyze(place, gradlog.Settings(rank="sketch", epsilons=(0.01,))).total.spectrum
        assert spectrum is not None
        [rank] = spectrum.rank
        assert rank.lower <= truth <= rank.upper
        assert rank.rank == truth
