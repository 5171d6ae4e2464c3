"""Importing gradients: bit for bit, in the order of their steps, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
import weakref
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from import_sources import safetensors_bytes, stored, write_safetensors
from numpy.typing import NDArray
from stores import add_array

from conftest import assert_analysis, write_store
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.importing import log_import, npz
from gradmf.gradlog.importing.snapshot import Contents, Kind, Snapshot, Values
from gradmf.gradlog.importing.stack import Blocks, Stack
from gradmf.gradlog.importing.steps import step_numbers

STEPS = (1, 2, 10)


def gradients(rows: int = 3, seed: int = 0) -> dict[str, NDArray[Any]]:
    """(rows, *shape) of some tensors; a third of the bits of float32 are drawn from all there are."""
    rng = np.random.default_rng(seed)
    return {
        "blocks.0.weight": rng.standard_normal((rows, 3, 5)).astype(np.float32),
        "half": rng.standard_normal((rows, 7)).astype(np.float16),
        "scale": rng.standard_normal(rows),
    }


def write_npz(folder: Path, steps: Sequence[int] = STEPS, *, save: Any = np.savez, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for row, step in enumerate(steps):
        save(folder / f"grads-{step}.npz", **{n: v[row] for n, v in gradients(len(steps)).items()}, **more)
    return folder


def assert_imported(path: Path, steps: Sequence[int] = STEPS, rows: Sequence[int] | None = None) -> None:
    found_steps, tensors, _ = stored(path)
    assert found_steps == list(steps)
    expected = gradients(len(steps))
    assert sorted(tensors) == sorted(expected)
    for name, values in expected.items():
        assert tensors[name].dtype == values.dtype
        np.testing.assert_array_equal(tensors[name], values if rows is None else values[list(rows)])
    assert gradlog.open_log(path).format_version == 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Any) -> None:
    folder = write_npz(tmp_path / "grads", save=save, count=np.arange(2), lr=np.float64(0.25))
    told: list[tuple[int, int]] = []
    out = tmp_path / "run.zarr"
    summary = gradlog.import_log(folder, out, progress=lambda done, total: told.append((done, total)))
    assert_imported(out)
    assert stored(out)[2] == {"lr": [0.25] * 3}
    row = sum(values[0].nbytes for values in gradients().values())
    assert told == [(row, 3 * row), (2 * row, 3 * row), (3 * row, 3 * row)]
    assert summary.plan.left_out == {"count": "whole numbers (int64)"}
    assert [warning.code for warning in summary.warnings] == ["left-out"]
    assert (summary.plan.bytes_read, summary.plan.bytes_written, summary.plan.rows) == (3 * row, 3 * row, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grads", "run.zarr"]
    assert_analysis(gradlog.analyze(out), gradients())


def test_every_bit_is_kept(tmp_path: Path) -> None:
    """NaN with a payload, infinity, the smallest numbers; Fortran order, and the other byte order."""
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, (2, 64, 3), dtype=np.uint32)
    bits[0, :4, 0] = 0x7FA00001, 0xFF800000, 1, 0x80000000
    for row in range(2):
        values = bits[row].view(np.float32)
        np.savez(tmp_path / f"{row}.npz", w=np.asfortranarray(values), v=values.astype(">f4"))
        write_safetensors(tmp_path / f"{row}.safetensors", {"w": values})
    gradlog.import_log(sorted(tmp_path.glob("*.npz")), tmp_path / "a.zarr")
    gradlog.import_log(sorted(tmp_path.glob("*.safetensors")), tmp_path / "b.zarr")
    for name in ("a", "b"):
        np.testing.assert_array_equal(stored(tmp_path / f"{name}.zarr")[1]["w"].view(np.uint32), bits)
    swapped = stored(tmp_path / "a.zarr")[1]["v"]
    assert swapped.dtype == np.float32
    np.testing.assert_array_equal(swapped, bits.view(np.float32))


def test_safetensors(tmp_path: Path) -> None:
    for row, step in enumerate(STEPS):
        tensors = {name: values[row] for name, values in gradients().items()}
        write_safetensors(tmp_path / f"step_{step:05d}.safetensors", {**tensors, "mask": np.ones(3, bool)})
    summary = gradlog.import_log(tmp_path, tmp_path / "run.zarr")
    assert_imported(tmp_path / "run.zarr")
    assert summary.plan.left_out == {"mask": "whole numbers (bool)"}


@pytest.mark.parametrize("write", ["list", "object", "csv", "offsets"])
def test_one_array_with_a_table_of_names(tmp_path: Path, write: str) -> None:
    rows = np.random.default_rng(1).standard_normal((5, 20)).astype(np.float32)
    np.save(tmp_path / "all.npy", rows)
    table = tmp_path / "names"
    if write == "list":
        table.write_text(json.dumps([{"name": "w", "shape": [3, 5]}, {"name": "b", "shape": [5]}]))
    elif write == "object":
        table.write_text(json.dumps({"w": [3, 5], "b": [5]}))
    elif write == "csv":
        table.write_text('name,shape\nw,3x5\nb,"(5,)"\n')
    else:
        table.write_text("name, shape, offset\nb,5,15\nw,3 5,0\n")
    out = tmp_path / "run.zarr"
    gradlog.import_log(tmp_path / "all.npy", out, gradlog.ImportSettings(names=table, step_from="order"))
    steps, tensors, _ = stored(out)
    assert steps == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(tensors["w"], rows[:, :15].reshape(5, 3, 5))
    np.testing.assert_array_equal(tensors["b"], rows[:, 15:])


def test_one_array_without_names_is_one_tensor(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((4, 2, 3))
    np.save(tmp_path / "all.npy", np.asfortranarray(rows))
    settings = gradlog.ImportSettings(step_from="order")
    gradlog.import_log(tmp_path / "all.npy", tmp_path / "run.zarr", settings)
    np.testing.assert_array_equal(stored(tmp_path / "run.zarr")[1]["gradient"], rows)
    with pytest.raises(gradlog.UsageError, match=r"all\.npy row 0: no training step in its name"):
        gradlog.import_log(tmp_path / "all.npy", tmp_path / "other.zarr")


def test_arrays_of_a_step_each(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float16)
    for step, row in zip((30, 4, 5), rows, strict=True):
        np.save(tmp_path / f"g{step}.npy", row)
    (tmp_path / "names.json").write_text('{"a": [2, 2], "b": [3]}')
    settings = gradlog.ImportSettings(names=tmp_path / "names.json")
    summary = gradlog.import_log(sorted(tmp_path.glob("*.npy")), tmp_path / "run.zarr", settings)
    steps, tensors, _ = stored(tmp_path / "run.zarr")
    assert steps == [4, 5, 30]
    np.testing.assert_array_equal(tensors["a"], rows[[1, 2, 0], :4].reshape(3, 2, 2))
    np.testing.assert_array_equal(tensors["b"], rows[[1, 2, 0], 4:7])
    assert list(summary.plan.left_out) == ["entries 7 to 7"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("name\nw\n", "names: no table of names: no 'shape' in it"),
        ("name,shape\nw,large\n", "the shape of 'w' is 'large'"),
        ("name,shape\n", "a table of names without any"),
        ('[{"name": "w", "shape": [21]}]', "'w' ends at entry 21, and .*all.npy row 0 has 20"),
        ('{"w": [2.5]}', "2.5 is no whole number"),
        (
            '[{"name": "w", "shape": 9}, {"name": "v", "shape": 9, "offset": 8}]',
            "'v' begins at entry 8, inside",
        ),
        ('[{"name": "w", "shape": 9}, {"name": "w", "shape": 9}]', "'w' is empty, or stands twice"),
        ("{", "no table of names"),
    ],
)
def test_a_wrong_table_of_names(tmp_path: Path, table: str, told: str) -> None:
    np.save(tmp_path / "all.npy", np.ones((2, 20), "f4"))
    (tmp_path / "names").write_text(table)
    settings = gradlog.ImportSettings(names=tmp_path / "names", step_from="order")
    with pytest.raises(gradlog.DataError, match=told):
        gradlog.plan_import(tmp_path / "all.npy", settings)


def test_a_table_of_names_is_for_vectors(tmp_path: Path) -> None:
    write_npz(tmp_path / "grads")
    (tmp_path / "names").write_text('{"w": [2]}')
    with pytest.raises(gradlog.UsageError, match="one vector a step, and this holds 3 tensors"):
        gradlog.plan_import(tmp_path / "grads", gradlog.ImportSettings(names=tmp_path / "names"))


class Named(Snapshot):
    """A snapshot of which only the name is asked."""

    def __init__(self, place: str) -> None:
        self.place = place

    def contents(self) -> Contents:
        raise NotImplementedError

    def opened(self) -> Any:
        raise NotImplementedError


def numbers(*places: str, step_from: str | None = None, recorded: Sequence[int | None] = ()) -> list[int]:
    return step_numbers([Named(p) for p in places], recorded or [None] * len(places), step_from)


@pytest.mark.parametrize(
    ("places", "steps"),
    [
        (("a/checkpoint-10", "a/checkpoint-2"), [10, 2]),
        (("grad_000010.npz", "grad_000009.npz"), [10, 9]),
        (("epoch=0-step=10.ckpt", "epoch=1-step=20-v1.ckpt"), [10, 20]),
        (("step_10/rank0.npz", "step_20/rank0.npz"), None),
        (("step_10/grads.npz", "step_20/grads.npz"), [10, 20]),
        (("run2_g1.npz", "run2_g10.npz"), [1, 10]),
        (("run_7.h5",), [7]),
        (("v1_run_7.npz",), None),
        (("global_step12.pt", "global_step3.pt"), [12, 3]),
        (("g1.npz", "last.npz"), None),
        (("a1.npz", "b2.npz"), None),
        (("1_1.npz", "2_2.npz"), None),
        (("g_20240101_1.npz", "g_20240101_2.npz"), [1, 2]),
    ],
)
def test_steps_from_names(places: tuple[str, ...], steps: list[int] | None) -> None:
    if steps is not None:
        assert numbers(*places) == steps
        return
    with pytest.raises(gradlog.UsageError, match="regular expression with one group, or 'order' to count"):
        numbers(*places)


def test_steps_that_are_said_otherwise() -> None:
    assert numbers("b_7_x3.npz", "a_9_x2.npz", step_from=r"_x(\d+)\.") == [3, 2]
    assert numbers("b.npz", "a.npz", step_from="order") == [0, 1]
    assert numbers("b.npz", "a.npz", recorded=[30, 4]) == [30, 4]
    assert numbers("g9.npz", "g8.npz", recorded=[30, None]) == [30, 8]
    with pytest.raises(gradlog.UsageError, match=r"a\.npz: '\(\\\\d\+\)' does not match 'a\.npz'"):
        numbers("1.npz", "a.npz", step_from=r"(\d+)")
    with pytest.raises(gradlog.UsageError, match="has 0 groups"):
        numbers("1.npz", step_from=r"\d+")
    with pytest.raises(gradlog.UsageError, match="no regular expression"):
        numbers("1.npz", step_from="(")
    with pytest.raises(gradlog.UsageError, match="finds 'a', which is no number"):
        numbers("a.npz", step_from="(a)")
    with pytest.raises(gradlog.UsageError, match=r"^y/g2\.npz: step 2, as x/g2\.npz is"):
        numbers("x/g2.npz", "y/g2.npz")


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=8, unique=True), st.booleans())
def test_any_numbers_in_names_are_found(steps: list[int], padded: bool) -> None:
    names = [f"run.5/grads_{step:012d}.npz" if padded else f"run.5/grads_{step}.npz" for step in steps]
    assert numbers(*names) == steps


def test_a_file_may_say_its_step(tmp_path: Path) -> None:
    for name, step in (("b", 4), ("a", 12)):
        np.savez(
            tmp_path / f"{name}.npz", w=np.full(2, step, "f4"), step=np.int64(step), loss=np.float32(step)
        )
    gradlog.import_log(tmp_path, tmp_path / "run.zarr")
    steps, tensors, series = stored(tmp_path / "run.zarr")
    assert (steps, series) == ([4, 12], {"loss": [4.0, 12.0]})
    np.testing.assert_array_equal(tensors["w"], [[4, 4], [12, 12]])


def test_a_series_of_some_rows_is_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "1.npz", w=np.ones(2), loss=1.0)
    np.savez(tmp_path / "2.npz", w=np.ones(2))
    summary = gradlog.import_log(tmp_path, tmp_path / "run.zarr")
    assert stored(tmp_path / "run.zarr")[2] == {}
    assert summary.plan.left_out == {"loss": "a series of 1 of 2 rows alone"}


def test_globs_choose_tensors(tmp_path: Path) -> None:
    folder = write_npz(tmp_path / "grads")
    settings = gradlog.ImportSettings(include=("blocks.*", "half"), exclude=("*alf",))
    gradlog.import_log(folder, tmp_path / "run.zarr", settings)
    assert list(stored(tmp_path / "run.zarr")[1]) == ["blocks.0.weight"]
    for wrong in (gradlog.ImportSettings(include=("x*",)), gradlog.ImportSettings(exclude=("x*",))):
        with pytest.raises(gradlog.UsageError, match=r"no tensor matches 'x\*'; there are blocks.0.weight"):
            gradlog.plan_import(folder, wrong)


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ({"w": np.ones((2, 2))}, "2.npz: lacks tensor 'v' of .*1.npz"),
        (
            {"w": np.ones((2, 3)), "v": np.ones(2)},
            r"2.npz: tensor 'w' has shape \[2, 3\], in .*1.npz \[2, 2\]",
        ),
        (
            {"w": np.ones((2, 2), "f4"), "v": np.ones(2)},
            "2.npz: tensor 'w' is of float32, in .*1.npz of float64",
        ),
        (
            {"w": np.ones((2, 2)), "v": np.ones(2), "u": np.ones(2)},
            "2.npz: holds tensor 'u', which .*1.npz lacks",
        ),
        ({"w": np.ones((2, 2)), "v": np.array([None, 1])}, "lacks tensor 'v' .*Python objects"),
        ({"w": np.ones((2, 2)), "v": np.ones(2, complex)}, "2.npz: tensor 'v' is of complex128; a log holds"),
        (
            {"w": np.ones((2, 2)), "v": np.ones(2, "V2")},
            "bare entries of two bytes, as NumPy writes bfloat16",
        ),
    ],
)
def test_tensors_that_change(tmp_path: Path, second: dict[str, Any], told: str) -> None:
    np.savez(tmp_path / "1.npz", w=np.ones((2, 2)), v=np.ones(2))
    np.savez(tmp_path / "2.npz", **second)
    with pytest.raises(gradlog.DataError, match=told):
        gradlog.import_log(tmp_path, tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


def test_names_that_cannot_lie_beside_each_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "1.npz", **{"a": np.ones(2), "a/b": np.ones(2)})
    with pytest.raises(gradlog.DataError, match=r"1.npz: tensor 'a/b' would lie inside tensor 'a'"):
        gradlog.plan_import(tmp_path)


def test_damage_names_file_and_tensor(tmp_path: Path) -> None:
    folder = write_npz(tmp_path / "grads")
    out = tmp_path / "run.zarr"
    hurt = folder / "grads-10.npz"
    whole = hurt.read_bytes()
    for name in gradients():
        at = whole.index(gradients()[name][2].tobytes())
        hurt.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(
            gradlog.DataError, match=f"grads-10.npz: array '{name}' cannot be read: .*(checksum|CRC)"
        ):
            gradlog.import_log(folder, out)
        assert [path.name for path in tmp_path.iterdir()] == ["grads"]
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        hurt.write_bytes(whole[:size])
        with pytest.raises(
            gradlog.DataError, match=r"grads-10\.npz: no \.npz file that can be read \(cut short"
        ):
            gradlog.import_log(folder, out)
    assert [path.name for path in tmp_path.iterdir()] == ["grads"]


def test_damage_of_compressed_arrays(tmp_path: Path) -> None:
    folder = write_npz(tmp_path / "grads", save=np.savez_compressed)
    hurt = folder / "grads-2.npz"
    whole = bytearray(hurt.read_bytes())
    with zipfile.ZipFile(hurt) as archive:
        info = archive.getinfo("blocks.0.weight.npy")
    whole[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0xFF
    hurt.write_bytes(whole)
    with pytest.raises(gradlog.DataError, match=r"grads-2\.npz: array 'blocks.0.weight' cannot be read"):
        gradlog.import_log(folder, tmp_path / "run.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["grads"]


def test_damage_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "step_1.safetensors"
    whole = safetensors_bytes({"w": np.ones((3, 2), "f4"), "b": np.ones(4)})
    hurts = {
        "cut short": whole[:-1],
        "longer than its header": whole + b"\0",
        "no safetensors file, or cut short": whole[:20],
        "no safetensors": b"",
        "its header is damaged": whole.replace(b'"w"', b"'w'"),
        "header is damaged: tensor 'w'": whole.replace(b"[3, 2]", b"[3, 3]"),
        "header is damaged: KeyError": whole.replace(b"F32", b"F31"),
        "header is damaged: ValueError": whole.replace(b"[3, 2]", b"[3,-2]"),
    }
    for told, data in hurts.items():
        path.write_bytes(data)
        with pytest.raises(gradlog.DataError, match=rf"step_1\.safetensors: .*{told}"):
            gradlog.plan_import(path)


def test_damage_of_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    whole = (tmp_path / "a.npy").read_bytes()
    settings = gradlog.ImportSettings(step_from="order")
    for size in (0, 5, 100, len(whole) - 8):
        (tmp_path / "a.npy").write_bytes(whole[:size])
        with pytest.raises(gradlog.DataError, match=r"a\.npy: no \.npy file that can be read \(cut short"):
            gradlog.plan_import(tmp_path / "a.npy", settings)


def test_what_cannot_be_a_source(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "1.npz", w=np.ones(2))
    np.save(tmp_path / "2.npy", np.ones(2))
    wrong: dict[str, tuple[type[Exception], list[str]]] = {
        "nothing.npz: no such file": (gradlog.StoreNotFoundError, ["nothing.npz"]),
        "files are told by their endings, which are .npz": (gradlog.DataError, ["notes.txt"]),
        "a folder without files that can be imported; it holds nothing": (gradlog.DataError, ["empty"]),
        "sources of one kind at a time": (gradlog.UsageError, ["1.npz", "2.npy"]),
        "nothing to import": (gradlog.UsageError, []),
    }
    (tmp_path / "mixed").mkdir()
    np.savez(tmp_path / "mixed" / "1.npz", w=np.ones(2))
    write_store(tmp_path / "mixed" / "run.zarr", {"w": np.ones((2, 2))})
    wrong["one kind at a time, and not .*mixed/run.zarr with .*mixed/1.npz"] = (gradlog.UsageError, ["mixed"])
    for told, (kind, names) in wrong.items():
        with pytest.raises(kind, match=told):
            gradlog.plan_import([tmp_path / name for name in names])


def test_stores_of_examples_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts = {
        "TRAK": ["metadata.json", "0/grads.mmap"],
        "bergson": ["gradients.bin", "info.json"],
        "LogIX": ["log_rank_0_chunk_0.mmap", "log_rank_0_chunk_0_metadata.json"],
    }
    for tool, names in layouts.items():
        for name in names:
            (tmp_path / tool / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / tool / name).write_bytes(b"\0" * 100)
        told = f"a store of {tool}: its rows are training examples, not steps"
        with pytest.raises(gradlog.DataError, match=told):
            gradlog.plan_import(tmp_path / tool)
        with pytest.raises(gradlog.DataError, match=told):
            gradlog.open_log(tmp_path / tool)
    for file in ("TRAK/0/grads.mmap", "bergson/gradients.bin", "LogIX/log_rank_0_chunk_0.mmap"):
        assert main(["analyze", str(tmp_path / file)]) == 1
        assert "training examples" in capsys.readouterr().err
        assert main(["import", str(tmp_path / file), "-o", str(tmp_path / "run.zarr")]) == 1
        assert "training examples" in capsys.readouterr().err


@pytest.mark.parametrize("chunk_rows", [1, 4, 7])
def test_a_log_is_copied(tmp_path: Path, chunk_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: array for name, array in gradients(7).items() if name != "scale"}
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 16, (7, 6), dtype=np.uint16)
    store = write_store(
        tmp_path / "run.zarr", values, step=range(0, 70, 10),
        chunks={name: (chunk_rows, *array.shape[1:]) for name, array in values.items()},
    )  # fmt: skip
    group = zarr.open_group(store)
    group.attrs["optimizer"] = {"lr": 0.1}
    group.attrs["gradlog"] = {"version": 1, "kind": "updates", "every": 10}
    add_array(group, "loss", np.linspace(1, 0, 7))
    add_array(group, "tokens", np.arange(7))
    monkeypatch.setattr("gradmf.gradlog.importing.stack.ENOUGH_BYTES", 100)
    out = tmp_path / "copy.zarr"
    summary = gradlog.import_log(store, out, memory=300)
    steps, tensors, series = stored(out)
    assert steps == list(range(0, 70, 10))
    assert series == {"loss": np.linspace(1, 0, 7).tolist(), "tokens": [0, 1, 2, 3, 4, 5, 6]}
    for name, array in values.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)
    assert dict(gradlog.open_log(out).attributes) == dict(group.attrs)
    assert summary.warnings == ()
    assert bits.size  # see test_import_libraries for bfloat16


def test_a_foreign_store_is_copied_with_its_warnings(tmp_path: Path) -> None:
    values = {"w": np.zeros((6, 4), "f4"), "v": np.ones((6, 3))}
    values["w"][3:] = 1
    store = write_store(
        tmp_path / "run.zarr", values, marked=False, zarr_format=2, step=range(6), chunks={"w": (1, 4)}
    )
    add_array(zarr.open_group(store), "note", np.ones((2, 2, 2)))
    with pytest.raises(gradlog.DataError):
        gradlog.import_log(store, tmp_path / "copy.zarr", gradlog.ImportSettings(include=("note",)))
    summary = gradlog.import_log(store, tmp_path / "copy.zarr", gradlog.ImportSettings(exclude=("note",)))
    np.testing.assert_array_equal(stored(tmp_path / "copy.zarr")[1]["w"], values["w"])
    assert "chunks-absent" in [warning.code for warning in summary.warnings]


def test_stores_of_one_step_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((3, 4, 2)).astype("f4")
    for row, step in enumerate((7, 9, 100)):
        group = zarr.open_group(tmp_path / "flat" / f"step-{step}.zarr", mode="w")
        add_array(group, "w", rows[row])
        add_array(group, "deep/b", rows[row, 0])
        write_store(tmp_path / "axis" / f"step-{step}.zarr", {"w": rows[row : row + 1]}, marked=False)
        write_store(tmp_path / "logs" / f"{row}.zarr", {"w": rows[row : row + 1]}, step=[step])
        for name, values in (("w", rows[row]), ("b", rows[row, 0])):  # as TensorStore: no group above arrays
            array = zarr.create_array(
                tmp_path / "bare" / f"step_{step}" / name, shape=values.shape, dtype="f4", zarr_format=2
            )
            array[...] = values
    for kind in ("flat", "axis", "logs", "bare"):
        gradlog.import_log(tmp_path / kind, tmp_path / f"{kind}.zarr")
        steps, tensors, _ = stored(tmp_path / f"{kind}.zarr")
        assert steps == [7, 9, 100], kind
        np.testing.assert_array_equal(tensors["w"], rows, err_msg=kind)
        for name in tensors.keys() - {"w"}:
            np.testing.assert_array_equal(tensors[name], rows[:, 0])
    assert sorted(stored(tmp_path / "flat.zarr")[1]) == ["deep/b", "w"]


def test_a_damaged_store_of_one_step(tmp_path: Path) -> None:
    for step in (1, 2):
        group = zarr.open_group(tmp_path / "grads" / f"{step}.zarr", mode="w")
        add_array(group, "w", np.ones((3, 2), "f4"))
    (tmp_path / "grads" / "2.zarr" / "w" / "zarr.json").write_text("{")
    with pytest.raises(gradlog.DataError, match=r"2\.zarr: the metadata of 'w' cannot be read"):
        gradlog.import_log(tmp_path / "grads", tmp_path / "run.zarr")


def test_a_sketch_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "run.zarr", gradients(4))
    gradlog.sketch_log(tmp_path / "run.zarr", tmp_path / "sketch.zarr", gradlog.Settings(sketch_dim=64))
    with pytest.raises(gradlog.DataError, match="a sketch of a log"):
        gradlog.plan_import(tmp_path / "sketch.zarr")


def test_what_is_there_stays(tmp_path: Path) -> None:
    folder = write_npz(tmp_path / "grads")
    (tmp_path / "run.zarr").mkdir()
    (tmp_path / "run.zarr" / "mine").write_text("as it was")
    with pytest.raises(gradlog.UsageError, match="already there"):
        gradlog.import_log(folder, tmp_path / "run.zarr")
    with pytest.raises(gradlog.UsageError, match="there is no folder"):
        gradlog.import_log(folder, tmp_path / "none" / "run.zarr")
    assert (tmp_path / "run.zarr" / "mine").read_text() == "as it was"


def test_no_room_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_npz(tmp_path / "grads")

    class Usage:
        free = 100

    monkeypatch.setattr(log_import.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(OSError, match=r"no room: 2.46e-07 GB to write, 1e-07 GB free.*run\.zarr"):
        gradlog.import_log(folder, tmp_path / "run.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["grads"]


def test_an_error_of_the_system_names_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_npz(tmp_path / "grads")
    put = log_import.LogWriter.close

    def full(self: Any) -> None:
        put(self)
        raise OSError(28, "No space left on device", str(self.path / "grads" / "c"))

    monkeypatch.setattr(log_import.LogWriter, "close", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*run\.zarr'"):
        gradlog.import_log(folder, tmp_path / "run.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["grads"]


@pytest.mark.parametrize(("memory", "threads"), [(10, 1), (200, 2)])
def test_as_many_tensors_are_held_as_memory_allows(
    tmp_path: Path, memory: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is read, written and let go, and never all of a row."""
    folder = write_npz(tmp_path / "grads", save=np.savez_compressed)
    monkeypatch.setattr("gradmf.gradlog.logs.writer.TASK_BYTES", 1)
    opened, lock = npz.NpzFile.opened, threading.Lock()
    held: list[int] = [0]

    def count(change: int) -> None:
        with lock:
            held.append(held[-1] + change)

    @contextlib.contextmanager
    def counted(self: npz.NpzFile) -> Iterator[Values]:
        def value(name: str) -> NDArray[Any]:
            count(1)
            time.sleep(0.01)
            found = values(name)
            weakref.finalize(found, count, -1)
            return found

        with opened(self) as values:
            yield value

    monkeypatch.setattr(npz.NpzFile, "opened", counted)
    gradlog.import_log(folder, tmp_path / "run.zarr", memory=memory)
    assert (held[-1], max(held)) == (0, threads)
    assert_imported(tmp_path / "run.zarr")


def test_zarr_is_loaded_for_stores_alone(tmp_path: Path) -> None:
    """Loading it takes longer than copying 500 MB."""
    folder = write_npz(tmp_path / "grads")
    script = "import sys; from gradmf import gradlog; gradlog.import_log(*sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, folder, tmp_path / "run.zarr"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {name.partition(".")[0] for name in done.stdout.split()} & {"zarr", "zarrs", "numcodecs"}
    assert_imported(tmp_path / "run.zarr")


def test_blocks_of_rows_fit_tensors_and_chunks() -> None:
    """A large tensor is read row by row, of a small one rows of a megabyte, and whole chunks of both."""

    class Rows(Stack):
        place, rows, height = "rows", 1000, 3
        kinds: ClassVar = {"large": Kind((1 << 19,), "float32"), "small": Kind((256,), "float32")}

        def read(self, name: str, first: int, stop: int, into: NDArray[Any] | None = None) -> NDArray[Any]:
            asked.append((name, first, stop))
            given.append(into is not None)
            return np.broadcast_to(np.arange(first, stop)[:, None], (stop - first, 2))

    asked: list[tuple[str, int, int]] = []
    given: list[bool] = []
    blocks = Blocks(Rows(), 1 << 30)
    for row in range(8):
        for name in ("large", "small"):
            assert blocks.row(name, row).tolist() == [row, row]
    assert asked == [("large", 0, 3), ("small", 0, 33), ("large", 3, 6), ("large", 6, 9)]
    assert given == [False, False, False, True]
    asked.clear()
    given.clear()
    blocks = Blocks(Rows(), 5 << 21)
    for row in range(8):
        blocks.row("small", row)
    assert asked == [("small", 0, 3), ("small", 3, 6), ("small", 6, 9)]
    assert not any(given)


def test_a_tensor_is_read_once_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_npz(tmp_path / "grads")
    opened = npz.NpzFile.opened
    asked: list[str] = []

    def counted(self: npz.NpzFile) -> Any:
        import contextlib

        @contextlib.contextmanager
        def inside() -> Any:
            with opened(self) as values:

                def value(name: str) -> Any:
                    asked.append(name)
                    return values(name)

                checked: Values = value
                yield checked

        return inside()

    monkeypatch.setattr(npz.NpzFile, "opened", counted)
    gradlog.import_log(folder, tmp_path / "run.zarr")
    assert sorted(asked) == sorted([*gradients()] * 3)


START = """
import os, signal, sys
from gradmf.gradlog.logs.writer import LogWriter
{before}
from gradmf.cli.main import main
sys.exit(main())
"""
AT_A_ROW = """
append = LogWriter.append_read
def append_and_send(self, *rest, **series):
    append(self, *rest, **series)
    if self.rows == 2: os.kill(os.getpid(), signal.{name})
LogWriter.append_read = append_and_send
"""
WITHIN_A_ROW = """
from gradmf.gradlog.logs import writer
writer.TASK_BYTES = 1
append = LogWriter.append_read
def append_and_send(self, step, like, read, pool, **series):
    def read_and_send(name):
        if self.rows == 2: os.kill(os.getpid(), signal.{name})
        return read(name)
    append(self, step, like, read_and_send, pool, **series)
LogWriter.append_read = append_and_send
"""


@pytest.mark.parametrize("where", [AT_A_ROW, WITHIN_A_ROW], ids=["at", "within"])
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_an_interrupted_import_leaves_nothing(tmp_path: Path, name: str, code: int, where: str) -> None:
    folder = write_npz(tmp_path / "grads")
    done = subprocess.run(
        [sys.executable, "-c", START.format(before=where.format(name=name)), "import", folder,
         "-o", tmp_path / "run.zarr"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout) == (code, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["grads"]


def test_a_killed_import_leaves_nothing_by_the_name(tmp_path: Path) -> None:
    folder = write_npz(tmp_path / "grads")
    before = AT_A_ROW.format(name="SIGKILL")
    command = [
        sys.executable,
        "-c",
        START.format(before=before),
        "import",
        folder,
        "-o",
        tmp_path / "run.zarr",
    ]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "run.zarr").exists()
    assert all(path.name == "grads" or path.name.startswith(".gradmf-") for path in tmp_path.iterdir())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_npz(tmp_path / "grads", count=np.arange(2))
    out = tmp_path / "run.zarr"
    assert main(["import", str(folder), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for line in (
        "3 rows (steps 1 to 10), 3 tensors, 23 parameters",
        "246 bytes to read, 246 bytes to write",
        f"   1  {folder}/grads-1.npz   82 bytes",
        f"  10  {folder}/grads-10.npz  82 bytes",
        "half             7       float16  float16",
        "count  whole numbers (int64)",
    ):
        assert line in shown.out.splitlines()
    assert shown.out.index("grads-2.npz") < shown.out.index("grads-10.npz")
    assert not out.exists()
    assert main(["import", *map(str, sorted(folder.iterdir())), "-o", str(out), "--exclude", "scale"]) == 0
    said = capsys.readouterr()
    assert said.err == "gradmf: warning: left out: count (whole numbers (int64))\n"
    told = f"{out}: 3 rows (steps 1 to 10), 2 tensors, 22 parameters, gradients, 222 bytes\n"
    assert said.out == told
    assert main(["import", str(folder), "-o", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"gradmf: error: {out}: already there")


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_npz(tmp_path / "grads")
    assert main(["import", str(folder)]) == 2
    assert "Missing option '-o'" in capsys.readouterr().err
    assert main(["import", str(folder), "-o", str(tmp_path / "run.zarr"), "--allow-rounding"]) == 2
    assert "--allow-rounding goes with --updates" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "none"), "-o", str(tmp_path / "run.zarr")]) == 1
    assert capsys.readouterr().err == f"gradmf: error: {tmp_path / 'none'}: no such file or directory\n"


@pytest.mark.parametrize(("name", "needed"), [("a1.pt", "torch"), ("a1.h5", "h5py")])
def test_a_library_that_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    needed: str,
) -> None:
    monkeypatch.setitem(sys.modules, needed, None)
    (tmp_path / name).write_bytes(b"")
    assert main(["import", str(tmp_path / name), "-o", str(tmp_path / "run.zarr")]) == 2
    told = capsys.readouterr().err
    assert f"needs the library {needed}, which is not installed: pip install 'gradmf[import]'" in told
    assert str(tmp_path / name) in told


def test_a_set_of_ranks_becomes_one_store(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((5, 7, 3)).astype("f4")
    for rank, (first, last) in enumerate(((0, 4), (4, 7))):
        group = zarr.open_group(tmp_path / "run.zarr" / f"rank-{rank:03}", mode="w")
        group.attrs["gradlog"] = {"version": 1, "run": "7f3a", "rank": rank, "ranks": 2}
        box = {"global_shape": [7, 3], "offset": [first, 0], "placements": ["Shard(0)"]}
        add_array(group, "grads/w", values[:, first:last], attributes={"gradlog": box})
        add_array(group, "step", np.arange(5))
    gradlog.import_log(tmp_path / "run.zarr", tmp_path / "whole.zarr")
    assert (tmp_path / "whole.zarr" / "grads" / "w").is_dir()
    np.testing.assert_array_equal(stored(tmp_path / "whole.zarr")[1]["w"], values)
    assert gradlog.open_log(tmp_path / "whole.zarr").attributes == {"gradlog": {"version": 1}}
