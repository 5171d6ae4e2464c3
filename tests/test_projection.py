"""The random projection: the kernel against plain Python, the same bits however it is cut, its moments."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import projection_reference as plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sweeps import sweep

from gradmf import gradlog
from gradmf.gradlog.measures.sketch.projected_rows import pieces, project_rows
from gradmf.gradlog.results.projection import Projection
from gradmf.kernels.projection import project


def projected(
    rows: NDArray[Any],
    name: str,
    projection: Projection,
    cuts: tuple[int, ...] = (),
    row_cuts: tuple[int, ...] = (),
) -> NDArray[np.float64]:
    sums = np.zeros((rows.shape[0], projection.dim))
    columns = [0, *cuts, rows.shape[1]]
    for first, last in itertools.pairwise(columns):
        for span in itertools.pairwise([0, *row_cuts, rows.shape[0]]):
            stretches = list(pieces((rows.shape[1],), (slice(0, rows.shape[1]),), first, last, 0))
            project_rows(rows, span, stretches, projection.bases(name), projection.groups, sums)
    return sums


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("parameters", "dim"), [(1, 64), (70, 64), (1000, 128), (5000, 1024)])
def test_kernel_is_the_plain_projection(parameters: int, dim: int, dtype: str) -> None:
    rows = np.random.default_rng(parameters).standard_normal((3, parameters)).astype(dtype)
    projection = Projection(dim, seed=7)
    found = projected(rows, "layer.weight", projection) / np.sqrt(8)
    np.testing.assert_allclose(found, plain.project(rows, "layer.weight", dim, 7), rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="uint64 + int is a float in NumPy 1"
)
@pytest.mark.parametrize(("parameters", "dim"), [(150, 64), (192, 256), (350, 256)])
def test_interpreted_kernel_gives_the_same_bits(parameters: int, dim: int) -> None:
    kernels = pytest.importorskip("gradmf.kernels.projection_jit")
    if not hasattr(kernels.projected_sums, "py_func"):
        pytest.skip("there is no JIT")
    rows = np.random.default_rng(0).standard_normal((2, parameters)).astype(np.float32)
    projection = Projection(dim)
    compiled = projected(rows, "w", projection)
    sums = np.zeros((2, dim))
    shifts = np.empty((16, 8), np.uint64)
    room = np.empty(dim, np.float32), np.empty(10, np.uint64), shifts, np.empty((16, 8))
    names = ("_word", "_draw", "_load", "_add_four", "_add_two", "_add_parts")
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):
        for name in names:
            patch.setattr(kernels, name, getattr(kernels, name).py_func)
        kernels.projected_sums.py_func(rows, 0, 2, 0, parameters, 0, *projection.bases("w"), sums, *room)
    assert sums.tobytes() == compiled.tobytes()


@settings(max_examples=sweep(60), deadline=None)
@given(
    parameters=st.integers(1, 1500),
    cuts=st.lists(st.integers(1, 1499), max_size=5, unique=True),
    row_cut=st.integers(1, 4),
    dim=st.sampled_from([64, 128, 1024]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_cuts_never_change_a_bit(
    parameters: int, cuts: list[int], row_cut: int, dim: int, dtype: str, seed: int
) -> None:
    rows = np.random.default_rng(parameters).standard_normal((5, parameters)).astype(dtype)
    projection = Projection(dim, seed)
    inside = tuple(sorted(cut for cut in cuts if cut < parameters))
    whole = projected(rows, "w", projection)
    assert projected(rows, "w", projection, inside, (row_cut,)).tobytes() == whole.tobytes()


@settings(max_examples=sweep(100), deadline=None)
@given(data=st.data(), shape=st.lists(st.integers(1, 5), max_size=4))
def test_pieces_of_a_box_are_its_coordinates(data: st.DataObject, shape: list[int]) -> None:
    box = []
    for extent in shape:
        start = data.draw(st.integers(0, extent - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, extent))))
    coordinates = np.arange(int(np.prod(shape, dtype=int))).reshape(shape)[tuple(box)].ravel()
    first = data.draw(st.integers(0, coordinates.size - 1))
    last = data.draw(st.integers(first + 1, coordinates.size))
    offset = data.draw(st.integers(0, 10))
    found = []
    for piece in pieces(shape, tuple(box), first + offset, last + offset, offset):
        assert piece.first == offset + first + len(found)
        found += range(piece.index, piece.index + piece.last - piece.first)
    assert found == coordinates[first:last].tolist()


def test_a_tensor_no_wider_than_a_group_keeps_lengths_and_angles() -> None:
    rows = np.random.default_rng(0).integers(-50, 50, (6, 128)).astype(np.float64)
    found = projected(rows, "w", Projection(1024))
    np.testing.assert_array_equal(found @ found.T / 8, rows @ rows.T)


def test_names_and_seeds_decide() -> None:
    rows = np.ones((1, 300))
    kinds = {
        projected(rows, name, Projection(64, seed)).tobytes() for name in ("a", "b") for seed in (0, 1, 2**63)
    }
    assert len(kinds) == 6


@pytest.mark.parametrize("kind", ["gauss", "two heavy", "power", "one", "equal", "same runs"])
def test_energies_are_unbiased_and_vary_as_promised(kind: str) -> None:
    """||S x||^2 over 2,000 seeds: mean and variance within sampling error of the formulas."""
    rng = np.random.default_rng(3)
    dim, size = 256, 1500
    x = rng.standard_normal(size)
    if kind == "two heavy":
        x[[0, 900]] = 100.0
    elif kind == "power":
        x *= np.arange(1, size + 1) ** -1.0
    elif kind == "one":
        x[5] = 1e4
    elif kind == "equal":
        x[:] = 1.0
    elif kind == "same runs":  # whole runs that differ by their turns and shifts alone
        x = np.where(np.arange(size) % 32 < 2, 1.0, 0.0)
    seeds = 2000
    energies = np.empty((seeds, 8))
    for seed in range(seeds):
        sums = projected(x[None], "w", Projection(dim, seed)).reshape(8, -1)
        energies[seed] = (sums**2).sum(axis=1)
    truth, fourth = float((x**2).sum()), float((x**4).sum())
    found = energies.mean(axis=1)
    runs = (np.pad(x**2, (0, -size % 32)).reshape(-1, 32)).sum(axis=1)
    variance = 2 / dim * (truth**2 - float((runs**2).sum()))
    assert variance <= 2 / dim * (truth**2 - fourth)
    assert abs(found.mean() - truth) < 4 * np.sqrt(variance / seeds)
    assert found.var() == pytest.approx(variance, rel=0.3)
    # The groups are uncorrelated: their variances add.
    assert energies.var(axis=0).sum() / 64 == pytest.approx(variance, rel=0.3)


def test_each_group_is_without_bias_whatever_the_signs_of_coordinates() -> None:
    """The signs that groups share are held fixed, and runs are drawn anew: means, and no correlation."""
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((2, 700)) * np.arange(1, 701) ** -0.3
    sign_base, draws = np.uint64(7), 4000
    products = np.empty((draws, 8))
    for number, run_base in enumerate(rng.integers(0, 1 << 63, draws, dtype=np.uint64)):
        sums = np.zeros((2, 256))
        project(np.stack([x, y]), 0, 2, 0, 700, 0, sign_base, run_base, 8, sums)
        products[number] = (sums[0] * sums[1]).reshape(8, 32).sum(axis=1)
    errors = products.std(axis=0) / np.sqrt(draws)
    assert (np.abs(products.mean(axis=0) - x @ y) < 4 * errors).all()
    correlations = np.corrcoef(products.T)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(draws)
    np.testing.assert_allclose(products.var(axis=0), products.var(), rtol=0.2)


@pytest.mark.parametrize("dim", [0, 1, 32, 63, 100, 1000, 1 << 17])
def test_dimensions_that_cannot_be(dim: int) -> None:
    with pytest.raises(gradlog.UsageError, match="power of two"):
        Projection(dim)


def test_seeds_that_cannot_be() -> None:
    for seed in (-1, 1 << 64):
        with pytest.raises(gradlog.UsageError, match="seed"):
            Projection(64, seed)
