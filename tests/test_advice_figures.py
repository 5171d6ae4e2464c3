"""Figures of advice on a sample log, computed again from docs/decisions.md with the whole log in memory."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from gradmf import gradlog
from gradmf.gradlog import Advice

Array = NDArray[np.float64]
SAMPLES = Path(__file__).parent.parent / "sample_logs"


@pytest.fixture(scope="module", params=["mlp-gd", "mlp-sgd", "charlm-adamw"])
def sample(request: pytest.FixtureRequest) -> tuple[dict[str | None, Array], Advice]:
    """(N, D) float64 gradients of each tensor, of the whole model under None, and the advice."""
    path = SAMPLES / f"{request.param}.zarr"
    stored: Any = zarr.open_group(path, mode="r")["grads"]
    tensors = {name: np.asarray(array[:], np.float64) for name, array in stored.arrays()}
    flat: dict[str | None, Array] = {k: v.reshape(v.shape[0], -1) for k, v in tensors.items()}
    flat[None] = np.concatenate(list(flat.values()), axis=1)
    return flat, gradlog.advise(path)


def figures(advice: Advice, quantity: str) -> dict[str | None, dict[str, float | None]]:
    """Values by scope and name."""
    return {d.scope: {f.name: f.value for f in d.figures} for d in advice.decisions if d.quantity == quantity}


def typical(norms: Array) -> float:
    """The largest median of the eighths of the run, of norms above 0."""
    n, found = norms.size, []
    lengths = [n // 8 + (piece < n % 8) for piece in range(8)]
    for end, length in zip(np.cumsum(lengths), lengths, strict=True):
        positive = [x for x in norms[end - length : end] if x > 0]
        found += [float(np.median(positive))] if positive else []
    return max(found)


def test_dead_and_frozen(sample: tuple[dict[str | None, Array], Advice]) -> None:
    tensors, advice = sample
    dead, frozen = figures(advice, "dead"), figures(advice, "frozen")
    assert set(dead) == set(frozen) == set(tensors) - {None}
    if "adam" in str(advice.run.attributes["optimizer"]).lower():
        assert set(map(len, frozen.values())) == {0}
        return
    for name, found in frozen.items():
        gradients = tensors[name]
        norms = np.sqrt((gradients**2).sum(axis=1))
        changes = np.sqrt((np.diff(gradients, axis=0, prepend=0.0) ** 2).sum(axis=1))
        end = max(1, len(norms) // 20)
        assert found["level_at_end"] == pytest.approx(np.median(norms[-end:]) / typical(norms), rel=1e-6)
        assert found["change_at_end"] == pytest.approx(np.median(changes[-end:]) / typical(norms), rel=1e-5)
        assert dead[name] == {"rows_without": float((norms == 0).sum())}


def test_spikes_and_growth(sample: tuple[dict[str | None, Array], Advice]) -> None:
    tensors, advice = sample
    spikes, growth = figures(advice, "spikes"), figures(advice, "growth")
    assert set(spikes) == set(growth) == set(tensors)
    for name, gradients in tensors.items():
        norms = np.sqrt((gradients**2).sum(axis=1))
        seen: list[float] = []
        scores = [0.0]
        for t, square in enumerate(norms**2):
            weights = [0.99 ** (t - 1 - s) for s in range(t)]
            level = math.fsum(w * x for w, x in zip(weights, seen, strict=True)) / sum(weights) if t else 0.0
            late = t >= 24 and level > 0
            scores += [square / level] if late else []
            seen.append(min(square, 25 * level) if late else square)
        assert spikes[name]["score"] == pytest.approx(max(scores), rel=1e-6)
        ratios = [b / a for a, b in itertools.pairwise(norms) if a > 0]
        assert growth[name]["one_row_ratio"] == pytest.approx(max(ratios), rel=1e-6)
        assert growth[name]["limited_rows"] == pytest.approx(np.mean([r > 1.01 for r in ratios]))
        rises = []
        for t in range(16, len(norms) - 15):
            before, after = norms[t - 16 : t], norms[t : t + 16]
            by_squares = math.sqrt((after**2).mean() / (before**2).mean())
            rises.append(min(np.median(after) / np.median(before), by_squares))
        assert growth[name]["growth"] == pytest.approx(max(rises), rel=1e-6)


@pytest.mark.parametrize("name", ["mlp-sgd", "charlm-adamw"])
def test_ranks_of_gradient_matrices_over_every_row(name: str) -> None:
    path = SAMPLES / f"{name}.zarr"
    stored: Any = zarr.open_group(path, mode="r")["grads"]
    found = {
        (d.scope, f.name): f
        for d in gradlog.advise(path, only=("rank",), samples=10**6).decisions
        for f in d.figures
    }
    matrices = {key: np.asarray(array[:], np.float64) for key, array in stored.arrays() if array.ndim == 3}
    assert {scope for scope, _ in found} == set(matrices)
    for tensor, values in matrices.items():
        each: dict[str, list[float]] = {
            "rank90": [],
            "effective_rank": [],
            "stable_rank": [],
            "nuclear_rank": [],
        }
        for matrix in values:
            s = np.linalg.svd(matrix, compute_uv=False)
            energy = float((s**2).sum())
            if not energy:
                continue
            shares = s**2 / energy
            each["rank90"].append(float(next(r for r in range(1, s.size + 1) if shares[:r].sum() >= 0.9)))
            each["effective_rank"].append(math.exp(-sum(p * math.log(p) for p in shares if p > 0)))
            each["stable_rank"].append(energy / s[0] ** 2)
            each["nuclear_rank"].append(s.sum() ** 2 / energy)
        for quantity, expected in each.items():
            figure = found[tensor, quantity]
            assert figure.value == pytest.approx(np.median(expected), rel=1e-5)
            assert (figure.lower, figure.upper) == pytest.approx((min(expected), max(expected)), rel=1e-5)
