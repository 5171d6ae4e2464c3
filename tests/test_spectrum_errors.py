"""Errors of ranks over stretches of rows: by their definition, in forms of a result, and in comparisons."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_same_verdicts import from_json

from conftest import write_store
from gradmf import gradlog
from gradmf.cli.formats.as_csv import write_comparisons
from gradmf.cli.main import main
from gradmf.gradlog import Analysis, Change, Settings, SpectrumResult
from gradmf.gradlog.results.spectral_counts import predictable_rank
from gradmf.gradlog.statistics.multiple_testing import student_p
from gradmf.gradlog.statistics.noise_reference import FEW_CARRY
from gradmf.gradlog.statistics.spectrum_errors import MOST_ROWS, TELLS, spectrum_errors, stretches
from gradmf.gradlog.statistics.spectrum_intervals import FEW_LARGE, OF_TENSORS

JUDGED = ("rank[0.1]", "rank[0.05]", "rank[0.01]", "effective_rank", "stable_rank")


def store(folder: Path, gradients: np.ndarray, name: str = "run", tensors: int = 1) -> str:
    """A log of (rows, parameters) cut into tensors."""
    cut = np.array_split(gradients, tensors, axis=1)
    return str(write_store(folder / f"{name}.zarr", {f"w{k}": part for k, part in enumerate(cut)}))


def spectrum(analysis: Analysis) -> SpectrumResult:
    assert analysis.total.spectrum is not None
    return analysis.total.spectrum


def change(a: Analysis, b: Analysis, quantity: str) -> Change:
    found = gradlog.compare(a, b).total.change(quantity)
    assert found is not None
    return found


@given(
    squares=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    epsilon=st.floats(0, 0.9),
)
def test_a_rank_as_a_real_number_is_less_than_one_below(squares: list[float], epsilon: float) -> None:
    ordered = np.sort(np.square(squares))[::-1]
    rank, real = predictable_rank(ordered, epsilon)
    if not ordered.sum() > 0:
        assert (rank, real) == (0, 0.0)
        return
    assert rank - 1 <= real <= rank
    # The energy of that many directions, of the last one a part, is what is wanted.
    held = ordered[: rank - 1].sum() + (real - rank + 1) * ordered[rank - 1]
    assert held == pytest.approx((1 - epsilon) * ordered.sum(), rel=1e-9)


def test_a_rank_by_hand() -> None:
    squares = np.array([5.0, 3.0, 1.0, 1.0])
    assert predictable_rank(squares, 0.4) == (2, pytest.approx(1 + 1 / 3))
    assert predictable_rank(squares, 0.1) == (3, pytest.approx(3))
    assert predictable_rank(squares, 0.0) == (4, pytest.approx(4))


def expected(gradients: np.ndarray, epsilons: tuple[float, ...]) -> dict[str, tuple[float, float]]:
    """From singular values of the increments that are left, five stretches in turn."""
    increments = np.diff(gradients.reshape(len(gradients), -1), axis=0)
    edges = [len(increments) * k // 5 for k in range(6)]
    logs: dict[str, list[float]] = {}
    for first, last in itertools.pairwise(edges):
        squares = np.linalg.svd(np.delete(increments, np.s_[first:last], axis=0), compute_uv=False) ** 2
        p = squares / squares.sum()
        for epsilon in epsilons:
            r, left = 0, 1 - epsilon
            while left > p[r]:
                left -= p[r]
                r += 1
            logs.setdefault(repr(epsilon), []).append(math.log(r + left / p[r]))
        logs.setdefault("stable_rank", []).append(-math.log(p[0]))
        logs.setdefault("effective_rank", []).append(-sum(x * math.log(x) for x in p if x > 0))
        logs.setdefault("participation_ratio", []).append(-math.log((p**2).sum()))
    found = {}
    for name, values in logs.items():
        d = [value - sum(values) / 5 for value in values]
        beside = max(0.0, sum(d[k] * d[k + 1] for k in range(4)))
        squares_of_d = sum(x**2 for x in d)
        freedom = max(2.0, 4 * squares_of_d**2 / (5 * sum(x**4 for x in d)))
        found[name] = math.sqrt(4 / 5 * (squares_of_d + 2 * beside)), freedom
    return found


def held(found: SpectrumResult) -> dict[str, tuple[float | None, float | None]]:
    errors = {repr(rank.epsilon): (rank.error, rank.freedom) for rank in found.rank}
    for name in ("stable_rank", "effective_rank", "participation_ratio"):
        errors[name] = getattr(found, f"{name}_error"), getattr(found, f"{name}_freedom")
    return errors


@pytest.mark.parametrize("tensors", [1, 3])
@pytest.mark.parametrize("rows", [25, 61])
def test_errors_are_those_of_stretches_left_out(tmp_path: Path, tensors: int, rows: int) -> None:
    rng = np.random.default_rng(rows)
    g = rng.standard_normal((rows, 90)) * np.linspace(1, 3, rows)[:, None]
    analysis = gradlog.analyze(store(tmp_path, g, tensors=tensors))
    errors = expected(g, (0.1, 0.05, 0.01))
    for name, (error, freedom) in held(spectrum(analysis)).items():
        assert error == pytest.approx(errors[name][0], rel=1e-6), name
        assert freedom == pytest.approx(errors[name][1], rel=1e-6), name
    for tensor in analysis.tensors:  # of each, only the whole model's
        assert tensor.spectrum is not None
        assert set(held(tensor.spectrum).values()) == {(None, None)}


@pytest.mark.parametrize("tensors", [1, 3])
def test_json_and_parts_hold_them(tmp_path: Path, tensors: int) -> None:
    g = np.random.default_rng(3).standard_normal((40, 90))
    path = store(tmp_path, g, tensors=tensors)
    analysis = gradlog.analyze(path)
    assert held(spectrum(from_json(analysis))) == held(spectrum(analysis))
    files = [tmp_path / f"part.{index}" for index in (1, 2)]
    for index, file in enumerate(files, 1):
        gradlog.write_part(gradlog.analyze_part(path, gradlog.PartNumber(index, 2)), file)
    assert held(spectrum(gradlog.merge_parts(files))) == held(spectrum(analysis))


def test_a_damaged_error_is_refused(tmp_path: Path) -> None:
    g = np.random.default_rng(4).standard_normal((40, 90))
    document = json.loads(json.dumps(gradlog.analysis_document(gradlog.analyze(store(tmp_path, g)))))
    of_rank, of_count = document["total"]["spectrum"]["rank"][1], document["total"]["spectrum"]
    for place, name, value in (
        (of_rank, "error", -0.1),
        (of_rank, "freedom", 0.0),
        (of_rank, "freedom", None),
        (of_count, "stable_rank_error", -1.0),
        (of_count, "effective_rank_freedom", None),
    ):
        kept, place[name] = place[name], value
        with pytest.raises(gradlog.DataError, match="error that cannot be"):
            gradlog.read_analyses(json.dumps(document), "there")
        place[name] = kept
    # Documents of earlier versions have none.
    for rank in of_count["rank"]:
        del rank["error"], rank["freedom"]
    [early] = gradlog.read_analyses(json.dumps(document), "there")
    found = change(early, early, "rank[0.05]")
    assert (found.verdict, found.basis, found.why) == ("~", "exact", TELLS)


def test_where_there_are_none(tmp_path: Path) -> None:
    assert stretches(23) == []
    assert stretches(24) == [(0, 4), (4, 9), (9, 14), (14, 19), (19, 24)]
    assert len(stretches(MOST_ROWS - 1)) == 5
    assert stretches(MOST_ROWS) == []
    assert spectrum_errors([], (0.1,)) == {}
    assert spectrum_errors([np.zeros(3), np.ones(3)], (0.1,)) == {}
    rng = np.random.default_rng(5)
    for name, g, settings in (
        ("short", rng.standard_normal((24, 90)), Settings()),
        ("narrow", rng.standard_normal((60, 20)), Settings()),
        ("bounded", rng.standard_normal((60, 90)), Settings(rank="incremental")),
        ("sketched", rng.standard_normal((60, 90)), Settings(rank="sketch", sketch_dim=64)),
        ("still", np.ones((40, 90)), Settings()),
    ):
        path = store(tmp_path, g, name)
        analysis = gradlog.analyze(path, settings)
        assert set(held(spectrum(analysis)).values()) == {(None, None)}, name
        other = gradlog.analyze(store(tmp_path, 2 * g[::-1], f"{name} back"), settings)
        for quantity in JUDGED:
            assert change(analysis, other, quantity).verdict in (None, "~"), (name, quantity)
            if name != "still":
                assert change(analysis, other, quantity).why == TELLS


def test_a_verdict_takes_rows_that_carry_the_energy(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    norms = np.ones(200)
    norms[100:] = 0.0
    norms[: 100 : 100 // 10] = 3.0
    some = gradlog.analyze(store(tmp_path, norms[:, None] * rng.standard_normal((200, 400)), "some"))
    norms[norms == 3] = 30
    few = gradlog.analyze(store(tmp_path, norms[:, None] * rng.standard_normal((200, 400)), "few"))
    assert some.total.effective_rows is not None
    assert 20 < some.total.effective_rows < 50
    assert change(some, some, "rank[0.05]").interval == (0, 0)
    assert change(some, some, "stable_rank").why == FEW_LARGE
    for quantity in JUDGED:
        assert change(some, few, quantity).why == FEW_CARRY
        assert change(some, few, quantity).verdict is None


def runs(
    folder: Path, seeds: int, rows: int = 80, *, directions: int = 4, volatile: float = 0.0
) -> list[Analysis]:
    """Of noise over 300 parameters, and more of it in a few directions; norms wander by exp(`volatile`)."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, rows, directions])
        g = rng.standard_normal((rows, 300))
        g += 5 * rng.standard_normal((rows, directions)) @ rng.standard_normal((directions, 300))
        g *= np.exp(volatile * np.cumsum(rng.standard_normal(rows)) / math.sqrt(rows))[:, None]
        path = store(folder, g, f"{seed}-{directions}-{volatile}")
        found.append(gradlog.analyze(path, Settings(predictors=("one-step",)), threads=1))
    return found


def test_noise_is_not_called_and_what_differs_is(tmp_path: Path) -> None:
    called: Counter[str] = Counter()
    for volatile in (0.0, 0.5):
        same = runs(tmp_path, 20, volatile=volatile)
        for a, b in zip(same, [*same[1:], same[0]], strict=True):
            found = {quantity: change(a, b, quantity) for quantity in JUDGED}
            assert all(each.basis == "steps" for name, each in found.items() if name != "stable_rank")
            called.update(name for name, each in found.items() if each.significant)
    assert max(called.values(), default=0) <= 40 * 0.07 + 3, called
    few, many = runs(tmp_path, 5), runs(tmp_path, 5, directions=12)
    for a, b in zip(few, many, strict=True):
        for quantity in ("rank[0.1]", "effective_rank", "stable_rank"):
            assert change(a, b, quantity).verdict == "higher", quantity
            assert change(b, a, quantity).verdict == "lower", quantity


def test_an_interval_is_students(tmp_path: Path) -> None:
    [a], [b] = runs(tmp_path, 1), runs(tmp_path, 1, directions=12)
    found = change(a, b, "effective_rank")
    logs = [math.log(spectrum(run).effective_rank or 0) for run in (a, b)]
    errors = [held(spectrum(run))["effective_rank"] for run in (a, b)]
    error = math.hypot(*(e or 0 for e, _ in errors))
    freedom = error**4 / sum((e or 0) ** 4 / (f or 0) for e, f in errors)
    assert found.interval is not None
    low, high = (math.log1p(end) for end in found.interval)
    assert (low + high) / 2 == pytest.approx(logs[1] - logs[0])
    assert student_p((high - low) / 2 / error, freedom) == pytest.approx(0.05, rel=0.05)
    assert found.p == pytest.approx(student_p((logs[1] - logs[0]) / error, freedom))
    # The end that r* itself lies beyond, by rounding, is r*'s; and the same the other way round.
    for quantity in ("rank[0.1]", "rank[0.05]", "rank[0.01]"):
        there, back = change(a, b, quantity), change(b, a, quantity)
        assert there.interval is not None
        assert back.interval is not None
        assert there.relative is not None
        assert there.interval[0] <= there.relative <= there.interval[1]
        assert [1 / (1 + end) - 1 for end in there.interval] == pytest.approx(list(back.interval)[::-1])


def test_tensors_have_no_verdict_of_ranks(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    a, b = (
        gradlog.analyze(store(tmp_path, rng.standard_normal((60, 300)), name, 3), tensor_steps=True)
        for name in "ab"
    )
    for scope in gradlog.compare(a, b).tensors:
        found = scope.change("effective_rank")
        assert found is not None
        assert (found.verdict, found.interval, found.why) == (None, None, OF_TENSORS)


def test_rules_about_ranks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(9)
    paths = []
    for name, directions in (("few", 4), ("many", 12)):
        signal = rng.standard_normal((80, directions)) @ rng.standard_normal((directions, 300))
        paths.append(store(tmp_path, 5 * signal + rng.standard_normal((80, 300)), name))
    for rule, code in (
        ("rank[0.1] higher", 3),
        ("rank[0.1] lower", 0),
        ("effective_rank changed", 3),
        ("stable_rank lower", 0),
    ):
        assert main(["compare", *paths, "-q", "--fail-if", rule]) == code, rule
    assert main(["compare", paths[0], paths[0], "-q", "--fail-if", "rank[0.1] changed"]) == 0
    assert main(["compare", *paths, "--fail-if", "rank[0.1] worse"]) == 2
    assert "neither good nor bad" in capfd.readouterr().err


def test_a_comparison_shows_what_noise_has(tmp_path: Path) -> None:
    [a], [b] = runs(tmp_path, 1), runs(tmp_path, 1, directions=12)
    compared = gradlog.compare(a, b)
    specs = {c.quantity: c.reference for c in compared.total.changes}
    of_kappa = [run.total.predictors[-1].reference for run in (a, b)]
    assert specs["kappa[one-step]"] == specs["kappa[best]"] == tuple(of_kappa)
    assert specs["rank[0.05]"] == tuple(spectrum(run).rank[1].reference for run in (a, b))
    assert specs["stable_rank"] == tuple(spectrum(run).stable_rank_reference for run in (a, b))
    assert specs["grad_norm"] == specs["scaled_kappa[one-step]"] == (None, None)
    document = json.loads(json.dumps(gradlog.comparison_document(compared)))
    assert {c["quantity"]: tuple(c["reference"]) for c in document["total"]["changes"]} == specs
    [row] = [
        row
        for row in csv.DictReader("".join(write_comparisons([compared])).splitlines())
        if (row["scope"], row["quantity"]) == ("total", "rank[0.05]")
    ]
    assert (int(row["baseline_reference"]), int(row["reference"])) == specs["rank[0.05]"]
    early = dataclasses.replace(
        a,
        total=dataclasses.replace(
            a.total, predictors=tuple(dataclasses.replace(p, reference=None) for p in a.total.predictors)
        ),
    )
    found = change(early, b, "kappa[one-step]")
    assert found.reference == (None, of_kappa[1])
