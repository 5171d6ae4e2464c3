"""Subspaces of logs with broken rows, gaps and any dtype, by the commands, against SVDs of what is left."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import Array, add_array
from sweeps import sweep
from test_relation import overlap
from test_subspace import increments, mean, naive

from conftest import flat
from gradmf.cli.main import main
from gradmf.kernels.bfloat16 import widen

Doubles = NDArray[np.float64]


class Log:
    """A run as it is stored, and as the rows that are not finite leave it.

    stored : tensors, bfloat16 as uint16; step : (N,); kept : (n, D) gradients, and (n,) their steps
    """

    def __init__(self, stored: dict[str, Array], step: NDArray[np.int64]) -> None:
        self.stored, self.step = stored, step
        self.values = {name: widen(x) if x.dtype == np.uint16 else x for name, x in stored.items()}
        sound = np.isfinite(flat(self.values)).all(axis=1)
        self.is_sound = bool(sound.all())
        self.steps = step[sound]
        self.kept = {name: flat({name: x[sound]}) for name, x in self.values.items()}

    def write(self, path: Path, chunks: dict[str, tuple[int, ...]]) -> Path:
        group = zarr.open_group(path, mode="w", zarr_format=3)
        group.attrs["gradlog"] = {"version": 1}
        for name, values in self.stored.items():
            array = add_array(group, f"grads/{name}", values, chunks=chunks[name])
            if values.dtype == np.uint16:
                array.attrs["gradlog"] = {"dtype": "bfloat16"}
        add_array(group, "step", self.step)
        return path


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Log, Log, dict[str, tuple[int, ...]]]:
    """Two logs of the same parameters, at other steps, with other rows broken."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = draw(st.lists(st.lists(st.integers(1, 12), max_size=2).map(tuple), min_size=1, max_size=3))
    dtypes = [draw(st.sampled_from(["f2", "f4", "f8", "bfloat16"])) for _ in shapes]
    chunks = {f"t{i}": tuple(draw(st.integers(1, n)) for n in (9, *shape)) for i, shape in enumerate(shapes)}
    found = []
    for _ in range(2):
        rows = draw(st.integers(9, 36))
        drift, low = draw(st.sampled_from([0.0, 3.0, 300.0])), draw(st.booleans())
        broken = draw(st.sets(st.integers(0, rows - 2), max_size=4))
        step = np.sort(rng.permutation(rows + draw(st.integers(0, 9)))[:rows]).astype(np.int64)
        stored = {}
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
            width = int(np.prod(shape, dtype=int))
            values = rng.standard_normal((rows, width))
            if low:
                values = values[:, :2] @ rng.standard_normal((min(2, width), width))
            values += drift * rng.standard_normal(width)
            for row in broken:
                if rng.random() < 0.7:
                    values[row, rng.integers(width)] = rng.choice([np.nan, np.inf, -np.inf])
            values = values.reshape(rows, *shape)
            if dtype == "bfloat16":  # cut off after 16 bits; what makes a NaN stays
                stored[f"t{i}"] = (values.astype("f4").view(np.uint32) >> 16).astype(np.uint16)
            else:
                stored[f"t{i}"] = values.astype(dtype)
        found.append(Log(stored, step))
    return found[0], found[1], chunks


def run(folder: Path, *words: Any) -> tuple[int, Any]:
    """The exit code, and what was written as JSON."""
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    code = main([*map(str, words), "--format", "json", "-o", str(out), "-q"])
    return code, json.loads(out.read_text()) if out.exists() else None


def close(found: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return bool(found == pytest.approx(expected, abs=2e-5))
    return len(found) == len(expected) and all(
        a is None if b is None or np.isnan(b) else close(a, float(b))
        for a, b in zip(found, expected, strict=True)
    )


def assert_within_one(scope: Any, rows: Doubles, window: int, k: int) -> None:
    for kind, vectors in (("gradients", rows), ("increments", increments(rows))):
        fractions, overlaps, defined = naive(vectors, window, k)
        if defined:
            found = scope["subspace"][kind]
            assert close([found["fraction"], found["overlap"]], [mean(fractions), mean(overlaps)])


@settings(
    max_examples=sweep(25),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(pair=pairs(), k=st.integers(1, 9), window=st.none() | st.integers(9, 12))
def test_commands(pair: tuple[Log, Log, dict[str, tuple[int, ...]]], k: int, window: int | None) -> None:
    first, second, chunks = pair
    words = ["--subspace", k, *([] if window is None else ["--window", window])]
    rows = window or max(2, 4 * k)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        a, b = (log.write(folder / f"{at}.zarr", chunks) for at, log in enumerate((first, second)))
        failing, _ = run(folder, "compare", a, b, *words)
        code, compared = run(folder, "compare", a, b, *words, "--nonfinite", "drop")
        assert run(folder, "analyze", a, *words)[0] == (0 if first.is_sound else 1)
        alone, analysis = run(folder, "analyze", a, *words, "--nonfinite", "drop")
    assert alone == 0
    for scope in (analysis["total"], *analysis["tensors"]):
        kept = [first.kept[scope["name"]]] if "name" in scope else list(first.kept.values())
        assert_within_one(scope, np.hstack(kept), rows, k)

    common = np.intersect1d(first.steps, second.steps)
    assert code == (0 if common.size else 1)
    assert failing == (0 if common.size and first.is_sound and second.is_sound else 1)
    if not common.size:
        return
    relation = compared["relation"]
    assert relation["step"] == common.tolist()
    assert (relation["dimensions"], relation["window"]) == (k, rows)
    sides = [[x[np.isin(log.steps, common)] for x in log.kept.values()] for log in (first, second)]
    for at, scope in enumerate((relation["total"], *relation["tensors"])):
        x, y = (np.hstack(side) if at == 0 else side[at - 1] for side in sides)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosines = (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
        assert close([scope["cosine"]], [mean(cosines)])
        if at == 0:
            assert close(relation["cosine"], cosines)
            assert [w["step"] for w in relation["windows"]] == common[::rows].tolist()
        for kind, u, v in (("gradients", x, y), ("increments", increments(x), increments(y))):
            overlaps, defined = overlap(u, v, k, rows)
            if defined:
                assert close([scope[kind]], [mean(overlaps)])
                if at == 0:
                    assert close([w[kind] for w in relation["windows"]], overlaps)
