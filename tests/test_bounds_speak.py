"""Whose path a bound speaks of, whether it says anything, and when a hint is said to pay."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ar1 import analysis_of, ar1, predictions
from stores import add_array, foreign_store, format1_store

from gradmf import gradlog
from gradmf.cli.formats.as_table import draw_table
from gradmf.cli.main import main
from gradmf.cli.terminal.terminal import Terminal
from gradmf.gradlog import Bounds, Settings
from gradmf.gradlog.reports.bounds_report import bounds_report
from gradmf.gradlog.results.training import adaptive_optimizer, full_batch
from reference import Array

ROOT = Path(__file__).parent.parent


def logged(
    path: Path,
    g: Array,
    series: Mapping[str, Array] | None = None,
    attributes: Mapping[str, Any] | None = None,
    step: Array | None = None,
) -> Path:
    """A log of format 1 with one tensor, series and attributes."""
    format1_store(path, {"w": g}, step=None if step is None else step.tolist())
    group = zarr.open_group(path, mode="a")
    group.attrs.update(attributes or {})
    for name, values in (series or {}).items():
        add_array(group, name, values)
    return path


def sgd(rows: int, rate: float) -> tuple[Array, Array]:
    """Gradients and losses of minibatch descent on ||x||^2 / 2 from a point at distance sqrt(180)."""
    rng = np.random.default_rng(0)
    x, g, losses = 3 * np.ones(20), np.zeros((rows, 20)), np.zeros(rows)
    for t in range(rows):
        g[t], losses[t] = x + rng.standard_normal(20), x @ x / 2
        x = x - rate * g[t]
    return g, losses


def test_each_row_says_whose_path_it_speaks_of() -> None:
    found = gradlog.bounds(gradlog.analyze(ROOT / "sample_logs" / "mlp-sgd.zarr", search=True))
    paths = {row.name: (row.speaks_of, row.in_expectation) for row in found.rows}
    in_hindsight = [name for name, path in paths.items() if path == ("hindsight", False)]
    assert in_hindsight == [
        "regret[best listed]",
        "regret[best average]",
        "regret[best mean]",
        "regret[best mixture of two averages]",
        "regret[best least squares on lags]",
        "regret[rank r]",
    ]
    along = [name for name, path in paths.items() if path == ("along m_t", True)]
    assert along == ["stationarity", "stationarity[added]"]
    assert sum(path == ("logged", False) for path in paths.values()) == len(paths) - 8
    table = draw_table(bounds_report(found), Terminal(width=80))
    (rank,) = (line for line in table.splitlines() if line.startswith("regret, rank r"))
    assert rank.split()[-4:] == ["hindsight", "as", "a", "limit"]
    assert not any("stochastic" in word for row in found.rows for word in row.assumptions)


def test_stationarity_below_the_measured_mean_is_not_of_the_logged_run(tmp_path: Path) -> None:
    g, losses = sgd(3000, 0.5)
    path = logged(tmp_path / "run.zarr", g, {"loss": losses, "lr": np.full(3000, 0.5)})
    found = gradlog.bounds(gradlog.analyze(path, search=True), smoothness=1.0)
    whole, added = found.row("stationarity"), found.row("stationarity[added]")
    measured = float((g * g).sum()) / 3000
    # Gradients turn back, which lags foretell; the logged run moved along the last one.
    assert whole.value is not None
    assert added.value is not None
    assert (whole.speaks_of, whole.in_expectation, whole.vacuous) == ("along m_t", True, False)
    assert whole.value == pytest.approx(2 * 90 / (0.5 * 3000) + added.value)
    assert added.value < whole.value < measured
    assert added.worst == pytest.approx(measured)
    assert whole.worst is whole.ratio is None
    assert any("not of the logged run" in words for words in whole.assumptions)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_minibatch_runs_along_m_stay_below_in_expectation(decay: float) -> None:
    """Means over 200 runs; single runs may lie above. For the full gradient the noise is to spare."""
    rows, columns, noise, rate = 60, 8, 0.3, 0.2
    curvature = np.linspace(0.05, 1.0, columns)
    spec, sums = f"ema:{decay}", np.zeros(3)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x, average = rng.standard_normal(columns), np.zeros(columns)
        g, losses, full = np.zeros((rows, columns)), np.zeros(rows), 0.0
        for t in range(rows):
            g[t] = curvature * x + noise * rng.standard_normal(columns)
            losses[t] = (curvature * x * x).sum() / 2
            full += float(((curvature * x) ** 2).sum()) / rows
            x = x - rate * average
            average = decay * average + (1 - decay) * g[t]
        held = dataclasses.replace(
            analysis_of(g, (spec,)), series={"loss": losses, "lr": np.full(rows, rate)}
        )
        row = gradlog.bounds(held, smoothness=1.0).row("stationarity")
        assert row.value is not None
        sums += row.value, float((g * g).sum()) / rows, full
    value, of_logged, of_full = sums / 200
    assert of_logged <= value
    assert of_full <= value - columns * noise**2


@pytest.mark.parametrize(("spec", "phi"), [("one-step", 0.0), ("one-step", 0.9), ("mean:5", -0.5)])
def test_stationarity_is_vacuous_where_kappa_is_at_least_1(spec: str, phi: float) -> None:
    g = ar1(np.random.default_rng(1), 300, 50, phi)
    held = dataclasses.replace(
        analysis_of(g, (spec,)), series={"loss": np.linspace(2, 1, 300), "lr": np.full(300, 0.1)}
    )
    found = gradlog.bounds(held)
    kappa = float(((g - predictions(g, spec)) ** 2).sum() / (g * g).sum())
    for name in ("stationarity", "stationarity[added]"):
        row = found.row(name)
        assert row.vacuous == (kappa >= 1)
        assert row.value is not None
        if row.vacuous:
            assert row.value >= float((g * g).sum()) / 300
    table = draw_table(bounds_report(found), Terminal(width=80))
    assert table.count("vacuous") == 2 * (kappa >= 1)
    assert kappa == pytest.approx({0.0: 2.0, 0.9: 0.2, -0.5: 1.3}[phi], rel=0.1)


def test_a_regret_bound_beyond_standing_still_is_vacuous() -> None:
    """Of one gradient nobody is told beforehand: the bound is what never moving has."""
    one = gradlog.bounds(analysis_of(np.array([[3.0, 4.0], [0.0, 0.0]]), ("one-step",))).row(
        "regret[no hints]"
    )
    assert one.value == pytest.approx(math.sqrt(2) * 5)
    assert one.vacuous
    two = gradlog.bounds(analysis_of(np.array([[3.0, 4.0], [3.0, 4.0]]))).row("regret[no hints]")
    assert two.value == pytest.approx(math.sqrt(2 * 50))  # below sqrt(2) * 10
    assert not two.vacuous


def test_noise_pays_for_no_hint(tmp_path: Path) -> None:
    """120 logs: white, norms of heavy tails, and norms that follow one another."""
    rng = np.random.default_rng(3)
    said = less = 0
    for kind in range(3):
        for number in range(40):
            rows = (60, 200)[number % 2]
            g = rng.standard_normal((rows, 60))
            if kind:
                g *= np.exp(ar1(rng, rows, 1, 0.95 * (kind - 1)))
            path = foreign_store(tmp_path / f"{kind}-{number}.zarr", {"w": g})
            found = gradlog.bounds(gradlog.analyze(path, threads=1, search=True))
            said += found.anytime.pays_from is not None
            less += found.anytime.hint is not None
            if found.anytime.hint is not None:
                assert "it pays" not in draw_table(bounds_report(found), Terminal(width=120))
    assert said <= 6
    assert less >= 60  # in hindsight something leaves less on most of them


def test_noise_pays_for_no_listed_hint() -> None:
    rng = np.random.default_rng(4)
    said = 0
    for _ in range(200):
        g = rng.standard_normal((100, 4)) * np.exp(rng.standard_normal((100, 1)) / 2)
        said += (
            gradlog.bounds(analysis_of(g, ("ema:0.9", "ema:0.99", "mean:5"))).anytime.pays_from is not None
        )
    assert said <= 10


@pytest.mark.parametrize("search", [True, False])
def test_what_predicts_pays(tmp_path: Path, search: bool) -> None:
    rng = np.random.default_rng(5)
    for number in range(10):
        g = ar1(rng, 200, 60, 0.8)
        path = foreign_store(tmp_path / f"{number}.zarr", {"w": g})
        found = gradlog.bounds(gradlog.analyze(path, threads=1, search=search))
        assert found.anytime.predicts
        hint = found.anytime.hint
        assert hint is not None
        behind = found.anytime.bounds[hint][1:] >= found.anytime.bounds["zero"][1:]
        assert found.anytime.pays_from == int(np.append(0, np.flatnonzero(behind) + 1)[-1]) + 1 < 20
        assert "it pays from step" in draw_table(bounds_report(found), Terminal(width=120))


def test_too_few_rows_with_energy_tell_nothing() -> None:
    g = ar1(np.random.default_rng(6), 200, 60, 0.9)
    assert gradlog.bounds(analysis_of(g)).anytime.predicts
    g[:5] *= 1000
    found = gradlog.bounds(analysis_of(g))
    assert (found.anytime.predicts, found.anytime.pays_from) == (None, None)


def test_tensors_that_few_rows_carry_have_no_verdict() -> None:
    found = gradlog.bounds(gradlog.analyze(ROOT / "sample_logs" / "charlm-adamw.zarr", search=True))
    assert found.unsure == {"logit_scale"}  # 4.9 of 160 rows
    table = draw_table(bounds_report(found), Terminal())
    (line,) = (line for line in table.splitlines() if line.startswith("logit_scale"))
    assert line.split()[1::3] == ["-", "-"]
    assert "nothing predicts 10 of 16" in table


def test_bounds_take_what_analyze_gathered(tmp_path: Path) -> None:
    g = ar1(np.random.default_rng(7), 50, 60, 0.9)
    series = {"loss": np.linspace(2, 1, 50), "lr": np.full(50, 0.1)}
    path = logged(tmp_path / "run.zarr", g, series)
    analysis = gradlog.analyze(path)
    value = gradlog.bounds(analysis).row("stationarity").value
    assert value == gradlog.bounds(gradlog.analyze(path, tensor_steps=True)).row("stationarity").value
    added = gradlog.bounds(analysis).row("stationarity[added]").value
    assert added is not None
    assert value == pytest.approx(2 * 2 / (0.1 * 50) + added)
    (read,) = gradlog.read_analyses(json.dumps(gradlog.analysis_document(analysis)), "run.json")
    assert gradlog.bounds(read).row("stationarity").value == value
    cut = dataclasses.replace(analysis, series=None)
    assert "doesn't hold the log's series" in gradlog.bounds(cut).row("stationarity").why
    parts = [tmp_path / f"{index}.part" for index in (1, 2)]
    for index, part in enumerate(parts, 1):
        gradlog.write_part(gradlog.analyze_part(path, gradlog.PartNumber(index, 2)), part)
    merged = gradlog.bounds(gradlog.merge_parts(parts)).row("stationarity").value
    assert merged == pytest.approx(value, rel=1e-9)
    bare = logged(tmp_path / "bare.zarr", g)
    assert gradlog.bounds(gradlog.analyze(bare)).row("stationarity").why == "the log has no loss series"
    rows = gradlog.analyze(path, Settings(rows=(10, 30)))
    np.testing.assert_array_equal((rows.series or {})["loss"], series["loss"][10:30])


def test_a_damaged_loss_costs_an_analysis_nothing_but_itself(tmp_path: Path) -> None:
    g = ar1(np.random.default_rng(8), 20, 30, 0.9)
    path = logged(tmp_path / "run.zarr", g, {"loss": np.ones(20)})
    (chunk,) = (place for place in (path / "loss" / "c").rglob("*") if place.is_file())
    chunk.write_bytes(b"damaged")
    analysis = gradlog.analyze(path)
    (warning,) = analysis.warnings
    assert warning.code == "series-unreadable"
    assert warning.message.startswith("`loss` cannot be read")
    assert analysis.series is None
    part = gradlog.analyze_part(path, gradlog.PartNumber(1, 1))
    assert (part.warnings, part.selection.series) == ((warning,), None)
    with pytest.raises(gradlog.DataError, match="loss"):
        gradlog.analyze(path, search=True)


def test_adaptive_optimizers_have_no_step_along_m(tmp_path: Path) -> None:
    g = ar1(np.random.default_rng(9), 50, 60, 0.9)
    path = logged(
        tmp_path / "run.zarr", g, {"loss": np.ones(50), "lr": np.linspace(0, 1, 50)}, {"optimizer": "AdamW"}
    )
    analysis = gradlog.analyze(path)
    found = gradlog.bounds(analysis)
    assert found.adaptive_optimizer == "AdamW"
    whole, added = found.row("stationarity"), found.row("stationarity[added]")
    assert "AdamW rescales gradients" in whole.why
    assert whole.value is None
    assert added.formula == "P / N"  # lr weighs nothing, either
    assert "AdamW" in draw_table(bounds_report(found), Terminal())
    given = gradlog.bounds(analysis, lr=0.1)
    assert given.row("stationarity").value == pytest.approx(2 / (0.1 * 50) + (added.value or 0))
    assert "AdamW rescales gradients: no bound is of its own steps" in draw_table(
        bounds_report(given), Terminal()
    )


@pytest.mark.parametrize(
    ("optimizer", "adaptive"),
    [
        ("AdamW", True), ("torch.optim.adamw.AdamW", True), ("FusedAdam", True), ("adam8bit", True),
        ("Lion", True), ("signSGD", True), ("RMSprop", True), ("Muon", True), ("Adafactor", True),
        ({"name": "NAdam", "lr": 0.1}, True), ("SGD", False), ("SGD with momentum 0.9", False),
        ("gradient descent", False), ("adaptive? no", False), ({"lr": 0.1}, False), (3, False), (None, False),
    ],
)  # fmt: skip
def test_optimizers_that_rescale_are_known_by_name(optimizer: object, adaptive: bool) -> None:
    assert bool(adaptive_optimizer({"optimizer": optimizer})) == adaptive


@pytest.mark.parametrize(
    ("attributes", "full"),
    [
        ({}, False), ({"optimizer": "gradient descent"}, True), ({"optimizer": "GD"}, True),
        ({"optimizer": "full-batch gradient descent"}, True), ({"optimizer": "SGD"}, False),
        ({"optimizer": "stochastic gradient descent"}, False), ({"full_batch": True}, True),
        ({"full_batch": False, "optimizer": "GD"}, False), ({"batch_size": "full"}, True),
        ({"batch_size": 32, "dataset_size": 1500, "optimizer": "gradient descent"}, False),
        ({"batch_size": 1500, "dataset_size": 1500, "optimizer": "SGD"}, True), ({"batch_size": 32}, False),
    ],
)  # fmt: skip
def test_full_batches_are_known_by_attributes(attributes: dict[str, Any], full: bool) -> None:
    assert full_batch(attributes) == full


def test_full_batch_logs_are_not_called_minibatches() -> None:
    found = gradlog.bounds(gradlog.analyze(ROOT / "sample_logs" / "mlp-gd.zarr"))
    assert found.full_batch
    assert not any(row.in_expectation for row in found.rows)
    assert not any("of minibatches" in words for row in found.rows for words in row.assumptions)
    table = draw_table(bounds_report(found), Terminal())
    assert "Full-batch, as the log says" in table
    assert "in expectation" not in table


def test_formats_say_what_the_table_says(capsys: pytest.CaptureFixture[str]) -> None:
    log = str(ROOT / "sample_logs" / "charlm-adamw.zarr")
    assert main(["bounds", log, "--format", "json"]) == 0
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert "5 training steps apart" in told.err
    assert (document["stride"], document["full_batch"], document["adaptive_optimizer"]) == (5, False, "AdamW")
    assert (document["predicts"], document["pays_from"]) == (False, None)
    assert [warning["code"] for warning in document["warnings"]] == ["steps-strided"]
    rows = {row["name"]: row for row in document["guarantees"]}
    added = rows["stationarity[added]"]
    assert (added["speaks_of"], added["in_expectation"], added["vacuous"]) == ("along m_t", True, True)
    columns = "guarantee,speaks_of,in_expectation,vacuous"
    assert main(["bounds", log, "--format", "csv", "--columns", columns]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "stationarity[added],along m_t,true,true" in lines
    assert "regret[rank r],hindsight,false,false" in lines


def strided(every: int, phi: float = 0.95) -> Bounds:
    g = ar1(np.random.default_rng(10), 100 * every, 50, phi)[::every]
    analysis = analysis_of(g)
    return gradlog.bounds(
        dataclasses.replace(
            analysis, steps=dataclasses.replace(analysis.steps, step=np.arange(0, 100 * every, every))
        )
    )


def test_bounds_of_strided_rows_say_so() -> None:
    """Finished results of an early gradmf don't hold the warning: bounds see the stride."""
    assert strided(1).warnings == ()
    found = strided(5)
    assert [warning.code for warning in found.warnings] == ["steps-strided"]
    table = draw_table(bounds_report(found), Terminal())
    assert "5 steps apart" in table
    assert "from logged row to row it pays from step" in table
