"""What figures are made of, and what is told without matplotlib: nothing here needs it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import format1_store, walk

from gradmf import gradlog
from gradmf.cli.commands import plot as command
from gradmf.cli.commands.sources import find_sources
from gradmf.cli.main import main
from gradmf.gradlog.plots.depth import in_depth_order, name_ticks
from gradmf.gradlog.plots.drawn_run import drawn_runs, names_of
from gradmf.gradlog.plots.style import STYLES
from gradmf.gradlog.plots.training_windows import kappa_curves, means, root_mean_squares, usual_windows
from gradmf.gradlog.statistics.noise_reference import window_references


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = {"w": walk(60, (12, 20), 1), "b": walk(60, (5,), 2)}
    return format1_store(tmp_path_factory.mktemp("plot") / "run.zarr", tensors)


def without_matplotlib(patch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        patch.delitem(sys.modules, name)
    patch.setitem(sys.modules, "matplotlib", None)


def test_without_matplotlib_a_line_names_the_extra(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_matplotlib(monkeypatch)
    assert main(["plot", str(run), "-o", str(tmp_path / "run.png")]) == 2
    told = capsys.readouterr().err
    assert told == (
        "gradmf: error: figures need the library matplotlib, which is not installed: "
        "pip install 'gradmf[plot]'\n"
    )
    assert not list(tmp_path.iterdir())
    with pytest.raises(gradlog.UsageError, match=r"gradmf\[plot\]"):
        gradlog.plot(gradlog.analyze(run))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "run.jpg"], "ends in '.jpg': a figure is written to .png, .svg or .pdf"),
        (["-o", "run"], "has no ending: a figure is written to .png, .svg or .pdf"),
        (["-o", "nowhere/run.png"], "there is no folder"),
        (["-o", "-"], "-o - has no ending"),
        ([], "Missing option '-o'"),
        (["-o", "run.png", "--panel", "pie"], "'pie' is not one of"),
        (["-o", "run.png", "--style", "poster"], "'poster' is not one of"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_read(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "missing.zarr", *words]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unknown_panels_styles_and_runs(run: Path) -> None:
    analysis = gradlog.analyze(run)
    with pytest.raises(gradlog.UsageError, match="panel 'pie': known are kappa, loss"):
        gradlog.plot(analysis, panels=["pie"])
    with pytest.raises(gradlog.UsageError, match="panel 'pie'"):
        gradlog.analyze_for_plot(run, panels=["pie"])
    with pytest.raises(gradlog.UsageError, match="style 'poster': known are paper-1col"):
        gradlog.plot(analysis, style="poster")
    with pytest.raises(gradlog.UsageError, match="no runs"):
        drawn_runs([])
    with pytest.raises(gradlog.UsageError, match="40 runs in one figure: 28 at most"):
        drawn_runs([analysis] * 40)
    with pytest.raises(gradlog.UsageError, match="2 labels for 1 runs"):
        drawn_runs([analysis], ["a", "b"])


def test_the_command_offers_what_there_is() -> None:
    assert tuple(gradlog.PANELS) == command.PANELS
    assert tuple(STYLES) == command.STYLES


def test_nothing_of_figures_is_imported_to_analyze(run: Path) -> None:
    script = (
        "import sys; from gradmf.cli.main import main; "
        f"main(['analyze', {str(run)!r}, '--windows', '4']); "
        "found = [n for n in sys.modules if 'matplotlib' in n or 'gradlog.plots' in n]; "
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_analysis_has_what_its_panels_show(run: Path) -> None:
    usual = gradlog.analyze_for_plot(run)
    assert usual.settings.windows == 12  # of 5 rows
    assert usual.settings.subspace is None
    assert gradlog.analyze_for_plot(run, panels=["window-rank"]).settings.windows == 3
    followed = gradlog.analyze_for_plot(run, gradlog.Settings(windows=4), panels=["overlap"])
    assert (followed.settings.windows, followed.settings.subspace) == (4, 3)
    assert followed.total.subspace is not None
    quiet = gradlog.analyze_for_plot(run, gradlog.Settings(rank="incremental"))
    assert "windows-without-rank" not in [warning.code for warning in quiet.warnings]
    assert [usual_windows(rows) for rows in (1, 9, 10, 199, 200, 10**6)] == [1, 1, 2, 39, 40, 40]


def test_a_sketch_is_analyzed_without_subspaces(run: Path) -> None:
    settings = gradlog.Settings(project=64)
    assert gradlog.analyze_for_plot(run, settings, panels=["overlap"]).settings.subspace is None


def test_kappa_in_windows_is_that_of_their_rows(run: Path) -> None:
    """From steps as from the windows of the pass; noise as of the whole rows before."""
    with_windows = gradlog.analyze(run, gradlog.Settings(windows=12))
    without = gradlog.analyze(run)
    found, expected = kappa_curves(without), kappa_curves(with_windows)
    assert found.rows.tolist() == expected.rows.tolist()
    assert with_windows.windows is not None
    assert expected.kappa is with_windows.windows.total.kappa
    for spec, kappa in expected.kappa.items():
        np.testing.assert_allclose(found.kappa[spec], kappa, rtol=1e-9)
        np.testing.assert_allclose(found.reference[spec], expected.reference[spec], rtol=1e-9)
    # Early documents have kappa of steps alone.
    early = dataclasses.replace(without, steps=dataclasses.replace(without.steps, path_length={}))
    for spec, kappa in kappa_curves(early).kappa.items():
        np.testing.assert_allclose(kappa, expected.kappa[spec], rtol=1e-9)


def test_noise_of_windows_adds_up_to_that_of_all_rows(run: Path) -> None:
    energies = np.square(gradlog.analyze(run).steps.grad_norm)[None]
    windows = np.array([[0, 7], [7, 30], [30, 60]])
    each = window_references("ema:0.9", windows, energies)[0]
    share = np.array([energies[0, a:b].sum() for a, b in windows]) / energies.sum()
    whole = window_references("ema:0.9", np.array([[0, 60]]), energies)[0, 0]
    assert each @ share == pytest.approx(whole, rel=1e-12)


def test_means_of_windows_leave_out_what_is_not_known() -> None:
    rows = np.array([[0, 2], [2, 4], [3, 5]])
    series = np.array([1.0, 3.0, np.nan, np.inf, 4.0])
    np.testing.assert_array_equal(means(series, rows), [2, np.nan, 4])
    np.testing.assert_allclose(root_mean_squares(series, rows[:1]), [np.sqrt(5)])


def test_names_of_runs_tell_them_apart() -> None:
    assert names_of(["a/run.zarr"]) == ["run"]
    assert names_of(["a/run.zarr", "b/run.zarr"]) == ["a/run", "b/run"]
    assert names_of(["run.zarr", "run.zarr"]) == ["run.zarr (1)", "run.zarr (2)"]
    assert names_of(["/x/a/run.zarr", "/y/a/run.zarr/"]) == ["x/a/run", "y/a/run"]


def test_several_runs_share_the_predictor_that_serves_the_worst(run: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = format1_store(tmp_path / "noise.zarr", {"w": random.standard_normal((60, 400))})
    analyses = [gradlog.analyze(run), gradlog.analyze(noise)]
    by_run = [{p.predictor: p.kappa or 0.0 for p in a.total.predictors} for a in analyses]
    for kappa in by_run:
        del kappa["zero"]
    expected = min(by_run[0], key=lambda spec: max(kappa[spec] for kappa in by_run))
    runs = drawn_runs(analyses)
    assert [drawn.predictor for drawn in runs] == [expected] * 2
    assert drawn_runs(analyses[:1])[0].predictor == min(by_run[0], key=lambda spec: by_run[0][spec])
    assert len({drawn.color for drawn in runs}) == len({drawn.marker for drawn in runs}) == 2
    apart = [gradlog.analyze(run, gradlog.Settings(predictors=(spec,))) for spec in ("one-step", "mean:5")]
    assert [drawn.predictor for drawn in drawn_runs(apart)] == ["one-step", "mean:5"]


def test_tensors_in_the_order_of_depth() -> None:
    names = ["h.10.w", "h.2.w", "h.2.b", "embed", "h.2.w"]
    assert in_depth_order(names) == ["embed", "h.2.b", "h.2.w", "h.10.w"]


def test_names_that_fit_beside_a_panel() -> None:
    parts = ("a.w", "a.b", "m.w", "m.b")
    names = in_depth_order(f"h.{layer}.{part}" for layer in range(12) for part in parts)
    each = name_ticks(names, 60, 20)
    assert [tick.text for tick in each] == names
    assert [tick.middle for tick in each] == list(range(48))
    layers = name_ticks(names, 14, 20)
    assert [tick.text for tick in layers] == [f"h.{layer}" for layer in range(12)]
    assert [(tick.first, tick.last) for tick in layers[:2]] == [(0, 4), (4, 8)]
    few = name_ticks(names, 5, 20)
    assert 2 <= len(few) <= 5
    assert few[0].text == "h.0"
    # Small groups beside large ones make room for them.
    crowded = name_ticks(["a", "b", *names], 13, 20)
    assert min(np.diff([tick.middle for tick in crowded])) >= 50 / 13
    assert name_ticks(["abcdefgh"], 5, 5)[0].text == "…efgh"


@pytest.mark.parametrize(
    ("option", "changed"),
    [("--windows", {"windows": 8}), ("--subspace", {"subspace": 3}), ("--rows", {"rows": (1, 9)})],
)
def test_options_change_no_finished_results(
    run: Path, tmp_path: Path, option: str, changed: dict[str, Any]
) -> None:
    held = tmp_path / "run.json"
    held.write_text(json.dumps(gradlog.analysis_document(gradlog.analyze(run))))
    sources, _ = find_sources([str(held)], dataclasses.replace(gradlog.Settings(), **changed))
    with pytest.raises(gradlog.UsageError, match=f"{option} cannot change finished results"):
        next(sources).finished()
