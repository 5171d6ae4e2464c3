"""Logs that lie in no Zarr store: one subclass of Tensor, and everything that takes a run takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from stores import add_array

from conftest import read_in_blocks_of_rows, write_store
from gradmf import gradlog
from gradmf.gradlog.documents.plain_values import plain_values
from guide import python_blocks

ROWS = 50
STEP = np.arange(0, 10 * ROWS, 10, dtype=np.int64)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the guide's block defines."""
    found: dict[str, Any] = {
        "dataclass": dataclass, "gradlog": gradlog, "np": np, "Any": Any, "NDArray": NDArray,
        "Mapping": Mapping,
    }  # fmt: skip
    (module,) = python_blocks("Adding a store")
    exec(module, found)
    return found


def gradients() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(11)
    walks = np.cumsum(rng.standard_normal((ROWS, 7000)) * 0.97 ** np.arange(7000).clip(0, 200), axis=0)
    # Energies are exact in any order: parts of what has to be read whole are other ones than a store's.
    walks = np.rint(walks * 4096) / 4096
    return {
        "conv/weight": walks.reshape(ROWS, 70, 4, 25).astype(np.float32),
        "bias": walks[:, :30].astype(np.float16),
        "head": walks[:, 100:900],
        "scale": walks[:, 6],
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same gradients in a store, in the same chunks, with losses."""
    chunks = {name: (16, *values.shape[1:]) for name, values in gradients().items()}
    path = tmp_path_factory.mktemp("logs") / "run.zarr"
    write_store(path, gradients(), chunks=chunks, step=STEP.tolist(), compressors=())
    group = zarr.open_group(path)
    for name, values in series().items():
        add_array(group, name, values)
    return path


def series() -> dict[str, NDArray[Any]]:
    return {"loss": np.linspace(2, 1, ROWS), "lr": np.full(ROWS, 0.1)}


@pytest.fixture
def log(names: dict[str, Any]) -> gradlog.GradientLog:
    found: gradlog.GradientLog = names["array_log"]("in memory", gradients(), STEP)
    return dataclasses.replace(found, series=series())


def figures(analysis: gradlog.Analysis) -> dict[str, Any]:
    """All that an analysis says, but for where and how fast it was read."""
    document = gradlog.analysis_document(analysis)
    for word in ("path", "attributes"):
        document["run"].pop(word)
    found: dict[str, Any] = plain_values(document)
    return found


SETTINGS = {
    "all": gradlog.Settings(),
    "rows and tensors": gradlog.Settings(rows=(3, 41), exclude=("head",), rank="none"),
    "incremental": gradlog.Settings(rank="incremental"),
    "sketch": gradlog.Settings(rank="sketch", sketch_dim=64),
    "projected": gradlog.Settings(project=64, rank="none"),
    "subspaces": gradlog.Settings(subspace=3, window=10),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_arrays_in_memory_are_a_log_to_the_last_bit(
    log: gradlog.GradientLog, store: Path, settings: gradlog.Settings
) -> None:
    found, expected = (gradlog.analyze(run, settings) for run in (log, store))
    assert figures(found) == figures(expected)
    assert found.run.path == "in memory"
    assert found.cost.reader == "python"


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_what_more_a_tensor_says_makes_the_plan_of_a_store(
    names: dict[str, Any], store: Path, settings: gradlog.Settings
) -> None:
    """Where memory is short, the plan follows from how entries are read, and the order of sums from it."""

    class Plain(names["ArrayTensor"]):  # type: ignore[misc]
        @property
        def entry_bytes(self) -> int:
            return int(self.array.itemsize)

        @property
        def in_place(self) -> bool:
            return bool(self.array.dtype == self.compute_dtype)

        @property
        def read_in_part(self) -> bool:
            return True

        @property
        def chunk_seconds(self) -> float:
            return 8e-6

    tensors = tuple(Plain(name, values) for name, values in sorted(gradients().items()))
    log = gradlog.GradientLog(path="plain", tensors=tensors, rows=ROWS, step=STEP, series=series())
    memory = (18 if settings.rank == "incremental" else 6) << 20
    plans = [dataclasses.asdict(gradlog.describe_plan(r, settings, memory=memory)) for r in (log, store)]
    for plan in plans:
        del plan["path"]
    assert plans[0] == plans[1]
    found, expected = (gradlog.analyze(run, settings, memory=memory) for run in (log, store))
    assert figures(found) == figures(expected)
    assert found.cost.bytes_decoded == expected.cost.bytes_decoded


def test_in_blocks_of_rows_too(
    log: gradlog.GradientLog, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in_blocks_of_rows(monkeypatch, 16)
    settings = gradlog.Settings(rank="none", predictors=("one-step", "mean:5"))
    found, expected = (gradlog.analyze(run, settings, tensor_steps=True) for run in (log, store))
    assert figures(found) == figures(expected)


def test_whatever_takes_a_run_takes_it(log: gradlog.GradientLog, store: Path, tmp_path: Path) -> None:
    assert gradlog.open_log(log) is log
    plans = [gradlog.describe_plan(run) for run in (log, store)]
    assert (plans[0].ranges, plans[0].blocks, plans[0].method) == (
        plans[1].ranges, plans[1].blocks, plans[1].method,
    )  # fmt: skip
    settings = gradlog.Settings(subspace=3, window=10)
    relation = gradlog.relate(store, log, (STEP, STEP), settings)
    np.testing.assert_allclose(relation.cosine, 1)
    both = [gradlog.advise(run, only=["schedule", "edge"]) for run in (log, store)]
    assert both[0].decisions == both[1].decisions
    analyses = [
        gradlog.analyze_for_bounds(run, gradlog.Settings(), threads=2, memory=1 << 28, progress=None)
        for run in (log, store)
    ]
    assert gradlog.bounds(analyses[0]).rows == gradlog.bounds(analyses[1]).rows
    sketches = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    for run, sketch in zip((log, store), sketches, strict=True):
        gradlog.sketch_log(run, sketch, gradlog.Settings(sketch_dim=64))
    first, second = (
        {p.relative_to(s): p.read_bytes() for p in s.rglob("c/**/*") if p.is_file()} for s in sketches
    )
    assert first == second
    energies = []
    for run in (log, store):
        paths = [tmp_path / f"part.{number}" for number in (1, 2)]
        for number, path in enumerate(paths, 1):
            gradlog.write_part(gradlog.analyze_part(run, gradlog.PartNumber(number, 2)), path)
        energies.append(gradlog.merge_parts(paths).total.energy)
    assert energies[0] == energies[1]


def test_it_is_described(log: gradlog.GradientLog, store: Path) -> None:
    found, expected = gradlog.describe(log), gradlog.describe(store)
    assert (found.rows, found.steps, found.parameters) == (ROWS, (0, 490), expected.parameters)
    assert (found.series, found.zarr_format) == (("loss", "lr"), None)
    for own, other in zip(found.tensors, expected.tensors, strict=True):
        for field in ("name", "shape", "dtype", "rows", "chunks", "expected_chunks", "absent_chunks"):
            assert getattr(own, field) == getattr(other, field)
    assert gradlog.description_document(found)["zarr_format"] is None


def test_faults_of_another_log_read_as_those_of_a_store(names: dict[str, Any]) -> None:
    class Broken(names["ArrayTensor"]):  # type: ignore[misc]
        def read(self, *_: Any) -> None:
            raise gradlog.DataError(f"tensor '{self.name}': gone")

    class Patchy(names["ArrayTensor"]):  # type: ignore[misc]
        def inventory(self, rows: int, *, sizes: bool = False) -> gradlog.ChunkInventory:
            return dataclasses.replace(super().inventory(rows, sizes=sizes), absent=((2, 0, 0), (3, 0, 0)))

    class Damaged(names["ArrayTensor"]):  # type: ignore[misc]
        def inventory(self, *_: Any, **__: Any) -> gradlog.ChunkInventory:
            raise gradlog.DataError(f"tensor '{self.name}': its index is damaged")

    values = np.ones((ROWS, 4, 3))

    def log(tensor: gradlog.Tensor, **options: Any) -> gradlog.GradientLog:
        return gradlog.GradientLog(path="here", tensors=(tensor,), rows=ROWS, step=STEP, **options)

    with pytest.raises(gradlog.DataError, match=r"^here: tensor 'w': gone$"):
        gradlog.analyze(log(Broken("w", values)))
    for function in (gradlog.analyze, gradlog.describe):
        with pytest.raises(gradlog.DataError, match=r"^here: tensor 'w': its index is damaged$"):
            function(log(Damaged("w", values)))
    patchy = log(Patchy("w", values))
    warning, strided = gradlog.analyze(patchy).warnings
    assert (warning.code, strided.code) == ("chunks-absent", "steps-strided")
    assert warning.message.startswith("2 of 4 chunks are absent: tensor 'w' rows 32-49; read as")
    assert warning.message.endswith("no row from 32 on was ever written: --rows :32 leaves them out")
    with pytest.raises(gradlog.DataError, match=r"^here: 2 of 4 .* a format 1 log stores every chunk"):
        gradlog.analyze(log(Patchy("w", values), format_version=1))
    with pytest.raises(gradlog.DataError, match=r"^here: tensor 'v' is odd; mend it, or leave it out"):
        gradlog.analyze(log(names["ArrayTensor"]("w", values), faults={"v": "is odd"}))


@dataclass(frozen=True)
class Stacked(gradlog.Tensor):
    """The rows of several logs' tensors of one name, one log after the other."""

    parts: tuple[gradlog.Tensor, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parts[0].shape

    @property
    def dtype(self) -> str:
        return self.parts[0].dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        return self.parts[0].chunks

    def read(self, rows: tuple[int, int], box: tuple[slice, ...], out: NDArray[Any], room: int = 0) -> None:
        before = 0
        for part in self.parts:
            first, last = max(rows[0], before), min(rows[1], before + part.rows)
            if first < last:
                own = (first - before, last - before)
                part.read(own, box, out[first - rows[0] : last - rows[0]], room)
            before += part.rows


def test_several_stores_are_read_as_one_log(store: Path, tmp_path: Path) -> None:
    logs = []
    for number, rows in enumerate([(0, 16), (16, 32), (32, ROWS)]):
        part = {name: values[slice(*rows)] for name, values in gradients().items()}
        chunks = {name: (16, *values.shape[1:]) for name, values in part.items()}
        path = write_store(tmp_path / f"{number}.zarr", part, chunks=chunks, step=STEP[slice(*rows)].tolist())
        logs.append(gradlog.open_log(path))
    tensors = tuple(
        Stacked(parts[0].name, parts) for parts in zip(*(log.tensors for log in logs), strict=True)
    )
    step = np.concatenate([log.step for log in logs])
    whole = gradlog.GradientLog(
        path="three logs", tensors=tensors, rows=step.size, step=step, series=series()
    )
    assert figures(gradlog.analyze(whole)) == figures(gradlog.analyze(store))
