"""Sums of tensors by step that are many, beside their document: the same bits, whole or refused."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_store
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog import Analysis, TensorSteps
from gradmf.gradlog.documents import tensor_steps_document, tensor_table
from gradmf.gradlog.documents.plain_values import plain_values
from gradmf.gradlog.documents.tensor_table import TensorTable, write_table
from gradmf.gradlog.logs import whole_file
from gradmf.gradlog.logs.places.files_beside import FilesBeside
from gradmf.gradlog.logs.places.finding import place_of
from gradmf.gradlog.results.typed_fields import Fields

ROWS = 40
NUMBERS = 2 * ROWS * 13
"""Of two tensors: an energy, and a path length and a product of each of six predictors."""
TABLE = "run.json.steps.npz"
CURE = ": keep both files together, or analyze again\n"


class Ran:
    """What a command line did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Ran]:
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin.encode())))
        code = main([str(word) for word in words])
        return Ran(code, *capfd.readouterr())

    return call


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that every table is above."""
    limit(monkeypatch, 0)


def limit(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    monkeypatch.setattr(tensor_steps_document, "MOST_NUMBERS", numbers)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("logs")
    found = []
    for name, scale in (("a", 1.0), ("b", 1.1)):
        tensors = {"v": rng.standard_normal((ROWS, 3)), "w": scale * rng.standard_normal((ROWS, 2, 2))}
        found.append(str(write_store(folder / f"{name}.zarr", tensors)))
    return found


ASKED = ("-q", "--tensor-steps", "--format")


@pytest.fixture
def result(run: Callable[..., Ran], logs: list[str], few: None) -> Path:
    """A result, with its table beside it."""
    assert few is None
    assert run("analyze", logs[0], *ASKED, "json", "-o", "run.json").code == 0
    return Path("run.json")


def held(path: str | Path) -> Any:
    return json.loads(Path(path).read_text())


def bits(steps: TensorSteps | None) -> dict[str, bytes]:
    assert steps is not None
    arrays = {"edges": steps.edges, "energy": steps.energy}
    arrays |= {f"path_length {spec}": values for spec, values in steps.path_length.items()}
    arrays |= {f"product {spec}": values for spec, values in steps.product.items()}
    return {name: array.tobytes() for name, array in arrays.items()}


def change(path: Path, **fields: Any) -> None:
    """Let the document say something else of its table."""
    document = held(path)
    document["tensor_steps"].update(fields)
    path.write_text(json.dumps(document))


def names_in(folder: str | Path = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize(("most", "there"), [(NUMBERS, False), (NUMBERS - 1, True)])
def test_many_numbers_go_beside_and_come_back(
    run: Callable[..., Ran], logs: list[str], monkeypatch: pytest.MonkeyPatch, most: int, there: bool
) -> None:
    within = run("analyze", logs[0], *ASKED, "json").out
    limit(monkeypatch, most)
    assert run("analyze", logs[0], *ASKED, "json", "-o", "run.json").code == 0
    assert names_in() == ["run.json", TABLE][: 1 + there]
    (expected,) = gradlog.read_analyses(within, "x")
    (found,) = gradlog.load_analyses("run.json")
    assert bits(found.tensor_steps) == bits(expected.tensor_steps)
    assert gradlog.analysis_document(found) == gradlog.analysis_document(expected)
    if not there:
        assert Path("run.json").read_text() == within
        return
    document, whole = held("run.json"), json.loads(within)
    reference = document.pop("tensor_steps")
    assert reference == {
        "file": TABLE,
        "sha256": digest(TABLE),
        "shape": [2, ROWS],
        "edges": whole["tensor_steps"]["edges"],
        "predictors": list(whole["tensor_steps"]["tensors"][0]["product"]),
        "tensors": ["v", "w"],
    }
    del whole["tensor_steps"]
    assert document == whole
    with np.load(TABLE, allow_pickle=False) as arrays:
        assert len(arrays.files) == 13
        assert {(array.shape, array.dtype.str) for array in arrays.values()} == {((2, ROWS), "<f8")}
        assert arrays["product[ema:0.9]"][1].tolist() == [
            found.tensor_steps.product["ema:0.9"][1, row]  # type: ignore[union-attr]
            for row in range(ROWS)
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_finite_number_comes_back(data: st.DataObject, folder: Path) -> None:
    tensors, bins = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    table = st.lists(finite, min_size=tensors * bins, max_size=tensors * bins)

    def sums() -> Any:
        return np.array(data.draw(table)).reshape(tensors, bins)

    specs = data.draw(st.sampled_from([(), ("one-step",), ("ema:0.5", "one-step")]))
    steps = TensorSteps(
        np.arange(bins + 1), sums(), {spec: sums() for spec in specs}, {spec: sums() for spec in specs}
    )
    document = place_of(folder / "run.json")
    beside = FilesBeside(document)
    names = data.draw(st.lists(st.text(), min_size=tensors, max_size=tensors))
    with contextlib.closing(beside), (folder / "run.json").open("wb") as file:
        reference = json.loads(json.dumps(plain_values(write_table(names, steps, beside))))
        beside.put(file)
    found = TensorTable.of(Fields(reference))
    assert found is not None
    assert list(found.tensors) == names
    assert bits(found.read(document, "run.json")) == bits(steps)


def test_commands_say_the_same(run: Callable[..., Ran], logs: list[str], few: None) -> None:
    """As of what holds its sums itself, to the last letter."""
    assert few is None
    for log, name in zip(logs, ("a", "b"), strict=True):
        Path("beside").mkdir(exist_ok=True)
        assert run("analyze", log, *ASKED, "json", "-o", f"beside/{name}").code == 0
        Path("within").mkdir(exist_ok=True)
        Path("within", name).write_text(run("analyze", log, *ASKED, "json").out)
    assert names_in("beside") == ["a", "a.steps.npz", "b", "b.steps.npz"]
    for words in (
        "compare {0}/a {0}/b", "compare {0}/a {0}/b --format json",
        "compare {0}/a {0}/b --format csv --align step",
        "compare {0}/a {0}/b --fail-if 'energy > +0.1% in *'", "advise {0}/a --format json", "bounds {0}/b",
    ):  # fmt: skip
        beside, within = (run(*shlex.split(words.format(folder))) for folder in ("beside", "within"))
        assert (beside.code, beside.out, beside.err) == (within.code, within.out, within.err)
    assert any(
        change["p"] is not None
        for tensor in json.loads(run("compare", "beside/a", "beside/b", "--format", "json").out)["tensors"]
        for change in tensor["changes"]
    )
    for folder in ("beside", "within"):
        words = (f"{folder}/a", f"{folder}/b", "-q", "--to", "csv", "-o", f"{folder}.csv")
        assert run("export", *words).code == 0
    assert Path("beside.csv").read_bytes() == Path("within.csv").read_bytes()
    assert b",tensor,w,step,product,one-step," in Path("beside.csv").read_bytes()


def another(table: Path) -> None:
    """The same arrays, and one number that is another."""
    with np.load(table) as arrays:
        changed = {name: array.copy() for name, array in arrays.items()}
    changed["energy"][0, 3] *= 1 + 1e-15
    np.savez(table, **changed)


OTHER = "changed, cut short or of another result: not the sums"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "missing, with"),
    "a folder": (lambda table: (table.unlink(), table.mkdir()), "cannot be read, with"),
    "cut short": (
        lambda table: os.truncate(table, table.stat().st_size - 1),
        "changed, cut short or of another",
    ),
    "empty": (lambda table: os.truncate(table, 0), OTHER),
    "longer": (
        lambda table: table.write_bytes(table.read_bytes() + b"\0"),
        "changed, cut short or of another",
    ),
    "another number": (another, OTHER),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_is_one_line_that_names_it(
    run: Callable[..., Ran], result: Path, damage: str
) -> None:
    spoil, told = DAMAGE[damage]
    assert run("bounds", result).code == 0
    spoil(Path(TABLE))
    for words in (
        ("compare", result, result),
        ("bounds", result),
        ("export", result, "--to", "csv", "-o", "x.csv"),
    ):
        ran = run(*words)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith(f"gradmf: error: {TABLE}: {told}")
        assert f"the sums of tensors by step of {result}" in ran.err
        assert ran.err.count("\n") == 1
        assert ran.err.endswith(CURE)


def test_a_damaged_table_does_not_stop_other_runs(
    run: Callable[..., Ran], logs: list[str], result: Path
) -> None:
    Path("lost").mkdir()
    Path("lost/run.json").write_bytes(result.read_bytes())
    ran = run("bounds", "lost/run.json", result, logs[1], "--format", "jsonl")
    assert ran.code == 1
    assert [json.loads(line)["run"]["path"] for line in ran.out.splitlines()] == logs
    assert ran.err.startswith(f"gradmf: error: lost/{TABLE}: missing")


def arrays_of(table: Path) -> dict[str, Any]:
    with np.load(table) as arrays:
        return dict(arrays.items())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda held: held | {"energy": held["energy"][:, 1:]}, "'energy' has shape (2, 39), float64, not "),
        (lambda held: held | {"energy": held["energy"].T}, "'energy' has shape (40, 2), float64, not (2"),
        (
            lambda held: held | {"product[linear]": held["product[linear]"].astype(np.float32)},
            "'product[linear]' has shape (2, 40), float32, not (2, 40), float64",
        ),
        (
            lambda held: held | {"path_length[mean:5]": np.where(np.arange(40) == 7, np.nan, held["energy"])},
            "'path_length[mean:5]' holds what is not finite",
        ),
        (lambda held: held | {"energy": held["energy"] * np.inf}, "'energy' holds what is not finite"),
        (lambda held: held | {"energy": held["energy"].astype(object)}, "no .npz file: "),
        (
            lambda held: {name: array for name, array in held.items() if name != "product[ema:0.5]"},
            "it holds no array 'product[ema:0.5]'",
        ),
    ],
)  # fmt: skip
def test_a_table_of_other_arrays_is_refused(
    result: Path, spoil: Callable[[dict[str, Any]], dict[str, Any]], told: str
) -> None:
    """Also where its digest is right."""
    np.savez(TABLE, **spoil(arrays_of(Path(TABLE))))
    change(result, sha256=digest(TABLE))
    with pytest.raises(gradlog.DataError) as caught:
        gradlog.load_analyses(result)
    assert str(caught.value).startswith(f"{TABLE}: not the sums of tensors by step of run.json: {told}")
    assert f"{caught.value}\n".endswith(CURE)
    assert "\n" not in str(caught.value)


def test_what_is_no_archive_is_refused(result: Path) -> None:
    for data in (b"", b"PK\x03\x04", b"\x93NUMPY", Path(TABLE).read_bytes()[:-30]):
        Path(TABLE).write_bytes(data)
        change(result, sha256=digest(TABLE))
        with pytest.raises(gradlog.DataError, match=rf"^{TABLE}: not the sums .*: no \.npz file: ") as caught:
            gradlog.load_analyses(result)
        assert "\n" not in str(caught.value)


def test_sums_that_do_not_add_up_are_refused(result: Path) -> None:
    """A table is held against the rest of its document as one within it is."""
    arrays = arrays_of(Path(TABLE))
    arrays["energy"][1, 5] *= 2
    np.savez(TABLE, **arrays)
    change(result, sha256=digest(TABLE))
    with pytest.raises(
        gradlog.DataError,
        match=r"^run\.json: a damaged result of gradmf analyze: its steps of tensor 'w' don't add up",
    ):
        gradlog.load_analyses(result)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("file", "../run.json.steps.npz", "tensor_steps.file is no name of a file beside it"),
        ("file", "/etc/passwd", "tensor_steps.file is no name of a file beside it"),
        ("file", "..", "tensor_steps.file is no name of a file beside it"),
        ("file", "", "tensor_steps.file is no name of a file beside it"),
        ("file", "a\0b", "tensor_steps.file is no name of a file beside it"),
        ("file", 3, "tensor_steps.file is 3, not a string"),
        ("sha256", "", "tensor_steps.sha256 is no SHA-256 digest"),
        ("sha256", None, "tensor_steps.sha256 is null, not a string"),
        ("shape", [2, 41], "tensor_steps.shape is not that of its tensors and edges"),
        ("shape", [2], "tensor_steps.shape is not that of its tensors and edges"),
        ("edges", [0, 40], "tensor_steps.shape is not that of its tensors and edges"),
        ("edges", [0.5], r"tensor_steps.edges\[0\] is 0.5, not a whole number"),
        ("tensors", ["v", "v"], "tensor_steps.tensors are not the tensors"),
        ("tensors", ["v", "x"], "tensor_steps.tensors are not the tensors"),
        ("predictors", ["one-step"], "its tensor_steps have other predictors than the whole"),
    ],
)
def test_a_damaged_reference_is_told(result: Path, field: str, value: Any, told: str) -> None:
    change(result, **{field: value})
    with pytest.raises(
        gradlog.DataError, match=rf"^run\.json: a damaged result of gradmf analyze: {told}; write it anew$"
    ):
        gradlog.load_analyses(result)


def test_tensors_are_told_by_their_names(result: Path) -> None:
    """In whatever order the document lists them, as those within it are."""
    (expected,) = gradlog.load_analyses(result)
    document = held(result)
    document["tensors"].reverse()
    result.write_text(json.dumps(document))
    (found,) = gradlog.load_analyses(result)
    assert [tensor.name for tensor in found.tensors] == ["w", "v"]
    assert found.tensor_steps is not None
    assert expected.tensor_steps is not None
    assert found.tensor_steps.energy.tolist() == expected.tensor_steps.energy[::-1].tolist()
    assert (
        found.tensor_steps.product["linear"].tolist()
        == expected.tensor_steps.product["linear"][::-1].tolist()
    )


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_each_of_several_runs_has_its_table(
    run: Callable[..., Ran], logs: list[str], few: None, format: str
) -> None:
    assert few is None
    within = run("analyze", *logs, *ASKED, format, *(["--steps"] if format == "jsonl" else [])).out
    words = ("--steps", "-o", "runs") if format == "jsonl" else ("-o", "runs")
    assert run("analyze", *logs, *ASKED, format, *words).code == 0
    assert names_in() == ["runs", "runs.1.steps.npz", "runs.2.steps.npz"]
    found, expected = gradlog.load_analyses("runs"), gradlog.read_analyses(within, "x")
    assert [bits(a.tensor_steps) for a in found] == [bits(a.tensor_steps) for a in expected]
    Path("within").write_text(within)
    assert run("compare", "runs").out == run("compare", "within").out != ""
    Path("runs.1.steps.npz").rename("one")
    Path("runs.2.steps.npz").rename("runs.1.steps.npz")
    Path("one").rename("runs.2.steps.npz")
    which = "runs, line 1" if format == "jsonl" else "runs, result 1"
    with pytest.raises(
        gradlog.DataError, match=rf"^runs\.1\.steps\.npz: changed, .*: not the sums .* of {which}, "
    ):
        gradlog.load_analyses("runs")


def test_a_single_line_has_a_numbered_table(run: Callable[..., Ran], logs: list[str], few: None) -> None:
    assert few is None
    assert run("analyze", logs[0], *ASKED, "jsonl", "-o", "run.jsonl").code == 0
    assert names_in() == ["run.jsonl", "run.jsonl.1.steps.npz"]


def test_what_is_written_again_replaces_both(run: Callable[..., Ran], logs: list[str], result: Path) -> None:
    Path(TABLE).chmod(0o604)
    before = digest(TABLE), held(result)["tensor_steps"]["sha256"]
    assert run("analyze", logs[1], *ASKED, "json", "-o", result).code == 0
    after = digest(TABLE), held(result)["tensor_steps"]["sha256"]
    assert before[0] == before[1] != after[0] == after[1]
    assert Path(TABLE).stat().st_mode & 0o777 == 0o604
    assert gradlog.load_analyses(result)[0].run.path == logs[1]
    assert names_in() == [str(result), TABLE]


def test_an_old_document_with_a_new_table_is_refused(
    run: Callable[..., Ran], logs: list[str], result: Path
) -> None:
    """As a kill between the two leaves them."""
    text = result.read_text()
    assert run("analyze", logs[1], *ASKED, "json", "-o", result).code == 0
    result.write_text(text)
    with pytest.raises(gradlog.DataError, match=rf"^{TABLE}: changed, cut short or of another result: "):
        gradlog.load_analyses(result)


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("at", range(3))
def test_a_disk_that_is_full_leaves_what_was_there(
    run: Callable[..., Ran],
    logs: list[str],
    result: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
    at: int,
) -> None:
    """Whichever file it is that the bytes have no room for."""
    kept = {name: Path(name).read_bytes() for name in (str(result), TABLE)} if before else {}
    if not before:
        result.unlink()
        Path(TABLE).unlink()
    left = iter(range(100))
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: full() if next(left) == at else fsync(file))
    ran = run("analyze", logs[1], *ASKED, "json", "-o", result)
    assert next(left) == at + 1  # it was asked for
    assert (ran.code, ran.out) == (1, "")
    assert ran.err in (f"gradmf: error: {name}: No space left on device\n" for name in (result, TABLE))
    assert {name: Path(name).read_bytes() for name in names_in()} == kept


@pytest.mark.parametrize("name", ["run.json", "runs.1.steps.npz"])
def test_names_that_cannot_be_taken_leave_none(
    run: Callable[..., Ran], logs: list[str], few: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The document's, which comes last, or that of the one of two tables that comes last."""
    assert few is None
    replace = Path.replace
    taken = []

    def refusing(path: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise OSError(1, "Operation not permitted")
        taken.append(Path(target).name)
        return replace(path, target)

    monkeypatch.setattr(whole_file.Path, "replace", refusing)
    words = (logs[0], *ASKED, "json") if name == "run.json" else (*logs, *ASKED, "jsonl")
    ran = run("analyze", *words, "-o", name.partition(".1")[0])
    assert (ran.code, ran.err.count("\n"), "Operation not permitted" in ran.err) == (1, 1, True)
    assert taken == [TABLE if name == "run.json" else "runs.2.steps.npz"]
    assert names_in() == []


def test_a_table_without_room_is_named(
    run: Callable[..., Ran], logs: list[str], few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert few is None
    monkeypatch.setattr(tensor_table.np.lib.format, "write_array", full)
    ran = run("analyze", logs[0], *ASKED, "json", "-o", "run.json")
    assert (ran.code, ran.out, ran.err) == (1, "", f"gradmf: error: {TABLE}: No space left on device\n")
    assert names_in() == []


def test_a_limit_on_the_size_of_files_is_one_line(logs: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from gradmf.gradlog.documents import tensor_steps_document as held; "
        "held.MOST_NUMBERS = 0; "
        "from gradmf.cli.main import main; sys.exit(main())"
    )
    words = [sys.executable, "-c", script, "analyze", logs[0], *ASKED, "json", "-o", "run.json"]
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 0\n{shlex.join(words)}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (1, f"gradmf: error: {TABLE}: File too large\n")
    assert names_in(tmp_path) == []


def test_runs_that_all_fail_leave_nothing(run: Callable[..., Ran], few: None) -> None:
    assert few is None
    assert run("analyze", "none.zarr", *ASKED, "json", "-o", "run.json").code == 1
    assert names_in() == []


def test_what_has_no_place_beside_it_holds_all(run: Callable[..., Ran], logs: list[str], few: None) -> None:
    """Standard output, and pipes."""
    assert few is None
    whole = run("analyze", logs[0], *ASKED, "json").out
    assert len(json.loads(whole)["tensor_steps"]["tensors"]) == 2
    os.mkfifo("pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append(Path("pipe").read_text()))
    reader.start()
    assert run("analyze", logs[0], *ASKED, "json", "-o", "pipe").code == 0
    reader.join()
    assert found == [whole]
    assert names_in() == ["pipe"]


@contextlib.contextmanager
def piped(text: str) -> Iterator[str]:
    """A pipe that says the text to whoever opens it."""
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_text(text))
    writer.start()
    yield "pipe"
    writer.join()
    Path("pipe").unlink()


def test_a_document_without_a_folder_says_what_it_lacks(
    run: Callable[..., Ran], logs: list[str], result: Path
) -> None:
    """What needs no sums by step of tensors goes on; what does says in a line why there are none."""
    text = json.dumps(held(result))
    told = (
        f"its sums of tensors by step lie in '{TABLE}' beside its document, and %s comes without a folder: "
        "give the document by its path, with both files together"
    )
    there = told % "standard input, line 1"
    ran = run("bounds", "-", stdin=text)
    assert (ran.code, ran.out) == (0, run("bounds", result).out)
    assert ran.err == f"gradmf: warning: {logs[0]}: {there}\n"
    ran = run("compare", "-", logs[1], "--format", "json", stdin=text)
    assert ran.code == 0
    assert json.loads(ran.out)["no_interval"] == {"total": None, "tensors": f"{logs[0]}: {there}"}
    ran = run("advise", "-", "--only", "frozen", "--format", "json", stdin=text)
    assert [decision["text"] for decision in json.loads(ran.out)[0]["decisions"]] == [there]
    ran = run("export", "-", "--to", "csv", "-o", "run.csv", "-q", stdin=text)
    assert f"; {there}; loss and lr" in ran.err
    with piped(text) as pipe:
        ran = run("bounds", pipe)
    assert ran.err == f"gradmf: warning: {told % 'pipe'}\n"
    (found,) = gradlog.read_analyses(text, "x.json")
    assert found.tensor_steps is None
    assert [warning.message for warning in found.warnings] == [told % "x.json"]
    (found,) = gradlog.read_analyses(text, "x.json", result)
    assert found.tensor_steps is not None
    assert found.warnings == ()


def test_parts_are_merged_into_both_files(
    run: Callable[..., Ran], logs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in (1, 2):
        assert (
            run("analyze", logs[0], "--part", f"{part}/2", "-o", f"part.{part}", "-q", "--tensor-steps").code
            == 0
        )
    within = run("merge", "part.1", "part.2", "--format", "json").out
    limit(monkeypatch, 0)
    assert run("merge", "part.1", "part.2", "--format", "json", "-o", "run.json").code == 0
    assert Path(TABLE).exists()
    (expected,) = gradlog.read_analyses(within, "x")
    (found,) = gradlog.load_analyses("run.json")
    assert bits(found.tensor_steps) == bits(expected.tensor_steps)


def test_links_lead_to_both_files(run: Callable[..., Ran], logs: list[str], result: Path) -> None:
    """Also those of stores of data, which give each file a link of its own."""

    def read(path: str) -> Analysis:
        (found,) = gradlog.load_analyses(path)
        assert found.tensor_steps is not None
        return found

    Path("links").mkdir()
    Path("links/latest.json").symlink_to(result.absolute())
    assert read("links/latest.json").run.path == logs[0]
    assert run("analyze", logs[1], *ASKED, "json", "-o", "links/latest.json").code == 0
    assert read("links/latest.json").run.path == read("run.json").run.path == logs[1]
    assert read(Path("run.json").absolute().as_uri()).run.path == logs[1]
    name = held("run.json")["tensor_steps"]["file"]
    for folder, file in (("1", "run.json"), ("2", name)):
        Path("objects", folder).mkdir(parents=True)
        Path(file).rename(Path("objects", folder, "object"))
        Path("links", file).symlink_to(Path("objects", folder, "object").absolute())
    assert read("links/run.json").run.path == logs[1]
