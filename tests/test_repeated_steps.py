"""Runs that went on from a checkpoint and logged steps again: which rows are taken."""

from __future__ import annotations

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


def test_the_default_keeps_all_and_names_the_option(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", network(), step=STEPS)
    analysis = gradlog.analyze(path)
    assert_analysis(analysis, network())
    assert "--repeated last" in analysis.warnings[0].message
    with pytest.raises(gradlog.DataError, match=r"row 15 has training step 10 after 14: --repeated last"):
        gradlog.analyze(path, gradlog.Settings(repeated="fail"))
    increasing = format1_store(tmp_path / "good.zarr", network())
    assert gradlog.analyze(increasing, gradlog.Settings(repeated="fail")).warnings == ()


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
