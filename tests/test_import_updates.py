"""Importing checkpoints: rows are differences of weights, and the rounding of 16-bit weights is known."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from import_sources import from_bfloat16, stored, to_bfloat16, ulp, write_safetensors
from numpy.typing import NDArray
from sweeps import sweep

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.importing import updates
from gradmf.gradlog.importing.snapshot import Kind

Array = NDArray[Any]
RATE = 0.25
AS_UPDATES = gradlog.ImportSettings(updates=True)


def descent(count: int = 5, dtype: str = "float32") -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """Weights along plain SGD on a quadratic, and the gradients of its steps, (count - 1, *shape)."""
    rng = np.random.default_rng(7)
    weights = {"b": rng.standard_normal(6).astype(dtype), "w": rng.standard_normal((4, 3)).astype(dtype)}
    curvature = {name: rng.uniform(0.1, 2, value.shape).astype(dtype) for name, value in weights.items()}
    along, gradients = [weights], {name: [] for name in weights}
    for _ in range(count - 1):
        slope = {name: curvature[name] * value for name, value in along[-1].items()}
        for name, value in slope.items():
            gradients[name].append(value)
        along.append(
            {
                name: value - along[-1][name].dtype.type(RATE) * slope[name]
                for name, value in along[-1].items()
            }
        )
    return along, {name: np.stack(values) for name, values in gradients.items()}


def write_checkpoints(
    folder: Path, along: list[dict[str, Array]], every: int = 1, state: Mapping[int, Any] | None = None
) -> Path:
    """Folders as Hugging Face writes them."""
    for number, weights in enumerate(along):
        place = folder / f"checkpoint-{number * every}"
        write_safetensors(place / "model.safetensors", weights)
        if state is not None:
            (place / "trainer_state.json").write_text(json.dumps(state[number]))
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_updates_of_plain_descent_are_the_gradients(tmp_path: Path, dtype: str) -> None:
    along, gradients = descent(12, dtype)
    out = tmp_path / "run.zarr"
    summary = gradlog.import_log(write_checkpoints(tmp_path / "run", along), out, AS_UPDATES)
    steps, tensors, series = stored(out)
    assert steps == list(range(1, 12))
    assert series == {}
    for name, values in gradients.items():
        assert tensors[name].dtype == dtype
        weights = np.stack([w[name] for w in along])
        np.testing.assert_array_equal(tensors[name], weights[1:] - weights[:-1])
        scale = np.finfo(dtype).eps * np.abs(weights).max()
        np.testing.assert_allclose(tensors[name], -RATE * values, rtol=0, atol=scale)
    assert gradlog.open_log(out).attributes["gradlog"] == {"version": 1, "kind": "updates", "every": 1}
    assert summary.rounding is None
    assert summary.warnings == ()
    assert summary.plan.rows == 11


def test_steps_and_losses_are_those_of_the_later_checkpoint(tmp_path: Path) -> None:
    along, _ = descent(3)
    logged = [{"step": step, "loss": 10 - step / 10, "learning_rate": 1.0} for step in range(0, 90, 10)]
    states = {
        number: {
            "global_step": 40 * number,
            "log_history": [*logged, {"step": 40 * number, "eval_loss": 1.0}],
        }
        for number in range(3)
    }
    write_checkpoints(tmp_path / "run", along, 7, states)
    gradlog.import_log(tmp_path / "run", tmp_path / "run.zarr", AS_UPDATES)
    steps, tensors, series = stored(tmp_path / "run.zarr")
    assert (steps, series) == ([40, 80], {"loss": [6.0, 2.0]})
    np.testing.assert_array_equal(tensors["w"][1], along[2]["w"] - along[1]["w"])
    assert gradlog.open_log(tmp_path / "run.zarr").attributes["gradlog"]["every"] == 40


def test_unequal_spacing_is_told(tmp_path: Path) -> None:
    along, _ = descent(4)
    for step, weights in zip((10, 20, 30, 35), along, strict=True):
        write_safetensors(tmp_path / "run" / f"model_{step}.safetensors", weights)
    summary = gradlog.import_log(tmp_path / "run", tmp_path / "run.zarr", AS_UPDATES)
    assert stored(tmp_path / "run.zarr")[0] == [20, 30, 35]
    assert [warning.code for warning in summary.warnings] == ["updates-uneven"]
    log = gradlog.open_log(tmp_path / "run.zarr")
    assert log.attributes["gradlog"]["every"] is None
    assert "updates-uneven" in [warning.code for warning in log.warnings]


def test_buffers_and_whole_numbers_are_left_out_by_name(tmp_path: Path) -> None:
    along, _ = descent(3)
    for number, weights in enumerate(along):
        weights["bn.running_mean"] = np.full(3, number, "f4")
        weights["bn.num_batches_tracked"] = np.array(number)
        weights["ids"] = np.arange(4)
    summary = gradlog.import_log(
        write_checkpoints(tmp_path / "run", along), tmp_path / "run.zarr", AS_UPDATES
    )
    assert sorted(stored(tmp_path / "run.zarr")[1]) == ["b", "w"]
    assert summary.plan.left_out == {
        "bn.num_batches_tracked": "a buffer by its name, which no optimizer moves",
        "bn.running_mean": "a buffer by its name, which no optimizer moves",
        "ids": "whole numbers (int64)",
    }
    (warning,) = summary.warnings
    assert "bn.num_batches_tracked, bn.running_mean (a buffer" in warning.message


def test_shards_with_an_index(tmp_path: Path) -> None:
    along, _ = descent(3)
    for number, weights in enumerate(along):
        place = tmp_path / "run" / f"checkpoint-{number}"
        write_safetensors(place / "model-00001-of-00002.safetensors", {"w": weights["w"]})
        write_safetensors(place / "model-00002-of-00002.safetensors", {"b": weights["b"]})
        index = {"w": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    gradlog.import_log(tmp_path / "run", tmp_path / "run.zarr", AS_UPDATES)
    for name, values in stored(tmp_path / "run.zarr")[1].items():
        np.testing.assert_array_equal(values, np.diff(np.stack([w[name] for w in along]), axis=0))
    wrong = tmp_path / "run" / "checkpoint-1"
    (wrong / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {**index, "v": index["w"]}})
    )
    with pytest.raises(
        gradlog.DataError, match=r"00001-of-00002.safetensors: lacks tensor 'v', which .*index"
    ):
        gradlog.plan_import(tmp_path / "run", AS_UPDATES)
    (wrong / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(gradlog.DataError, match=r"'model-00002-of-00002\.safetensors', which is not there"):
        gradlog.plan_import(tmp_path / "run", AS_UPDATES)
    (wrong / "model.safetensors.index.json").write_text("{")
    with pytest.raises(gradlog.DataError, match=r"index.json: no JSON that can be read"):
        gradlog.plan_import(tmp_path / "run", AS_UPDATES)


def test_folders_and_files_by_name_are_the_same(tmp_path: Path) -> None:
    along, _ = descent(12)
    folder = write_checkpoints(tmp_path / "run", along)
    write_safetensors(folder / "model.safetensors", along[-1])  # the model that was saved in the end
    gradlog.import_log(folder, tmp_path / "a.zarr", AS_UPDATES)
    gradlog.import_log(sorted(folder.glob("checkpoint-*")), tmp_path / "b.zarr", AS_UPDATES)
    files = sorted(folder.glob("checkpoint-*/*.safetensors"))
    gradlog.import_log(files, tmp_path / "c.zarr", AS_UPDATES)
    for name in ("b", "c"):
        first, other = stored(tmp_path / "a.zarr"), stored(tmp_path / f"{name}.zarr")
        assert first[0] == other[0] == list(range(1, 12))
        np.testing.assert_array_equal(first[1]["w"], other[1]["w"])


def test_weights_in_other_files(tmp_path: Path) -> None:
    along, _ = descent(3)
    for number, weights in enumerate(along):
        np.savez(tmp_path / f"w{number}.npz", **weights)
    gradlog.import_log(tmp_path, tmp_path / "run.zarr", AS_UPDATES)
    np.testing.assert_array_equal(stored(tmp_path / "run.zarr")[1]["w"][0], along[1]["w"] - along[0]["w"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_weights_are_widened_exactly_and_their_rounding_is_known(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(5)
    wide = np.cumsum(rng.standard_normal((4, 5, 400)), axis=0).astype(np.float32)
    narrow = to_bfloat16(wide) if dtype == "bfloat16" else wide.astype(np.float16)
    values = from_bfloat16(narrow) if dtype == "bfloat16" else narrow.astype(np.float32)
    frozen = narrow[0]
    along = [{"w": row, "frozen": frozen, "full": np.full(3, at, "f4")} for at, row in enumerate(narrow)]
    summary = gradlog.import_log(
        write_checkpoints(tmp_path / "run", along), tmp_path / "run.zarr", AS_UPDATES
    )
    moves = np.diff(values, axis=0)
    found = stored(tmp_path / "run.zarr")[1]
    np.testing.assert_array_equal(found["w"], moves)
    assert not found["frozen"].any()
    bits = (7, -126) if dtype == "bfloat16" else (10, -14)
    each = [sum(ulp(float(value), *bits) ** 2 / 12 for value in row.ravel()) for row in values]
    rounding = sum(a + b for a, b in itertools.pairwise(each))
    of_w = float((moves.astype(np.float64) ** 2).sum())
    total = rounding / (of_w + 3 * 3)
    assert summary.rounding == pytest.approx(total, rel=1e-12)
    assert summary.tensor_rounding == pytest.approx({"w": rounding / of_w}, rel=1e-12)
    log = gradlog.open_log(tmp_path / "run.zarr")
    told = log.attributes["gradlog"]["rounding"]
    assert told == {"total": summary.rounding, "tensors": dict(summary.tensor_rounding)}
    # What the estimate is of: the difference to the updates of the weights before they were rounded.
    actual = float(((moves - np.diff(wide.astype(np.float64), axis=0)) ** 2).sum())
    assert actual == pytest.approx(rounding, rel=0.1)


def sixteen_bits(folder: Path, scale: float) -> Path:
    """Checkpoints in bfloat16 whose updates are `scale` of the weights."""
    rng = np.random.default_rng(1)
    wide = np.cumsum([rng.standard_normal(4000), *(scale * rng.standard_normal((3, 4000)))], axis=0)
    return write_checkpoints(folder, [{"w": to_bfloat16(row)} for row in wide])


def test_too_much_rounding_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = sixteen_bits(tmp_path / "run", 0.001), tmp_path / "run.zarr"
    with pytest.raises(
        gradlog.DataError, match=r"run\.zarr: rounding of the 16-bit weights is about \d\.\d+ of the updates"
    ):
        gradlog.import_log(folder, out, AS_UPDATES)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert main(["import", "--updates", str(folder), "-o", str(out)]) == 1
    assert capsys.readouterr().err.startswith(f"gradmf: error: {out}: rounding of the 16-bit weights")
    assert main(["import", "--updates", str(folder), "-o", str(out), "--allow-rounding"]) == 0
    said = capsys.readouterr()
    assert "rounding of the weights is" in said.out
    assert "gradmf: warning: rounding of the 16-bit weights is about" in said.err
    assert main(["analyze", str(out), "--format", "json"]) == 0
    shown = capsys.readouterr()
    assert "rounding of the 16-bit weights is about" in shown.err
    assert "updates-rounded" in [warning["code"] for warning in json.loads(shown.out)["warnings"]]


def test_some_rounding_is_told_and_little_is_not(tmp_path: Path) -> None:
    for name, scale, codes in (("some", 0.01, ["updates-rounded"]), ("little", 0.2, [])):
        folder, out = sixteen_bits(tmp_path / name, scale), tmp_path / f"{name}.zarr"
        summary = gradlog.import_log(folder, out, AS_UPDATES)
        assert [warning.code for warning in summary.warnings] == codes, summary.rounding
        assert [warning.code for warning in gradlog.open_log(out).warnings] == codes


def test_weights_that_never_move(tmp_path: Path) -> None:
    along, _ = descent(2)
    folder = write_checkpoints(tmp_path / "run", [along[0]] * 3)
    with pytest.raises(gradlog.DataError, match="all hold the same weights"):
        gradlog.import_log(folder, tmp_path / "run.zarr", AS_UPDATES)


def test_weights_that_are_not_finite_are_kept_for_the_reader_to_refuse(tmp_path: Path) -> None:
    rows = [to_bfloat16(np.array([1.0, value, 2.0])) for value in (1.0, np.nan, 2.0, 3.0)]
    folder = write_checkpoints(tmp_path / "run", [{"w": row} for row in rows])
    summary = gradlog.import_log(folder, tmp_path / "run.zarr", AS_UPDATES)
    assert np.isnan(stored(tmp_path / "run.zarr")[1]["w"][:, 1]).tolist() == [True, True, False]
    each = [sum(ulp(v, 7, -126) ** 2 / 12 for v in row) for row in ((1.0, 2.0, 2.0), (1.0, 3.0, 2.0))]
    assert summary.rounding == pytest.approx(sum(each), rel=1e-12)  # of the one finite update, of energy 1
    with pytest.raises(gradlog.DataError, match=r"'w'.*training step 1"):
        gradlog.analyze(tmp_path / "run.zarr")


def test_rows_larger_than_memory(tmp_path: Path) -> None:
    along, _ = descent(4)
    folder = write_checkpoints(tmp_path / "run", along)
    gradlog.import_log(folder, tmp_path / "a.zarr", AS_UPDATES, memory=8)
    gradlog.import_log(folder, tmp_path / "b.zarr", AS_UPDATES)
    for name in along[0]:
        first, other = (stored(tmp_path / f"{log}.zarr")[1][name] for log in "ab")
        np.testing.assert_array_equal(first, other)
    assert not [path for path in (tmp_path / "a.zarr").iterdir() if path.name.endswith("tmp")]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weights: weights.pop("w"), "checkpoint-2: lacks tensor 'w' of .*checkpoint-0"),
        (
            lambda weights: weights.update(w=weights["w"].T),
            r"'w' has shape \[3, 4\], in .*checkpoint-0 \[4, 3\]",
        ),
        (lambda weights: weights.update(w=weights["w"].astype("f2")), "'w' is of float16, in .* of float32"),
    ],
)
def test_models_that_change(tmp_path: Path, change: Any, told: str) -> None:
    along, _ = descent(3)
    along = [dict(weights) for weights in along]
    change(along[2])
    along = [{name: np.ascontiguousarray(value) for name, value in weights.items()} for weights in along]
    with pytest.raises(gradlog.DataError, match=told):
        gradlog.import_log(write_checkpoints(tmp_path / "run", along), tmp_path / "run.zarr", AS_UPDATES)


def test_what_gives_no_updates(tmp_path: Path) -> None:
    along, _ = descent(3)
    folder = write_checkpoints(tmp_path / "run", along)
    with pytest.raises(gradlog.UsageError, match="at least two checkpoints"):
        gradlog.plan_import(folder / "checkpoint-0", AS_UPDATES)
    with pytest.raises(
        gradlog.DataError, match="checkpoint-0: a checkpoint, which holds weights: import it as"
    ):
        gradlog.plan_import(folder / "checkpoint-0")
    with pytest.raises(gradlog.UsageError, match=r"checkpoint-0: step 0, as .*checkpoint-0 is"):
        gradlog.plan_import([folder, folder / "checkpoint-0"], AS_UPDATES)
    gradlog.import_log(folder, tmp_path / "run.zarr", AS_UPDATES)
    with pytest.raises(gradlog.UsageError, match="holds updates already"):
        gradlog.plan_import(tmp_path / "run.zarr", AS_UPDATES)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    along, _ = descent(3)
    folder = write_checkpoints(tmp_path / "run", along, every=100)
    assert main(["import", "--updates", str(folder), "--dry-run"]) == 0
    shown = capsys.readouterr().out.splitlines()
    for line in (
        "2 rows (steps 100 to 200), 2 tensors, 18 parameters",
        "updates over 100 steps each",
        "216 bytes to read, 144 bytes to write",
        f"   0  {folder}/checkpoint-0    72 bytes",
        "The first is what the second is held against.",
        "w       4x3    float32  float32",
    ):
        assert line in shown
    assert main(["import", "--updates", str(folder), "-o", str(tmp_path / "run.zarr")]) == 0
    told = f"{tmp_path}/run.zarr: 2 rows (steps 100 to 200), 2 tensors, 18 parameters, "
    assert capsys.readouterr() == (f"{told}updates over 100 steps each, 144 bytes\n", "")


@settings(max_examples=sweep(60), deadline=None)
@given(arrays.arrays(np.uint16, st.integers(1, 300)), st.sampled_from(["bfloat16", "float16"]))
def test_rounding_energy_of_any_bits(bits: Array, dtype: str) -> None:
    values = from_bfloat16(bits) if dtype == "bfloat16" else bits.view(np.float16).astype(np.float64)
    fraction = (7, -126) if dtype == "bfloat16" else (10, -14)
    expected = sum(ulp(float(v), *fraction) ** 2 / 12 for v in values if np.isfinite(v))
    kind = Kind(bits.shape, dtype)
    found = updates.rounding_energy(kind, bits if dtype == "bfloat16" else bits.view(np.float16))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [updates._BLOCK - 1, updates._BLOCK + 3])
def test_differences_of_more_than_a_block(size: int) -> None:
    rng = np.random.default_rng(0)
    before, after = (to_bfloat16(rng.standard_normal(size)) for _ in range(2))
    out = np.empty(size, np.float32)
    energy = updates.subtract(Kind((size,), "bfloat16"), before, after, out)
    expected = from_bfloat16(after) - from_bfloat16(before)
    np.testing.assert_array_equal(out, expected)
    assert energy == pytest.approx(float((expected.astype(np.float64) ** 2).sum()), rel=1e-12)
