"""States of parts add up to those of the whole: at once, in a tree, and from files, for every measure."""

from __future__ import annotations

import io
import itertools
import pickle
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import Array, add_array, walk
from sweeps import WHOLE, mostly_slow, sweep
from test_parts import CHANGES, assert_close, members, npy, refused, text, write_members
from test_reference import logs

from conftest import read_in_blocks_of_rows, write_store
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog import Settings
from gradmf.gradlog.engine import ranges
from gradmf.gradlog.engine.adding import add_states, adding, results_of
from gradmf.gradlog.engine.measure import Measure, PassContext
from gradmf.gradlog.engine.state import HeldState, State, Symmetric, TensorError
from gradmf.gradlog.measures.gradient_matrices import NAME as MATRICES
from gradmf.gradlog.measures.gradient_matrices import GradientMatrices, SampledMatrices
from gradmf.gradlog.measures.increment_windows import NAME as WINDOWS
from gradmf.gradlog.measures.increment_windows import IncrementWindows
from gradmf.gradlog.runs.assembly import assemble
from gradmf.gradlog.runs.partial import PartialAnalysis, take_part
from gradmf.gradlog.runs.preparation import prepare
from gradmf.gradlog.runs.prepared_pass import run_analysis
from gradmf.gradlog.runs.wanted import Wanted
from gradmf.gradlog.sizes import DEFAULT_MEMORY

ROWS = 70
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "several": {"t0": (30, 100), "t1": (3,), "t2": (100, 90), "t3": (5,), "t4": (7, 100), "t5": (6000,)},
    "one": {"w": (120, 100)},
    "one small": {"w": (9, 10)},
    "one and nothing": {"a": (0,), "w": (120, 100)},
    "few columns": {"a": (11,), "b": (5, 4)},
}


@dataclass(frozen=True)
class Case:
    """What is asked of a store. rel : how far its figures may be from those of the whole, relative"""

    settings: Settings
    wanted: Wanted = Wanted()  # noqa: RUF009
    store: str = "several"
    rel: float = 1e-12
    blocks: bool = False


SEARCH, STEPS = Wanted(search=True), Wanted(tensor_steps=True)
CASES = {
    "exact": Case(Settings(groups=("t[05]", "t2", "t[346]"), windows=3), STEPS),
    "exact of one": Case(Settings(windows=3), STEPS, "one"),
    "exact over columns": Case(Settings(groups=("a", "[ab]"), windows=(20, 10)), STEPS, "few columns"),
    "sums": Case(Settings(rank="none", windows=(20, 10)), STEPS, blocks=True),
    "search": Case(Settings(windows=3), SEARCH, rel=1e-9),
    "search of one": Case(Settings(), SEARCH, "one", rel=1e-9),
    "search of a small one": Case(Settings(), SEARCH, "one small", rel=1e-9),
    "search beside nothing": Case(Settings(), SEARCH, "one and nothing", rel=1e-9),
    "band": Case(Settings(rank="none"), SEARCH, rel=1e-9, blocks=True),
    "band of one": Case(Settings(rank="none", band=8), SEARCH, "one", rel=1e-9),
    "band over columns": Case(Settings(), SEARCH, "few columns", rel=1e-9),
    "subspaces": Case(Settings(subspace=2), rel=1e-9),
    "subspaces without ranks": Case(Settings(subspace=3, window=11, rank="none"), rel=1e-9, blocks=True),
    "subspaces of one": Case(Settings(subspace=2), store="one", rel=1e-9),
    "subspaces over columns": Case(Settings(subspace=2), store="few columns", rel=1e-9),
    "sketch": Case(Settings(rank="sketch", sketch_dim=128, seed=3), STEPS, rel=1e-7),
    "sketch in blocks": Case(Settings(rank="sketch", subspace=2), SEARCH, rel=1e-7, blocks=True),
    "sketch of one": Case(Settings(rank="sketch", sketch_dim=128), store="one", rel=1e-7),
    "stored sketch": Case(Settings(groups=("t[05]", "t2"), windows=3), STEPS, "a sketch", rel=1e-7),
    "stored sketch in blocks": Case(Settings(rank="none"), store="a sketch", rel=1e-9, blocks=True),
    "stored sketch of one": Case(Settings(), store="a sketch of one", rel=1e-7),
    "stored copies": Case(Settings(), store="a sketch of nothing", rel=1e-9),
}
QUICK = (
    "exact", "search", "band", "subspaces", "sketch", "subspaces over columns", "sketch of one",
    "stored sketch", "stored copies",
)  # fmt: skip
SKETCHES = {"a sketch": "several", "a sketch of one": "one", "a sketch of nothing": "few columns"}


def store_of(kind: str, folder: Path) -> Path:
    """Tensors that are cut between parts, and others that share a range."""
    group = zarr.open_group(folder / f"{kind}.zarr", mode="w")
    for seed, (name, shape) in enumerate(SHAPES[kind].items()):
        chunks = (
            20,
            *(min(10 if len(shape) > 1 else 900, max(1, extent)) for extent in shape[:1]),
            *shape[1:],
        )
        add_array(group, name, walk(ROWS, shape, seed, ("float32", "float64")[seed % 3 == 2]), chunks=chunks)
    return folder / f"{kind}.zarr"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder: Path = tmp_path_factory.mktemp("states")
    found = {kind: store_of(kind, folder) for kind in SHAPES}
    for kind, of in SKETCHES.items():
        found[kind] = folder / f"{kind}.zarr"
        gradlog.sketch_log(found[of], found[kind], Settings(sketch_dim=4096))
        cut_chunks(found[kind])
    return found


def cut_chunks(sketch: Path) -> None:
    """Let chunks of a sketch hold some sums of some groups: it is written in chunks of whole rows."""
    group = zarr.open_group(sketch / "grads")
    for name, array in list(group.arrays()):
        if "gradlog" not in array.attrs:
            continue
        values, said = array[...], dict(array.attrs)
        written = group.create_array(
            name, shape=array.shape, dtype=array.dtype, chunks=(20, 3, 200), overwrite=True, attributes=said,
            dimension_names=array.metadata.dimension_names,
        )  # fmt: skip
        written[...] = values


@pytest.fixture(autouse=True)
def narrow_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "BLOCK_BYTES", ROWS * 4 * 2100)
    monkeypatch.setattr(ranges, "TALL_WIDTH", 2100)


@dataclass(frozen=True)
class Taken:
    """Parts of a run, and the measures that were taken of each."""

    measures: Sequence[Measure]
    parts: Sequence[PartialAnalysis]

    @property
    def states(self) -> list[HeldState]:
        return [part.state for part in self.parts]

    def adding(self) -> Any:
        first = self.parts[0]
        tensors = first.selection.tensors
        names, parameters = [t.name for t in tensors], [t.entries for t in tensors]
        return adding(names, parameters, first.selection.step.size, first.strips)

    def results(self, size: int) -> Mapping[str, Any]:
        """By a tree of groups of so many; 0 for all at once."""
        with self.adding() as context:
            states = self.states if size == 0 else tree(self.measures, context, self.states, size)
            return results_of(self.measures, context, states)

    def analysis(self, size: int) -> gradlog.Analysis:
        """As merging assembles it."""
        first = self.parts[0]
        warnings = tuple(dict.fromkeys(warning for part in self.parts for warning in part.warnings))
        return assemble(first.selection, first.settings, self.results(size), warnings, first.cost)


def taken(path: Path, count: int, settings: Settings, wanted: Wanted) -> Taken:
    parts, measures = [], []
    for number in (gradlog.PartNumber(index, count) for index in range(1, count + 1)):
        ready = prepare(path, settings, 1 + number.index % 2, DEFAULT_MEMORY, number, wanted)
        parts.append(take_part(ready, number))
        measures.append(ready.plan.measures)
    assert all(each == measures[0] for each in measures)
    return Taken(measures[0], parts)


def tree(
    measures: Sequence[Measure], context: PassContext, states: Sequence[HeldState], size: int
) -> list[HeldState]:
    """One state, of groups of neighbours that were added group by group; each crosses to another process."""
    while True:
        groups = [states[at : at + size] for at in range(0, len(states), size)]
        states = [pickle.loads(pickle.dumps(add_states(measures, context, group))) for group in groups]
        if len(states) == 1:
            return list(states)


def document(analysis: gradlog.Analysis) -> Any:
    return gradlog.analysis_document(analysis)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("name", mostly_slow(CASES, QUICK))
def test_parts_add_up_to_the_whole(
    stores: dict[str, Path], tmp_path: Path, name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    path = stores[case.store]
    if case.blocks:
        read_in_blocks_of_rows(monkeypatch, 40)
    whole = document(gradlog.analyze(path, case.settings, **vars_of(case.wanted)))
    found = taken(path, count, case.settings, case.wanted)
    files = [tmp_path / f"part.{part.part.index}" for part in found.parts]
    for part, file in zip(found.parts, files, strict=True):
        gradlog.write_part(part, file)
    merged = gradlog.merge_parts(files)
    assert_close(document(merged), whole, rel=case.rel)
    for order in itertools.islice(itertools.permutations(files), 1, 4):
        assert text(gradlog.merge_parts(order)) == text(merged)
    assert text(found.analysis(0)) == text(merged)
    for size in (2, 3):
        added = found.analysis(size)
        assert_close(document(added), whole, rel=case.rel)
        assert text(found.analysis(size)) == text(added)


@settings(max_examples=sweep(20), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=logs(),
    count=st.integers(1, 7),
    size=st.integers(2, 4),
    rank=st.sampled_from(["exact", "none", "sketch"]),
    block=st.sampled_from([1 << 9, 1 << 12]),
)
def test_any_log_adds_up(
    log: tuple[dict[str, Array], dict[str, tuple[int, ...]]], count: int, size: int, rank: str, block: int
) -> None:
    tensors, chunks = log
    asked = Settings(rank=rank, windows=1)
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK_BYTES", block)
        path = write_store(Path(place) / "run.zarr", tensors, chunks=chunks)
        whole = document(gradlog.analyze(path, asked, tensor_steps=True))
        found = taken(path, count, asked, STEPS)
        for each in (0, size):
            assert_close(document(found.analysis(each)), whole, rel=1e-7 if rank == "sketch" else 1e-12)


def vars_of(wanted: Wanted) -> dict[str, bool]:
    return {"tensor_steps": wanted.tensor_steps, "search": wanted.search}


def test_tensors_are_cut_between_parts(stores: dict[str, Path]) -> None:
    """Else the tests here would hold nothing."""
    for name in ("exact", "search", "subspaces", "sketch", "stored sketch"):
        case = CASES[name]
        parts = taken(stores[case.store], 7, case.settings, case.wanted).parts
        cut = [
            tensor
            for tensor, strips in enumerate(parts[0].strips)
            if sum(part.held[tensor] > 0 for part in parts) > 1 and strips > 1
        ]
        assert cut


def test_states_and_errors_cross_processes() -> None:
    whole = np.arange(9.0).reshape(3, 3)
    (found,) = pickle.loads(pickle.dumps((Symmetric(whole),)))
    np.testing.assert_array_equal(np.tril(found.matrix), np.tril(whole))
    assert len(pickle.dumps(Symmetric(np.zeros((500, 500))))) < 4 * 500 * 502 + 1000
    error = pickle.loads(pickle.dumps(TensorError("no part holds tensor {}", 3)))
    assert (str(error), error.tensor) == ("no part holds tensor 3", 3)


def arrays(states: Mapping[str, State]) -> Iterator[tuple[str, Array]]:
    for measure, state in states.items():
        for name, array in state.items():
            matrix = np.tril(array.matrix) if isinstance(array, Symmetric) else array
            yield f"{measure}/{name}", np.array(matrix)


def same(one: Mapping[str, State], other: Mapping[str, State]) -> None:
    first, second = dict(arrays(one)), dict(arrays(other))
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


@pytest.mark.parametrize(
    "name", ["exact", "search", "band", "subspaces", "sketch", "search of one", "stored sketch"]
)
def test_a_state_that_is_added_alone_stays_as_it_is(stores: dict[str, Path], name: str) -> None:
    case = CASES[name]
    found = taken(stores[case.store], 3, case.settings, case.wanted)
    before = pickle.loads(pickle.dumps(found.states))
    with found.adding() as context:
        for state in found.states:
            alone = add_states(found.measures, context, [state])
            same(alone.states, state.states)
            assert list(alone.held) == list(state.held)
        together = add_states(found.measures, context, found.states)
    for state, kept in zip(found.states, before, strict=True):
        same(state.states, kept.states)
    assert list(together.held) == list(found.parts[0].strips)


def test_a_tensor_that_becomes_whole_on_the_way_is_finished_there(stores: dict[str, Path]) -> None:
    found = taken(stores["several"], 7, Settings(subspace=2), SEARCH)
    strips = found.parts[0].strips
    with found.adding() as context:
        for first, last in itertools.combinations(range(8), 2):
            added = add_states(found.measures, context, found.states[first:last])
            whole = [tensor for tensor, count in enumerate(strips) if 0 < count == added.held[tensor]]
            cut = [tensor for tensor, count in enumerate(strips) if 0 < added.held[tensor] < count]
            for measure, finished, others in (
                ("spectrum", "squares", "gram"),
                ("search", "found", "products"),
                ("subspaces", "results", "matrices"),
            ):
                assert added.of(measure).numbers(finished) == whole
                assert added.of(measure).numbers(others) == cut


def test_what_advice_takes_adds_up(stores: dict[str, Path]) -> None:
    for kind in ("several", "one", "few columns"):
        beside = Wanted(
            tensor_steps=True,
            search=True,
            beside=(GradientMatrices(None, DEFAULT_MEMORY),),
            following=(IncrementWindows(),),
        )
        ready = prepare(stores[kind], Settings(), None, DEFAULT_MEMORY, wanted=beside)
        whole = run_analysis(ready, None)[1].results
        for count, size in ((1, 0), (3, 0), (3, 2), (7, 2), (7, 3)):
            found = taken(stores[kind], count, Settings(), beside).results(size)
            matrices, expected = found[MATRICES], whole[MATRICES]
            assert isinstance(matrices, SampledMatrices)
            assert matrices.reasons == expected.reasons
            assert list(matrices.spectra) == list(expected.spectra)
            for name, each in expected.spectra.items():
                other = matrices.spectra[name]
                assert other.shape == each.shape
                np.testing.assert_array_equal(other.rows, each.rows)
                np.testing.assert_array_equal(other.squares, each.squares)  # no sum is taken
                np.testing.assert_array_equal(other.held, each.held)
            if whole[WINDOWS] is None:
                assert found[WINDOWS] is None
            else:
                largest = whole[WINDOWS].max()
                np.testing.assert_allclose(found[WINDOWS], whole[WINDOWS], rtol=1e-12, atol=1e-12 * largest)


def test_matrices_that_are_not_sampled_say_why(stores: dict[str, Path]) -> None:
    beside = Wanted(beside=(GradientMatrices(None, 1 << 16),))
    ready = prepare(stores["several"], Settings(rank="none"), None, DEFAULT_MEMORY, wanted=beside)
    expected = run_analysis(ready, None)[1].results[MATRICES].reasons
    assert expected
    found = taken(stores["several"], 7, Settings(rank="none"), beside)
    for size in (0, 2):
        assert found.results(size)[MATRICES].reasons == expected


def test_a_part_that_is_missing_is_told(stores: dict[str, Path]) -> None:
    found = taken(stores["several"], 3, Settings(), Wanted())
    with found.adding() as context, pytest.raises(TensorError, match="no part holds the spectrum of tensor"):
        results_of(found.measures, context, found.states[:-1])
    with found.adding() as context, pytest.raises(TensorError, match="which is whole without it"):
        results_of(found.measures, context, [*found.states, found.states[-1]])


SEARCHED = {
    "exact": Settings(subspace=2),
    "none": Settings(rank="none"),
    "sketch": Settings(rank="sketch", sketch_dim=128),
    "stored": Settings(),
}
BY_THEMSELVES = {("spectrum/sums", "double"), ("spectrum/total.npy", "double"), ("subspaces/results", "NaN")}
"""Nothing else that a part holds tells what is in the sums of a sketch, or why there is no share."""


@pytest.mark.parametrize("rank", SEARCHED)
def test_changed_arrays_are_told_with_their_file(stores: dict[str, Path], tmp_path: Path, rank: str) -> None:
    files = [tmp_path / f"part.{index}" for index in (1, 2, 3)]
    for index, file in enumerate(files, 1):
        number = gradlog.PartNumber(index, 3)
        stored = rank == "stored"
        path = stores["a sketch" if stored else "several"]
        part = gradlog.analyze_part(path, number, SEARCHED[rank], search=not stored)
        gradlog.write_part(part, file)
    kinds = set()
    for file in files:
        held = members(file)
        for name in held:
            kind = re.sub(r"/\d+\.npy$", "", name)
            looked_at = name.startswith(("search/", "subspaces/", "spectrum/", "path_lengths/groups/"))
            if not looked_at or (kind in kinds and not WHOLE):
                continue
            kinds.add(kind)
            array = np.load(io.BytesIO(held[name]))
            for word in ("flat", "NaN", "double", "single", "none"):
                changed = CHANGES[word](array)
                if npy(changed) == held[name] or (kind, word) in BY_THEMSELVES:
                    continue
                write_members(file, {**held, name: npy(changed)})
                assert refused(files).startswith(f"{file}: "), (name, word)
            write_members(file, {other: data for other, data in held.items() if other != name})
            assert refused(files).startswith(f"{file}: no part file, or a damaged one ("), name
            write_members(file, held)
    assert ("path_lengths/groups" if stored else "search") in {
        kind.partition("/")[0] for kind in kinds
    } | kinds


def without_cost(shown: str) -> str:
    return re.sub(r" MB in [\d.]+ s \([^)]*\)", "", shown)


def test_increments_that_overflow_are_told(tmp_path: Path) -> None:
    """Of a tensor that a part holds a piece of, too: float32 gradients can be too far apart for float32."""
    values = walk(30, (9000,), 1)
    values[11:] += np.float32(3e38)
    values[:11] -= np.float32(3e38)
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    add_array(group, "w", values, chunks=(30, 900))
    asked = Settings(rank="sketch", sketch_dim=128)
    for count in (1, 3):
        with pytest.raises(gradlog.DataError, match="tensor 'w': increments exceed the largest float32"):
            gradlog.analyze_part(tmp_path / "run.zarr", gradlog.PartNumber(1, count), asked)


def test_command_lines(stores: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(stores["several"])
    asked = ["--subspace", "2", "--rank", "sketch", "--sketch-dim", "128"]
    for index in (1, 2):
        out = str(tmp_path / f"part.{index}")
        assert main(["analyze", run, *asked, "--search", "--part", f"{index}/2", "-o", out, "-q"]) == 0
    parts = [str(tmp_path / f"part.{index}") for index in (2, 1)]
    assert main(["analyze", run, *asked, "-q"]) == 0
    shown = capsys.readouterr().out
    assert "Share of gradients inside" in shown
    assert main(["merge", *parts, "-q"]) == 0
    assert without_cost(capsys.readouterr().out) == without_cost(shown)
    other = str(tmp_path / "other")
    assert main(["analyze", run, *asked, "--part", "2/2", "-o", other, "-q"]) == 0
    assert main(["merge", parts[1], other]) == 1
    assert "made without --search, unlike the first" in capsys.readouterr().err
