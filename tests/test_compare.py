"""Comparisons: what changed between runs, and when that is called noise."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ar1 import Array, analysis_of, ar1, predictions
from stores import walk

from conftest import write_store
from gradmf import gradlog
from gradmf.gradlog import Analysis, Change, Comparison, TensorResult, TensorSteps
from gradmf.gradlog.statistics.block_bootstrap import block_lengths, content_seed, draw_weights, student
from gradmf.gradlog.statistics.long_run_variance import flat_top_variance, long_run_variance
from gradmf.gradlog.statistics.multiple_testing import benjamini_hochberg, holm, student_p
from gradmf.gradlog.statistics.retiming import retiming
from gradmf.gradlog.statistics.spectrum_errors import TELLS
from gradmf.gradlog.statistics.step_bins import MOST_BINS, bin_edges
from gradmf.gradlog.statistics.step_intervals import FEW_CARRY, LEAST_LEVEL_ROWS, LEVELS_STAY
from gradmf.gradlog.statistics.step_sums import figures, influences, total_sums

SAMPLES = Path(__file__).parent.parent / "sample_logs"
AVERAGES = ("one-step", "ema:0.5", "ema:0.9", "ema:0.99", "mean:5")


def change(comparison: Comparison, quantity: str, tensor: str | None = None) -> Change:
    scopes = {scope.name: scope for scope in (comparison.total, *comparison.tensors)}
    found = scopes[tensor].change(quantity)
    assert found is not None
    return found


def analyzed(path: Path | str, **settings: object) -> Analysis:
    return gradlog.analyze(path, gradlog.Settings(**settings), tensor_steps=True)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def samples() -> dict[str, Analysis]:
    return {name: analyzed(SAMPLES / f"{name}.zarr") for name in ("mlp-gd", "mlp-sgd", "charlm-adamw")}


def shares_without_change(
    seeds: int, phi: float, rows: tuple[int, int], columns: int, align: str | None = None
) -> dict[str, float]:
    """Percent of pairs of runs from one process in which each quantity is called unchanged."""
    calm: Counter[str] = Counter()
    for seed in range(seeds):
        rng = np.random.default_rng([seed, columns, *rows])
        a, b = (analysis_of(ar1(rng, count, columns, phi), AVERAGES) for count in rows)
        compared = gradlog.compare(a, b, align=align)
        calm.update(c.quantity for c in compared.total.changes if c.verdict == "~")
    return {quantity: 100 * count / seeds for quantity, count in calm.items()}


RATIOS = 11
"""Kappas and scaled kappas of AVERAGES, and kappa[best]; energy, path lengths and norms are 7 more."""


def check_shares(shares: dict[str, float], seeds: int, quantities: int) -> None:
    """At most 7 percent called, within three standard errors of as many seeds."""
    room = 2 + 3 * 100 * math.sqrt(0.95 * 0.05 / seeds)
    assert len(shares) == quantities
    for quantity, share in shares.items():
        assert share >= 95 - room, (quantity, shares)


@pytest.mark.parametrize(("phi", "columns"), [(0.0, 50), (0.9, 1)])
def test_no_difference_is_called_none(phi: float, columns: int) -> None:
    check_shares(shares_without_change(60, phi, (200, 200), columns), 60, RATIOS)


@pytest.mark.slow
@pytest.mark.parametrize("align", [None, "step"])
@pytest.mark.parametrize("columns", [1, 50])
@pytest.mark.parametrize("rows", [200, 1000])
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_coverage_over_400_seeds(phi: float, rows: int, columns: int, align: str | None) -> None:
    shares = shares_without_change(400, phi, (rows, rows), columns, align)
    check_shares(shares, 400, RATIOS + 7 * (rows >= LEAST_LEVEL_ROWS))
    assert np.mean(list(shares.values())) >= 93, shares


@pytest.mark.slow
def test_coverage_of_runs_of_different_length() -> None:
    check_shares(shares_without_change(400, 0.5, (400, 250), 16), 400, RATIOS)


@pytest.mark.parametrize("align", [None, "step"])
@pytest.mark.parametrize("norms", ["fall", "grow", "are lognormal"])
def test_noise_of_any_norms_is_not_called(norms: str, align: str | None) -> None:
    """Where norms fall as (1 + t / 20)^-0.7, prewhitening called 20 percent of one-step kappas."""
    called: Counter[str] = Counter()
    told = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 21])
        t = np.arange(200)
        runs = []
        for _ in range(2):
            scale = {
                "fall": (1 + t / 20) ** -0.7,
                "grow": 10 ** (t / 200),
                "are lognormal": np.exp(rng.standard_normal(200) / 2),
            }[norms]
            runs.append(analysis_of(rng.standard_normal((200, 50)) * scale[:, None], AVERAGES))
        compared = gradlog.compare(runs[0], runs[1], align=align)
        told += change(compared, "kappa[best]").verdict is not None
        called.update(c.quantity for c in compared.total.changes if c.significant)
    assert told > 50
    assert max(called.values(), default=0) <= 60 * 0.07 + 3 * math.sqrt(60 * 0.05 * 0.95), called


def test_nothing_is_said_where_few_rows_carry_the_energy() -> None:
    rng = np.random.default_rng(22)
    calm, spiky = rng.standard_normal((2, 200, 8))
    spiky[70] *= 100
    compared = gradlog.compare(analysis_of(calm), analysis_of(spiky))
    for found in compared.total.changes:
        assert (found.interval, found.verdict, found.p) == (None, None, None), found
        assert found.why == FEW_CARRY
    assert (
        change(gradlog.compare(analysis_of(calm), analysis_of(calm)), "kappa[one-step]").interval is not None
    )
    # 20 rows of the same energy carry it like 20, 19 like 19.
    for rows, told in ((19, False), (20, True)):
        g = np.zeros((200, 8))
        g[5 : 5 + 8 * rows : 8] = np.sqrt(1 / 8)
        runs = (analysis_of(g), analysis_of(2 * g))
        found = change(gradlog.compare(*runs), "kappa[mean:5]")
        assert (found.interval is not None) == told, (rows, found)


def test_norms_are_judged_over_long_runs_and_each_by_itself() -> None:
    """Runs that share a schedule do not share how far their norms are off: alignment narrows kappas alone."""
    rng = np.random.default_rng(23)
    levels = ("grad_norm", "path_length[zero]", "path_length[one-step]")
    for rows in (LEAST_LEVEL_ROWS - 1, LEAST_LEVEL_ROWS):
        decay = np.exp(-np.arange(rows) / rows)[:, None]
        runs = [analysis_of(decay * ar1(rng, rows, 8, 0.5)) for _ in range(2)]
        apart, aligned = (gradlog.compare(runs[0], runs[1], align=align) for align in (None, "step"))
        assert change(apart, "kappa[one-step]").verdict is not None
        for quantity in levels:
            found = change(apart, quantity)
            if rows < LEAST_LEVEL_ROWS:
                assert (found.verdict, found.why) == (None, LEVELS_STAY)
            else:
                assert found.verdict == "~"
                assert found.interval is not None
                assert change(aligned, quantity).interval == pytest.approx(found.interval, rel=1e-9)


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    """Holm's and Benjamini and Hochberg's procedures on p values worked through by hand."""
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p, 0.05).tolist() == [True, False, False, True]
    assert benjamini_hochberg(p, 0.05).tolist() == [True] * 4
    # The fifteen p values of Benjamini and Hochberg 1995: Holm rejects 3, theirs 4.
    paper = np.array([
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
        0.6528, 0.7590, 1.0,
    ])  # fmt: skip
    order = np.random.default_rng(1).permutation(15)
    assert (np.flatnonzero(holm(paper[order], 0.05)) == np.flatnonzero(order < 3)).all()
    assert (np.flatnonzero(benjamini_hochberg(paper[order], 0.05)) == np.flatnonzero(order < 4)).all()
    assert holm(np.array([]), 0.05).size == benjamini_hochberg(np.array([]), 0.05).size == 0
    # Tables of Student's distribution.
    for freedom, t, chance in ((2, 4.303, 0.05), (5, 4.032, 0.01), (10, 2.228, 0.05), (60, 3.460, 0.001)):
        assert student_p(t, freedom) == pytest.approx(chance, rel=0.02)
    assert student_p(1.959964, math.inf) == pytest.approx(0.05, rel=1e-5)


def in_tensors(gradients: dict[str, Array]) -> Analysis:
    """Tensors (rows, columns), each as a model of it alone would be."""
    alone = {name: analysis_of(g) for name, g in gradients.items()}
    total = analysis_of(np.concatenate(list(gradients.values()), axis=1))
    rows = total.run.rows
    specs = list(total.steps.path_length)
    tensors = tuple(
        TensorResult(**vars(each.total), name=name, shape=(each.run.parameters,))
        for name, each in alone.items()
    )
    steps = TensorSteps(
        np.arange(rows + 1),
        np.stack([each.steps.grad_norm**2 for each in alone.values()]),
        {spec: np.stack([each.steps.path_length[spec] for each in alone.values()]) for spec in specs},
        {spec: np.stack([each.steps.product[spec] for each in alone.values()]) for spec in specs},
    )
    return dataclasses.replace(total, tensors=tensors, tensor_steps=steps)


def test_of_many_tensors_noise_calls_none_and_what_is_planted_is_found() -> None:
    called = alone = 0
    for seed in range(6):
        rng = np.random.default_rng([seed, 31])
        pair = [in_tensors({f"layer{k:02d}": ar1(rng, 120, 20, 0.5) for k in range(40)}) for _ in range(2)]
        compared = gradlog.compare(pair[0], pair[1])
        found = [change(compared, "kappa[one-step]", tensor.name) for tensor in compared.tensors]
        called += any(each.significant for each in found)
        alone += sum(each.beyond_noise for each in found)
    assert alone >= 2  # of 240, 12 by the level
    assert called <= 1
    rng = np.random.default_rng(32)
    runs = []
    for phi in (0.2, 0.9):
        gradients = {f"layer{k:02d}": ar1(rng, 120, 20, 0.5) for k in range(40)}
        runs.append(in_tensors({**gradients, "layer07": ar1(rng, 120, 20, phi)}))
    compared = gradlog.compare(*runs)
    assert [t.name for t in compared.tensors if change(compared, "kappa[one-step]", t.name).significant] == [
        "layer07"
    ]
    rule = gradlog.Rule("kappa", "one-step", "better", "*")
    [violation] = gradlog.judge_comparison(compared, [rule])
    assert [breach.tensor for breach in violation.breaches] == ["layer07"]
    assert not gradlog.judge_comparison(compared, [dataclasses.replace(rule, condition="worse")])


def test_a_gate_over_few_tensors_counts_these_alone() -> None:
    """Holm's procedure over what the pattern names: of 40 tensors a difference drowns, of one it does not."""
    base = in_tensors({f"layer{k:02d}": ar1(np.random.default_rng(k), 120, 20, 0.5) for k in range(40)})
    tensors = gradlog.compare(base, base).tensors
    changes = [dataclasses.replace(change, p=0.5) for change in tensors[0].changes]
    doubtful = [
        dataclasses.replace(c, p=0.02, interval=(0.1, 0.3), relative=0.2, basis="steps", verdict="~")
        for c in tensors[0].changes
    ]
    found = [dataclasses.replace(tensor, changes=tuple(changes)) for tensor in tensors[1:]]
    found.insert(0, dataclasses.replace(tensors[0], changes=tuple(doubtful)))
    compared = dataclasses.replace(gradlog.compare(base, base), tensors=tuple(found))
    for pattern, violated in (("*", False), ("layer0[01]", True), ("layer00", True), ("layer0[0-3]", False)):
        rule = gradlog.Rule("kappa", "one-step", "worse", pattern)
        assert bool(gradlog.judge_comparison(compared, [rule])) == violated, pattern


def test_runs_of_other_steps_are_not_aligned_by_step() -> None:
    rng = np.random.default_rng(33)
    first, second = (analysis_of(ar1(rng, 100, 4, 0.5), path=name) for name in ("a", "b"))
    for shift in (11, 50, 500):
        other = dataclasses.replace(
            second, steps=dataclasses.replace(second.steps, step=shift + np.arange(100))
        )
        for runs in ((first, other), (other, first)):
            with pytest.raises(gradlog.UsageError, match=f"a 0 to 99.*{shift}|{shift}.*a 0 to 99"):
                gradlog.compare(*runs, align="step")
            assert change(gradlog.compare(*runs, align="fraction"), "kappa[one-step]").verdict is not None
    close = dataclasses.replace(second, steps=dataclasses.replace(second.steps, step=8 + np.arange(100)))
    for runs in ((first, close), (close, first)):
        assert change(gradlog.compare(*runs, align="step"), "kappa[one-step]").verdict is not None


def test_planted_differences_are_found() -> None:
    found: Counter[str] = Counter()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        compared = gradlog.compare(
            analysis_of(ar1(rng, 600, 16, 0.5)), analysis_of(1.2 * ar1(rng, 600, 16, 0.6))
        )
        found.update(f"{c.quantity} {c.verdict}" for c in compared.total.changes)
    # One-step kappa of AR(1) is 2 - 2 phi: 1.0 and 0.8; norms are in the ratio of the scales.
    assert found["kappa[one-step] better"] == 20
    assert found["grad_norm higher"] == 20
    assert found["kappa[one-step] worse"] == 0


def test_intervals_hold_the_true_change() -> None:
    rng = np.random.default_rng(3)
    compared = gradlog.compare(analysis_of(ar1(rng, 4000, 16, 0.5)), analysis_of(2 * ar1(rng, 3000, 16, 0.8)))
    for quantity, truth in (("kappa[one-step]", 0.4), ("grad_norm", 2.0)):
        interval = change(compared, quantity).interval
        assert interval is not None
        assert interval[0] < truth - 1 < interval[1]
        assert interval[1] - interval[0] < 0.2


@pytest.mark.parametrize("align", [None, "step", "fraction"])
def test_comparison_with_itself_changes_nothing(samples: dict[str, Analysis], align: str | None) -> None:
    compared = gradlog.compare(samples["mlp-sgd"], samples["mlp-sgd"], align=align)
    for scope in (compared.total, *compared.tensors):
        for found in scope.changes:
            assert (found.absolute, found.relative, found.verdict) == (0, 0, "~"), found
            assert found.interval in ((0, 0), None)


@pytest.mark.parametrize("align", [None, "step", "fraction"])
def test_exchange_mirrors_every_interval(samples: dict[str, Analysis], align: str | None) -> None:
    there = gradlog.compare(samples["mlp-gd"], samples["mlp-sgd"], align=align)
    back = gradlog.compare(samples["mlp-sgd"], samples["mlp-gd"], align=align)
    opposite = {"better": "worse", "worse": "better", "higher": "lower", "lower": "higher"}
    scopes = zip((there.total, *there.tensors), (back.total, *back.tensors), strict=True)
    for one, other in itertools.chain.from_iterable(
        zip(a.changes, b.changes, strict=True) for a, b in scopes
    ):
        assert one.quantity == other.quantity
        assert (one.baseline, one.value) == (other.value, other.baseline)
        assert opposite.get(one.verdict or "", one.verdict) == other.verdict
        if one.interval is not None and other.interval is not None:
            low, high = (1 / (1 + end) - 1 for end in one.interval)
            assert other.interval == pytest.approx((high, low), rel=1e-9)


def test_quantities_and_their_order(samples: dict[str, Analysis]) -> None:
    compared = gradlog.compare(samples["mlp-gd"], samples["mlp-sgd"])
    names = [c.quantity for c in compared.total.changes]
    specs = ["one-step", "ema:0.5", "ema:0.9", "ema:0.99", "mean:5", "linear"]
    assert names == [
        "kappa[best]",
        *(f"kappa[{spec}]" for spec in specs),
        *(f"scaled_kappa[{spec}]" for spec in specs),
        *(f"path_length[{spec}]" for spec in ["zero", *specs]),
        "grad_norm",
        *(f"rank[{epsilon}]" for epsilon in (0.1, 0.05, 0.01)),
        "effective_rank",
        "stable_rank",
    ]
    for name in ("mlp-gd", "mlp-sgd"):
        total = samples[name].total
        held = {p.predictor: p for p in total.predictors}
        of_run = {c.quantity: c.baseline if name == "mlp-gd" else c.value for c in compared.total.changes}
        assert of_run["kappa[one-step]"] == held["one-step"].kappa
        assert of_run["scaled_kappa[linear]"] == held["linear"].scaled_kappa
        assert of_run["path_length[mean:5]"] == held["mean:5"].path_length
        assert total.best is not None
        assert of_run["kappa[best]"] == total.best.kappa
        assert of_run["grad_norm"] == pytest.approx(
            math.sqrt(np.mean(samples[name].steps.grad_norm ** 2)), rel=1e-12
        )
    assert {t.name for t in compared.tensors} == {t.name for t in samples["mlp-gd"].tensors}
    assert not compared.only_baseline
    assert not compared.only_run


def test_tensor_intervals_equal_those_of_the_tensor_alone() -> None:
    """A tensor's sums vary as those of a model of that tensor alone would."""
    runs = [analyzed(SAMPLES / f"{name}.zarr", tensors=("0.weight",)) for name in ("mlp-gd", "mlp-sgd")]
    alone = gradlog.compare(runs[0], runs[1])
    for total, tensor in zip(alone.total.changes, alone.tensors[0].changes, strict=True):
        if "rank" in total.quantity:  # of the whole model alone
            continue
        assert total.verdict == tensor.verdict
        if total.interval is not None:
            assert tensor.interval == pytest.approx(total.interval, rel=1e-9)


def test_models_that_differ_compare_what_matches(tmp_path: Path) -> None:
    paths = []
    for name, tensors in (("a", ("x", "y", "only.a")), ("b", ("only.b", "x", "y", "z"))):
        arrays = {tensor: walk(60, (5,), seed) for seed, tensor in enumerate(tensors)}
        paths.append(write_store(tmp_path / f"{name}.zarr", arrays))
    compared = gradlog.compare(analyzed(paths[0]), analyzed(paths[1]))
    assert [scope.name for scope in compared.tensors] == ["x", "y"]
    assert compared.only_baseline == ("only.a",)
    assert compared.only_run == ("only.b", "z")
    by_name = {tensor.name: tensor for tensor in analyzed(paths[1]).tensors}
    assert change(compared, "path_length[zero]", "y").value == by_name["y"].energy


def read_back(analysis: Analysis) -> Analysis:
    (found,) = gradlog.read_analyses(json.dumps(gradlog.analysis_document(analysis)), "run.json")
    return found


def test_json_compares_to_the_last_digit(samples: dict[str, Analysis]) -> None:
    runs = samples["mlp-gd"], samples["charlm-adamw"]
    from_stores = gradlog.compare(*runs)
    from_json = gradlog.compare(*map(read_back, runs))
    mixed = gradlog.compare(runs[0], read_back(runs[1]))
    assert from_stores.total == from_json.total == mixed.total
    assert from_stores.tensors == from_json.tensors == mixed.tensors
    same = gradlog.compare(samples["mlp-gd"], samples["mlp-sgd"]).tensors
    assert same == gradlog.compare(read_back(samples["mlp-gd"]), read_back(samples["mlp-sgd"])).tensors


def test_json_without_series_says_why_there_are_no_intervals(samples: dict[str, Analysis]) -> None:
    runs = []
    for name in ("mlp-gd", "mlp-sgd"):
        document = gradlog.analysis_document(samples[name], steps=False)
        del document["tensor_steps"]
        runs += gradlog.read_analyses(json.dumps(document), name)
    compared = gradlog.compare(runs[0], runs[1])
    assert "no per-step sums" in compared.no_interval[0]
    assert change(compared, "kappa[one-step]").interval is None
    assert change(compared, "kappa[one-step]").verdict is None
    assert change(compared, "kappa[one-step]").relative == pytest.approx(907.856, rel=1e-5)
    assert change(compared, "rank[0.05]").verdict == "higher"  # whose error is no sum over steps
    half = [dataclasses.replace(samples[name], tensor_steps=None) for name in ("mlp-gd", "mlp-sgd")]
    compared = gradlog.compare(half[0], half[1])
    assert compared.no_interval[0] == ""
    assert "--tensor-steps" in compared.no_interval[1]
    assert change(compared, "kappa[one-step]").interval is not None
    assert change(compared, "kappa[one-step]", "0.bias").interval is None


def test_ranks_without_errors_have_no_verdict(samples: dict[str, Analysis]) -> None:
    """Two runs of noise have other ranks each time: no figure of theirs is said to differ."""

    def bounded(lower: int, rank: int, upper: int, confidence: float = 1.0) -> Analysis:
        base = samples["mlp-gd"]
        assert base.total.spectrum is not None
        found = tuple(
            dataclasses.replace(r, rank=rank, lower=lower, upper=upper) for r in base.total.spectrum.rank
        )
        spectrum = dataclasses.replace(
            base.total.spectrum, method="incremental", confidence=confidence, rank=found
        )
        return dataclasses.replace(base, total=dataclasses.replace(base.total, spectrum=spectrum))

    overlapping = change(gradlog.compare(bounded(8, 10, 12), bounded(12, 13, 14)), "rank[0.05]")
    assert (overlapping.verdict, overlapping.basis) == (None, "bounds")
    assert overlapping.interval == pytest.approx((0.0, 0.75))
    disjoint = change(gradlog.compare(bounded(8, 10, 12), bounded(13, 13, 14)), "rank[0.05]")
    assert (disjoint.verdict, disjoint.basis) == (None, "bounds")
    assert disjoint.interval == pytest.approx((13 / 12 - 1, 14 / 8 - 1))
    effective = change(gradlog.compare(bounded(8, 10, 12), bounded(13, 13, 14)), "effective_rank")
    assert (effective.verdict, effective.basis, effective.why) == (None, None, TELLS)
    certain = change(gradlog.compare(bounded(8, 8, 8), bounded(7, 7, 7)), "rank[0.05]")
    assert (certain.verdict, certain.basis, certain.interval) == (None, None, None)
    equal = change(gradlog.compare(bounded(8, 8, 8), bounded(8, 8, 8)), "rank[0.05]")
    assert (equal.verdict, equal.basis, equal.interval) == ("~", "exact", None)
    likely = change(gradlog.compare(bounded(8, 8, 8, 0.95), bounded(7, 7, 7, 0.95)), "rank[0.05]")
    assert (likely.verdict, likely.basis) == (None, "bounds")


def test_settings_that_differ_are_told(samples: dict[str, Analysis]) -> None:
    other = analyzed(SAMPLES / "mlp-sgd.zarr", predictors=("ema:0.9", "mean:3"), epsilons=(0.05, 0.2))
    compared = gradlog.compare(samples["mlp-gd"], other)
    names = {c.quantity for c in compared.total.changes}
    assert {"kappa[ema:0.9]", "rank[0.05]"} <= names
    assert not {"kappa[mean:3]", "kappa[linear]", "rank[0.2]", "rank[0.1]"} & names
    told = " ".join(warning.message for warning in compared.warnings)
    assert "mean:3" in told
    assert "0.2" in told
    with pytest.raises(gradlog.UsageError, match="no predictor in common"):
        gradlog.compare(other, dataclasses.replace(analysis_of(np.ones((3, 2)), ("one-step",))))


@pytest.mark.parametrize("arguments", [{"align": "time"}, {"confidence": 0.2}])
def test_wrong_parameters(samples: dict[str, Analysis], arguments: dict[str, object]) -> None:
    with pytest.raises(gradlog.UsageError):
        gradlog.compare(samples["mlp-gd"], samples["mlp-gd"], **arguments)  # type: ignore[arg-type]


def test_short_and_empty_runs(tmp_path: Path) -> None:
    short = write_store(tmp_path / "short.zarr", {"x": walk(3, (4,), 1)})
    one = write_store(tmp_path / "one.zarr", {"x": walk(1, (4,), 1)})
    nothing = write_store(tmp_path / "nothing.zarr", {"x": np.zeros((50, 4), dtype="float32")})
    long = write_store(tmp_path / "long.zarr", {"x": walk(50, (4,), 2)})
    runs = [analyzed(path) for path in (short, one, nothing, long)]
    for a, b in itertools.product(runs, runs):
        for align in (None, "fraction", "step") if a.run.rows == b.run.rows else (None, "fraction"):
            compared = gradlog.compare(a, b, align=align)
            for found in compared.total.changes:
                assert found.relative is None or math.isfinite(found.relative)
                assert found.interval is None or all(map(math.isfinite, found.interval))
    assert "too few rows" in gradlog.compare(runs[0], runs[3]).no_interval[0]


def test_tensor_steps_are_kept_in_bins_of_bounded_number(tmp_path: Path) -> None:
    rows = 3 * MOST_BINS + 17
    rng = np.random.default_rng(5)
    arrays = {"a": ar1(rng, rows, 6, 0.5).astype("float32"), "b": ar1(rng, rows, 3, 0.9)}
    path = write_store(tmp_path / "run.zarr", arrays, chunks={"a": (1000, 6), "b": (700, 2)})
    for memory in (1 << 30, 24 << 20):
        analysis = gradlog.analyze(
            path,
            gradlog.Settings(predictors=("one-step", "mean:5"), rank="none"),
            tensor_steps=True,
            memory=memory,
        )
        steps = analysis.tensor_steps
        assert steps is not None
        assert steps.edges.size - 1 <= MOST_BINS + 1
        assert (steps.edges[0], steps.edges[1], steps.edges[-1]) == (0, 1, rows)
        for at, name in enumerate(("a", "b")):
            g = arrays[name].astype(np.float64)
            m = predictions(g, "mean:5")
            starts = steps.edges[:-1]
            expected = np.add.reduceat(((g - m) ** 2).sum(axis=1), starts)
            np.testing.assert_allclose(steps.path_length["mean:5"][at], expected, rtol=1e-6)
            expected = np.add.reduceat((g * m).sum(axis=1), starts)
            np.testing.assert_allclose(steps.product["mean:5"][at], expected, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(
                steps.energy[at], np.add.reduceat((g * g).sum(axis=1), starts), rtol=1e-9
            )


def test_dropped_steps_are_left_out_of_tensors_too(tmp_path: Path) -> None:
    values = walk(60, (5,), 1)
    kept = write_store(tmp_path / "kept.zarr", {"x": np.delete(values, 7, axis=0)})
    values[7, 2] = np.nan
    dropped = write_store(tmp_path / "dropped.zarr", {"x": values})
    expected, found = analyzed(kept).tensor_steps, analyzed(dropped, nonfinite="drop").tensor_steps
    assert expected is not None
    assert found is not None
    assert (found.edges == expected.edges).all()
    assert (found.energy == expected.energy).all()
    assert (found.product["linear"] == expected.product["linear"]).all()


def test_bins_cover_all_rows() -> None:
    for rows in (1, 2, 24, MOST_BINS, MOST_BINS + 1, MOST_BINS + 2, 40_000):
        edges = bin_edges(rows)
        assert edges[0] == 0
        assert edges[-1] == rows
        assert (np.diff(edges) > 0).all()
        assert edges.size - 1 <= MOST_BINS + 1


def test_weights_are_whole_blocks_in_a_circle() -> None:
    bins, length = 23, 5
    weights = draw_weights(7, bins, length, 400)
    assert (weights.sum(axis=1) == bins).all()
    assert (weights >= 0).all()
    # Every bin is as likely as any other; a block at the end goes on at the beginning.
    assert np.abs(weights.mean(axis=0) - 1).max() < 0.3
    assert (weights == draw_weights(7, bins, length, 400)).all()
    assert (weights != draw_weights(8, bins, length, 400)).any()
    one_block = draw_weights(1, 10, 10, 50)
    assert (one_block == 1).all()


def test_block_lengths_follow_the_correlation() -> None:
    rng = np.random.default_rng(0)
    lengths = [int(block_lengths(ar1(rng, 1000, 40, phi).T, np.zeros(40)).mean()) for phi in (0.0, 0.5, 0.9)]
    assert lengths[0] < 1.6 * 10 < 1.6 * lengths[1] < lengths[2] <= 1000 / 10
    assert (block_lengths(np.zeros((2, 100)), np.array([0.0, 7.9])) >= (4, 7)).all()


def test_student_quantiles() -> None:
    # Tables of Student's distribution, two-sided 95 percent.
    for freedom, quantile in ((6, 2.4469), (10, 2.2281), (30, 2.0423), (math.inf, 1.95996)):
        assert student(1.959964, np.array([float(freedom)]))[0] == pytest.approx(quantile, abs=2e-3)


def test_seeds_follow_from_content_to_six_digits() -> None:
    norms = np.random.default_rng(2).random(400)
    assert content_seed(norms) == content_seed(norms * (1 + 1e-15))
    assert content_seed(norms) != content_seed(norms[:-1])
    assert content_seed(norms) != content_seed(norms * 1.01)


def test_influence_is_the_derivative(samples: dict[str, Analysis]) -> None:
    specs = ("one-step", "ema:0.9")
    for analysis in (samples["mlp-gd"], samples["mlp-sgd"]):
        sums = total_sums(analysis, specs, bin_edges(analysis.run.rows))
        influence = influences(sums, [None, None])
        point = figures(sums.total, 2)
        for at in (3, 200, 390):
            step = 1e-4
            more = figures(sums.total + step * sums.bins[at], 2)
            less = figures(sums.total - step * sums.bins[at], 2)
            np.testing.assert_allclose((more - less) / (2 * step), influence[:, at], rtol=1e-4, atol=1e-9)
        for spec, found in zip(specs, (point[2:4], point[5:7]), strict=True):
            held = next(p for p in analysis.total.predictors if p.predictor == spec)
            assert [np.exp(found[0]), np.cosh(found[1]) ** -2] == pytest.approx(
                [held.kappa, held.scaled_kappa], rel=1e-9
            )


@pytest.mark.parametrize("spec", ["ema:0.8", "ema:0.99", "ema-debiased:0.9"])
def test_predictions_are_counted_where_they_come_from(spec: str) -> None:
    """What each step brings in adds up to the energy of all predictions, but for a constant at the ends."""
    g = ar1(np.random.default_rng(4), 120, 3, 0.6)
    name, _, decay = spec.partition(":")
    m = predictions(g, spec if name != "ema-debiased" else f"ema:{decay}")
    if name == "ema-debiased":
        m[1:] /= (1 - float(decay) ** np.arange(1, 120))[:, None]
    energy, product = (g * g).sum(axis=1), (g * m).sum(axis=1)
    timing = retiming(spec, bin_edges(120))
    assert timing is not None
    found = timing.prediction_energy(energy[1:], product[1:])
    brought = timing.energy * energy[1:] + timing.product * product[1:]
    constant = (timing.ends * brought.mean()).sum()
    b = float(decay or 0)
    # Row 0 brings in what no bin holds: with g_0 alone, all later predictions are a_t B^(t-1) (1 - B) g_0.
    factors = 1 / (1 - b ** np.arange(1, 120)) if name == "ema-debiased" else np.ones(119)
    first = energy[0] * ((factors * (1 - b) * b ** np.arange(119)) ** 2).sum()
    assert found.sum() + constant + first == pytest.approx((m * m).sum(), rel=1e-9)


def test_other_predictors_are_not_retimed() -> None:
    for spec in ("one-step", "ema:0.5", "mean:5", "linear", "lags:0.5,0.2", "mixture:0.5,0.9,0.3"):
        assert retiming(spec, bin_edges(60)) is None
    assert retiming("ema:0.9", bin_edges(2)) is None


def test_long_run_variance_of_known_processes() -> None:
    """Of AR(1) (1 + phi) / (1 - phi), of differences of noise, which add up to their ends, far below 1."""
    rng = np.random.default_rng(8)
    for phi, truth in ((0.0, 1.0), (0.5, 3.0), (0.9, 19.0), (-0.5, 1 / 3)):
        x = ar1(rng, 4000, 40, phi).T.copy()
        found, freedom = long_run_variance(x, np.zeros(40))
        assert found.mean() / 4000 == pytest.approx(truth, rel=0.08)
        assert (freedom >= 2).all()
    noise = rng.standard_normal((40, 4001))
    found, _ = flat_top_variance(np.diff(noise), np.zeros(40))
    assert found.mean() < 0.25
    scaled, _ = long_run_variance(1e-200 * x, np.zeros(40))
    plain, _ = long_run_variance(x, np.zeros(40))
    np.testing.assert_allclose(scaled, 1e-200**2 * plain)
    assert long_run_variance(np.ones((1, 100)), np.zeros(1))[0] == 0.0


def test_variance_of_noise_whose_scale_changes_is_the_sum_of_squares() -> None:
    """And it is known as from the rows that carry it: freedom falls with (sum s^2)^2 / sum 3 s^4."""
    rng = np.random.default_rng(9)
    even = long_run_variance(rng.standard_normal((400, 500)), np.zeros(400))[1].mean()
    for scale in ((1 + np.arange(500) / 20) ** -0.7, np.exp(np.arange(500) / 100)):
        found, freedom = long_run_variance(rng.standard_normal((400, 500)) * scale, np.zeros(400))
        squares = np.square(scale)
        assert found.mean() == pytest.approx(squares.sum(), rel=0.05)
        carrying = squares.sum() ** 2 / np.square(squares).sum() / 500
        assert freedom.mean() == pytest.approx(max(2.0, even * carrying), rel=0.25)


def test_errors_of_a_sketch_widen_intervals() -> None:
    rng = np.random.default_rng(6)
    a, b = (analysis_of(ar1(rng, 500, 16, 0.5)) for _ in range(2))

    def estimated(run: Analysis, share: float) -> Analysis:
        predictors = tuple(
            dataclasses.replace(
                p,
                path_length_error=share * p.path_length,
                kappa_error=share * (p.kappa or 0),
                scaled_kappa_error=share * (p.scaled_kappa or 0),
            )
            for p in run.total.predictors
        )
        total = dataclasses.replace(run.total, predictors=predictors, energy_error=share * run.total.energy)
        return dataclasses.replace(run, total=total)

    def logs(compared: Comparison, quantity: str) -> Array:
        interval = change(compared, quantity).interval
        assert interval is not None
        return np.log1p(interval)

    exact, one, both = (
        gradlog.compare(*runs)
        for runs in ((a, b), (a, estimated(b, 0.2)), (estimated(a, 0.2), estimated(b, 0.2)))
    )
    # Errors as large as 20 percent drown the variation over steps: Student's t with 7 and 14 degrees.
    for quantity in ("kappa[one-step]", "path_length[zero]", "path_length[mean:5]", "kappa[best]"):
        widths = [np.diff(logs(compared, quantity))[0] / 2 for compared in (exact, one, both)]
        assert widths[0] < 0.15
        assert widths[1] == pytest.approx(0.2 * 2.365, rel=0.1)
        assert widths[2] == pytest.approx(0.2 * math.sqrt(2) * 2.145, rel=0.1)
    scaled = [logs(compared, "scaled_kappa[ema:0.5]") for compared in (exact, one, both)]
    assert scaled[2][0] < scaled[1][0] < scaled[0][0] <= scaled[0][1] < scaled[1][1] < scaled[2][1]
    same = gradlog.compare(estimated(a, 0.2), estimated(a, 0.2))
    assert change(same, "kappa[one-step]").interval == (0, 0)


def test_alignment_removes_what_both_runs_share() -> None:
    """A trend of kappa that both runs follow widens intervals of runs on their own, not of aligned ones."""
    rng = np.random.default_rng(11)
    share = np.linspace(0, 0.95, 400)[:, None]
    a, b = (
        analysis_of((1 - share) * ar1(rng, 400, 40, 0.0) + share * ar1(rng, 400, 40, 0.97)) for _ in range(2)
    )
    widths = []
    for align in (None, "step", "fraction"):
        interval = change(gradlog.compare(a, b, align=align), "kappa[one-step]").interval
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[1] < widths[0] / 2
    assert widths[2] < widths[0] / 2


def test_alignment_of_runs_logged_at_different_steps() -> None:
    rng = np.random.default_rng(12)
    a, b = analysis_of(ar1(rng, 400, 8, 0.5)), analysis_of(ar1(rng, 130, 8, 0.5))
    every_third = dataclasses.replace(b, steps=dataclasses.replace(b.steps, step=3 * np.arange(130)))
    for align in ("step", "fraction"):
        found = change(gradlog.compare(a, every_third, align=align), "kappa[one-step]")
        assert found.verdict == "~"
        assert found.interval is not None


def test_shared_rows() -> None:
    steps = [np.arange(0, 400), np.arange(100, 700, 5)]
    assert gradlog.shared_rows(steps, ["a", "b"]) == [(100, 400), (0, 60)]
    with pytest.raises(gradlog.DataError, match="no training step in common: a 0 to 9, b 20 to 29"):
        gradlog.shared_rows([np.arange(10), np.arange(20, 30)], ["a", "b"])
    with pytest.raises(gradlog.DataError, match="b: row 2 is step 1, after step 5"):
        gradlog.shared_rows([np.arange(10), np.array([0, 5, 1])], ["a", "b"])
