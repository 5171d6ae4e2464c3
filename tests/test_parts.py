"""Parts of an analysis: they merge to the whole, to the same bits in any order, and strangers are refused."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import Array, foreign_store, format1_store, walk
from sweeps import WHOLE, mostly_slow, sweep
from test_reference import logs

import reference
from conftest import assert_analysis, write_store
from documents import run
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.engine import ranges


def make_parts(
    path: Path, folder: Path, count: int, options: gradlog.Settings, **resources: Any
) -> list[Path]:
    files = []
    for index in range(1, count + 1):
        files.append(folder / f"part.{index}")
        part = gradlog.analyze_part(path, gradlog.PartNumber(index, count), options, **resources)
        gradlog.write_part(part, files[-1])
    return files


def text(analysis: gradlog.Analysis) -> str:
    return json.dumps(gradlog.analysis_document(analysis), allow_nan=False)


def assert_close(found: Any, expected: Any, where: str = "", energy: float = 1.0, rel: float = 1e-12) -> None:
    """The same document, numbers to `rel`. energy : that residuals are a small part of"""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        energy = max([energy, *np.ravel(expected.get("energy") or 0.0)])
        for key, value in expected.items():
            assert_close(found[key], value, f"{where}.{key}", energy, rel)
    elif isinstance(expected, list):
        if where.endswith("singular_values"):  # small ones are roots of rounding
            found, expected = np.square(found).tolist(), np.square(expected).tolist()
            assert found == pytest.approx(expected, rel=rel, abs=rel * max(expected, default=0)), where
            return
        assert len(found) == len(expected), where
        for at, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, f"{where}[{at}]", energy, rel)
    elif where.endswith(".residual") and expected is not None:
        assert found == pytest.approx(expected, rel=rel, abs=rel * energy), where
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=rel, abs=rel), where
    else:
        assert found == expected, where


@settings(max_examples=sweep(12), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=logs(),
    count=st.integers(1, 7),
    rank=st.sampled_from(["auto", "exact", "none"]),
    block=st.sampled_from([1 << 9, 1 << 26]),
    tile=st.sampled_from([3, 64, 4096]),
    order=st.randoms(use_true_random=False),
)
def test_parts_merge_to_the_whole(
    log: tuple[dict[str, Array], dict[str, tuple[int, ...]]],
    count: int,
    rank: str,
    block: int,
    tile: int,
    order: Any,
) -> None:
    tensors, chunks = log
    options = gradlog.Settings(rank=rank)
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK_BYTES", block)
        patch.setattr(ranges, "TILE_WIDTH", tile)
        folder = Path(place)
        path = write_store(folder / "run.zarr", tensors, chunks=chunks)
        whole = gradlog.analyze(path, options)
        files = make_parts(path, folder, count, options)
        merged = gradlog.merge_parts(files)
        assert_analysis(merged, tensors)
        assert_close(gradlog.analysis_document(merged), gradlog.analysis_document(whole))
        if count == 1:
            assert text(merged) == text(whole)
        for _ in range(3):
            order.shuffle(files)
            assert text(gradlog.merge_parts(files)) == text(merged)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tensors in several ranges, grouped ones and one without parameters: all straddle some border."""
    tensors = {f"t{i}": walk(60, (size,), i) for i, size in enumerate((9000, 3, 0, 40_000, 5, 700, 20_000))}
    tensors["t4"] = tensors["t4"].astype("float64")
    path = tmp_path_factory.mktemp("logs") / "wide.zarr"
    return foreign_store(path, {k: v for k, v in tensors.items() if v.size}, chunks=(20, 1000))


@pytest.mark.parametrize("count", mostly_slow(range(1, 8), [1, 3, 7]))
def test_any_order_and_any_threads_give_the_same_bits(
    wide: Path, tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 60 * 4 * 3000)
    options = gradlog.Settings(predictors=("one-step",))
    files = make_parts(wide, tmp_path, count, options, threads=1 + count % 3)
    merged = gradlog.merge_parts(files)
    orders = itertools.islice(itertools.permutations(files), 24)
    assert {text(gradlog.merge_parts(order)) for order in orders} == {text(merged)}
    whole = gradlog.analyze(wide, options)
    assert_close(gradlog.analysis_document(merged), gradlog.analysis_document(whole))
    assert merged.cost.bytes_decoded == whole.cost.bytes_decoded
    if count > 1:  # no part has it all, and what a part holds is bounded
        sizes = [file.stat().st_size for file in files]
        assert max(sizes) < 3 * 8 * 59 * 60 / 2 + 8 * 59 * 6 + 60 * 8 * 16 + 6000
        shares = [gradlog.analyze_part(wide, gradlog.PartNumber(i + 1, count), options) for i in range(count)]
        decoded = [share.cost.bytes_decoded for share in shares]
        assert max(decoded) <= whole.cost.bytes_decoded / count + 60 * 4 * 9000


def test_more_parts_than_ranges(tmp_path: Path) -> None:
    tensors = {"a": walk(20, (7, 5), 1), "b": walk(20, (6,), 2)}
    path = format1_store(tmp_path / "run.zarr", tensors)
    for options in (gradlog.Settings(), gradlog.Settings(rank="none")):
        merged = gradlog.merge_parts(make_parts(path, tmp_path, 5, options))
        assert_analysis(merged, tensors)
        assert text(merged) == text(gradlog.analyze(path, options))


def test_memory_that_machines_differ_in_does_not_move_borders(wide: Path) -> None:
    """Few threads and many split the same way, where memory leaves little room too."""
    options = gradlog.Settings(predictors=("one-step",))
    for memory in (1 << 20, 3 << 20, 1 << 30):
        plans = {
            gradlog.analyze_part(wide, gradlog.PartNumber(1, 2), options, threads=threads, memory=memory).plan
            for threads in (1, 2, 7, 64)
        }
        assert len(plans) == 1


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, list[Path]]:
    path = format1_store(tmp_path / "run.zarr", {"a": walk(30, (50,), 1), "b": walk(30, (60,), 2)})
    return path, make_parts(path, tmp_path, 3, gradlog.Settings())


def refused(files: list[Path]) -> str:
    """The one line that every order of the files is refused with."""
    told = set()
    for order in itertools.permutations(files):
        with pytest.raises(gradlog.DataError) as caught:
            gradlog.merge_parts(order)
        told.add(str(caught.value))
    (line,) = told
    assert "\n" not in line
    return line


def test_missing_and_duplicate_parts(three: tuple[Path, list[Path]], tmp_path: Path) -> None:
    path, files = three
    assert f"{path}: part 2/3 is missing" in refused([files[0], files[2]])
    assert f"part 1/3, 2/3 is missing: make it with gradmf analyze {path} --part 1/3 -o" in refused(files[2:])
    again = tmp_path / "part.2-again"
    again.write_bytes(files[1].read_bytes())
    assert refused([*files, again]) == f"{again}: part 2/3 is there already, as {files[1]}"
    assert refused([*files, files[0]]) == f"{files[0]}: part 1/3 is given twice"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"settings": gradlog.Settings(epsilons=(0.2,))},
            r"made with epsilons (0.2,), not (0.1, 0.05, 0.01)",
        ),
        ({"settings": gradlog.Settings(rank="none")}, "made with rank 'none', not 'auto'"),
        ({"count": 4}, "part 3/4, not one of 3"),
        ({"path": "other.zarr"}, "part of run "),
        ({"rows": 31}, "made when the run had 31 rows, not 30"),
        ({"seed": 5, "step": 7}, "other training steps or attributes"),
        ({"size": 61}, "other tensors"),
        ({"memory": 40_000}, "another plan: give all parts the same --memory"),
        ({"version": "0.0.0"}, f"made by gradmf 0.0.0, and this is {gradlog.__version__}"),
    ],
)
def test_foreign_parts(
    three: tuple[Path, list[Path]], tmp_path: Path, change: dict[str, Any], told: str, monkeypatch: Any
) -> None:
    _, files = three
    rows, size = change.get("rows", 30), change.get("size", 60)
    values = {"a": walk(rows, (50,), 1), "b": walk(rows, (size,), change.get("seed", 2))}
    store = tmp_path / change.get("path", "run.zarr")
    step = range(change.get("step", 0), change.get("step", 0) + rows)
    format1_store(store, values, step=step)
    if "memory" in change:
        monkeypatch.setattr(ranges, "TILE_WIDTH", 2)
    if "version" in change:
        monkeypatch.setattr("gradmf.gradlog.runs.partial.__version__", change["version"])
    number = gradlog.PartNumber(3, change.get("count", 3))
    part = gradlog.analyze_part(store, number, change.get("settings", gradlog.Settings()))
    gradlog.write_part(part, files[2])
    line = refused(files)
    assert line.startswith(f"{files[2]}: ")
    assert told in line
    if "version" not in change:
        assert f"(as {files[0]})" in line


def merged_or_refused(files: list[Path]) -> str:
    try:
        return text(gradlog.merge_parts(files))
    except gradlog.DataError as error:
        return str(error)


def test_damaged_parts(three: tuple[Path, list[Path]]) -> None:
    _, files = three
    whole = files[1].read_bytes()
    good = text(gradlog.merge_parts(files))
    rng = np.random.default_rng(0)
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        files[1].write_bytes(whole[:size])
        assert refused(files).startswith(f"{files[1]}: no part file, or a damaged one (")
    told = 0
    for at in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        files[1].write_bytes(damaged)
        line = merged_or_refused(files)
        if line.startswith(f"{files[1]}: "):
            assert "\n" not in line
            told += 1
        elif line != good:  # a date, or another field that nobody reads, may differ
            assert re.match(f"{files[0]}|{files[2]}: (part|made|split) ", line), line
    assert told > 200
    files[1].write_bytes(b"not a part")
    assert "make it with gradmf analyze RUN --part I/K -o FILE" in refused(files)
    with zipfile.ZipFile(files[1], "w") as archive:
        archive.writestr("part.json", json.dumps({"format": "gradmf.part", "version": 9}))
    assert "part file of format 9; this gradmf reads format 5" in refused(files)
    files[1].unlink()
    assert refused(files) == f"{files[1]}: no such file or directory"


def test_a_lost_member_is_told(three: tuple[Path, list[Path]]) -> None:
    _, files = three
    with zipfile.ZipFile(files[0]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for lost in members:
        with zipfile.ZipFile(files[0], "w") as archive:
            for name, data in members.items():
                if name != lost:
                    archive.writestr(name, data)
        line = refused(files)
        assert line.startswith(f"{files[0]}: no part file, or a damaged one (")
        assert lost in line


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(file: Path, held: Mapping[str, bytes], *, listed: bool = True) -> None:
    """An archive of these members, with checksums that hold. listed : whether its header knows of them"""
    header = json.loads(held["part.json"])
    if listed:
        header["arrays"] = [name.removesuffix(".npy") for name in held if name.endswith(".npy")]
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in {**held, "part.json": json.dumps(header).encode()}.items():
            archive.writestr(name, data)


def npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three parts with sums by step: tensors that straddle, matrices over rows, a part of several tensors."""
    tensors = {"a": walk(30, (5000,), 1), "b": walk(30, (60,), 2), "c": walk(30, (3000,), 3)}
    path = foreign_store(tmp_path / "run.zarr", tensors, chunks=(10, 1000))
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 30 * 4 * 1000)
    files = [tmp_path / f"part.{index}" for index in (1, 2, 3)]
    for index, file in enumerate(files, 1):
        part = gradlog.analyze_part(path, gradlog.PartNumber(index, 3), tensor_steps=True)
        gradlog.write_part(part, file)
    return files


CHANGES: dict[str, Callable[[Array], Array]] = {
    "turned": lambda a: a.T.copy() if a.ndim > 1 else a.reshape(1, -1),
    "flat": lambda a: a.reshape(-1) if a.ndim > 1 else a.reshape(-1, 1),
    "single": lambda a: a.astype("f4"),
    "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "complex": lambda a: a.astype("c16"),
    "words": lambda a: a.astype("U8"),
    "objects": lambda a: a.astype(object),
    "cut": lambda a: a[:-1],
    "twice": lambda a: np.concatenate([a, a]),
    "negative": lambda a: -a - 1,
    "double": lambda a: (2 * a).astype(a.dtype),
    "none": lambda a: np.zeros((0,) * a.ndim, a.dtype),
    "zeros": lambda a: np.zeros_like(a),
    "NaN": lambda a: np.full(a.shape, np.nan),
    "infinite": lambda a: np.full(a.shape, np.inf),
    "huge": lambda a: (a + 1) * (a.dtype.type(10) ** (10 if a.dtype.kind == "i" else 300)),
    "upside down": lambda a: a[::-1].copy(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_array_is_told_with_its_file(stepped: list[Path], change: str) -> None:
    """Its checksum holds: what the array says does not fit its header, or the part's other sums."""
    good = text(gradlog.merge_parts(stepped))
    kinds = set()
    for at, file in enumerate(stepped):
        held = members(file)
        for name in held:
            kind = re.sub(r"/\d+\.npy$", "", name)
            if not name.endswith(".npy") or (kind in kinds and not WHOLE):
                continue
            array = np.load(io.BytesIO(held[name]))
            changed = CHANGES[change](array)
            if npy(changed) == held[name]:  # zeros are
                continue
            write_members(file, {**held, name: npy(changed)})
            line = refused(stepped)
            assert "\n" not in line
            if (
                name == "step.npy"
                and at == 0
                and change in ("negative", "double", "zeros", "huge", "upside down")
            ):
                assert line.startswith(f"{stepped[1]}: made when the run had other training steps"), line
            else:
                assert line.startswith(f"{file}: "), (name, line)
            kinds.add(kind)
        write_members(file, held)
    assert kinds == {
        "path_lengths/series.npy", "path_lengths/totals.npy", "tensor_steps", "spectrum/squares",
        "spectrum/gram", "spectrum/total.npy", "step.npy", "energies/rows", "energies/columns",
    }  # fmt: skip
    assert text(gradlog.merge_parts(stepped)) == good


def test_members_that_a_part_has_not(stepped: list[Path]) -> None:
    file = stepped[1]
    held = members(file)
    array = held["path_lengths/series.npy"]
    for name, listed, told in (
        ("tensor_steps/3.npy", True, "tensor_steps/3.npy is of no tensor"),
        ("spectrum/squares/-1.npy", True, "spectrum/squares/-1.npy is of no tensor"),
        ("spectrum/gram/x.npy", True, "spectrum/gram/x.npy is of no tensor"),
        ("spectrum/gram/01.npy", True, "spectrum/gram/01.npy is of no tensor"),
        ("tensor_steps/total.npy", True, "tensor_steps/total.npy is of no tensor"),
        ("spectrum/other.npy", True, "it holds other members than a part: spectrum/other.npy"),
        ("other_measure/1.npy", True, "it holds other members than a part: other_measure/1.npy"),
        ("other.npy", True, "it holds other members than a part"),
        ("other.npy", False, "other.npy is not known to its header"),
        ("notes.txt", True, "notes.txt is not known to its header"),
        ("spectrum/squares/total.npy", True, "spectrum/squares/total.npy is of no tensor"),
    ):
        write_members(file, {**held, name: array}, listed=listed)
        line = refused(stepped)
        assert line.startswith(f"{file}: no part file, or a damaged one (")
        assert told in line
    for name in held:  # and its header does not miss it
        if name == "part.json" or not np.load(io.BytesIO(held[name])).any():
            continue
        write_members(file, {other: data for other, data in held.items() if other != name})
        line = refused(stepped)
        assert line.startswith(f"{file}: no part file, or a damaged one ("), (name, line)
    write_members(file, held)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("path_lengths/series.npy", array)
    assert "stands there twice" in refused(stepped)
    write_members(file, {**held, "tensor_steps/": b"", "notes/": b""})  # as zip -r writes them
    gradlog.merge_parts(stepped)


def test_members_of_another_part(stepped: list[Path]) -> None:
    """Arrays of the right shape and with checksums that hold, but of other gradients."""
    other = members(stepped[2])
    held = members(stepped[1])
    for name in other:
        if name.endswith(".npy") and other[name] != held.get(name):
            write_members(stepped[1], {**held, name: other[name]})
            line = refused(stepped)
            assert line.startswith(f"{stepped[1]}: no part file, or a damaged one ("), (name, line)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("part", [1, 10**12]),
        ("part", [0, 3]),
        ("part", ["2", "3"]),
        ("part", [2]),
        ("part", None),
        ("gradmf", None),
        ("gradmf", "two\nlines"),
        ("method", "none"),
        ("method", 3),
        ("span", "ROWS"),
        ("span", 3),
        ("strips", [1]),
        ("strips", 3),
        ("held", [-1, 0]),
        ("held", None),
        ("tensor_steps", 1),
        ("tensor_steps", False),
        ("search", 1),
        ("search", True),
        ("search", None),
        ("band", 64),
        ("band", "x"),
        ("sketch_dim", 128),
        ("settings.rank", "sketch"),
        ("settings.rank", "incremental"),
        ("plan", None),
        ("warnings", [3]),
        ("warnings", {}),
        ("cost", {"seconds": "a", "bytes_decoded": 1, "reader": ""}),
        ("cost", None),
        ("arrays", {}),
        ("arrays", [1]),
        ("run", []),
        ("run.rows", 10**12),
        ("run.rows", "30"),
        ("run.path", 3),
        ("run.attributes", []),
        ("run.tensors", []),
        ("run.tensors", [[]]),
        ("run.tensors.0.shape", [-1]),
        ("run.tensors.0.shape", "50"),
        ("run.tensors.0.shape", [2.0]),
        ("run.tensors.1.name", "a"),
        ("run.tensors.1.name", None),
        ("settings", None),
        ("settings.epsilons", [2.0]),
        ("settings.epsilons", ["0.1"]),
        ("settings.predictors", ["three-step"]),
        ("settings.predictors", 3),
        ("settings.rank", "none"),
        ("settings.unheard", 3),
        ("settings.seed", -1),
        ("version", "2"),
        ("version", None),
        ("format", 3),
    ],
)
def test_a_header_that_cannot_be(stepped: list[Path], place: str, value: object) -> None:
    held = members(stepped[1])
    header = json.loads(held["part.json"])
    *inner, last = (int(word) if word.isdigit() else word for word in place.split("."))
    holder: Any = header
    for word in inner:
        holder = holder[word]
    holder[last] = value
    write_members(stepped[1], {**held, "part.json": json.dumps(header).encode()}, listed=place != "arrays")
    line = refused(stepped)
    assert "\n" not in line
    if place == "part" and value == [1, 10**12]:  # which part it is cannot be told
        assert "not one of" in line
    else:
        assert line.startswith(f"{stepped[1]}: "), line


def test_archives_that_this_python_cannot_read(three: tuple[Path, list[Path]]) -> None:
    _, files = three
    whole = files[1].read_bytes()
    entries = [at for at in range(len(whole)) if whole.startswith(b"PK\x01\x02", at)]
    locals_ = [at for at in range(len(whole)) if whole.startswith(b"PK\x03\x04", at)]
    for at, local in zip(entries, locals_, strict=True):
        for change in ("encrypted", "newer", "compressed"):
            damaged = bytearray(whole)
            if change == "encrypted":
                damaged[at + 8] |= 1
                damaged[local + 6] |= 1
            elif change == "newer":
                damaged[at + 6] = damaged[local + 4] = 99
            else:
                damaged[at + 10] = damaged[local + 8] = 97
            files[1].write_bytes(damaged)
            line = refused(files)
            assert line.startswith(f"{files[1]}: no part file, or a damaged one ("), (change, line)
            assert "\n" not in line


def test_many_parts_that_are_missing_are_counted(three: tuple[Path, list[Path]]) -> None:
    path, files = three
    held = members(files[0])
    header = {**json.loads(held["part.json"]), "part": [2, 10**15]}
    write_members(files[0], {**held, "part.json": json.dumps(header).encode()})
    line = refused([files[0]])
    assert line.startswith(f"{path}: part 1/{10**15}, 3/{10**15}, ")
    assert f" and {10**15 - 9} more is missing: " in line


def test_sums_that_overflow_are_told(tmp_path: Path) -> None:
    values = np.full((5, 4), 1e160)
    path = format1_store(tmp_path / "run.zarr", {"a": values})
    files = [tmp_path / "part.1"]
    gradlog.write_part(gradlog.analyze_part(path, gradlog.PartNumber(1, 1)), files[0])
    assert refused(files) == (
        f"{files[0]}: tensor 'a': its sums overflow float64: scale the gradients down, or make the part anew "
        "if it is damaged"
    )


def test_a_product_of_two_rows_stands_in_a_second_sum(stepped: list[Path]) -> None:
    """One entry beside the diagonal, no larger than that allows: no other sum of the part has it."""
    for name in ("spectrum/total.npy", "spectrum/gram/0.npy"):
        at = next(at for at, file in enumerate(stepped) if name in members(file))
        held = members(stepped[at])
        array = np.load(io.BytesIO(held[name])).copy()
        array[197] /= 2
        write_members(stepped[at], {**held, name: npy(array)})
        told = (
            f"damaged one ({name.removesuffix('.npy')} does not add up to its sum of squares): make it with"
        )
        line = refused(stepped)
        assert line.startswith(f"{stepped[at]}: no part file, or a {told}"), line
        write_members(stepped[at], held)
    gradlog.merge_parts(stepped)


def test_products_whose_squares_overflow_are_merged(tmp_path: Path) -> None:
    tensors = {name: 1e140 * walk(30, (90,), seed).astype(np.float64) for seed, name in enumerate("ab")}
    path = foreign_store(tmp_path / "run.zarr", tensors)
    merged = gradlog.merge_parts(make_parts(path, tmp_path, 2, gradlog.Settings()))
    expected = reference.spectrum(np.concatenate([values / 1e140 for values in tensors.values()], axis=1))
    for found in (merged, gradlog.analyze(path)):
        assert found.total.spectrum is not None
        assert [rank.rank for rank in found.total.spectrum.rank] == [
            expected.rank(e) for e in (0.1, 0.05, 0.01)
        ]


def test_sums_of_tensors_by_step_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    format1_store(path, {"a": walk(40, (90, 7), 1), "b": walk(40, (3,), 2)})
    whole = gradlog.analyze(path, tensor_steps=True).tensor_steps
    assert whole is not None
    for count in (1, 2, 5):
        files = [tmp_path / f"part.{at}" for at in range(1, count + 1)]
        for at, file in enumerate(files, 1):
            gradlog.write_part(
                gradlog.analyze_part(path, gradlog.PartNumber(at, count), tensor_steps=True), file
            )
        merged = gradlog.merge_parts(files).tensor_steps
        assert merged is not None
        assert np.array_equal(merged.edges, whole.edges)
        np.testing.assert_allclose(merged.energy, whole.energy, rtol=1e-12)
        for spec, values in whole.path_length.items():
            np.testing.assert_allclose(merged.path_length[spec], values, rtol=1e-12)
            np.testing.assert_allclose(merged.product[spec], whole.product[spec], rtol=1e-9, atol=1e-12)
    gradlog.write_part(gradlog.analyze_part(path, gradlog.PartNumber(2, 5)), files[1])
    assert "made without --tensor-steps, unlike the first" in refused(files)


def test_what_has_no_parts(three: tuple[Path, list[Path]], tmp_path: Path) -> None:
    path, _ = three
    first = gradlog.PartNumber(1, 3)
    with pytest.raises(gradlog.UsageError, match=r"run.zarr: --rank incremental .* give --rank exact"):
        gradlog.analyze_part(path, first, gradlog.Settings(rank="incremental"))
    with pytest.raises(gradlog.UsageError, match="1/3 to 3/3"):
        gradlog.PartNumber(4, 3)
    values = walk(30, (50,), 1)
    values[3, 4] = np.nan
    bad = format1_store(tmp_path / "bad.zarr", {"a": values})
    for nonfinite in ("fail", "drop"):
        with pytest.raises(
            gradlog.DataError, match=r"first tensor 'a', row 3 .* with --rows, or analyze in one"
        ):
            gradlog.analyze_part(bad, gradlog.PartNumber(1, 1), gradlog.Settings(nonfinite=nonfinite))
    long = foreign_store(tmp_path / "long.zarr", {"a": walk(3000, (4000,), 1)}, chunks=(500, 4000))
    with pytest.raises(gradlog.MemoryLimitError, match=r"exact rank of 3000 rows .* give --memory"):
        gradlog.analyze_part(long, first, memory=50 << 20)


def test_a_part_file_appears_whole_or_not_at_all(
    three: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, files = three
    part = gradlog.analyze_part(path, gradlog.PartNumber(1, 3))
    before = files[0].read_bytes()
    gradlog.write_part(part, tmp_path / "same")
    with zipfile.ZipFile(tmp_path / "same") as archive:
        assert "spectrum/total.npy" in archive.namelist()
        assert np.load(archive.open("path_lengths/series.npy")).shape == (30, 26)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gradmf.gradlog.runs.part_file._add_triangle", full)
        patch.setattr("gradmf.gradlog.runs.part_file._add", full)
        with pytest.raises(OSError, match="No space left") as caught:
            gradlog.write_part(part, files[0])
    assert caught.value.filename == str(files[0])
    assert files[0].read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.usefixtures("three")
def test_a_shell_loop(tmp_path: Path) -> None:
    loop = f"cd {tmp_path} && seq 4 | xargs -P 2 -I{{}} gradmf analyze run.zarr --part {{}}/4 -o x.{{}}"
    expected = json.loads(run(f"cd {tmp_path} && gradmf analyze run.zarr --format json"))
    told = run(f"{loop} && gradmf merge x.* --format json -o a && gradmf merge x.4 x.3 x.2 x.1 -q > out")
    assert told == ""
    assert_close(json.loads((tmp_path / "a").read_text()), expected)
    assert "Path length" in (tmp_path / "out").read_text()
    piped = run(
        f"cd {tmp_path} && gradmf analyze run.zarr --part 1/1 -o /dev/stdout | cat > y; gradmf merge y -o z"
    )
    assert piped == ""
    assert (tmp_path / "z").read_text().startswith("run.zarr\n30 rows")


def test_command_lines(three: tuple[Path, list[Path]], capsys: pytest.CaptureFixture[str]) -> None:
    path, files = three
    part = ["analyze", str(path), "--part", "1/3"]
    for words, told in [
        (part, "--part needs -o FILE"),
        ([*part, "-o", "x", "--format", "json"], "--part goes without --format: a part is no result"),
        ([*part, str(path), "-o", "x"], "--part takes one RUN"),
        (["analyze", "-", "--part", "1/3", "-o", "x"], "--part takes one RUN"),
        ([*part, "--plan", "-o", "x"], "--part goes without --plan."),
        ([*part, "--fail-if", "kappa > 1", "-o", "x"], "--part goes without --fail-if: a part is no result"),
        (["merge", *map(str, files), "--fail-if", "kappa[linear:2] > 1"], "kappa[linear:2] > 1"),
        (["analyze", str(path), "--part", "4/3", "-o", "x"], "'4/3' is no part; write I/K"),
        ([*part, "-o", str(files[0]), "--rank", "incremental"], "--rank incremental looks at all"),
        (["merge"], "Missing argument 'PART...'"),
        (["merge", "--steps", str(files[0])], "--steps goes with --format jsonl"),
    ]:
        assert main(words) == 2
        assert told in capsys.readouterr().err
    assert main(["merge", *map(str, files[:2])]) == 1
    assert capsys.readouterr().err == (
        f"gradmf: error: {path}: part 3/3 is missing: make it with gradmf analyze {path} --part 3/3 -o FILE\n"
    )
    assert main(["merge", *map(str, files), "--format", "csv", "--columns", "run,rows"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["run,rows", f"{path},30"]
    assert main(["merge", *map(str, files), "-q", "--fail-if", "rank[0.05] > 1"]) == 3
    assert "rank[0.05] > 1" in capsys.readouterr().err
    assert main(["merge", *map(str, files), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["rows"] == 30
    assert main(["merge", *map(str, files), "--format", "jsonl", "--steps"]) == 0
    assert len(json.loads(capsys.readouterr().out)["steps"]["step"]) == 30


def test_a_terminal_takes_no_part(three: tuple[Path, list[Path]]) -> None:
    path, _ = three
    leader, follower = os.openpty()
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "gradmf",
                "analyze",
                str(path),
                "--part",
                "1/3",
                "-o",
                os.ttyname(follower),
            ],
            capture_output=True,
            text=True,
        )
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 2
    assert "a part is binary" in done.stderr
