"""Energy that the leading directions of noise hold, against noise itself and the tridiagonal law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sweeps import sweep

from gradmf.gradlog.statistics.noise_reference import spectrum_reference
from gradmf.gradlog.statistics.noise_shares import noise_shares

Array = NDArray[np.float64]

NORMS = {
    "constant": lambda rows, _: np.ones(rows),
    "lognormal": lambda rows, random: np.exp(random.standard_normal(rows)),
    "decaying": lambda rows, _: (1 + np.arange(rows) / 10.0) ** -2,
    "spike": lambda rows, _: np.where(np.arange(rows) == rows // 2, 1e4, 1.0),
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize(
    ("parameters", "shares"), [([40], [1.0]), ([2000], [1.0]), ([10, 100, 1000], [0.3, 0.4, 0.3])], ids=str
)
@pytest.mark.parametrize("rows", [30, 150])
def test_shares_of_drawn_noise(kind: str, parameters: list[int], shares: list[float], rows: int) -> None:
    random = np.random.default_rng(rows)
    energies: Any = NORMS[kind](rows, random)
    scale = np.sqrt(np.outer(energies, np.repeat(np.array(shares) / parameters, parameters)))
    draws = [np.diff(random.standard_normal(scale.shape) * scale, axis=0) for _ in range(6)]
    squares = [np.linalg.svd(draw, compute_uv=False) ** 2 for draw in draws]
    each = np.array([np.cumsum(s) / s.sum() for s in squares])
    found = noise_shares(energies, np.array(parameters, float), np.array(shares))
    assert found.size == each.shape[1] == min(rows - 1, sum(parameters))
    assert (np.abs(found - each.mean(axis=0)) <= 0.025 + each.std(axis=0)).all()


def test_shares_over_many_parameters() -> None:
    """Against the eigenvalues of the tridiagonal matrix."""
    energies = np.exp(np.sin(np.arange(120) / 9.0))
    beside = np.diag(energies[1:-1], 1)
    squares = np.linalg.eigvalsh(np.diag(energies[1:] + energies[:-1]) - beside - beside.T)[::-1]
    found = noise_shares(energies, np.array([1e12]), np.array([1.0]))
    np.testing.assert_allclose(found, np.cumsum(squares) / squares.sum(), atol=0.01)


@settings(max_examples=sweep(60), deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-6, 1.0, 3.0, 1e9]), min_size=0, max_size=30),
    st.sampled_from([1.0, 7.0, 1e6]),
)
def test_shares_of_any_norms_rise_to_one_and_bear_out_ranks(energies: list[float], parameters: float) -> None:
    values = np.array(energies)
    found = noise_shares(values, np.array([parameters]), np.array([2.0]))
    reference = spectrum_reference(values, np.array([parameters]), np.array([2.0]), [0.1, 0.05, 0.01])
    if reference is None:
        assert found.size == 0
        return
    assert found.size == max(1, min(values.size - 1, parameters))
    assert (np.diff(found) >= 0).all()
    assert found[0] > 0
    assert found[-1] == 1
    for rank, epsilon in zip(reference.rank, [0.1, 0.05, 0.01], strict=True):
        assert found[rank - 1] >= 1 - epsilon - 0.01
        assert rank == 1 or found[rank - 2] <= 1 - epsilon + 0.01
