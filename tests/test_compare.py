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
from gradmf.gradlog import Analysis, Change, Comparison
from gradmf.gradlog.statistics.block_bootstrap import block_lengths, content_seed, draw_weights, student
from gradmf.gradlog.statistics.long_run_variance import flat_top_variance, long_run_variance
from gradmf.gradlog.statistics.retiming import retiming
from gradmf.gradlog.statistics.step_bins import MOST_BINS, bin_edges
from gradmf.gradlog.statistics.step_sums import figures, influences, states, total_sums

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


def check_shares(shares: dict[str, float], seeds: int, phi: float, quantities: int = 18) -> None:
    """95 percent each, within three standard errors of as many seeds beside the two percent promised."""
    room = 2 + 3 * 100 * math.sqrt(0.95 * 0.05 / seeds)
    assert len(shares) == quantities
    for quantity, share in shares.items():
        assert share >= 95 - room, (quantity, shares)
        # Where nothing can be predicted, no test of 1 - c^2 can be right at c = 0 and beside it.
        if not (phi == 0 and quantity.startswith("scaled_kappa")):
            assert share <= 95 + room, (quantity, shares)


@pytest.mark.parametrize(("phi", "columns"), [(0.0, 50), (0.9, 1)])
def test_no_difference_is_called_none(phi: float, columns: int) -> None:
    check_shares(shares_without_change(60, phi, (200, 200), columns), 60, phi)


@pytest.mark.slow
@pytest.mark.parametrize("align", [None, "step"])
@pytest.mark.parametrize("columns", [1, 50])
@pytest.mark.parametrize("rows", [200, 1000])
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_coverage_over_400_seeds(phi: float, rows: int, columns: int, align: str | None) -> None:
    shares = shares_without_change(400, phi, (rows, rows), columns, align)
    check_shares(shares, 400, phi)
    exempt = [share for q, share in shares.items() if not (phi == 0 and q.startswith("scaled_kappa"))]
    assert 93 <= np.mean(exempt) <= 97, shares


@pytest.mark.slow
def test_coverage_of_runs_of_different_length() -> None:
    shares = shares_without_change(400, 0.5, (400, 250), 16)
    # Sums over fewer steps are smaller, and never called unchanged: 6 path lengths.
    assert not any(quantity.startswith("path_length") for quantity in shares)
    check_shares(shares, 400, 0.5, quantities=12)


def test_planted_differences_are_found() -> None:
    found: Counter[str] = Counter()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        compared = gradlog.compare(
            analysis_of(ar1(rng, 400, 16, 0.5)), analysis_of(1.2 * ar1(rng, 400, 16, 0.6))
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
    assert change(compared, "rank[0.05]").verdict == "differs"
    half = [dataclasses.replace(samples[name], tensor_steps=None) for name in ("mlp-gd", "mlp-sgd")]
    compared = gradlog.compare(half[0], half[1])
    assert compared.no_interval[0] == ""
    assert "--tensor-steps" in compared.no_interval[1]
    assert change(compared, "kappa[one-step]").interval is not None
    assert change(compared, "kappa[one-step]", "0.bias").interval is None


def test_rank_bounds_must_be_disjoint(samples: dict[str, Analysis]) -> None:
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
    assert disjoint.verdict == "differs"
    assert not disjoint.significant
    effective = change(gradlog.compare(bounded(8, 10, 12), bounded(13, 13, 14)), "effective_rank")
    assert effective.basis is None
    certain = change(gradlog.compare(bounded(8, 8, 8), bounded(7, 7, 7)), "rank[0.05]")
    assert (certain.verdict, certain.basis, certain.interval) == ("differs", "exact", None)
    likely = change(gradlog.compare(bounded(8, 8, 8, 0.95), bounded(7, 7, 7, 0.95)), "rank[0.05]")
    assert (likely.verdict, likely.basis) == ("differs", "bounds")


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
        for align in (None, "fraction", "step"):
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
    """Of AR(1) 1 / (1 - phi)^2, of differences of noise, which add up to their ends, far below 1."""
    rng = np.random.default_rng(8)
    for phi, truth in ((0.0, 1.0), (0.5, 3.0), (0.9, 19.0)):
        x = ar1(rng, 4000, 40, phi).T.copy()
        found, freedom = long_run_variance(x, x[:, :, None], np.zeros(40))
        assert found.mean() / 4000 == pytest.approx(truth, rel=0.05)
        assert (freedom >= 4).all()
    noise = rng.standard_normal((40, 4001))
    found, _ = flat_top_variance(np.diff(noise), np.zeros(40))
    assert found.mean() < 0.25
    scaled, _ = long_run_variance(1e-200 * x, 1e150 * x[:, :, None], np.zeros(40))
    plain, _ = long_run_variance(x, x[:, :, None], np.zeros(40))
    np.testing.assert_allclose(scaled, 1e-200**2 * plain)
    flat = np.ones((1, 100))
    assert long_run_variance(flat, flat[:, :, None], np.zeros(1))[0] == 0.0


def test_states_that_are_proportional_do_no_harm() -> None:
    rng = np.random.default_rng(9)
    x = ar1(rng, 400, 5, 0.8).T.copy()
    once, _ = long_run_variance(x, x[:, :, None], np.zeros(5))
    thrice, _ = long_run_variance(x, np.stack([x, -2 * x, np.ones_like(x)], axis=2), np.zeros(5))
    np.testing.assert_allclose(thrice, once, rtol=0.03)


def test_states_name_the_sums_that_matter(samples: dict[str, Analysis]) -> None:
    run = samples["mlp-sgd"]
    edges = bin_edges(run.run.rows)
    sums = total_sums(run, ("ema:0.9", "mean:5"), edges)
    found = states(sums, [retiming("ema:0.9", edges), None])
    assert found.shape == (7, run.run.rows - 1, 3)
    assert not found[0, :, 1:].any()
    assert not found[2, :, 2].any()
    assert (found[1, :, 2] == sums.bins[:, 1]).all()
    assert (found[5, :, 2] == sums.bins[:, 2]).all()


def test_errors_of_a_sketch_widen_intervals() -> None:
    rng = np.random.default_rng(6)
    a, b = (analysis_of(ar1(rng, 400, 16, 0.5)) for _ in range(2))

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
    """A trend that both runs follow widens intervals of independent runs, and not of aligned ones."""
    rng = np.random.default_rng(11)
    decay = np.exp(-np.arange(400) / 100)[:, None]
    a, b = (analysis_of(decay * ar1(rng, 400, 16, 0.3)) for _ in range(2))
    widths = []
    for align in (None, "step", "fraction"):
        interval = change(gradlog.compare(a, b, align=align), "grad_norm").interval
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
