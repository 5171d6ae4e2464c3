"""Stores of people who never heard of gradmf: what is a gradient, along which axis, and what numbers mean.

Every case is a kind of store that was once misread without a word.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import Array, add_array, foreign_store, format1_store, network, unspecified, walk, zip_members
from sweeps import sweep

from conftest import assert_analysis, flat
from gradmf import gradlog
from gradmf.gradlog.logs import packed_chunks

ROWS = 23


def analyzed(path: Path, tensors: dict[str, Array], *codes: str, **options: Any) -> gradlog.Analysis:
    """The analysis, held against the reference, with just these warnings."""
    analysis = gradlog.analyze(path, gradlog.Settings(**options))
    assert_analysis(analysis, tensors)
    assert [warning.code for warning in analysis.warnings] == list(codes)
    return analysis


def refused(path: Path, *mentions: str, **options: Any) -> str:
    """The message of an error that names the path and the rest in a line or two."""
    with pytest.raises(gradlog.GradmfError) as caught:
        gradlog.analyze(path, gradlog.Settings(**options))
    text = str(caught.value)
    assert str(path) in text
    assert len(text.splitlines()) <= 2
    for mention in mentions:
        assert mention in text, text
    return text


def with_axes(path: Path, arrays: dict[str, tuple[tuple[str, ...], Array]], zarr_format: int = 3) -> Path:
    """A store as xarray writes it: axes have names, in the metadata of v3 or in an attribute of v2."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    for name, (axes, values) in arrays.items():
        named: dict[str, Any] = {"dimension_names": axes} if zarr_format == 3 else {}
        if zarr_format == 2:
            named = {"attributes": {"_ARRAY_DIMENSIONS": list(axes)}}
        add_array(group, name, values, **named)
    return path


# Folders without metadata.


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_arrays_below_folders_without_metadata(tmp_path: Path, zarr_format: int, packed: bool) -> None:
    tensors = {"head": walk(ROWS, (5,), 1), "block/attn/weight": 10 * walk(ROWS, (4, 3), 2)}
    path = foreign_store(tmp_path / "run.zarr", tensors, zarr_format=zarr_format)
    for folder in ("block", "block/attn"):
        for place in (path / folder).glob(".z*"):
            place.unlink()
        (path / folder / "zarr.json").unlink(missing_ok=True)
    if packed:
        path = zip_members(path, tmp_path / "run.zip", top="run.zarr")
    told = analyzed(path, tensors, "groups-implicit").warnings[0].message
    assert "block, block/attn" in told
    assert [tensor.name for tensor in gradlog.describe(path).tensors] == sorted(tensors)
    gradlog.sketch_log(path, tmp_path / "sketch.zarr", gradlog.Settings(sketch_dim=64))
    assert gradlog.analyze(tmp_path / "sketch.zarr").run.parameters == 17


def test_a_log_that_lost_the_metadata_of_a_group(tmp_path: Path) -> None:
    tensors = {"params/Dense_0/kernel": 10 * walk(ROWS, (6,), 1), "bias": walk(ROWS, (3,), 2)}
    path = format1_store(tmp_path / "log.zarr", tensors)
    (path / "grads" / "params" / "zarr.json").unlink()
    analyzed(path, tensors, "groups-implicit")


def test_a_link_to_a_folder_above_is_followed_once(tmp_path: Path) -> None:
    tensors = network()
    path = foreign_store(tmp_path / "run.zarr", tensors)
    (path / "self").symlink_to(".")
    analyzed(path, tensors)


# Axes.


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(7,), (ROWS,), (4, 5)], ids=str)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_step_axis_may_stand_anywhere(
    tmp_path: Path, zarr_format: int, shape: tuple[int, ...], axis: int
) -> None:
    values = walk(ROWS, shape, 1)
    names = [f"x{i}" for i in range(len(shape))]
    names.insert(axis if axis >= 0 else len(names), "step")
    stored = np.moveaxis(values, 0, axis)
    path = with_axes(
        tmp_path / "run.zarr",
        {"w": (tuple(names), stored), "step": (("step",), np.arange(ROWS) * 10)},
        zarr_format,
    )
    analysis = analyzed(path, {"w": values}, "steps-strided")
    assert analysis.steps.step.tolist() == list(range(0, 10 * ROWS, 10))
    assert "axis 'step'" in gradlog.describe(path).step_axis


@settings(max_examples=sweep(40), deadline=None)
@given(data=st.data())
def test_any_step_axis_and_chunks(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    rows, axis = data.draw(st.integers(2, 20)), data.draw(st.integers(0, len(shape)))
    kind = data.draw(st.sampled_from(["f2", "f4", "f8", "c8", "bfloat16", "packed"]))
    values = walk(rows, shape, 1)
    meant, attributes = values, {}
    if kind == "bfloat16":
        bits = (values.view(np.uint32) >> 16).astype(np.uint16)
        meant, attributes = (bits.astype(np.uint32) << 16).view(np.float32), {"gradlog": {"dtype": kind}}
        values = bits
    elif kind == "packed":
        values = np.clip(np.round(values / 1e-2), -32000, 32000).astype("i2")
        meant, attributes = values * 1e-2, {"scale_factor": 1e-2}
    elif kind == "c8":
        values = (values + 1j * walk(rows, shape, 2)).astype("c8")
        meant = np.stack([values.real, values.imag], axis=-1)
    else:
        values = meant = values.astype(kind)
    stored = np.moveaxis(values, 0, axis)
    chunks = tuple(data.draw(st.integers(1, extent)) for extent in stored.shape)
    names = [f"x{i}" for i in range(len(shape))]
    names.insert(axis, "step")
    path = tmp_path_factory.mktemp("axes") / "run.zarr"
    group = zarr.open_group(path, mode="w")
    add_array(
        group, "w", np.ascontiguousarray(stored), chunks=chunks, dimension_names=names, attributes=attributes
    )
    first = data.draw(st.integers(0, rows - 2))
    options: dict[str, Any] = {"rows": (first, None), "rank": data.draw(st.sampled_from(["exact", "none"]))}
    analyzed(path, {"w": meant[first:]}, **options)


def test_the_coordinate_of_the_axis_holds_the_steps(tmp_path: Path) -> None:
    values = walk(ROWS, (6,), 1)
    steps = 100 * np.arange(ROWS)
    path = with_axes(
        tmp_path / "run.zarr", {"w": (("param", "iteration"), values.T), "iteration": (("iteration",), steps)}
    )
    assert analyzed(path, {"w": values}, "steps-strided").steps.step.tolist() == steps.tolist()


def test_axes_of_other_names_are_told(tmp_path: Path) -> None:
    values = walk(ROWS, (6,), 1)
    path = with_axes(tmp_path / "run.zarr", {"w": (("sample", "param"), values)})
    assert "sample, param" in analyzed(path, {"w": values}, "step-axis-assumed").warnings[0].message


def test_without_names_the_axis_taken_is_shown(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", network())
    assert gradlog.describe(path).step_axis == "the first axis: axes have no names"


# What is a gradient.


def test_coordinates_of_other_axes(tmp_path: Path) -> None:
    """Also shorter than the log, which --truncate would have cut."""
    values = walk(30, (20,), 1)
    path = with_axes(
        tmp_path / "run.zarr",
        {
            "grad": (("step", "param"), values),
            "freq": (("param",), np.linspace(0, 1, 20)),
            "embedding": (("param", "dim"), walk(20, (4,), 2)),
            "step": (("step",), np.arange(30)),
        },
    )
    told = analyzed(path, {"grad": values}, "arrays-left-out").warnings[0].message
    assert "no axis 'step' (axes param)" in told
    assert "no axis 'step' (axes param, dim)" in told


def test_weights_and_optimizer_state_beside_gradients(tmp_path: Path) -> None:
    gradients = {f"gradients/{name}": values for name, values in network().items()}
    others = {
        f"{kind}/{name}": 1e3 * walk(ROWS, values.shape[1:], 9)
        for kind in ("params", "exp_avg", "exp_avg_sq")
        for name, values in network().items()
    }
    path = foreign_store(tmp_path / "run.zarr", gradients | others)
    told = analyzed(path, gradients, "arrays-left-out").warnings[0].message
    assert "optimizer state" in told
    assert "--gradients GLOB" in told


@pytest.mark.parametrize("style", ["{}.grad", "grad_{}", "grad/{}"])
def test_arrays_named_gradients_among_others(tmp_path: Path, style: str) -> None:
    values = walk(ROWS, (6, 5), 1)
    arrays = {style.format("w"): values, "w": walk(ROWS, (6, 5), 2), "grad_norm": walk(ROWS, (3,), 3)}
    path = foreign_store(tmp_path / "run.zarr", arrays)
    analyzed(path, {style.format("w"): values}, "arrays-left-out")


def test_a_parameter_beside_its_gradients(tmp_path: Path) -> None:
    """It has no step axis, and fewer rows than the log: no fault that --truncate mends."""
    values = walk(ROWS, (6, 5), 1)
    path = foreign_store(tmp_path / "run.zarr", {"dw": values, "w": walk(6, (5,), 2)})
    assert "shape of a parameter" in analyzed(path, {"dw": values}, "arrays-left-out").warnings[0].message


def test_moments_alone_are_no_gradients(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", {"exp_avg/w": walk(ROWS, (6,), 1)})
    refused(path, "no gradient arrays", "--gradients GLOB")
    analyzed(path, {"exp_avg/w": walk(ROWS, (6,), 1)}, gradients=("exp_avg/*",))


def test_parameters_of_jax_are_gradients_where_nothing_else_is(tmp_path: Path) -> None:
    tensors = {"params/Dense_0/kernel": walk(ROWS, (6, 2), 1), "params/Dense_1/kernel": walk(ROWS, (2, 3), 2)}
    analyzed(foreign_store(tmp_path / "run.zarr", tensors), tensors)


def _with_grads(path: Path) -> list[str]:
    foreign_store(path, {f"{run}/grads/w": walk(ROWS, (4,), 1) for run in ("adam", "sgd")})
    return ["adam", "sgd"]


def _with_steps(path: Path) -> list[str]:
    foreign_store(path, {f"{run}/w": walk(ROWS, (4,), 1) for run in ("adam", "sgd")})
    for run in ("adam", "sgd"):
        add_array(zarr.open_group(path, mode="r+"), f"{run}/step", np.arange(ROWS))
    return ["adam", "sgd"]


def _of_other_lengths(path: Path) -> list[str]:
    foreign_store(path, {"adam/w": walk(ROWS, (4,), 1), "sgd/w": walk(ROWS + 9, (4,), 2)})
    return ["adam", "sgd"]


def _named_runs(path: Path) -> list[str]:
    foreign_store(path, {f"seed_{i}/w": walk(ROWS, (4,), i) for i in range(3)})
    return ["seed_0", "seed_1", "seed_2"]


def _logs_of_format_1(path: Path) -> list[str]:
    zarr.open_group(path, mode="w")
    for run in ("a", "b"):
        format1_store(path / run, network())
    return ["a", "b"]


SEVERAL = [_with_grads, _with_steps, _of_other_lengths, _named_runs, _logs_of_format_1]


@pytest.mark.parametrize("build", SEVERAL, ids=lambda build: build.__name__)
def test_several_logs_under_a_root_are_named(tmp_path: Path, build: Callable[[Path], list[str]]) -> None:
    path = tmp_path / "all.zarr"
    names = build(path)
    text = refused(path, f"{len(names)} logs", ", ".join(names), f"{path}/{names[0]}")
    assert "--truncate" not in text
    assert gradlog.analyze(path / names[0]).run.rows == ROWS


def test_groups_that_may_be_runs_are_told(tmp_path: Path) -> None:
    tensors = {f"{part}/{name}": walk(ROWS, (4,), 1) for part in ("encoder", "decoder") for name in "ab"}
    path = foreign_store(tmp_path / "run.zarr", tensors)
    assert "decoder, encoder" in analyzed(path, tensors, "groups-alike").warnings[0].message


def test_patterns_decide(tmp_path: Path) -> None:
    arrays = {"a/w": walk(ROWS, (4,), 1), "b/w": walk(ROWS + 5, (4,), 2), "a/scale": walk(ROWS, (), 3)}
    path = foreign_store(tmp_path / "run.zarr", arrays)
    analyzed(path, {name: arrays[name] for name in ("a/w", "a/scale")}, gradients=("a/*",))
    refused(path, "no array matches --gradients c/*", "a/w", gradients=("c/*",))
    marked = format1_store(tmp_path / "log.zarr", network())
    analyzed(marked, network(), "gradients-unused", gradients=("grads/fc*",))


def test_lengths_that_differ_for_no_known_reason(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", {"a": walk(20, (4,), 1), "b": walk(17, (6,), 2)})
    refused(path, "'b' has 17 rows", "--truncate", "if 'b' is no gradient, --gradients GLOB")
    analyzed(path, {"a": walk(20, (4,), 1)}, exclude=("b",))


def test_info_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from gradmf.cli.main import main

    path = foreign_store(tmp_path / "run.zarr", {"w": walk(ROWS, (4,), 1), "ids": walk(ROWS, (), 2)})
    add_array(zarr.open_group(path, mode="r+"), "tokens", np.zeros((ROWS, 3), "i4"))
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr()
    assert "rows along the first axis: axes have no names" in shown.out
    assert "series: ids" in shown.out
    assert "tokens  int32" in shown.out
    assert "ids (one value a row)" in shown.err
    assert main(["info", str(path), "--gradients", "*", "--format", "json"]) == 0
    assert [t["name"] for t in json.loads(capsys.readouterr().out)["tensors"]] == ["ids", "w"]


# Declared transformations.


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "float32", "float16"])
@pytest.mark.parametrize("offset", [None, 0.25])
def test_packed_values(tmp_path: Path, zarr_format: int, dtype: str, offset: float | None) -> None:
    rng = np.random.default_rng(1)
    raw = rng.integers(0 if dtype.startswith("u") else -100, 100, (ROWS, 6)).astype(dtype)
    attributes = {"scale_factor": 1e-3} | ({} if offset is None else {"add_offset": offset})
    group = zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    add_array(group, "a", raw, attributes=attributes, fill_value=0 if zarr_format == 3 else None)
    analysis = analyzed(tmp_path / "run.zarr", {"a": raw.astype("f8") * 1e-3 + (offset or 0)})
    assert analysis.run.dtypes == (f"packed {dtype}",)


@pytest.mark.parametrize("word", ["_FillValue", "missing_value"])
@pytest.mark.parametrize("coded", [False, True], ids=["plain", "base64"])
def test_values_that_are_declared_missing(tmp_path: Path, word: str, coded: bool) -> None:
    values = walk(ROWS, (6,), 1)
    values[4, 2] = -999.0
    told: Any = base64.standard_b64encode(struct.pack("<d", -999.0)).decode() if coded else -999.0
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    add_array(group, "w", values, attributes={word: told})
    refused(tmp_path / "run.zarr", "'w'", "row 4", "1 ")
    analyzed(tmp_path / "run.zarr", {"w": np.delete(values, 4, 0)}, "steps-dropped", nonfinite="drop")


def test_a_fill_value_of_nan_changes_nothing(tmp_path: Path) -> None:
    values = walk(ROWS, (6,), 1)
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    add_array(group, "w", values, attributes={"_FillValue": "AAAAAAAA+H8="})
    assert analyzed(tmp_path / "run.zarr", {"w": values}).run.dtypes == ("float32",)


@pytest.mark.parametrize("told", ["a lot", None, [1, 2], True])
def test_a_packing_that_is_no_number(tmp_path: Path, told: Any) -> None:
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    add_array(group, "w", walk(ROWS, (6,), 1), attributes={"scale_factor": told})
    add_array(group, "v", walk(ROWS, (6,), 2))
    refused(tmp_path / "run.zarr", "'w'", "scale_factor", "--exclude 'w'")
    analyzed(tmp_path / "run.zarr", {"v": walk(ROWS, (6,), 2)}, exclude=("w",))


# Types.


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_is_two_reals(tmp_path: Path, dtype: str) -> None:
    values = (walk(ROWS, (6, 3), 1, "float64") + 1j * walk(ROWS, (6, 3), 2, "float64")).astype(dtype)
    path = foreign_store(tmp_path / "run.zarr", {"w": values}, chunks=(5, 4, 3))
    analysis = analyzed(path, {"w": np.stack([values.real, values.imag], axis=-1)})
    assert (analysis.run.dtypes, analysis.tensors[0].shape) == ((dtype,), (6, 3, 2))


def as_bfloat16(path: Path, zarr_format: int, fill: Any) -> None:
    """Rewrite the metadata of a uint16 array as JAX and TensorStore write that of bfloat16."""
    place = path / ("zarr.json" if zarr_format == 3 else ".zarray")
    document = json.loads(place.read_text())
    document["data_type" if zarr_format == 3 else "dtype"] = "bfloat16"
    document["fill_value"] = fill
    place.write_text(json.dumps(document))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("fill", [0.0, 1.5, "NaN", "0x3fc0", None])
def test_bfloat16_as_a_type_of_the_store(tmp_path: Path, zarr_format: int, fill: Any) -> None:
    if zarr_format == 3 and fill is None:
        fill = 0.0
    values = walk(ROWS, (6, 5), 2)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    meant = (bits.astype(np.uint32) << 16).view(np.float32)
    path = foreign_store(tmp_path / "run.zarr", {"w": bits}, zarr_format=zarr_format, chunks=(5, 6, 5))
    as_bfloat16(path / "w", zarr_format, fill)
    analyzed(path, {"w": meant})
    (path / "w" / ("c/1/0/0" if zarr_format == 3 else "1.0.0")).unlink()
    if fill == "NaN":
        refused(path, "'w' rows 5-9", "absent")
    else:
        meant[5:10] = 1.5 if fill in (1.5, "0x3fc0") else 0.0
        analyzed(path, {"w": meant}, "chunks-absent")


def test_unmarked_uint16_says_how_to_mark_it(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", {"w": np.ones((ROWS, 4), np.uint16)})
    refused(path, "uint16", '{"gradlog": {"dtype": "bfloat16"}}')


def test_an_odd_array_does_not_stand_in_the_way(tmp_path: Path) -> None:
    tensors = {"v": walk(ROWS, (3,), 1)}
    path = foreign_store(tmp_path / "run.zarr", {**tensors, "odd": walk(ROWS, (3,), 2)})
    place = path / "odd" / "zarr.json"
    document = json.loads(place.read_text())
    place.write_text(json.dumps({**document, "codecs": [{"name": "bytes"}, {"name": "zfpy"}]}))
    refused(path, "'odd'", "codec 'zfpy' is not there", "pip install zfpy", "--exclude 'odd'")
    analyzed(path, tensors, exclude=("odd",))
    described = gradlog.describe(path)
    assert [warning.code for warning in described.warnings] == ["tensor-unreadable"]
    place.write_text(json.dumps({**document, "data_type": "float8_e4m3"}))
    assert analyzed(path, tensors, "arrays-left-out").warnings[0].message.count("float8_e4m3")


def test_codecs_of_v2_that_are_absent(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "run.zarr", {"w": walk(ROWS, (3,), 2)}, zarr_format=2)
    place = path / "w" / ".zarray"
    place.write_text(json.dumps({**json.loads(place.read_text()), "compressor": {"id": "imagecodecs_lerc"}}))
    refused(path, "codec 'imagecodecs_lerc' is not there", "pip install imagecodecs")


def test_text_beside_gradients(tmp_path: Path) -> None:
    tensors = {"w": walk(ROWS, (3,), 1)}
    path = foreign_store(tmp_path / "run.zarr", tensors)
    with unspecified():
        group = zarr.open_group(path, mode="r+")
        group.create_array("param", shape=(3,), dtype=str)[...] = np.array(["a", "b", "c"])
    analyzed(path, tensors, "arrays-left-out")


# Steps and rows.


@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_whole_steps_that_are_stored_as_floats(tmp_path: Path, marked: bool, dtype: str) -> None:
    tensors = network(8)
    path = tmp_path / "run.zarr"
    if marked:
        format1_store(path, tensors)
    else:
        foreign_store(path, tensors)
    add_array(zarr.open_group(path, mode="r+"), "step", 100.0 * np.arange(8).astype(dtype), overwrite=True)
    assert analyzed(path, tensors, "steps-strided").steps.step.tolist() == list(range(0, 800, 100))


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, 1e300])
def test_steps_that_are_no_whole_numbers(tmp_path: Path, bad: float) -> None:
    tensors = network(8)
    path = foreign_store(tmp_path / "run.zarr", tensors)
    steps = np.arange(8.0)
    steps[3] = bad
    add_array(zarr.open_group(path, mode="r+"), "step", steps)
    analysis = analyzed(path, tensors, "steps-not-whole")
    assert f"{bad} at row 3" in analysis.warnings[0].message
    assert analysis.steps.step.tolist() == list(range(8))


def test_rows_that_were_never_written(tmp_path: Path) -> None:
    """Arrays made beforehand: rows that are only zeros, and chunks that are absent."""
    tensors = network(20)
    full = {name: np.concatenate([values, np.zeros_like(values[:10])]) for name, values in tensors.items()}
    path = foreign_store(tmp_path / "run.zarr", full)
    told = analyzed(path, full, "rows-zero-at-end").warnings[0].message
    assert "last 10 rows" in told
    assert "--rows :20" in told
    steps = [*range(1, 21), *[0] * 10]
    add_array(zarr.open_group(path, mode="r+"), "step", np.array(steps))
    told = analyzed(path, full, "rows-unwritten", repeated="keep").warnings[0].message
    assert "rows 20-29 have training step 0, after step 20" in told
    assert "--rows :20" in told
    assert "resumed" not in told
    assert gradlog.describe(path).warnings[0].message == told
    with pytest.raises(gradlog.DataError) as caught:
        gradlog.analyze(path)
    assert str(caught.value) == f"{path}: {told}"
    with pytest.raises(gradlog.DataError, match=r"rows 20-24 have .* --rows 5:20 leaves them out"):
        gradlog.analyze(path, gradlog.Settings(rows=(5, 25)))
    analyzed(path, tensors, "rows-unwritten", rows=(None, 20))
    sparse = foreign_store(
        tmp_path / "sparse.zarr", {"w": full["fc.bias"]}, chunks=(5, 7), config={"write_empty_chunks": False}
    )
    told = analyzed(sparse, {"w": full["fc.bias"]}, "chunks-absent").warnings[0].message
    assert "no row from 20 on was ever written: --rows :20" in told


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_under_other_keys_than_declared(tmp_path: Path, zarr_format: int) -> None:
    path = foreign_store(
        tmp_path / "run.zarr", {"w": walk(ROWS, (6,), 1)}, zarr_format=zarr_format, chunks=(5, 3)
    )
    folder = path / "w"
    if zarr_format == 2:
        for place in sorted(folder.glob("[0-9]*")):
            nested = folder / place.name.replace(".", "/")
            data = place.read_bytes()
            place.unlink()
            nested.parent.mkdir(exist_ok=True)
            nested.write_bytes(data)
    else:
        document = json.loads((folder / "zarr.json").read_text())
        document["chunk_key_encoding"] = {"name": "v2", "configuration": {"separator": "."}}
        (folder / "zarr.json").write_text(json.dumps(document))
    refused(path, "'w'", "none of its chunks is found", "10 such as", "dimension_separator")


# Damage beside the gradients.


@pytest.mark.parametrize("name", ["step", "loss"])
@pytest.mark.parametrize("codec", ["blosc", "zstd"])
def test_series_that_were_cut_short(tmp_path: Path, name: str, codec: str) -> None:
    """Blosc reads past the end of what it is given: other numbers each time."""
    compressor = numcodecs.Blosc() if codec == "blosc" else numcodecs.Zstd()
    path = foreign_store(tmp_path / "run.zarr", {"w": walk(400, (3,), 1)}, zarr_format=2)
    values = (
        np.random.default_rng(1).integers(0, 2**40, 400)
        if name == "step"
        else np.random.default_rng(1).random(400)
    )
    add_array(zarr.open_group(path, mode="r+"), name, np.sort(values), compressors=compressor)
    place = path / name / "0"
    place.write_bytes(place.read_bytes()[:-40])
    with pytest.raises(gradlog.DataError, match=rf"run\.zarr: `{name}` cannot be read"):
        gradlog.advise(path)


def _attributes_list(path: Path) -> None:
    document = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps({**document, "attributes": [1, 2]}))


def _edit_array(**changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        place = path / "w" / "zarr.json"
        place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))

    return edit


SHARDING = {"chunk_shape": [5, 3], "codecs": [{"name": "bytes"}], "index_codecs": []}
ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "attributes": (_attributes_list, "attributes are no JSON object"),
    "array-attributes": (_edit_array(attributes="x"), "attributes are no JSON object"),
    "index-codecs": (_edit_array(codecs=[{"name": "sharding_indexed", "configuration": SHARDING}]), "index"),
    "chunk-of-0": (
        _edit_array(chunk_grid={"name": "regular", "configuration": {"chunk_shape": [0, 6]}}),
        "'w'",
    ),
    "no-codecs": (_edit_array(codecs=[]), "codecs"),
    "shape": (_edit_array(shape=[-1, 6]), "shape"),
    "fill": (_edit_array(fill_value={"a": 1}), "'w'"),
    "node-type": (_edit_array(node_type="table"), "node_type"),
    "nested": (lambda path: (path / "w" / "zarr.json").write_text("[" * 100_000), "nested"),
    "latin-1": (lambda path: (path / "w" / "zarr.json").write_bytes(b"\xff\xfe{}"), "'w'"),
}


@pytest.mark.parametrize("name", ODD)
def test_metadata_that_is_odd(tmp_path: Path, name: str) -> None:
    edit, mention = ODD[name]
    path = foreign_store(tmp_path / "run.zarr", {"w": walk(ROWS, (6,), 1)}, chunks=(5, 6))
    edit(path)
    refused(path, mention)


# Places.


def test_addresses_of_files_and_the_path_of_the_metadata(tmp_path: Path) -> None:
    tensors = network()
    path = format1_store(tmp_path / "a run.zarr", tensors)
    for place in (path.as_uri(), f"file://localhost{str(path).replace(' ', '%20')}", path / "zarr.json"):
        analyzed(place, tensors)  # type: ignore[arg-type]
    old = foreign_store(tmp_path / "old.zarr", tensors, zarr_format=2)
    analyzed(old / ".zgroup", tensors)


@pytest.mark.parametrize(("largest", "reader"), [(0, "zarr-python"), (packed_chunks.LARGEST, "direct")])
def test_paths_that_are_no_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int, reader: str
) -> None:
    monkeypatch.setattr(packed_chunks, "LARGEST", largest)
    tensors = network()
    path = format1_store(tmp_path / "run.zarr", tensors)
    odd = os.fsencode(tmp_path) + b"/r\xfcn.zarr"
    path.rename(os.fsdecode(odd))
    analysis = gradlog.analyze(os.fsdecode(odd))
    assert_analysis(analysis, tensors)
    assert analysis.cost.reader == reader


def repacked(source: Path, target: Path, rename: Callable[[str], str]) -> Path:
    """A zip file whose members have other names."""
    with zipfile.ZipFile(target, "w") as archive:
        for place in sorted(source.rglob("*")):
            if place.is_file():
                member = zipfile.ZipInfo("x")
                member.filename = rename(str(place.relative_to(source)))
                archive.writestr(member, place.read_bytes())
    return target


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("/", "\\"),
        lambda name: f"run.zarr/{name}".replace("/", "\\"),
        lambda name: f"./{name}",
        lambda name: f"/{name}",
        lambda name: name.replace("/", "//"),
        lambda name: f"run.zarr//{name}",
    ],
    ids=["backslashes", "backslashes-in-a-folder", "dot", "root", "empty-parts", "empty-part"],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zip_names_as_other_programs_write_them(
    tmp_path: Path, rename: Callable[[str], str], zarr_format: int
) -> None:
    tensors = network()
    source = foreign_store(tmp_path / "run.zarr", tensors, zarr_format=zarr_format)
    analyzed(repacked(source, tmp_path / "run.zip", rename), tensors)


def test_a_zip_that_needs_a_newer_version(tmp_path: Path) -> None:
    path = zip_members(foreign_store(tmp_path / "run.zarr", network()), tmp_path / "run.zip")
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 6] = 99  # version needed to extract, of the first member
    path.write_bytes(bytes(data))
    refused(path, "zip file version 9.9", "unpack it")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_zarr_set_to_fortran_order(tmp_path: Path, order: str, dtype: str) -> None:
    tensors = network(dtype=dtype)
    path = foreign_store(tmp_path / "run.zarr", tensors, chunks=(5, 2, 2, 2, 2)[:0] or "auto")
    with zarr.config.set({"array.order": order}):
        analyzed(path, tensors)


def test_python_without_asserts(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", network())
    script = "import sys; from gradmf.cli.main import main; sys.exit(main(sys.argv[1:]))"
    for command in ("analyze", "info"):
        done = subprocess.run(
            [sys.executable, "-OO", "-c", script, command, str(path), "-q", "--format", "json"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    energy = float((flat(network()) ** 2).sum())
    assert gradlog.analyze(path).total.energy == pytest.approx(energy, rel=1e-9)


def test_a_search_over_rows_of_very_different_size(tmp_path: Path) -> None:
    """What is left of all blocks but one may come out below 0."""
    rng = np.random.default_rng(2)
    values = rng.standard_normal((40, 3)) * 10 ** rng.uniform(-140, 140, (40, 1)) * 1e100
    path = foreign_store(tmp_path / "run.zarr", {"w": values})
    with np.errstate(all="ignore"), contextlib.suppress(gradlog.DataError):
        assert gradlog.analyze(path, search=True).search is not None
