"""Runs that went on from a checkpoint and logged steps again: which rows are taken."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from stores import Array, add_array, foreign_store, format1_store, network, walk

from conftest import assert_analysis
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.logs.repeated_steps import kept_rows

STEPS = [*range(15), *range(10, 18)]


def last_of(steps: list[int]) -> list[int]:
    """Row by row, as a resumed run would: going back to a step takes away what was logged from it on."""
    rows: list[int] = []
    for row, step in enumerate(steps):
        while rows and steps[rows[-1]] >= step:
            rows.pop()
        rows.append(row)
    return rows


def first_of(steps: list[int]) -> list[int]:
    rows: list[int] = []
    for row, step in enumerate(steps):
        if not rows or step > steps[rows[-1]]:
            rows.append(row)
    return rows


RULES = {"last": last_of, "first": first_of, "keep": lambda steps: list(range(len(steps)))}


@given(steps=st.lists(st.integers(0, 12), min_size=1, max_size=30), policy=st.sampled_from(list(RULES)))
def test_rows_that_are_kept(steps: list[int], policy: str) -> None:
    keep = kept_rows("run", np.array(steps), policy)
    found = list(range(len(steps))) if keep is None else np.flatnonzero(keep).tolist()
    assert found == RULES[policy](steps)
    if keep is None and policy != "keep":
        assert kept_rows("run", np.array(steps), "fail") is None


def settled(tensors: dict[str, Array], policy: str) -> dict[str, Array]:
    return {name: values[RULES[policy](STEPS)] for name, values in tensors.items()}


@pytest.mark.parametrize("policy", ["last", "first"])
@pytest.mark.parametrize("rank", ["exact", "incremental", "none"])
@pytest.mark.parametrize("memory", [1 << 30, 4 << 20], ids=["enough", "short"])
def test_an_analysis_takes_those_rows(tmp_path: Path, policy: str, rank: str, memory: int) -> None:
    tensors = {**network(), "wide": walk(23, (5000,), 9)}
    path = format1_store(tmp_path / "run.zarr", tensors, step=STEPS)
    chosen = gradlog.Settings(repeated=policy, rank="none" if rank == "incremental" else rank)
    analysis = gradlog.analyze(path, chosen, memory=memory)
    assert_analysis(analysis, settled(tensors, policy))
    assert analysis.steps.step.tolist() == [STEPS[row] for row in RULES[policy](STEPS)]
    codes = [warning.code for warning in analysis.warnings if "decoded" not in warning.code]
    assert codes == ["steps-repeated"]
    assert "5 rows of repeated steps left out" in analysis.warnings[0].message


TOLD = (
    "row 15 has training step 10 after 14: a resumed run may have logged steps twice; --repeated last takes "
    "the last row of each step, first the first, keep all in their order"
)


def test_unless_asked_for_it_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", network(), step=STEPS)
    looks: list[Callable[[], object]] = [
        lambda: gradlog.analyze(path),
        lambda: gradlog.analyze(path, gradlog.Settings(repeated="fail")),
        lambda: gradlog.analyze_part(path, gradlog.PartNumber(1, 2)),
        lambda: gradlog.describe_plan(path),
        lambda: gradlog.advise(path),
        lambda: gradlog.sketch_log(path, tmp_path / "sketch.zarr", gradlog.Settings(sketch_dim=64)),
    ]
    for look in looks:
        with pytest.raises(gradlog.DataError) as caught:
            look()
        assert str(caught.value) == f"{path}: {TOLD}"
        assert caught.value.exit_code == 1
    assert not (tmp_path / "sketch.zarr").exists()
    increasing = format1_store(tmp_path / "good.zarr", network())
    assert gradlog.analyze(increasing).warnings == ()


def test_all_rows_are_kept_on_request(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", network(), step=STEPS)
    analysis = gradlog.analyze(path, gradlog.Settings(repeated="keep"))
    assert_analysis(analysis, network())
    assert analysis.warnings == (gradlog.LogWarning("steps-not-increasing", TOLD),)


def test_what_is_in_a_store_is_shown_with_a_warning(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", network(), step=STEPS)
    assert gradlog.describe(path).warnings == (gradlog.LogWarning("steps-not-increasing", TOLD),)


@pytest.mark.parametrize(("rows", "fault"), [((0, 15), None), ((12, None), 15), ((15, None), None)])
def test_rows_that_are_not_chosen_may_hold_any_steps(
    tmp_path: Path, rows: tuple[int, int | None], fault: int | None
) -> None:
    """Rows are counted in the log, whichever are chosen."""
    tensors = network()
    path = format1_store(tmp_path / "run.zarr", tensors, step=STEPS)
    if fault is None:
        analysis = gradlog.analyze(path, gradlog.Settings(rows=rows))
        assert_analysis(analysis, {name: values[slice(*rows)] for name, values in tensors.items()})
    else:
        with pytest.raises(gradlog.DataError, match=f"row {fault} has training step 10 after 14"):
            gradlog.analyze(path, gradlog.Settings(rows=rows))


def test_the_command_line_asks_and_is_answered(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = format1_store(tmp_path / "run.zarr", network(), step=STEPS)
    other = format1_store(tmp_path / "other.zarr", network())
    part = str(tmp_path / "part")
    for words in (
        ["analyze", path],
        ["analyze", path, "--plan"],
        ["analyze", path, "--part", "1/1", "-o", part],
        ["compare", other, path],
        ["compare", path, other],
        ["compare", other, path, "--align", "step"],
        ["bounds", path],
        ["advise", path],
        ["sketch", path, tmp_path / "sketch.zarr"],
    ):
        assert main([str(word) for word in words]) == 1, words
        out, told = capfd.readouterr()
        assert out == ""
        assert f"{path}: {TOLD}" in told
        assert "Traceback" not in told
        assert main([str(word) for word in [*words, "--repeated", "last"]]) == 0, words
        capfd.readouterr()
    assert main(["merge", part]) == 0
    assert main(["info", str(path)]) == 0
    shown = " ".join("".join(capfd.readouterr()).split())
    assert TOLD in shown


def test_results_of_before_hold_what_was_then(tmp_path: Path) -> None:
    """All rows were taken where nothing was asked for, and where there was nothing to ask for."""
    path = format1_store(tmp_path / "run.zarr", network(), step=STEPS)
    kept = gradlog.analyze(path, gradlog.Settings(repeated="keep"))
    document = gradlog.analysis_document(kept)
    earlier = {word: held for word, held in document["settings"].items() if word != "repeated"}
    for held in (document, document | {"settings": earlier}):
        (analysis,) = gradlog.read_analyses(json.dumps(held), "run.json")
        assert analysis.settings.repeated == "keep"
        assert analysis.total.energy == kept.total.energy


def test_a_comparison_tells_of_what_mattered_alone(tmp_path: Path) -> None:
    good = format1_store(tmp_path / "good.zarr", network())
    path = format1_store(tmp_path / "run.zarr", network(), step=STEPS)
    analyses = {
        (place.name, policy): gradlog.analyze(place, gradlog.Settings(repeated=policy, rank="none"))
        for place, policies in ((good, ("keep", "fail", "last")), (path, ("keep", "last")))
        for policy in policies
    }
    for first, second in itertools.product(analyses, repeat=2):
        codes = [w.code for w in gradlog.compare(analyses[first], analyses[second]).warnings]
        differs = first[1] != second[1] and "run.zarr" in (first[0], second[0])
        assert ("settings-differ" in codes) == differs, (first, second)


@pytest.mark.parametrize("policy", ["last", "first"])
def test_aligned_runs_share_the_rows_that_count(
    tmp_path: Path, policy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """--align step cuts at training steps of the rows that are taken, wherever in the log those stand."""
    tensors = network()
    path = format1_store(tmp_path / "run.zarr", tensors, step=STEPS)
    few = {name: values[:9] for name, values in tensors.items()}
    short = format1_store(tmp_path / "short.zarr", few, step=[*range(4, 13)])
    words = ["compare", str(short), str(path), "--align", "step", "--repeated", policy, "--format", "json"]
    assert main(words) == 0
    document = json.loads(capfd.readouterr().out)
    rows = [row for row in RULES[policy](STEPS) if 4 <= STEPS[row] < 13]
    assert document["run"]["rows"] == len(rows) == 9
    taken = np.concatenate([values[rows].reshape(9, -1) for values in tensors.values()], axis=1).astype(float)
    path_length = np.sum(taken[0] ** 2) + np.sum(np.diff(taken, axis=0) ** 2)
    values = {change["quantity"]: change["value"] for change in document["total"]["changes"]}
    assert values["kappa[one-step]"] == pytest.approx(path_length / np.sum(taken**2), rel=1e-6)


def test_rows_that_are_not_finite_are_named_as_stored(tmp_path: Path) -> None:
    tensors = network()
    tensors["fc.weight"][20, 1, 1] = np.nan
    path = foreign_store(tmp_path / "run.zarr", tensors, chunks="auto")
    add_array(zarr.open_group(path, mode="r+"), "step", np.array(STEPS))
    with pytest.raises(gradlog.DataError, match=r"row 20 \(training step 15\)"):
        gradlog.analyze(path, gradlog.Settings(repeated="last"))
    analysis = gradlog.analyze(path, gradlog.Settings(repeated="last", nonfinite="drop"))
    rows = [row for row in RULES["last"](STEPS) if row != 20]
    assert_analysis(analysis, {name: values[rows] for name, values in tensors.items()})


def test_parts_sketches_and_relations_take_the_same_rows(tmp_path: Path) -> None:
    tensors = {**network(), "wide": walk(23, (5000,), 9)}
    path = format1_store(tmp_path / "run.zarr", tensors, step=STEPS)
    plain = format1_store(
        tmp_path / "plain.zarr", settled(tensors, "last"), step=[STEPS[row] for row in RULES["last"](STEPS)]
    )
    chosen = gradlog.Settings(repeated="last")
    whole = gradlog.analyze(path, chosen)
    places = []
    for index in (1, 2):
        places.append(tmp_path / f"part{index}")
        gradlog.write_part(gradlog.analyze_part(path, gradlog.PartNumber(index, 2), chosen), places[-1])
    merged = gradlog.merge_parts(places)
    assert merged.steps.step.tolist() == whole.steps.step.tolist()
    assert merged.total.energy == pytest.approx(whole.total.energy, rel=1e-12)
    for source, out, options in ((path, "a", {"repeated": "last"}), (plain, "b", {})):
        gradlog.sketch_log(source, tmp_path / out, gradlog.Settings(sketch_dim=64, **options))  # type: ignore[arg-type]
    sketches: list[Any] = [gradlog.open_log(tmp_path / out) for out in "ab"]
    assert sketches[0].step.tolist() == sketches[1].step.tolist()
    for first, second in zip(sketches[0].tensors, sketches[1].tensors, strict=True):
        np.testing.assert_array_equal(first.array[...], second.array[...])
    follow = gradlog.Settings(repeated="last", subspace=2, window=6)
    steps = whole.steps.step
    related = gradlog.relate(path, plain, (steps, steps), follow)
    np.testing.assert_allclose(related.cosine, 1.0, rtol=1e-12)
