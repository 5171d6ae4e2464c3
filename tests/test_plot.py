"""Figures, compared by what they hold: axes, words, and lines that are the numbers of the analysis."""

from __future__ import annotations

import dataclasses
import itertools
import json
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import walk

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.plots.depth import in_depth_order

pytestmark = pytest.mark.extras

ROWS = 80
SETTINGS = gradlog.Settings(windows=8, predictors=("one-step", "ema:0.9", "linear"))
TRAINING = ("kappa", "loss", "norm")


def write(path: Path, tensors: dict[str, Any], *, loss: bool = True, stride: int = 10) -> Path:
    rows = len(next(iter(tensors.values())))
    with gradlog.create_log(path) as log:
        for t in range(rows):
            series = {"loss": 1.0 + 3.0 / (t + 1)} if loss else {}
            log.append(stride * t, {name: values[t] for name, values in tensors.items()}, **series)
    return path


def tensors_of(seed: int, rows: int = ROWS) -> dict[str, Any]:
    return {
        "h.10.w": walk(rows, (12, 20), seed),
        "h.2.w": walk(rows, (15, 8), seed + 1),
        "h.2.b": walk(rows, (6,), seed + 2),
    }


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("logs")
    return [write(folder / f"{name}.zarr", tensors_of(seed)) for seed, name in ((1, "first"), (7, "second"))]


@pytest.fixture(scope="module")
def analyses(logs: list[Path]) -> list[gradlog.Analysis]:
    return [gradlog.analyze(log, SETTINGS) for log in logs]


def title_of(axes: Any) -> str:
    return str(axes.get_title(loc="left"))


def panel(figure: Any, title: str) -> Any:
    """The axes whose title begins so."""
    (found,) = [axes for axes in figure.axes if title_of(axes).startswith(title)]
    return found


def words_of(axes: Any) -> str:
    return "\n".join([title_of(axes), *(text.get_text() for text in axes.texts)])


def labelled(axes: Any) -> dict[str, Any]:
    """Lines by their labels; those that nobody named have labels that begin with an underscore."""
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def legend_of(axes: Any) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def holds_line(axes: Any, x: Any, y: Any) -> bool:
    return any(
        line.get_xdata().shape == np.shape(x)
        and np.allclose(line.get_xdata(), x)
        and np.allclose(line.get_ydata(), y, equal_nan=True)
        for line in axes.lines
        if not isinstance(line.get_xdata(), list)
    )


def middles(analysis: gradlog.Analysis) -> Any:
    assert analysis.windows is not None
    return analysis.windows.step.mean(axis=1)


def spectrum_of(scope: gradlog.ScopeResult) -> gradlog.SpectrumResult:
    assert scope.spectrum is not None
    return scope.spectrum


def test_a_figure_says_what_was_analyzed(analyses: list[gradlog.Analysis]) -> None:
    figure = gradlog.plot(analyses[0])
    assert figure.get_suptitle() == "first: N = 80 gradients, D = 366 parameters"
    titles = [title_of(axes) for axes in figure.axes if title_of(axes)]
    assert titles == [
        "Kappa by predictor, in windows of 10 gradients",
        "Loss, mean of each window",
        "Norm of gradients, root mean square of each window",
        "Cumulative spectrum of the increments",
        "r* by tensor",
        "Kappa of one-step over noise, by tensor",
    ]
    norm = panel(figure, "Norm")
    assert norm.get_xlabel() == "training step"
    assert norm.get_ylabel() == "gradient norm"
    assert panel(figure, "Kappa by predictor").get_xlabel() == ""  # shares the axis below


def test_kappa_by_predictor_with_its_noise(analyses: list[gradlog.Analysis]) -> None:
    analysis = analyses[0]
    axes = panel(gradlog.plot(analysis, panels=["kappa"]), "Kappa")
    assert analysis.windows is not None
    assert analysis.total.best is not None
    best = analysis.total.best.predictor
    for spec, kappa in analysis.windows.total.kappa.items():
        line = labelled(axes)[f"{spec} (best)" if spec == best else spec]
        np.testing.assert_array_equal(line.get_xdata(), middles(analysis))
        np.testing.assert_array_equal(line.get_ydata(), kappa)
        assert holds_line(axes, middles(analysis), analysis.windows.total.reference[spec])
    assert legend_of(axes)[-2:] == ["noise", "predicting nothing"]
    looks = {(line.get_color(), line.get_marker()) for line in labelled(axes).values()}
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == 3


def test_loss_and_norm_beneath(analyses: list[gradlog.Analysis]) -> None:
    analysis = analyses[0]
    figure = gradlog.plot(analysis, panels=TRAINING)
    assert analysis.series is not None
    loss, norm = analysis.series["loss"], analysis.steps.grad_norm
    assert holds_line(panel(figure, "Loss"), middles(analysis), loss.reshape(8, 10).mean(axis=1))
    squares = np.square(norm).reshape(8, 10).mean(axis=1)
    assert holds_line(panel(figure, "Norm"), middles(analysis), np.sqrt(squares))
    assert holds_line(panel(figure, "Norm"), analysis.steps.step, norm)
    boxes = [axes.get_position() for axes in figure.axes]
    assert [box.x0 for box in boxes] == pytest.approx([boxes[0].x0] * 3)
    assert boxes[0].y0 > boxes[1].y0 > boxes[2].y0


def test_the_cumulative_spectrum_passes_ranks(analyses: list[gradlog.Analysis]) -> None:
    analysis = analyses[0]
    spectrum = spectrum_of(analysis.total)
    axes = panel(gradlog.plot(analysis, panels=["spectrum"]), "Cumulative")
    line = labelled(axes)["increments"]
    squares = np.square(spectrum.singular_values)
    np.testing.assert_allclose(line.get_ydata(), np.cumsum(squares) / squares.sum(), rtol=1e-6)
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, squares.size + 1))
    for rank in spectrum.rank:
        markers = [line for line in axes.lines if list(line.get_xdata()) == [rank.rank]]
        assert [list(line.get_ydata()) for line in markers] == [[1 - rank.epsilon]]
    noise = [rank.reference for rank in spectrum.rank]
    (hollow,) = [line for line in axes.lines if list(line.get_xdata()) == noise]
    assert hollow.get_markerfacecolor() == "white"
    assert [axes.yaxis.get_major_formatter()(tick) for tick in axes.get_yticks()] == [
        "0%", "50%", "90%", "95%", "99%",
    ]  # fmt: skip
    assert axes.get_xlabel() == "directions r, of 79"
    # The line of noise passes its own ranks, which the pass worked out.
    (curve,) = [line for line in axes.lines if _is_noise(line)]
    for rank in spectrum.rank:
        at = int(np.searchsorted(curve.get_ydata(), 1 - rank.epsilon)) + 1
        assert at == pytest.approx(rank.reference, abs=3)


def _is_noise(line: Any) -> bool:
    return len(line.get_xdata()) > 20 and line.get_linestyle() == "--" and line.get_label().startswith("_")


def test_kappa_of_tensors_in_windows(analyses: list[gradlog.Analysis]) -> None:
    analysis = analyses[0]
    windows, best = analysis.windows, analysis.total.best
    assert windows is not None
    assert best is not None
    axes = panel(gradlog.plot(analysis, panels=["heatmap"]), "Kappa of")
    (mesh,) = axes.collections
    names = in_depth_order(tensor.name for tensor in analysis.tensors)
    assert names == ["h.2.b", "h.2.w", "h.10.w"]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    by_name = dict(zip([tensor.name for tensor in analysis.tensors], windows.tensors, strict=True))
    scopes = [by_name[name] for name in names]
    ratios = [scope.kappa[best.predictor] / scope.reference[best.predictor] for scope in scopes]
    np.testing.assert_allclose(mesh.get_array(), np.log10(np.maximum(ratios, 1e-12)))
    assert mesh.norm.vmin == -mesh.norm.vmax  # noise is in the middle
    scale = mesh.colorbar.ax
    assert [label.get_text() for label in scale.get_yticklabels()][2] == "noise"


def test_ranks_of_tensors_beside_noise(analyses: list[gradlog.Analysis]) -> None:
    analysis = analyses[0]
    axes = panel(gradlog.plot(analysis, panels=["rank"]), "r* by tensor")
    by_name = {tensor.name: spectrum_of(tensor).rank for tensor in analysis.tensors}
    for number, epsilon in enumerate((0.1, 0.05, 0.01)):
        line = labelled(axes)[f"eps {epsilon:g}"]
        names = ["h.2.b", "h.2.w", "h.10.w"]
        assert line.get_xdata().tolist() == [by_name[name][number].rank for name in names]
        assert line.get_ydata().tolist() == [0, 1, 2]
        noise = [by_name[name][number].reference for name in names]
        assert noise in [list(drawn.get_xdata()) for drawn in axes.lines]
    assert axes.yaxis_inverted()


def test_growth_of_an_incremental_rank(logs: list[Path]) -> None:
    analysis = gradlog.analyze(logs[0], dataclasses.replace(SETTINGS, rank="incremental"))
    growth = spectrum_of(analysis.total).growth
    assert growth
    axes = panel(gradlog.plot(analysis, panels=["growth"]), "Growth")
    for number, epsilon in enumerate((0.1, 0.05, 0.01)):
        line = labelled(axes)[f"eps {epsilon:g}"]
        assert line.get_xdata().tolist() == [point.rows for point in growth]
        assert line.get_ydata().tolist() == [point.bounds[number][1] for point in growth]
    assert "noise" in legend_of(axes)


def test_ranks_within_windows(analyses: list[gradlog.Analysis]) -> None:
    analysis = analyses[0]
    assert analysis.windows is not None
    axes = panel(gradlog.plot(analysis, panels=["window-rank"]), "r* within")
    for epsilon, ranks in analysis.windows.total.rank.items():
        np.testing.assert_array_equal(labelled(axes)[f"eps {epsilon:g}"].get_ydata(), ranks)
        assert holds_line(axes, middles(analysis), analysis.windows.total.rank_reference[epsilon])


def test_overlap_of_subspaces(logs: list[Path]) -> None:
    analysis = gradlog.analyze(logs[0], dataclasses.replace(SETTINGS, subspace=3, window=16))
    subspace = analysis.total.subspace
    assert subspace is not None
    axes = panel(gradlog.plot(analysis, panels=["overlap"]), "Overlap")
    assert title_of(axes) == "Overlap with the leading 3 directions of the 16 rows before"
    for measure in (subspace.gradients, subspace.increments):
        known = [(window.row, window.overlap) for window in measure.windows if window.overlap is not None]
        assert len(known) == 4
        assert holds_line(axes, [10 * (row + 7.5) for row, _ in known], [overlap for _, overlap in known])
    assert any(list(line.get_ydata()) == [3 / 366] * 2 for line in axes.lines)  # by chance


def test_runs_over_each_other(analyses: list[gradlog.Analysis]) -> None:
    figure = gradlog.plot(analyses, panels=["kappa", "rank", "heatmap", "spectrum"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "first: N = 80 gradients, D = 366 parameters",
        "second: N = 80 gradients, D = 366 parameters",
    ]
    colors = [line.get_color() for line in legend.get_lines()]
    kappa = figure.axes[0]
    spec = title_of(kappa).split()[2].rstrip(",")
    for analysis, color in zip(analyses, colors, strict=True):
        assert analysis.windows is not None
        drawn = [line for line in kappa.lines if line.get_color() == color]
        np.testing.assert_array_equal(drawn[0].get_ydata(), analysis.windows.total.kappa[spec])
        np.testing.assert_array_equal(drawn[1].get_ydata(), analysis.windows.total.reference[spec])
    maps = [axes for axes in figure.axes if "over noise" in title_of(axes)]
    assert [title_of(axes).split(":")[0] for axes in maps] == ["first", "second"]
    assert len({axes.collections[0].norm.vmax for axes in maps}) == 1
    ranks = panel(figure, "r*(0.05) by tensor")
    marked = [line.get_color() for line in ranks.lines if line.get_marker() in ("o", "s")]
    assert marked == [colors[0], colors[0], colors[1], colors[1]]  # noise, then the run
    named = gradlog.plot(analyses, panels=["kappa"], labels=["before", "after"])
    assert [text.get_text().split(":")[0] for text in named.legends[0].get_texts()] == ["before", "after"]


def test_runs_of_other_tensors_and_lengths(analyses: list[gradlog.Analysis], tmp_path: Path) -> None:
    other = gradlog.analyze(write(tmp_path / "other.zarr", {"new": walk(30, (9,), 3)}, stride=1), SETTINGS)
    figure = gradlog.plot([analyses[0], other])
    names = [label.get_text() for label in panel(figure, "r*(0.05)").get_yticklabels()]
    assert names == ["h.2.b", "h.2.w", "h.10.w", "new"]


REASONS: list[tuple[str, Callable[[Any], Any], dict[str, str]]] = [
    (
        "all zero",
        lambda _: {"a": np.zeros((30, 4), np.float32), "b": np.zeros((30, 2), np.float32)},
        dict.fromkeys(("Kappa", "Cumulative", "r* by", "Growth", "Overlap"), "all gradients are zero"),
    ),
    (
        "one row",
        lambda _: {"a": np.ones((1, 4), np.float32), "b": np.ones((1, 2), np.float32)},
        {
            "Cumulative": "one row has no increments",
            "r* by": "one row has no increments",
            "r* within": "one row has no increments",
            "Overlap": "overlap takes two whole windows of 4 rows, and there are 1",
        },
    ),
    (
        "constant",
        lambda _: {"a": np.ones((30, 4), np.float32), "b": np.ones((30, 2), np.float32)},
        {"Cumulative": "all increments are zero", "Growth": "all increments are zero"},
    ),
    (
        "exact",
        lambda _: tensors_of(1),
        {"Growth": "an exact spectrum is of all rows at once", "Loss": "the log holds no series `loss`"},
    ),
]


@pytest.mark.parametrize(("kind", "tensors", "reasons"), REASONS, ids=[kind for kind, _, _ in REASONS])
def test_panels_say_why_they_are_empty(
    kind: str, tensors: Callable[[Any], Any], reasons: dict[str, str], tmp_path: Path
) -> None:
    panels = tuple(gradlog.PANELS)
    log = write(tmp_path / f"{kind}.zarr", tensors(None), loss=False)
    figure = gradlog.plot(gradlog.analyze_for_plot(log, panels=panels), panels=panels)
    for title, why in reasons.items():
        found = [axes for axes in figure.axes if title_of(axes).startswith(title)]
        assert any(why in words_of(axes).replace("\n", " ") for axes in found), (title, figure)
    gradlog.save_plot(figure, tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("changed", "title", "why"),
    [
        ({"rank": "none"}, "Cumulative", "no ranks were computed, and no spectrum"),
        ({"rank": "sketch"}, "Growth", "a sketch has r* of all rows alone"),
        ({"project": 64}, "Overlap", "a sketch has no subspaces to follow"),
        ({"rank": "incremental"}, "r* within", "ranks of windows come of an exact spectrum over rows"),
        ({"predictors": ("zero",)}, "Kappa over", "no predictor but zero was measured"),
    ],
)
def test_analyses_that_lack_something(
    logs: list[Path], tmp_path: Path, changed: dict[str, Any], title: str, why: str
) -> None:
    panels = tuple(gradlog.PANELS)
    settings = dataclasses.replace(gradlog.Settings(), **changed)
    analysis = gradlog.analyze_for_plot(logs[0], settings, panels=panels)
    figure = gradlog.plot(analysis, panels=panels)
    assert why in words_of(panel(figure, title)).replace("\n", " ")
    gradlog.save_plot(figure, tmp_path / "figure.pdf")


def test_results_without_steps_or_spectrum(analyses: list[gradlog.Analysis]) -> None:
    document = gradlog.analysis_document(analyses[0], steps=False)
    del document["total"]["spectrum"]["singular_values"]
    del document["windows"], document["settings"]["windows"]
    (analysis,) = gradlog.read_analyses(json.dumps(document), "run.jsonl")
    figure = gradlog.plot(analysis, panels=("kappa", "norm", "heatmap", "spectrum"))
    assert "no per-step series" in words_of(panel(figure, "Kappa over"))
    assert "no per-step series" in words_of(panel(figure, "Gradient norm"))
    assert "no windows of training" in words_of(panel(figure, "Kappa by tensor")).replace("\n", " ")
    spectrum = panel(figure, "Cumulative")
    assert "first: no singular values here, ranks alone" in title_of(spectrum)
    assert [rank.rank for rank in spectrum_of(analysis.total).rank] == [
        line.get_xdata()[0] for line in spectrum.lines if len(line.get_xdata()) == 1
    ]
    # What there is nothing for is left out unless it is asked for.
    assert [title_of(axes).split("\n")[0] for axes in gradlog.plot(analysis).axes] == [
        "Cumulative spectrum of the increments",
        "r* by tensor",
    ]


def test_finished_results_give_the_same_figure(analyses: list[gradlog.Analysis], tmp_path: Path) -> None:
    (again,) = gradlog.read_analyses(json.dumps(gradlog.analysis_document(analyses[0])), "run.json")
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for analysis, file in zip((analyses[0], again), files, strict=True):
        gradlog.save_plot(gradlog.plot(analysis), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_panel_of_some_runs_names_the_others(analyses: list[gradlog.Analysis], tmp_path: Path) -> None:
    mute = gradlog.analyze(write(tmp_path / "mute.zarr", tensors_of(3), loss=False), SETTINGS)
    figure = gradlog.plot([*analyses, mute], panels=["loss"])
    (axes,) = figure.axes
    assert "mute: the log holds no series `loss`" in title_of(axes)
    colors = {line.get_color() for line in axes.lines}
    assert len(colors) == 2
    # Colours are those of runs where a single one is left, too.
    alone = gradlog.plot([mute, analyses[0]], panels=["loss", "kappa"])
    (legend,) = alone.legends
    assert {line.get_color() for line in panel(alone, "Loss").lines} == {legend.get_lines()[1].get_color()}


def test_names_are_no_formulas(tmp_path: Path) -> None:
    names = {"a_$x$^{2": walk(30, (4,), 1), "日本\n語": walk(30, (3,), 4)}
    log = write(tmp_path / "$run_1$é\u4e2d.zarr", names)
    figure = gradlog.plot(gradlog.analyze(log, SETTINGS))
    labels = [label.get_text() for label in panel(figure, "r* by").get_yticklabels()]
    assert labels == ["a_$x$^{2", "\\u65e5\\u672c\\n\\u8a9e"]
    assert figure.get_suptitle().startswith("$run_1$é\\u4e2d: N = 30")
    for ending in ("png", "svg", "pdf"):
        gradlog.save_plot(figure, tmp_path / f"figure.{ending}")


@pytest.mark.parametrize("style", ["paper-1col", "paper-2col", "screen"])
@pytest.mark.parametrize("several", [False, True])
def test_nothing_overlaps(
    analyses: list[gradlog.Analysis], tmp_path: Path, style: str, several: bool
) -> None:
    """Words stay within the figure, and legends and titles off the data and off each other."""
    figure = gradlog.plot(analyses if several else analyses[0], style=style)
    assert figure.get_size_inches()[0] == {"paper-1col": 3.4, "paper-2col": 7.0, "screen": 11.0}[style]
    gradlog.save_plot(figure, tmp_path / "figure.png")
    page = figure.bbox
    for axes in figure.axes:
        box = axes.get_window_extent()
        legend = axes.get_legend()
        if legend is not None:
            words = legend.get_window_extent()
            assert words.y0 >= box.y1 - 1
            assert words.x1 <= page.x1 + 1
            title = axes._left_title.get_window_extent()
            assert title.y0 >= words.y1 - 2
        for text in [*axes.get_yticklabels(), axes.yaxis.label, axes.xaxis.label, axes._left_title]:
            extent = text.get_window_extent()
            assert not text.get_text() or (extent.x0 >= page.x0 - 1 and extent.x1 <= page.x1 + 1)
        ticks = [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()]
        inside = [tick for tick in ticks if box.y0 - 1 <= (tick.y0 + tick.y1) / 2 <= box.y1 + 1]
        inside.sort(key=lambda tick: tick.y0)
        for below, above in itertools.pairwise(inside):
            assert below.y1 <= above.y0 + 0.3 * below.height, title_of(axes)


def test_many_tensors_are_named_in_groups(tmp_path: Path) -> None:
    parts = ("attn.qkv.weight", "attn.out.weight", "mlp.up.weight", "mlp.down.weight", "norm.weight")
    tensors = {f"layers.{n}.{part}": walk(24, (3,), 5 * n) for n in range(30) for part in parts}
    analysis = gradlog.analyze(write(tmp_path / "long.zarr", tensors), SETTINGS)
    figure = gradlog.plot(analysis, style="paper-2col")
    labels = [label.get_text() for label in panel(figure, "r* by").get_yticklabels()]
    assert 8 <= len(labels) <= 30
    assert set(labels) <= {f"layers.{n}" for n in range(30)}
    assert labels == in_depth_order(labels)
    assert list(labelled(panel(figure, "r* by"))) == ["eps 0.05"]


def test_formats(analyses: list[gradlog.Analysis], tmp_path: Path) -> None:
    figure = gradlog.plot(analyses[0], style="paper-2col")
    width, height = figure.get_size_inches()
    for ending in ("png", "svg", "pdf"):
        gradlog.save_plot(figure, tmp_path / f"figure.{ending}")
        first = (tmp_path / f"figure.{ending}").read_bytes()
        gradlog.save_plot(figure, tmp_path / f"figure.{ending}")
        assert (tmp_path / f"figure.{ending}").read_bytes() == first
    image = (tmp_path / "figure.png").read_bytes()
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    size = struct.unpack(">II", image[16:24])
    assert size == (pytest.approx(300 * width, abs=1), pytest.approx(300 * height, abs=1))
    tree = ElementTree.parse(tmp_path / "figure.svg")
    texts = {text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"kappa", "training step", "h.10.w", "ema:0.9"} <= texts
    document = (tmp_path / "figure.pdf").read_bytes()
    assert document[:5] == b"%PDF-"
    assert b"/FontType 42" in document or b"/TrueType" in document or b"/CIDFontType2" in document
    assert b"/Type3" not in document
    assert len(document) < 300_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.pdf", "figure.png", "figure.svg"]


def test_settings_of_matplotlib_are_left_alone(analyses: list[gradlog.Analysis]) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "red", "text.usetex": True}):
        axes = gradlog.plot(analyses[0], panels=["kappa"]).axes[0]
    assert axes.get_facecolor() == (1, 1, 1, 1)
    assert dict(matplotlib.rcParams) == before


def run(*words: str | Path) -> int:
    return main(["plot", *map(str, words)])


def test_the_command(logs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run.svg"
    out.write_text("before")
    assert run(logs[0], "-o", out, "--style", "paper-1col") == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{out}: 3.4 by ")
    assert told.err.startswith("gradmf: warning: rows are 10 training steps apart")
    texts = [text.text for text in ElementTree.parse(out).iter("{http://www.w3.org/2000/svg}text")]
    assert "first: N = 80 gradients, D = 366 parameters" in texts
    assert "Kappa by predictor, in windows of 5 gradients" in texts
    assert "Kappa of" in " ".join(filter(None, texts))


def test_the_command_on_finished_results(
    logs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = tmp_path / "runs.jsonl"
    words = [str(log) for log in logs]
    assert main(["analyze", *words, "--windows", "8", "--steps", "--format", "jsonl", "-o", str(held)]) == 0
    assert run(held, "-o", tmp_path / "a.svg", "--panel", "kappa", "-q") == 0
    assert run(*logs, "-o", tmp_path / "b.svg", "--panel", "kappa", "--windows", "8", "-q") == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert run(held, "-o", tmp_path / "c.svg", "--windows", "3") == 2
    assert "--windows cannot change finished results: give the store" in capsys.readouterr().err
    assert not (tmp_path / "c.svg").exists()


def test_a_run_that_fails_is_told_and_the_others_drawn(
    logs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(logs[0], tmp_path / "missing.zarr", "-o", tmp_path / "run.png", "--panel", "norm") == 1
    assert "missing.zarr" in capsys.readouterr().err
    assert (tmp_path / "run.png").stat().st_size > 1000
    assert run(tmp_path / "missing.zarr", "-o", tmp_path / "none.png") == 1
    assert not (tmp_path / "none.png").exists()


def test_the_panel_of_subspaces_follows_them(logs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "run.svg"
    assert run(logs[0], "-o", out, "--panel", "overlap") == 0
    texts = [text.text or "" for text in ElementTree.parse(out).iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("Overlap with the leading 5 directions") for text in texts)


def test_updates_are_called_so(analyses: list[gradlog.Analysis]) -> None:
    info = dataclasses.replace(analyses[0].run, attributes={"gradlog": {"version": 1, "kind": "updates"}})
    figure = gradlog.plot(dataclasses.replace(analyses[0], run=info), panels=["norm"])
    assert figure.get_suptitle() == "first: N = 80 updates, D = 366 parameters"
    assert figure.axes[0].get_ylabel() == "update norm"


def test_steps_that_go_back_are_drawn_by_row(analyses: list[gradlog.Analysis]) -> None:
    analysis = analyses[0]
    step = analysis.steps.step.copy()
    step[40:] -= 300
    back = dataclasses.replace(analysis, steps=dataclasses.replace(analysis.steps, step=step))
    axes = gradlog.plot([analysis, back], panels=["norm"]).axes[0]
    assert axes.get_xlabel() == "row"
    assert holds_line(axes, np.arange(ROWS), analysis.steps.grad_norm)
