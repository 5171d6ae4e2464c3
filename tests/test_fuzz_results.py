"""Results and part files damaged at random: they are refused in a line or two, and whatever is read is used.

Nothing but errors of gradmf may come out of the readers, of bounds, advise, compare, gates and every format;
a warning of NumPy is an error here. Draws are seeded: what fails once fails again.
"""

from __future__ import annotations

import collections
import copy
import io
import json
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from finished_runs import finished_runs, stores
from sweeps import WHOLE
from uses_of_results import told, use

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog import Analysis, DataError, PartNumber, Settings

_R = TypeVar("_R")
Documents = list[tuple[str, Any]]

VALUES: tuple[Any, ...] = (
    None, True, False, "", "x", "NaN", "zero", "ema:0.5", "\ud800", "two\nlines", -1, 0, 1, 2, -3.5, 0.5,
    -0.0, 1.0000001, 1e30, 1e150, 1e308, -1e308, 5e-324, 1e-300, float("inf"), 10**30, 2**62, 2**63,
    -(2**63), 10**400, [], {}, [1], [None], [[1.0]], {"a": 1}, [1.0] * 40, [0] * 40, ["a"],
)  # fmt: skip
"""What may stand in the place of anything."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Analysis]:
    return finished_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def documents(runs: dict[str, Analysis]) -> Documents:
    return [
        (name, json.loads(json.dumps(gradlog.analysis_document(analysis, steps=steps))))
        for name, analysis in runs.items()
        for steps in (True, False)
    ]


def at(document: Any, path: Sequence[Any]) -> Any:
    for key in path:
        document = document[key]
    return document


def somewhere(document: Any, rng: random.Random) -> tuple[Any, ...]:
    """The path of a value: step by step down, so that long series don't swallow all draws."""
    path: tuple[Any, ...] = ()
    value = document
    while isinstance(value, dict | list) and value and (not path or rng.random() < 0.85):
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        path, value = (*path, key), value[key]
    return path


def damage(document: Any, rng: random.Random) -> None:
    """One change at a random place."""
    path = somewhere(document, rng)
    if not path:
        return
    value, holder, key = at(document, path), at(document, path[:-1]), path[-1]
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind in (1, 2):
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind == 3 and isinstance(value, int | float) and not isinstance(value, bool):
        large = 1e300 if isinstance(value, float) else 10**30
        holder[key] = rng.choice(
            [
                -value,
                value * large,
                value * 1e-300,
                value + 1,
                value - 1,
                value * (1 + 1e-7),
                str(value),
                [value],
            ]
        )
    elif kind == 4 and isinstance(value, list) and value:
        place = rng.randrange(len(value))
        changes: list[Callable[[], Any]] = [
            lambda: value.pop(place), lambda: value.append(copy.deepcopy(value[place])), value.reverse,
            value.clear, lambda: rng.shuffle(value),
        ]  # fmt: skip
        rng.choice(changes)()
    elif kind == 5:
        other = somewhere(document, rng)
        if other and other[: len(path)] != path and path[: len(other)] != other:
            holder[key], at(document, other[:-1])[other[-1]] = at(document, other), value
    elif kind == 6 and isinstance(holder, dict):
        holder[f"{key}{rng.choice('x 2')}"] = holder.pop(key)
    elif kind == 7 and isinstance(value, list):
        factor = rng.choice([0.0, -1.0, 1e300, 1e-300])
        holder[key] = [item * factor if isinstance(item, float) else item for item in value]


def damaged_text(document: Any, rng: random.Random) -> str:
    """The document as text, with values, or characters, changed."""
    if rng.random() < 0.75:
        changed = copy.deepcopy(document)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            damage(changed, rng)
        return json.dumps(changed).replace("Infinity", "1e999")
    text = json.dumps(document)
    place = rng.randrange(len(text))
    match rng.randrange(4):
        case 0:
            return text[:place]
        case 1:
            return text[:place] + text[place + rng.randrange(1, 30) :]
        case 2:
            return text[:place] + chr(ord(text[place]) ^ 1 << rng.randrange(7)) + text[place + 1 :]
    return text[:place] + rng.choice('0123456789{}[],:"eE.-\\ntu\u2028') + text[place + 1 :]


def refused_or(make: Callable[[], _R]) -> tuple[str, _R | None]:
    """The line or two of a DataError and nothing, or nothing and what is made."""
    try:
        return "", make()
    except DataError as error:
        return told(error), None


def check_documents(
    documents: Documents, baseline: Analysis, seed: int, count: int
) -> collections.Counter[str]:
    """Feed damaged documents to all that reads them. Returns how many were refused, the same, and other."""
    rng = random.Random(seed)
    seen: collections.Counter[str] = collections.Counter()
    for number in range(count):
        name, document = rng.choice(documents)
        text = damaged_text(document, rng)
        try:
            refusal, found = refused_or(lambda text=text: gradlog.read_analyses(text, "x.json"))  # type: ignore[misc]
            assert refusal.startswith("x.json" if refusal else "")
            seen["refused"] += bool(refusal)
            for analysis in found or ():
                same = json.loads(json.dumps(gradlog.analysis_document(analysis))) == document
                seen["same" if same else "other"] += 1
                if not same:
                    use(analysis, baseline)
        except Exception as error:
            raise AssertionError(f"document {number} of seed {seed}, {name}: {error!r}") from error
    return seen


def test_results_of_every_kind_are_read_and_used(runs: dict[str, Analysis]) -> None:
    baseline = runs["network exact"]
    for name, analysis in runs.items():
        for steps in (True, False):
            document = gradlog.analysis_document(analysis, steps=steps)
            (read,) = gradlog.read_analyses(json.dumps(document), name)
            assert gradlog.analysis_document(read, steps=steps) == document
        use(read, baseline)


def test_damaged_results(documents: Documents, runs: dict[str, Analysis]) -> None:
    count = 400 if WHOLE else 100
    seen = check_documents(documents, runs["network exact"], 0, count)
    assert seen["refused"] > count // 2
    assert seen["other"] > count // 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_many_damaged_results(documents: Documents, runs: dict[str, Analysis], seed: int) -> None:
    check_documents(documents, runs["network exact"], seed, 2500)


def check_commands(file: Path, capfd: pytest.CaptureFixture[str], documents: Documents, count: int) -> None:
    """Whole commands on files of damaged bytes: they end with a code, and with lines of gradmf on stderr."""
    rng = random.Random(count)
    sound = file.with_name("sound.json")
    sound.write_text(json.dumps(documents[0][1]))
    for number in range(count):
        name, document = rng.choice(documents)
        data = damaged_bytes(json.dumps(document).encode(), rng)
        file.write_bytes(b"{" + data[1:] if rng.random() < 0.9 else data)
        words = rng.choice(
            ["bounds", "advise", f"compare {sound}", f"compare {sound} --fail-if energy>1"]
        ).split()
        formats = rng.choice(["table", "json", "jsonl", "csv", "markdown"])
        code = main([words[0], *words[1:2], str(file), *words[2:], "--format", formats])
        out, err = capfd.readouterr()
        assert code in (0, 1, 2, 3), (number, name)
        assert bool(out) == (code in (0, 3)) or words[0] == "compare", (number, name)
        told_lines = [line for line in err.splitlines() if line]
        assert all(line.startswith("gradmf: ") for line in told_lines), (number, name, err)
        assert bool(told_lines) or code == 0, (number, name)


def test_commands_on_damaged_files(
    documents: Documents, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check_commands(tmp_path / "damaged.json", capfd, documents, 60)


@pytest.mark.slow
def test_commands_on_many_damaged_files(
    documents: Documents, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check_commands(tmp_path / "damaged.json", capfd, documents, 1500)


@dataclass(frozen=True)
class Parts:
    """The part files of one run, their bytes, and the document that they merge to."""

    files: list[Path]
    whole: list[bytes]
    merged: Any


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Parts]:
    folder = tmp_path_factory.mktemp("parts")
    logs = stores(folder)
    found = []
    for name, rank, steps, count in (
        ("wide", "auto", True, 3), ("network", "auto", True, 2), ("rows1", "auto", True, 2),
        ("wide", "none", True, 3), ("wide", "auto", False, 2), ("zeros", "auto", True, 2),
    ):  # fmt: skip
        files = []
        for index in range(1, count + 1):
            files.append(folder / f"{name}-{rank}-{steps}.{index}")
            settings = Settings(rank=rank)
            part = gradlog.analyze_part(logs[name], PartNumber(index, count), settings, tensor_steps=steps)
            gradlog.write_part(part, files[-1])
        merged = gradlog.analysis_document(gradlog.merge_parts(files))
        found.append(Parts(files, [file.read_bytes() for file in files], merged))
    return found


def members_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def list_members(members: dict[str, bytes]) -> None:
    """Let the header know of the arrays that there are."""
    if "part.json" in members:
        header = json.loads(members["part.json"])
        header["arrays"] = [name.removesuffix(".npy") for name in members if name.endswith(".npy")]
        members["part.json"] = json.dumps(header).encode()


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut off or added."""
    changed = bytearray(data)
    match rng.randrange(4):
        case 0:
            return data[: rng.randrange(len(data))]
        case 1:
            return data + bytes(rng.randrange(1, 100))
        case 2 if data.startswith(b"PK"):  # what the archive says of a member: flags, versions, methods
            marks = [place for place in range(len(data) - 30) if data[place : place + 2] == b"PK"]
            changed[rng.choice(marks) + rng.randrange(4, 30)] ^= 1 << rng.randrange(8)
            return bytes(changed)
    for _ in range(rng.choice([1, 1, 3, 20])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damaged_array(array: Any, rng: random.Random) -> Any:
    flat = rng.randrange(array.size) if array.size else 0
    changed = array.astype(np.float64)
    match rng.randrange(10):
        case 0:
            return array.T.copy() if array.ndim > 1 else array.reshape(-1, 1)
        case 1:
            return array.astype(rng.choice(["f4", "i4", ">f8", "c16", "U5", "?"]))
        case 2:
            return array[:-1]
        case 3:
            return np.concatenate([array, array])
        case 4:
            return -array - 1
        case 5 if array.size:
            changed.flat[flat] = rng.choice([np.nan, np.inf, -np.inf, 1e308, -1e300])
        case 6:
            return (array * rng.choice([2, 0.5, 1e10])).astype(array.dtype)
        case 7 if array.size:
            return array[rng.sample(range(array.shape[0]), array.shape[0])]
        case 8:
            return np.zeros_like(array)
        case 9 if array.size:
            changed.flat[flat] = 3 * changed.flat[flat] + 1
    return changed.astype(array.dtype)


def damaged_part(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """A part file with bytes changed, or members lost, added, swapped, replaced or of other values."""
    if rng.random() < 0.3:
        return damaged_bytes(data, rng)
    members = members_of(data)
    arrays = [name for name in members if name.endswith(".npy")]
    name, other = rng.choice(list(members)), rng.choice(list(members))
    match rng.randrange(7):
        case 0:
            del members[name]
        case 1:
            members[name], members[other] = members[other], members[name]
            return archive_of(members)
        case 2:
            members[name] = rng.choice([b"", b"x", b"{}", b"[]", b"null", b"\x93NUMPY\2\0", bytes(50)])
            return archive_of(members)
        case 3:
            strange = [
                "tensor_steps/99", "spectrum/squares/-1", "spectrum/squares/abc", "spectrum/gram/0",
                "spectrum/total", "spectrum/squares/01", "x", "other/1",
            ]  # fmt: skip
            members[f"{rng.choice(strange)}.npy"] = members[rng.choice(arrays)]
        case 4:
            header = json.loads(members["part.json"])
            damage(header, rng)
            members["part.json"] = json.dumps(header).encode("utf-8", "surrogatepass")
            return archive_of(members)
        case 5:
            array = np.load(io.BytesIO(members[name := rng.choice(arrays)]))
            with np.errstate(all="ignore"):
                members[name] = npy(damaged_array(array, rng))
        case 6:
            foreign = members_of(rng.choice(others))
            name = rng.choice(list(foreign))
            members[name] = foreign[name]
    if rng.random() < 0.7:
        list_members(members)
    return archive_of(members)


def difference(found: Any, expected: Any, place: str = "") -> str:
    """Where two documents differ by more than rounding; "" where they don't."""
    if isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        each = (difference(found[key], value, f"{place}.{key}") for key, value in expected.items())
        return next(filter(None, each), "")
    if place.endswith("singular_values") and len(found) == len(expected):  # small ones are roots of rounding
        squares = np.square(np.array(expected))
        close = np.allclose(np.square(found), squares, rtol=1e-9, atol=1e-9 * squares.max(initial=0))
        return "" if close else place
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return next(filter(None, (difference(a, b, f"{place}[{n}]") for n, (a, b) in pairs)), "")
    if isinstance(expected, float) and isinstance(found, float):
        return "" if abs(found - expected) <= 1e-8 * abs(expected) + 1e-12 else place
    return "" if found == expected else place


def check_parts(parts: Sequence[Parts], file: Path, seed: int, count: int) -> collections.Counter[str]:
    """Merge damaged parts with sound ones. Returns how many were refused, and how many gave the same."""
    rng = random.Random(seed)
    others = [data for run in parts for data in run.whole]
    seen: collections.Counter[str] = collections.Counter()
    for number in range(count):
        run = rng.choice(parts)
        at_fault = rng.randrange(len(run.files))
        file.write_bytes(damaged_part(run.whole[at_fault], others, rng))
        files = [file if place == at_fault else sound for place, sound in enumerate(run.files)]
        try:
            refusal, merged = refused_or(lambda files=files: gradlog.merge_parts(files))  # type: ignore[misc]
            assert "\n" not in refusal
            if merged is None:
                # Where another part is the first, it is that one which differs from the damaged one.
                assert refusal.startswith((*map(str, files), run.merged["run"]["path"])), refusal
            else:
                document = gradlog.analysis_document(merged)
                # Warnings are told as they stand in a header.
                wrong = difference(document, {**run.merged, "warnings": document["warnings"]})
                assert not wrong, wrong
        except Exception as error:
            name = run.files[at_fault].name
            raise AssertionError(f"part {number} of seed {seed}, {name}: {error!r}") from error
        seen["same" if merged else "refused"] += 1
    return seen


def test_damaged_parts(parts: list[Parts], tmp_path: Path) -> None:
    count = 400 if WHOLE else 100
    seen = check_parts(parts, tmp_path / "damaged", 0, count)
    assert seen["refused"] > 0.6 * count


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_many_damaged_parts(parts: list[Parts], tmp_path: Path, seed: int) -> None:
    check_parts(parts, tmp_path / "damaged", seed, 2000)
