"""Guarantees as theorems: algorithms that are run never exceed what is printed; closed forms by hand."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from ar1 import analysis_of, predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import foreign_store, walk
from sweeps import sweep

from documents import Example, examples, masked, run
from gradmf import gradlog
from gradmf.cli.formats.as_table import draw_table
from gradmf.cli.main import main
from gradmf.cli.terminal.terminal import Terminal
from gradmf.gradlog import Analysis, Bounds, MeetingRank, RankResult, Settings, SpectrumResult, UsageError
from gradmf.gradlog.reports.bounds_report import WORDS, bounds_report, meeting_ranks
from reference import Array

SPECS = ("one-step", "ema:0.5", "mean:5")
ROOT = Path(__file__).parent.parent


def gradients(seed: int, rows: int, columns: int) -> Array:
    """Anything between noise, drift and jumps, of any size."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(4)
    g = rng.standard_normal((rows, columns))
    if kind == 1:
        g = g.cumsum(axis=0)
    elif kind == 2:
        g = rng.standard_normal(columns) + 0.1 * g
    elif kind == 3:
        g *= np.exp(3 * rng.standard_normal((rows, 1)))
    return np.asarray(g * 10.0 ** rng.integers(-3, 4))


def regret(g: Array, hints: Array, radius: float, path_length: float) -> float:
    """Of optimistic mirror descent in the Euclidean case, against the worst comparator."""
    eta = radius * math.sqrt(2 / path_length)
    y = np.zeros(g.shape[1])
    paid = 0.0
    for gradient, hint in zip(g, hints, strict=True):
        paid += float(gradient @ (y - eta * hint))
        y -= eta * gradient
    # Half the squared distance is at most R^2.
    return paid + math.sqrt(2) * radius * float(np.linalg.norm(g.sum(axis=0)))


@settings(max_examples=sweep(1500), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(2, 14),
    columns=st.integers(1, 4),
    radius=st.floats(0.01, 100),
)
def test_regret_of_optimistic_mirror_descent_stays_below(
    seed: int, rows: int, columns: int, radius: float
) -> None:
    g = gradients(seed, rows, columns)
    found = gradlog.bounds(analysis_of(g, SPECS), radius=radius)
    best = found.row("regret[best listed]")
    assert best.value is not None
    paid = regret(g, predictions(g, best.hint), radius, best.value**2 / 2 / radius**2)
    assert paid <= best.value * (1 + 1e-9)
    without = found.row("regret[no hints]")
    assert without.value is not None
    assert without.worst is not None
    assert regret(g, np.zeros_like(g), radius, float((g * g).sum())) <= without.value * (1 + 1e-9)
    assert without.value <= without.worst * (1 + 1e-9)
    prefix = rows // 2 + 1
    for spec, values in found.anytime.bounds.items():
        hints = np.zeros_like(g) if spec == "zero" else predictions(g, spec)
        length = float(((g - hints)[:prefix] ** 2).sum())
        assert values[prefix - 1] == pytest.approx(radius * math.sqrt(2 * length))
        assert regret(g[:prefix], hints[:prefix], radius, length) <= values[prefix - 1] * (1 + 1e-9)


@settings(max_examples=sweep(700), deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(2, 25), columns=st.integers(1, 4))
def test_aggregated_hints_stay_below(seed: int, rows: int, columns: int) -> None:
    g = gradients(seed, rows, columns)
    row = gradlog.bounds(analysis_of(g, SPECS)).row("regret[aggregate]")
    hints = np.stack([np.zeros_like(g), *(predictions(g, spec) for spec in SPECS)])
    losses = ((g - hints) ** 2).sum(axis=2)
    rate = 1 / (2 * losses[:, 1:].max())
    mixed = np.zeros_like(g)
    for t in range(rows):
        spent = losses[:, :t].sum(axis=1)
        weights = np.exp(-rate * (spent - spent.min()))
        mixed[t] = weights @ hints[:, t] / weights.sum()
    path_length = float(((g - mixed) ** 2).sum())
    assert row.value is not None
    assert path_length <= row.value**2 / 2 * (1 + 1e-9)
    assert regret(g, mixed, 1.0, path_length) <= row.value * (1 + 1e-9)


@settings(max_examples=sweep(700), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(2, 30),
    spec=st.sampled_from(SPECS),
    varies=st.booleans(),
    share=st.floats(0.05, 1),
)
def test_descent_along_a_proxy_stays_below_the_stationarity_bound(
    seed: int, rows: int, spec: str, varies: bool, share: float
) -> None:
    rng = np.random.default_rng(seed)
    waves, phases, sizes = rng.standard_normal((5, 3)), rng.uniform(0, 6, 5), rng.uniform(0.1, 2, 5)
    smoothness = float((sizes * (waves**2).sum(axis=1)).sum())  # of sum c (1 - cos(a x + b)) >= 0
    rates = share / smoothness * (rng.uniform(0.1, 1, rows) if varies else np.ones(rows))
    x, g, losses = rng.standard_normal(3), np.zeros((rows, 3)), np.zeros(rows)
    for t in range(rows):
        inside = waves @ x + phases
        losses[t] = float((sizes * (1 - np.cos(inside))).sum())
        g[t] = (sizes * np.sin(inside)) @ waves
        x = x - rates[t] * predictions(g[: t + 1], spec)[t]
    analysis = dataclasses.replace(analysis_of(g, (spec,)), series={"loss": losses, "lr": rates})
    found = gradlog.bounds(analysis, smoothness=smoothness)
    row, added = found.row("stationarity"), found.row("stationarity[added]")
    weights = rates / rates.sum()
    assert row.hint == spec
    assert row.value is not None
    assert float(weights @ (g * g).sum(axis=1)) <= row.value * (1 + 1e-9)
    assert added.value == pytest.approx(float(weights @ ((g - predictions(g, spec)) ** 2).sum(axis=1)))
    assert row.value == pytest.approx(2 * losses[0] / rates.sum() + added.value)
    if share == 1 and not varies:
        over = gradlog.bounds(analysis, smoothness=2 * smoothness).row("stationarity")
        assert over.value is None
        assert "above 1/L" in over.why


@settings(max_examples=sweep(60), deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(2, 12), logged=st.booleans())
def test_guarantees_of_prefixes_are_those_of_shorter_runs(seed: int, rows: int, logged: bool) -> None:
    g = gradients(seed, rows, 3)
    rng = np.random.default_rng(seed)
    series = {"loss": rng.uniform(0, 3, rows), "lr": rng.uniform(0, 1, rows)} if logged else {}

    def evaluated(count: int) -> Bounds:
        held = {name: values[:count] for name, values in series.items()}
        return gradlog.bounds(dataclasses.replace(analysis_of(g[:count], ("one-step",)), series=held))

    curves = evaluated(rows).anytime.guarantees
    assert len(curves) == 5 + logged
    for count in range(2, rows + 1):
        found = evaluated(count)
        for name, values in curves.items():
            assert values[count - 1] == pytest.approx(found.row(name).value, rel=1e-9), (name, count)


def test_a_quadratic_bowl_by_hand() -> None:
    """f = x^2 / 2, gradient descent with step 1/2 from 1: g = 2^-t."""
    g = 0.5 ** np.arange(6)[:, None]
    analysis = dataclasses.replace(
        analysis_of(g, ("one-step",)), series={"loss": g[:, 0] ** 2 / 2, "lr": np.full(6, 0.5)}
    )
    found = gradlog.bounds(analysis, radius=2.0, smoothness=1.0)
    energy = sum(4.0**-t for t in range(6))
    increments = sum(4.0**-t for t in range(1, 6))  # 2^-(t-1) - 2^-t = 2^-t
    values = {row.name: (row.value, row.worst) for row in found.rows}
    assert values["regret[no hints]"] == pytest.approx((2 * math.sqrt(2 * energy), 2 * math.sqrt(12)))
    assert values["regret[best listed]"][0] == pytest.approx(2 * math.sqrt(2 * (1 + increments)))
    assert values["stationarity[added]"] == pytest.approx(((1 + increments) / 6, energy / 6))
    assert values["stationarity"][0] == pytest.approx(2 * 0.5 / (0.5 * 6) + (1 + increments) / 6)
    assert values["variation[gradual]"] == pytest.approx((increments, 4 * 5))
    assert values["variation[maximal]"] == pytest.approx((0.5, 2))
    assert values["variation[path]"] == pytest.approx((1 - 2.0**-5, 10))
    # r^2 = 1/4: the zero predictor leaves g_1, more than one-step does.
    aggregate = 2 * math.sqrt(2 * (1 + increments + 2 * 0.25 * math.log(2)))
    assert values["regret[aggregate]"][0] == pytest.approx(aggregate)


def test_rank_residual_is_reached_by_the_best_directions(tmp_path: Path) -> None:
    g = walk(40, (9,), 3, "float64")
    found = gradlog.bounds(gradlog.analyze(foreign_store(tmp_path / "g.zarr", {"w": g}, chunks="auto")))
    curve = found.residual
    assert curve is not None
    increments = np.diff(g, axis=0)
    _, sigma, directions = np.linalg.svd(increments)
    assert curve.rank.tolist() == list(range(10))
    for rank in range(10):
        inside = increments @ directions[:rank].T @ directions[:rank]
        left = float(((increments - inside) ** 2).sum())
        assert curve.lower[rank] == curve.upper[rank] == pytest.approx(left, abs=1e-9 * sigma[0] ** 2)
    for item in found.meeting:
        (listed,) = [p for p in found.analysis.total.predictors if p.predictor == item.predictor]
        left_over = listed.path_length - (g[0] ** 2).sum()
        expected = int(np.flatnonzero(curve.lower <= left_over * (1 + 1e-9))[0])
        assert item.lower == item.upper == expected
    row = found.row("regret[rank r]")
    middle = found.analysis.total.spectrum.rank[1].rank  # type: ignore[union-attr]
    assert row.hint == f"rank {middle}"
    assert row.value == pytest.approx(math.sqrt(2 * ((g[0] ** 2).sum() + (sigma[middle:] ** 2).sum())))


def test_rank_residual_holds_the_truth_where_the_spectrum_is_not_exact(tmp_path: Path) -> None:
    g = walk(300, (40,), 3, "float64")
    path = foreign_store(tmp_path / "g.zarr", {"w": g}, chunks="auto")
    exact = gradlog.bounds(gradlog.analyze(path))
    rough = gradlog.bounds(gradlog.analyze(path, Settings(rank="incremental")))
    assert exact.residual is not None
    assert rough.residual is not None
    for rank, lower, upper in zip(
        rough.residual.rank.tolist(), rough.residual.lower, rough.residual.upper, strict=True
    ):
        assert lower * (1 - 1e-9) <= exact.residual.lower[rank] <= upper * (1 + 1e-9)
    for sure, bounded in zip(exact.meeting, rough.meeting, strict=True):
        assert bounded.lower <= sure.lower
        assert bounded.upper is None or sure.lower <= bounded.upper


def without_value(found: Bounds) -> dict[str, str]:
    rows = {row.name: row.why for row in found.rows if row.value is None}
    assert all(rows.values()), rows
    assert all(not row.why for row in found.rows if row.value is not None)
    return rows


def test_what_cannot_be_given_says_why(tmp_path: Path) -> None:
    def of(g: Array, name: str, **options: object) -> Bounds:
        path = foreign_store(tmp_path / f"{name}.zarr", {"w": g}, chunks="auto")
        return gradlog.bounds(gradlog.analyze(path, Settings(**options), search=True))  # type: ignore[arg-type]

    rows = without_value(of(walk(50, (60,), 1), "no-series"))
    assert rows["stationarity"] == "the log has no loss series"
    assert "stationarity[added]" not in rows
    rows = without_value(of(walk(1, (60,), 1), "one-row"))
    assert "one row" in rows["variation[path]"]
    assert "one row" in rows["regret[best average]"]
    rows = without_value(of(np.zeros((50, 60)), "zeros"))
    assert rows["regret[best listed]"] == rows["stationarity"] == "all gradients are zero"
    rows = without_value(of(np.ones((50, 60)), "constant"))
    assert "regret[best average]" not in rows
    rows = without_value(of(walk(50, (60,), 1), "no-rank", rank="none"))
    assert rows["regret[rank r]"] == "no spectrum: --rank none"
    assert "regret[best least squares on lags]" not in rows
    rows = without_value(of(walk(50, (60,), 1), "few", predictors=("ema:0.9",)))
    assert rows["variation[path]"] == "one-step is not among the predictors"
    plain = gradlog.bounds(gradlog.analyze(tmp_path / "few.zarr"))
    assert "no search" in without_value(plain)["regret[best mean]"]


def test_a_sketch_has_path_lengths_and_no_search(tmp_path: Path, command: Command) -> None:
    sketch = str(tmp_path / "sketch.zarr")
    command("sketch", "sample_logs/mlp-sgd.zarr", sketch, "--dim", "128")
    for words in ((sketch,), ("sample_logs/mlp-sgd.zarr", "--project", "128")):
        document = json.loads(command("bounds", *words, "--format", "json"))
        rows = {row["name"]: row for row in document["guarantees"]}
        assert rows["regret[no hints]"]["value"] == pytest.approx(17.33, rel=0.1)
        assert "log of gradients" in rows["regret[best average]"]["why"]
        assert rows["stationarity"]["value"] > 0 or words[1:]
        assert "no search" in command("bounds", *words)


def test_series_that_cannot_be_used_are_refused_in_the_row() -> None:
    analysis = analysis_of(np.random.default_rng(0).standard_normal((30, 3)))

    def why(loss: Array, rates: Array | None, **options: float) -> str:
        series = {"loss": loss} | ({} if rates is None else {"lr": rates})
        held = dataclasses.replace(analysis, series=series)
        return gradlog.bounds(held, **options).row("stationarity").why

    ones = np.ones(30)
    assert why(ones, ones) == ""
    assert "lr" in why(ones, None)
    assert why(ones, None, lr=0.1) == ""
    assert "lr" in why(ones, 0 * ones)
    assert "lr" in why(ones, np.where(np.arange(30) == 3, np.nan, 1.0))
    assert "not finite" in why(np.full(30, np.inf), ones)
    assert "below the floor 0" in why(-ones, ones)
    assert why(-ones, ones, floor=-1.0) == ""
    for word in ("radius", "smoothness", "lr"):
        with pytest.raises(UsageError, match=word):
            gradlog.bounds(analysis, **{word: 0.0})
    with pytest.raises(UsageError, match="floor"):
        gradlog.bounds(analysis, floor=math.nan)


def test_a_spectrum_without_ranks_or_bounds() -> None:
    base = analysis_of(np.random.default_rng(0).standard_normal((30, 3)))
    ranks = (RankResult(0.1, None, 4, 29, None),)  # type: ignore[call-arg]
    spectrum = SpectrumResult("sketch", 0.95, 100.0, ranks, None, None, None, np.zeros(0))
    held: Analysis = dataclasses.replace(base, total=dataclasses.replace(base.total, spectrum=spectrum))
    curve = gradlog.bounds(held).residual
    assert curve is not None
    assert curve.rank.tolist() == [0, 3, 4, 29]
    assert curve.lower.tolist() == pytest.approx([100, 10, 0, 0])
    assert curve.upper.tolist() == pytest.approx([100, 100, 100, 10])


Command = Callable[..., str]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs gradmf in this process; what it says on stdout, or on stderr where it is expected to fail."""
    monkeypatch.chdir(ROOT)

    def told_by(*words: str, expect: int = 0) -> str:
        assert main(words) == expect, capsys.readouterr().err
        told = capsys.readouterr()
        return told.err if expect else told.out

    return told_by


def test_every_format_from_a_store_and_from_json(tmp_path: Path, command: Command) -> None:
    log = "sample_logs/mlp-gd.zarr"
    held = str(tmp_path / "held.json")
    command("analyze", log, "--search", "--format", "json", "-o", held)
    table = command("bounds", log)
    began = time.perf_counter()
    assert command("bounds", held) == table
    assert time.perf_counter() - began < 5  # far below a second where nothing else runs
    document = json.loads(command("bounds", held, "--format", "json"))
    assert document["schema"] == "gradmf.bounds/1"
    rows = {row["name"]: row for row in document["guarantees"]}
    best = rows["regret[best listed]"]
    kappa = gradlog.analyze(ROOT / log).total.best.kappa  # type: ignore[union-attr]
    assert best["ratio"] == pytest.approx(math.sqrt(kappa or 0))
    assert len(document["anytime"]["bound"]["linear"]) == 400
    (line,) = command("bounds", held, "--format", "jsonl").splitlines()
    assert "anytime" not in json.loads(line)
    (line,) = command("bounds", held, "--format", "jsonl", "--curves").splitlines()
    assert json.loads(line)["residual"]["rank"][:3] == [0, 1, 2]
    listed = list(csv.DictReader(io.StringIO(command("bounds", held, "--format", "csv"))))
    assert [row["guarantee"] for row in listed] == list(rows)
    assert float(listed[0]["value"]) == rows["regret[no hints]"]["value"]
    curves = list(csv.DictReader(io.StringIO(command("bounds", held, "--format", "csv", "--curves"))))
    assert {row["curve"] for row in curves} == {"anytime", "residual"}
    assert document["anytime"]["guarantee"].keys() == {
        *(f"variation[{word}]" for word in ("gradual", "maximal", "path")),
        *("regret[aggregate]", "stationarity", "stationarity[added]"),
    }
    last = {row["name"]: row["upper"] for row in curves if row["curve"] == "anytime"}
    for name, values in document["anytime"]["guarantee"].items():
        assert float(last[name]) == values[-1] == pytest.approx(rows[name]["value"])
    assert "| guarantee" in command("bounds", held, "--format", "markdown")
    assert "predicts the whole model" not in command("bounds", held, "-q")


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", ["charlm-adamw", "mlp-gd", "mlp-sgd"])
def test_the_table_of_a_sample_fits_one_screen(name: str, width: int) -> None:
    found = gradlog.bounds(gradlog.analyze(ROOT / "sample_logs" / f"{name}.zarr", search=True))
    table = draw_table(bounds_report(found), Terminal(width=width, rules=True))
    assert len(table.splitlines()) <= 48
    assert max(map(len, table.splitlines())) <= width
    for words in WORDS.values():  # shortening never takes one away
        assert f"\n{words}" in table
    assert ("R sqrt(2 E)" in table) == (width == 160)
    assert "Rank-r increments meet" in table


def test_rows_without_a_value_are_told_together(tmp_path: Path) -> None:
    def drawn(name: str, g: Array) -> str:
        path = foreign_store(tmp_path / name, {"w": g.astype("f4")})
        return draw_table(bounds_report(gradlog.bounds(gradlog.analyze(path, search=True))), Terminal())

    table = drawn("zero.zarr", np.zeros((5, 2)))
    assert "regret (best listed, best average, best mean, best mixture, least squares, which unknown" in table
    table = drawn("constant.zarr", np.ones((5, 2)))
    assert "regret (best mixture, least squares)" not in table
    assert "regret, least squares: too few rows" in table
    assert "e+00" not in table


def test_ranks_that_meet_predictors_are_told_once_each() -> None:
    found = (MeetingRank("zero", 3, 3), MeetingRank("one-step", 0, 0), MeetingRank("linear", 2, None),
             MeetingRank("ema:0.5", 2, 4), MeetingRank("mean:5", 3, 3))  # fmt: skip
    assert meeting_ranks(found) == "ema:0.5 at r = 2-4; linear at 2 or more; zero, mean:5 at 3"


def test_a_band_of_another_width(tmp_path: Path, command: Command) -> None:
    log, held = "sample_logs/mlp-gd.zarr", str(tmp_path / "held.json")
    command("analyze", log, "--rank", "none", "--search", "--band", "16", "--format", "json", "-o", held)
    found = json.loads(command("bounds", log, "--rank", "none", "--band", "16", "--format", "json"))
    assert (found["search"]["width"], found["settings"]["band"]) == (16, 16)
    assert "band of 16 rows" in command("bounds", held)
    assert command("bounds", held, "--band", "16") == command("bounds", held)
    assert "a search with --band 16" in command("bounds", held, "--band", "32", expect=2)
    assert "a search with --band 16" in command("advise", held, "--band", "32", expect=2)
    command("analyze", log, "--format", "json", "-o", held)
    assert "no search" in command("advise", held, "--band", "32", expect=2)
    command("advise", log, "--rank", "none", "--band", "2", "-q")
    for width in ("1", "257"):
        assert "range" in command("bounds", log, "--band", width, expect=2)
    assert "--search" in command("analyze", log, "--band", "4", expect=2)


def test_wrong_usage_is_one_line(tmp_path: Path, command: Command) -> None:
    log = "sample_logs/mlp-gd.zarr"
    assert "radius" in command("bounds", log, "--radius", "-1", expect=2)
    assert "--curves" in command("bounds", log, "--curves", expect=2)
    assert "--search" in command("analyze", log, "--search", expect=2)
    assert "no such file" in command("bounds", str(tmp_path / "none.zarr"), expect=1)
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    assert "empty.zarr" in command("bounds", str(tmp_path / "empty.zarr"), expect=1)


@pytest.mark.parametrize("example", examples((ROOT / "docs" / "guarantees.md").read_text()), ids=str)
def test_the_worked_example_is_what_the_command_prints(example: Example) -> None:
    assert example.output
    assert masked(run(example.command)) == masked(example.output)
