"""Stores that others write: each layout that plain zarr-python gives, read and held against the reference."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import (
    Array,
    Tensors,
    add_array,
    foreign_store,
    format1_store,
    network,
    rows_apart,
    unspecified,
    walk,
    zip_members,
    zip_store,
)
from sweeps import sweep
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

from conftest import assert_analysis
from gradmf import gradlog

ROWS = 23


def codes(analysis: gradlog.Analysis) -> list[str]:
    return [warning.code for warning in analysis.warnings]


def check(path: Path, tensors: Tensors, *, warned: tuple[str, ...] = (), **options: Any) -> gradlog.Analysis:
    """Analyze and compare; no more and no fewer warnings than `warned`."""
    analysis = gradlog.analyze(path, **options)
    assert_analysis(analysis, tensors)
    assert tuple(codes(analysis)) == warned
    assert analysis.run.rows == len(next(iter(tensors.values())))
    return analysis


def in_grads(path: Path, tensors: Tensors, marked: bool) -> Path:
    """A group `grads`, of a log of format 1 where `marked`."""
    if marked:
        return format1_store(path, tensors)
    return foreign_store(path, {f"grads/{name}": values for name, values in tensors.items()})


V2 = {
    "plain": {"compressors": None},
    "dot": {"compressors": None, "chunk_key_encoding": {"name": "v2", "separator": "."}},
    "slash": {"compressors": None, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "fortran": {"compressors": None, "order": "F"},
    "fortran-zstd": {"compressors": numcodecs.Zstd(level=1), "order": "F"},
    "big-endian": {"compressors": None, "dtype": ">f4"},
    "big-endian-blosc": {"compressors": numcodecs.Blosc(), "dtype": ">f4"},
    "big-endian-fortran": {"compressors": numcodecs.GZip(), "dtype": ">f4", "order": "F"},
    "zstd": {"compressors": numcodecs.Zstd(level=1)},
    "zstd-checksum": {"compressors": numcodecs.Zstd(level=1, checksum=True)},
    "blosc": {"compressors": numcodecs.Blosc(cname="lz4", shuffle=numcodecs.Blosc.BITSHUFFLE)},
    "gzip": {"compressors": numcodecs.GZip(level=1)},
    "zlib": {"compressors": numcodecs.Zlib(level=1)},
    "lz4": {"compressors": numcodecs.LZ4()},
    "shuffle-filter": {"compressors": numcodecs.Zstd(level=1), "filters": [numcodecs.Shuffle(4)]},
}

V3: dict[str, dict[str, Any]] = {
    "plain": {"compressors": None},
    "zstd": {"compressors": ZstdCodec(level=1)},
    "zstd-checksum": {"compressors": ZstdCodec(level=1, checksum=True)},
    "blosc": {"compressors": BloscCodec(cname="zstd", clevel=1)},
    "gzip": {"compressors": GzipCodec(level=1)},
    "crc32c": {"compressors": Crc32cCodec()},
    "zstd-crc32c": {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
    "big-endian": {"compressors": None, "serializer": BytesCodec(endian="big")},
    "v2-keys": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "dot-keys": {"chunk_key_encoding": {"name": "default", "separator": "."}},
}


@pytest.mark.parametrize("options", V2.values(), ids=V2.keys())
def test_v2(tmp_path: Path, options: Mapping[str, Any]) -> None:
    tensors = network()
    group = zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=2)
    for name, values in tensors.items():
        add_array(group, name, values, **{"chunks": rows_apart(values.shape, 5, 2), **options})
    check(tmp_path / "run.zarr", tensors)


def test_v2_delta_filter(tmp_path: Path) -> None:
    """Delta rounds floats when it writes: what counts is what the store gives back."""
    tensors = network()
    group = zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=2)
    stored = {}
    for name, values in tensors.items():
        array = add_array(
            group, name, values, chunks=rows_apart(values.shape, 5, 2),
            filters=[numcodecs.Delta(dtype="<f4")], compressors=numcodecs.Zstd(),
        )  # fmt: skip
        stored[name] = np.asarray(array[...])
    check(tmp_path / "run.zarr", stored)


@pytest.mark.parametrize("options", V3.values(), ids=V3.keys())
def test_v3(tmp_path: Path, options: Mapping[str, Any]) -> None:
    tensors = network()
    group = zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=3)
    for name, values in tensors.items():
        add_array(group, name, values, **{"chunks": rows_apart(values.shape, 5, 2), **options})
    check(tmp_path / "run.zarr", tensors)


@pytest.mark.parametrize("codec", ["LZ4", "Zlib"])
def test_v3_numcodecs(tmp_path: Path, codec: str) -> None:
    try:
        from zarr.codecs import numcodecs as extra
    except ImportError:
        pytest.skip("this zarr has no numcodecs codecs")
    tensors = {"w": walk(ROWS, (6, 5), 1)}
    group = zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=3)
    with unspecified():
        compressor = getattr(extra, codec)()
    add_array(group, "w", tensors["w"], chunks=(5, 4, 5), compressors=compressor)
    check(tmp_path / "run.zarr", tensors)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_v3_transposed(tmp_path: Path, order: tuple[int, ...]) -> None:
    tensors = {"w": walk(ROWS, (6, 5), 1)}
    foreign_store(tmp_path / "run.zarr", tensors, chunks=(5, 4, 3), filters=[TransposeCodec(order=order)])
    check(tmp_path / "run.zarr", tensors)


SHARDS: dict[str, dict[str, Any]] = {
    "default": {"shards": (10, 6, 6), "chunks": (5, 2, 3)},
    "one-inner": {"shards": (5, 3, 2), "chunks": (5, 3, 2)},
    "whole": {"shards": (25, 8, 9), "chunks": (1, 8, 3)},
    "zstd": {"shards": (10, 6, 6), "chunks": (5, 2, 3), "compressors": ZstdCodec()},
}


@pytest.mark.parametrize("options", SHARDS.values(), ids=SHARDS.keys())
@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
def test_sharded(tmp_path: Path, options: Mapping[str, Any], marked: bool) -> None:
    tensors = {"w": walk(ROWS, (7, 9), 1)}
    (format1_store if marked else foreign_store)(tmp_path / "run.zarr", tensors, **options)
    check(tmp_path / "run.zarr", tensors)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("index", [[BytesCodec()], [BytesCodec(), Crc32cCodec()]], ids=["bare", "crc32c"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_sharded_index(tmp_path: Path, location: str, index: list[Any], endian: str) -> None:
    tensors = {"w": walk(ROWS, (7, 9), 1)}
    codec = ShardingCodec(
        chunk_shape=(5, 2, 3),
        codecs=[BytesCodec(), ZstdCodec(level=1)],
        index_codecs=[BytesCodec(endian=endian), *index[1:]],  # type: ignore[arg-type]
        index_location=location,  # type: ignore[arg-type]
    )
    path = tmp_path / "run.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs["gradlog"] = {"version": 1}
    add_array(group, "grads/w", tensors["w"], chunks=(10, 6, 6), serializer=codec, compressors=None)
    add_array(group, "step", np.arange(ROWS))
    check(path, tensors)
    (description,) = gradlog.describe(path).tensors
    assert (description.chunks, description.shards) == ((5, 2, 3), (10, 6, 6))
    assert (description.expected_chunks, description.absent_chunks) == (5 * 4 * 3, 0)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated(tmp_path: Path, zarr_format: int) -> None:
    tensors = network()
    path = foreign_store(tmp_path / "run.zarr", tensors, zarr_format=zarr_format)
    with unspecified():
        zarr.consolidate_metadata(path)
    check(path, tensors)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_stale_consolidated_metadata(tmp_path: Path, zarr_format: int) -> None:
    """A run goes on after it was consolidated: more rows, one more tensor."""
    tensors = network()
    short = {name: values[:10] for name, values in tensors.items() if name != "scale"}
    path = foreign_store(tmp_path / "run.zarr", short, zarr_format=zarr_format, chunks="auto")
    with unspecified():
        zarr.consolidate_metadata(path)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    for name in short:
        array = group[name]
        assert isinstance(array, zarr.Array)
        array.resize(tensors[name].shape)
        array[10:] = tensors[name][10:]
    # Creating an array would drop the consolidated metadata in some versions of zarr: copy one.
    other = foreign_store(tmp_path / "other.zarr", {"scale": tensors["scale"]}, zarr_format=zarr_format)
    shutil.copytree(other / "scale", path / "scale")
    stale = zarr.open_group(path, mode="r", use_consolidated=True)
    assert "scale" not in stale
    check(path, tensors)


Packer = Callable[[Path, Path], Path]


def _zip_command(source: Path, target: Path) -> Path:
    if shutil.which("zip") is None:
        pytest.skip("no zip command here")
    subprocess.run(["zip", "-q", "-r", target, source.name], cwd=source.parent, check=True)
    return target


def _make_archive(source: Path, target: Path) -> Path:
    made = shutil.make_archive(str(target.with_suffix("")), "zip", root_dir=source)
    return Path(made).rename(target)


PACKERS: dict[str, Packer] = {
    "zarr-zipstore": zip_store,
    "zip -r": _zip_command,
    "make_archive": _make_archive,
    "own-folder": lambda source, target: zip_members(source, target, top="run.zarr"),
    "deep-folder": lambda source, target: zip_members(source, target, top="a/b.c/run"),
    "deflated": lambda source, target: zip_members(
        source, target, top="run.zarr", compression=zipfile.ZIP_DEFLATED
    ),
    "bzip2": lambda source, target: zip_members(source, target, compression=zipfile.ZIP_BZIP2),
}


@pytest.mark.parametrize("packer", PACKERS.values(), ids=PACKERS.keys())
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zip(tmp_path: Path, packer: Packer, zarr_format: int) -> None:
    tensors = network()
    group = zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    for name, values in tensors.items():
        add_array(group, name, values, chunks=rows_apart(values.shape, 5, 2))
    check(packer(tmp_path / "run.zarr", tmp_path / "packed.zip"), tensors)


@pytest.mark.parametrize("name", ["run.zarr", "run.zip", "run", "run.zarr.zip", "läuft 1.bin"])
@pytest.mark.parametrize("top", ["", "run.zarr"])
def test_zip_of_any_name(tmp_path: Path, name: str, top: str) -> None:
    tensors = network()
    source = format1_store(tmp_path / "source", tensors)
    check(zip_members(source, tmp_path / name, top=top), tensors)


def test_zip_of_a_sharded_log(tmp_path: Path) -> None:
    tensors = {"w": walk(ROWS, (7, 9), 1)}
    path = format1_store(tmp_path / "run.zarr", tensors, shards=(10, 6, 6), chunks=(5, 2, 3))
    packed = zip_store(path, tmp_path / "run.zip")
    check(packed, tensors)
    (description,) = gradlog.describe(packed).tensors
    assert (description.expected_chunks, description.absent_chunks) == (5 * 4 * 3, 0)


@pytest.mark.skipif(find_spec("zarrs") is None, reason="zarrs is not installed")
@pytest.mark.parametrize(
    ("codecs", "reader"),
    [([Crc32cCodec()], "direct"), ([BloscCodec(), Crc32cCodec()], "zarrs")],
    ids=["as they are", "packed"],
)
def test_shards_of_checked_chunks_are_not_left_to_zarr_python(
    codecs: list[Any], reader: str, tmp_path: Path
) -> None:
    """Their checksums are looked at here, and what is right is no reason to leave it."""
    values = walk(20, (64,), 3).astype(np.float32)
    path = format1_store(
        tmp_path / "run.zarr", {"w": values}, shards=(10, 64), chunks=(2, 16), compressors=codecs
    )
    (tensor,) = gradlog.open_log(path).tensors
    out = np.empty((13, 30), np.float32)
    tensor.read((4, 17), (slice(5, 35),), out)
    assert np.array_equal(out, values[4:17, 5:35])
    assert tensor.reader == reader


def test_zip_with_mac_folder(tmp_path: Path) -> None:
    """The Finder adds a folder of its own; it holds no store."""
    tensors = network()
    packed = zip_members(format1_store(tmp_path / "run.zarr", tensors), tmp_path / "r.zip", top="run.zarr")
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("__MACOSX/run.zarr/._zarr.json", b"\0\5\x16\7")
    check(packed, tensors)


def test_symlink_and_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = network()
    format1_store(tmp_path / "run.zarr", tensors)
    (tmp_path / "latest").symlink_to("run.zarr")
    monkeypatch.chdir(tmp_path)
    check(Path("latest"), tensors)
    check(Path("run.zarr/"), tensors)
    monkeypatch.chdir(tmp_path / "run.zarr")
    check(Path(), tensors)


def test_group_inside_a_store(tmp_path: Path) -> None:
    tensors = network()
    group = zarr.open_group(tmp_path / "all.zarr", mode="w")
    inner = group.create_group("experiments/first")
    for name, values in tensors.items():
        add_array(inner, name, values)
    check(tmp_path / "all.zarr" / "experiments" / "first", tensors)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_nested_groups_and_names(tmp_path: Path, zarr_format: int) -> None:
    names = ["model/encoder/0.weight", "model/encoder/0.bias", "model.head", "Ω λ/β", "a-b_c.d.e/f", "x/y/z"]
    tensors = {name: walk(ROWS, (index + 1,), index) for index, name in enumerate(names)}
    path = foreign_store(tmp_path / "run.zarr", tensors, zarr_format=zarr_format)
    check(path, tensors)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_grads_group_of_a_foreign_store(tmp_path: Path, zarr_format: int) -> None:
    """With a group `grads`, what stands beside it is no gradient: weights of another length are no fault."""
    tensors = network()
    path = foreign_store(
        tmp_path / "run.zarr",
        {f"grads/{name}": values for name, values in tensors.items()} | {"weights/w": walk(3, (5,), 0)},
        zarr_format=zarr_format,
    )
    check(path, tensors)


@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
def test_names_in_format_1(tmp_path: Path, marked: bool) -> None:
    names = ["layers.0.attn.q_proj.weight", "encoder/block/0.weight", "loss", "step", "lr"]
    tensors = {name: walk(ROWS, (3, index + 1), index) for index, name in enumerate(names)}
    check(in_grads(tmp_path / "run.zarr", tensors, marked), tensors)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(), (1,), (6,), (3, 4), (2, 3, 2, 2)], ids=str)
def test_bare_array(tmp_path: Path, zarr_format: int, shape: tuple[int, ...]) -> None:
    values = walk(ROWS, shape, 3)
    array = zarr.create_array(
        tmp_path / "bare.zarr", shape=values.shape, dtype=values.dtype,
        chunks=rows_apart(values.shape, 4, 2), zarr_format=zarr_format,  # type: ignore[arg-type]
    )  # fmt: skip
    array[...] = values
    analysis = gradlog.analyze(tmp_path / "bare.zarr")
    assert_analysis(analysis, {analysis.tensors[0].name: values})
    assert analysis.steps.step.tolist() == list(range(ROWS))


def test_zipped_bare_array(tmp_path: Path) -> None:
    values = walk(ROWS, (4, 5), 3)
    array = zarr.create_array(tmp_path / "bare.zarr", shape=values.shape, dtype="f4", chunks=(4, 3, 2))
    array[...] = values
    for name, top in (("a.zip", ""), ("b.zip", "bare.zarr")):
        analysis = gradlog.analyze(zip_members(tmp_path / "bare.zarr", tmp_path / name, top=top))
        assert_analysis(analysis, {analysis.tensors[0].name: values})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_dtypes(tmp_path: Path, dtype: str, zarr_format: int) -> None:
    tensors = network(dtype=dtype)
    analysis = check(foreign_store(tmp_path / "run.zarr", tensors, zarr_format=zarr_format), tensors)
    assert analysis.run.dtypes == (dtype,)


@pytest.mark.parametrize("dtype", [">f2", ">f8", "<f8"])
def test_v2_byte_orders(tmp_path: Path, dtype: str) -> None:
    tensors = {"w": walk(ROWS, (6, 5), 1).astype(dtype)}
    check(foreign_store(tmp_path / "run.zarr", tensors, zarr_format=2, chunks=(5, 4, 5)), tensors)


def bfloat16_bits(values: Array) -> tuple[Array, Array]:
    """Bits of float32 values cut to bfloat16, and the values that these bits mean."""
    bits = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(), (7,), (6, 5)], ids=str)
def test_bfloat16(tmp_path: Path, zarr_format: int, shape: tuple[int, ...]) -> None:
    bits, meant = bfloat16_bits(walk(ROWS, shape, 2) * 1e-3)
    group = zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    attributes = {"gradlog": {"dtype": "bfloat16"}}
    add_array(group, "w", bits, chunks=rows_apart(bits.shape, 5, 3), attributes=attributes)
    add_array(group, "counts", bits)
    analysis = check(tmp_path / "run.zarr", {"w": meant}, warned=("arrays-left-out",))
    assert analysis.run.dtypes == ("bfloat16",)


def test_bare_bfloat16_array(tmp_path: Path) -> None:
    bits, meant = bfloat16_bits(walk(ROWS, (6, 5), 2))
    array = zarr.create_array(tmp_path / "bare.zarr", shape=bits.shape, dtype=bits.dtype)
    array.attrs["gradlog"] = {"dtype": "bfloat16"}
    array[...] = bits
    analysis = gradlog.analyze(tmp_path / "bare.zarr")
    assert_analysis(analysis, {analysis.tensors[0].name: meant})


def test_mixed_dtypes(tmp_path: Path) -> None:
    bits, meant = bfloat16_bits(walk(ROWS, (5,), 9))
    tensors = {
        "a": walk(ROWS, (5,), 1, "float16"),
        "b": walk(ROWS, (3, 3), 2, "float64"),
        "c": walk(ROWS, (40,), 3, "float32"),
        "d": walk(ROWS, (1,), 4, "float64"),
    }
    path = foreign_store(tmp_path / "run.zarr", tensors)
    add_array(zarr.open_group(path, mode="r+"), "e", bits, attributes={"gradlog": {"dtype": "bfloat16"}})
    analysis = check(path, {**tensors, "e": meant})
    assert analysis.run.dtypes == ("bfloat16", "float16", "float32", "float64")


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
def test_empty_parameters(tmp_path: Path, chunk: int, marked: bool) -> None:
    tensors = {
        "empty": np.zeros((ROWS, 0), "f4"),
        "hollow": np.zeros((ROWS, 3, 0, 2), "f4"),
        "w": walk(ROWS, (4,), 1),
    }
    path = tmp_path / "run.zarr"
    group = zarr.open_group(path, mode="w")
    for name, values in tensors.items():
        add_array(group, f"grads/{name}", values, chunks=(5, *[chunk] * (values.ndim - 1)))
    if marked:
        group.attrs["gradlog"] = {"version": 1}
        add_array(group, "step", np.arange(ROWS))
    analysis = check(path, tensors, warned=("tensors-empty",))
    assert [tensor.parameters for tensor in analysis.tensors] == [0, 0, 4]
    assert "empty, hollow; parameters that are partitioned" in analysis.warnings[0].message
    assert all(p.kappa is None for p in analysis.tensors[0].predictors)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_empty_parameters_in_chunks_of_size_0(tmp_path: Path, zarr_format: int) -> None:
    """Some versions of zarr take the shape of an empty array for its chunks."""
    tensors = {"empty": np.zeros((ROWS, 0), "f4"), "w": walk(ROWS, (4,), 1)}
    path = foreign_store(tmp_path / "run.zarr", {"w": tensors["w"]}, zarr_format=zarr_format)
    foreign_store(tmp_path / "other.zarr", {"empty": tensors["w"]}, zarr_format=zarr_format)
    shutil.copytree(tmp_path / "other.zarr" / "empty", path / "empty")
    metadata = path / "empty" / ("zarr.json" if zarr_format == 3 else ".zarray")
    document = json.loads(metadata.read_text())
    document["shape"] = [ROWS, 0]
    if zarr_format == 3:
        document["chunk_grid"]["configuration"]["chunk_shape"] = [ROWS, 0]
    else:
        document["chunks"] = [ROWS, 0]
    metadata.write_text(json.dumps(document))
    try:
        zarr.open_group(path, mode="r")["empty"]
    except Exception:
        with pytest.raises(gradlog.DataError, match=r"run\.zarr"):  # this zarr doesn't open it at all
            gradlog.analyze(path)
        return
    check(path, tensors, warned=("tensors-empty",))


def test_only_empty_parameters(tmp_path: Path) -> None:
    """What a rank of FSDP or ZeRO-3 holds of parameters elsewhere: not "all gradients are zero"."""
    path = foreign_store(tmp_path / "run.zarr", {"w": np.zeros((ROWS, 0), "f4")}, chunks=(4, 1))
    with pytest.raises(gradlog.DataError, match=r"run\.zarr: all tensors are without any entry: w; .*ZeRO-3"):
        gradlog.analyze(path)


SIZES = (1, 2, 3, 30, 100, 400, 1500, 2047, 2048, 2049, 4096, 4097, 20_000)


@pytest.mark.parametrize("rows", [1, 2, 60])
@pytest.mark.parametrize("rank", ["exact", "none"])
def test_many_sizes_at_once(tmp_path: Path, rows: int, rank: str) -> None:
    """Grouped and wide tensors side by side, in an order that breaks groups."""
    rng = np.random.default_rng(5)
    order = rng.permutation(np.repeat(SIZES, 2))
    tensors = {f"t{index:02}": walk(rows, (int(size),), index) for index, size in enumerate(order)}
    path = tmp_path / "run.zarr"
    group = zarr.open_group(path, mode="w")
    for index, (name, values) in enumerate(tensors.items()):
        add_array(group, name, values, chunks=(min(rows, 5 + index % 3), min(values.shape[1], 3000)))
    analysis = gradlog.analyze(path, gradlog.Settings(rank=rank))
    assert_analysis(analysis, tensors)
    assert (analysis.total.spectrum is None) == (rank == "none")


@settings(max_examples=sweep(25), deadline=None)
@given(
    sizes=st.lists(st.integers(0, 6000), min_size=1, max_size=12),
    rows=st.integers(1, 30),
    height=st.integers(1, 12),
    data=st.data(),
)
def test_tensors_of_any_sizes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], rows: int, height: int, data: st.DataObject
) -> None:
    tensors = {f"t{index:02}": walk(rows, (size,), index) for index, size in enumerate(sizes)}
    path = tmp_path_factory.mktemp("sizes") / "run.zarr"
    group = zarr.open_group(path, mode="w")
    for name, values in tensors.items():
        width = data.draw(st.integers(1, max(1, values.shape[1])))
        add_array(group, name, values, chunks=(min(rows, height), max(width, values.shape[1] // 4)))
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    chosen = gradlog.Settings(rows=(first, last))
    if not any(sizes):
        with pytest.raises(gradlog.DataError, match="without any entry"):
            gradlog.analyze(path, chosen)
        return
    assert_analysis(
        gradlog.analyze(path, chosen), {name: values[first:last] for name, values in tensors.items()}
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 7.0])
@pytest.mark.parametrize("shards", [None, (10, 6)])
def test_uncommitted_rows_do_not_matter(tmp_path: Path, bad: float, shards: tuple[int, ...] | None) -> None:
    """Rows past the length of `step`, in the last committed chunk and in chunks of their own."""
    committed = {"a": walk(17, (8,), 1), "b": walk(17, (6,), 2)}
    stored = {
        "a": np.concatenate([committed["a"], np.full((3, 8), bad, "f4")]),
        "b": np.concatenate([committed["b"], np.full((26, 6), bad, "f4")]),
    }
    chunks = {"chunks": (5, 3), "shards": shards}
    path = format1_store(tmp_path / "run.zarr", stored, step=range(100, 117), **chunks)
    analysis = check(path, committed)
    assert analysis.steps.step.tolist() == list(range(100, 117))


def test_absent_and_damaged_uncommitted_chunks(tmp_path: Path) -> None:
    committed = {"a": walk(10, (8,), 1)}
    stored = {"a": np.concatenate([committed["a"], walk(20, (8,), 2)])}
    path = format1_store(tmp_path / "run.zarr", stored, step=range(10), chunks=(5, 8))
    for row, damage in ((2, None), (3, b""), (4, b"junk"), (5, None)):
        place = path / "grads" / "a" / "c" / str(row) / "0"
        if damage is None:
            place.unlink()
        else:
            place.write_bytes(damage)
    check(path, committed)
    assert gradlog.describe(path).tensors[0].absent_chunks == 0


@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
def test_step_numbers(tmp_path: Path, marked: bool) -> None:
    """Gaps are as they were logged, and told; a resumed run repeats steps, which is to be settled."""
    tensors = network(8)
    gaps = [0, 10, 20, 21, 50, 1000, 2**40, 2**62]
    repeats = [0, 1, 2, 3, 2, 3, 4, 5]
    store = format1_store if marked else _foreign_with_step
    analysis = check(store(tmp_path / "gaps.zarr", tensors, step=gaps), tensors, warned=("steps-strided",))
    assert analysis.steps.step.tolist() == gaps
    path = store(tmp_path / "repeats.zarr", tensors, step=repeats)
    with pytest.raises(gradlog.DataError, match="row 4 has training step 2 after 3"):
        gradlog.analyze(path)
    kept = gradlog.Settings(repeated="keep")
    analysis = check(path, tensors, settings=kept, warned=("steps-not-increasing",))
    assert analysis.steps.step.tolist() == repeats
    assert "row 4" in analysis.warnings[0].message


def _foreign_with_step(path: Path, tensors: Tensors, *, step: list[int]) -> Path:
    foreign_store(path, tensors)
    add_array(zarr.open_group(path, mode="r+"), "step", np.asarray(step, dtype=np.int64))
    return path


@pytest.mark.parametrize("dtype", ["int32", "uint64", "uint8", ">i8"])
def test_integer_step_types_of_foreign_stores(tmp_path: Path, dtype: str) -> None:
    tensors = network(8)
    zarr_format = 2 if dtype.startswith(">") else 3
    path = foreign_store(tmp_path / "run.zarr", tensors, zarr_format=zarr_format)
    add_array(zarr.open_group(path, mode="r+"), "step", np.arange(1, 9).astype(dtype))
    assert check(path, tensors).steps.step.tolist() == list(range(1, 9))


@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
def test_scalar_series_are_no_gradients(tmp_path: Path, marked: bool) -> None:
    tensors = network()
    series = {"loss": walk(ROWS, (), 8, "float64"), "lr": np.full(ROWS, 1e-3, "f4")}
    path = (format1_store if marked else foreign_store)(tmp_path / "run.zarr", tensors)
    group = zarr.open_group(path, mode="r+")
    for name, values in series.items():
        add_array(group, name, values)
    check(path, tensors, warned=() if marked else ("arrays-left-out",))
    assert set(gradlog.describe(path).series) == set(series)


@pytest.mark.parametrize("name", ["reward", "kl", "perplexity", "scale", "loss", "model.temperature"])
def test_one_value_a_row_is_no_gradient(tmp_path: Path, name: str) -> None:
    """Under whatever name, unless the user says so: a parameter that is a single number looks the same."""
    tensors = {"w": walk(ROWS, (4,), 1), name: 1e3 * walk(ROWS, (), 2)}
    path = foreign_store(tmp_path / "run.zarr", tensors)
    analysis = check(path, {"w": tensors["w"]}, warned=("arrays-left-out",))
    told = analysis.warnings[0].message
    assert f"{name} (one value a row)" in told
    assert "taken: w" in told
    assert "--gradients GLOB" in told
    assert set(gradlog.describe(path).series) == {name}
    check(path, tensors, settings=gradlog.Settings(gradients=("*",)))


@pytest.mark.parametrize("marked", [False, True], ids=["in-grads", "format-1"])
def test_scalar_parameters(tmp_path: Path, marked: bool) -> None:
    """In `grads` one value a row is a tensor of one parameter."""
    tensors = {"w": walk(ROWS, (4,), 1), "temperature": walk(ROWS, (), 2)}
    check(in_grads(tmp_path / "run.zarr", tensors, marked), tensors)


@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "format-1"])
def test_attributes_pass_through(tmp_path: Path, marked: bool) -> None:
    attributes = {
        "model": "mlp",
        "optimizer": {"name": "adamw", "betas": [0.9, 0.999], "state": {"amsgrad": None}},
        "diverged_at": float("nan"),
        "ranges": [float("inf"), [float("-inf"), 1.5]],
        "ünïcode": "λ\n",
    }
    tensors = network()
    path = (format1_store if marked else foreign_store)(tmp_path / "run.zarr", tensors)
    zarr.open_group(path, mode="r+").attrs.update(attributes)
    document = gradlog.analysis_document(check(path, tensors))
    text = json.dumps(document, allow_nan=False)
    found = json.loads(text)["run"]["attributes"]
    found.pop("gradlog", None)
    expected = {**attributes, "diverged_at": None, "ranges": [None, [None, 1.5]]}
    if zarr.open_group(path, mode="r").attrs["diverged_at"] == "NaN":  # as zarr 3.0 wrote it
        expected |= {"diverged_at": "NaN", "ranges": ["Infinity", ["-Infinity", 1.5]]}
    assert found == expected


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_stray_files_are_ignored(tmp_path: Path, zarr_format: int) -> None:
    """Notes and a file manager's own files among the arrays are no fault, and nothing to warn about."""
    tensors = {"grads/a": walk(ROWS, (4,), 1), "grads/b": walk(ROWS, (3,), 2)}
    path = foreign_store(tmp_path / "run.zarr", tensors, zarr_format=zarr_format)
    for place in (
        path / ".DS_Store",
        path / "notes.txt",
        path / "grads" / ".DS_Store",
        path / "grads/a/x.tmp",
    ):
        place.write_bytes(b"\0\1\2")
    (path / "plots").mkdir()
    (path / "plots" / "kappa.png").write_bytes(b"\x89PNG")
    check(path, {name.removeprefix("grads/"): values for name, values in tensors.items()})


def test_selection(tmp_path: Path) -> None:
    tensors = network()
    path = format1_store(tmp_path / "run.zarr", tensors, step=range(5, 5 + ROWS))
    cases: list[tuple[dict[str, Any], set[str], slice]] = [
        ({"tensors": ("fc.*",)}, {"fc.bias", "fc.weight"}, slice(None)),
        ({"exclude": ("fc.*", "scale")}, {"conv.weight"}, slice(None)),
        ({"tensors": ("*.weight",), "exclude": ("conv*",)}, {"fc.weight"}, slice(None)),
        ({"rows": (3, 11)}, set(tensors), slice(3, 11)),
        ({"rows": (-6, None)}, set(tensors), slice(-6, None)),
        ({"rows": (None, -6)}, set(tensors), slice(None, -6)),
        ({"rows": (4, 5)}, set(tensors), slice(4, 5)),
        ({"rows": (0, 10_000)}, set(tensors), slice(None)),
    ]
    for options, names, rows in cases:
        analysis = gradlog.analyze(path, gradlog.Settings(**options))
        assert_analysis(analysis, {name: values[rows] for name, values in tensors.items() if name in names})
        assert analysis.steps.step.tolist() == list(range(5, 5 + ROWS))[rows]


@pytest.mark.parametrize("memory", [1 << 30, 2 << 20], ids=["enough", "short"])
@pytest.mark.parametrize("rank", ["exact", "none"])
def test_progress_goes_up_to_the_end(tmp_path: Path, memory: int, rank: str) -> None:
    tensors = {"w": walk(60, (40_000,), 1), "v": walk(60, (7,), 2)}
    path = foreign_store(tmp_path / "run.zarr", tensors)
    seen: list[tuple[int, int]] = []
    gradlog.analyze(path, gradlog.Settings(rank=rank), memory=memory, progress=lambda *now: seen.append(now))
    assert len({whole for _, whole in seen}) == 1
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def test_an_opened_log_is_analyzed_like_its_path(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", network())
    log = gradlog.open_log(path)
    expected = gradlog.analysis_document(gradlog.analyze(path))
    for _ in range(2):
        assert gradlog.analysis_document(gradlog.analyze(log)) == expected


@pytest.mark.parametrize("transposed", [False, True])
def test_shards_within_shards(tmp_path: Path, transposed: bool) -> None:
    tensors = {"w": walk(ROWS, (8,), 1)}
    inner = ShardingCodec(chunk_shape=(2, 2), codecs=[BytesCodec(), Crc32cCodec()])
    outer = ShardingCodec(chunk_shape=(4, 4), codecs=[inner])
    filters = [TransposeCodec(order=(1, 0))] if transposed else []
    path = foreign_store(
        tmp_path / "run.zarr", tensors, chunks=(8, 8), filters=filters, serializer=outer, compressors=None
    )
    check(path, tensors)
    (description,) = gradlog.describe(path).tensors
    assert description.absent_chunks == 0
    assert "crc32c" in description.codecs


def test_chunks_of_uneven_sizes(tmp_path: Path) -> None:
    """Zarr 3.2 can write them: read, or refused in a line that says what they are."""
    values = walk(ROWS, (8,), 1)
    path = tmp_path / "run.zarr"
    group = zarr.open_group(path, mode="w")
    try:
        with zarr.config.set({"array.rectilinear_chunks": True}), unspecified():
            array = group.create_array("w", shape=values.shape, chunks=[[10, 10, 3], [3, 5]], dtype="f4")
            array[...] = values
    except Exception:
        pytest.skip("this zarr writes regular chunks only")
    with zarr.config.set({"array.rectilinear_chunks": True}):
        try:
            analysis = gradlog.analyze(path)
        except gradlog.DataError as error:
            text = str(error)
        else:
            assert_analysis(analysis, {"w": values})
            return
    assert "'w'" in text
    assert "chunk" in text


@pytest.mark.parametrize("options", [V2["blosc"], V2["shuffle-filter"], V2["plain"]], ids=str)
def test_description_of_v2(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "run.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    add_array(group, "w", walk(ROWS, (6,), 1), chunks=(5, 6), **options)
    (description,) = gradlog.describe(path).tensors
    stages = [*options.get("filters", ()), options["compressors"]]
    assert description.codecs == tuple(stage.codec_id for stage in stages if stage)
    json.dumps(gradlog.description_document(gradlog.describe(path)), allow_nan=False)
