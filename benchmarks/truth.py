"""True predictable ranks of the logs that are too long for an N x N or D x D matrix by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from stores import SEED, Store

EPSILONS = (0.1, 0.05, 0.01)
COLUMNS = 96
PASSES = 4
MODEL = 8
SPREAD = 0.005


def true_ranks(store: Store, path: Path) -> dict[str, list[int]]:
    """By eps, the least and greatest value r* can have; empty where `numpy-by-hand` gives it."""
    if store.gradients == "lowrank":
        return _by_subspace_iteration(path)
    if store.gradients == "white":
        return _by_scale_model(store)
    return {}


def _increments(path: Path) -> Iterator[NDArray[np.float64]]:
    array = zarr.open_group(path, mode="r")["grads/weight"]
    assert isinstance(array, zarr.Array)
    last = np.asarray(array[:1], np.float64)
    rows = 16 * array.chunks[0]
    for start in range(0, array.shape[0], rows):
        block = np.concatenate([last, np.asarray(array[start : start + rows], np.float64)])
        last = block[-1:]
        yield np.diff(block, axis=0)  # the first row of all is 0 and changes nothing


def _by_subspace_iteration(path: Path) -> dict[str, list[int]]:
    """Leading eigenvalues of H H^T in float64, several passes over the log, each with its residual.

    An eigenvalue lies within the norm of the residual of what is found, so a cumulative sum lies within
    the sum of those norms; the ranges returned allow for that.
    """
    rng = np.random.default_rng(SEED)
    found = None
    for _ in range(PASSES):
        energy, image = 0.0, 0.0
        for h in _increments(path):
            energy += float(np.vdot(h, h))
            if found is None:
                found = np.linalg.qr(rng.standard_normal((h.shape[1], COLUMNS))).Q
            image = image + h.T @ (h @ found)
        basis, found = found, np.linalg.qr(image).Q
    assert basis is not None
    values, turn = np.linalg.eigh(basis.T @ image)
    residuals = np.linalg.norm(image @ turn - (basis @ turn) * values, axis=0)
    sums = np.cumsum(values[::-1]) / energy
    slack = np.cumsum(residuals[::-1]) / energy
    return {
        f"{eps:g}": [
            int(np.searchsorted(sums + slack, 1 - eps)) + 1,
            int(np.searchsorted(sums - slack, 1 - eps)) + 1,
        ]
        for eps in EPSILONS
    }


def _by_scale_model(store: Store) -> dict[str, list[int]]:
    """r* of white noise of an eighth of the rows and parameters, times 8, within half a percent.

    The spectrum of such a matrix depends on the ratio of its sides only, up to a few eigenvalues.
    """
    rng = np.random.default_rng(SEED)
    h = np.diff(rng.standard_normal((store.rows // MODEL, store.parameters // MODEL)), axis=0)
    values = np.linalg.eigvalsh(h @ h.T if h.shape[0] < h.shape[1] else h.T @ h)[::-1]
    sums = np.cumsum(values) / values.sum()
    ranks = {eps: MODEL * (int(np.searchsorted(sums, 1 - eps)) + 1) for eps in EPSILONS}
    return {f"{eps:g}": [int((1 - SPREAD) * rank), int((1 + SPREAD) * rank)] for eps, rank in ranks.items()}
