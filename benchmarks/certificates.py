"""How tight certified ranks are: Frequent Directions, truncation, the two-sided update, at equal basis sizes.

`python benchmarks/certificates.py` prints the table of docs/certificates.md; with that file's path it writes
the table into it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradmf.gradlog.measures.spectra.certificate import Envelope
from gradmf.kernels.gram import one_blas_thread
from gradmf.kernels.two_sided import Rounding, TwoSided

Doubles = NDArray[np.float64]
ROWS, COLUMNS = 6000, 1024
EPSILONS = (0.1, 0.05, 0.01)
BASES = (64, 128, 256)
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"


@dataclass(frozen=True)
class Basis:
    """Rows B with B^T B <= A^T A <= B^T B + shift I: what Frequent Directions and truncation hold."""

    squares: Doubles
    shift: float

    @property
    def size(self) -> int:
        return int(self.squares.size)

    @property
    def above(self) -> float:
        return 0.0

    def lower_sums(self) -> tuple[Doubles, float]:
        return np.cumsum(self.squares), 0.0

    def upper_sums(self) -> tuple[Doubles, float]:
        return np.cumsum(self.squares + self.shift), 0.0


def kept_basis(matrix: Doubles, size: int, shrink: bool) -> Envelope:
    """Incremental SVD that cuts to `size` rows; with `shrink` what is cut is taken off all (FD), else not."""
    basis = np.zeros((0, matrix.shape[1]))
    shift = 0.0
    for first in range(0, matrix.shape[0], size):
        joined = np.vstack([basis, matrix[first : first + size]])
        values, vectors = np.linalg.eigh(joined @ joined.T)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        cut = float(values[size]) if values.size > size else 0.0
        shift += cut
        kept = values[:size]
        scale = np.sqrt(np.maximum(kept - cut, 0.0) / np.maximum(kept, 1e-300)) if shrink else 1.0
        basis = (vectors[:, :size] * scale).T @ joined
    squares = np.sort((basis * basis).sum(axis=1))[::-1]
    return envelope(Basis(squares, shift), matrix)


def two_sided(matrix: Doubles, size: int) -> Envelope:
    """The update that gradmf uses."""
    basis, state = np.zeros((0, matrix.shape[1])), TwoSided.empty()
    rounding = Rounding(matrix.dtype, matrix.shape[1], single=False)
    for first in range(0, matrix.shape[0], size):
        rows = matrix[first : first + size]
        joined = np.vstack([basis, rows])
        renewal, state = state.absorb(joined @ joined.T, lambda values: min(size, values.size), rounding)
        basis = renewal.apply(basis, rows)
    return envelope(state, matrix)


def envelope(state: Basis | TwoSided, matrix: Doubles) -> Envelope:
    energy = float((matrix * matrix).sum())
    return Envelope.of(state, energy, min(matrix.shape))  # type: ignore[arg-type]


METHODS: dict[str, Callable[[Doubles, int], Envelope]] = {
    "Frequent Directions": lambda matrix, size: kept_basis(matrix, size, shrink=True),
    "truncation": lambda matrix, size: kept_basis(matrix, size, shrink=False),
    "two-sided": two_sided,
}


def matrices() -> Iterator[tuple[str, Doubles]]:
    """Increments of several kinds, seeded."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((COLUMNS, COLUMNS)))[0]
    noise = rng.standard_normal((ROWS, COLUMNS))
    index = np.arange(1, COLUMNS + 1)
    yield "low rank and 0.2% noise", (noise * np.sqrt(0.81**index + 0.002 / COLUMNS)) @ turn
    yield "power law, sigma ~ 1/i", (noise / index) @ turn
    yield "power law, sigma ~ i^-0.75", (noise * index**-0.75) @ turn
    drift = np.cumsum(noise[:, :40] * 0.9 ** np.arange(40), axis=0) @ turn[:40]
    yield "drifting directions", drift * (1 + np.sin(np.arange(ROWS) / 500))[:, None] + 0.3 * noise
    yield "white noise", noise


def true_ranks(matrix: Doubles) -> list[int]:
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    shares = np.cumsum(squares) / squares.sum()
    return [int(np.searchsorted(shares, 1.0 - epsilon)) + 1 for epsilon in EPSILONS]


def table() -> str:
    """Markdown: for each matrix, method and basis size the certain interval of each r*."""
    lines = [
        "| increments | basis | method | "
        + " | ".join(f"r*({epsilon})" for epsilon in EPSILONS)
        + " | time |",
        "|---|---:|---|" + "---:|" * (len(EPSILONS) + 1),
    ]
    with one_blas_thread():
        for name, matrix in matrices():
            truth = true_ranks(matrix)
            lines.append(f"| {name} | | truth | " + " | ".join(f"{rank:,}" for rank in truth) + " | |")
            for size in BASES:
                for method, run in METHODS.items():
                    began = time.perf_counter()
                    bounds = run(matrix, size)
                    seconds = time.perf_counter() - began
                    cells = []
                    for epsilon, rank in zip(EPSILONS, truth, strict=True):
                        lower, upper = bounds.bounds(epsilon)
                        if not lower <= rank <= upper:
                            raise AssertionError(f"{name}, {method}, {size}: {lower}-{upper} misses {rank}")
                        cells.append(f"**{lower:,}**" if lower == upper else f"{lower:,}-{upper:,}")
                    lines.append(f"| | {size} | {method} | " + " | ".join(cells) + f" | {seconds:.1f} s |")
    return "\n".join(lines) + "\n"


def main(out: str | None = None) -> None:
    made = table()
    if out is None:
        print(made, end="")
        return
    path = Path(out)
    before, rest = path.read_text().split(BEGIN)
    path.write_text(before + BEGIN + "\n" + made + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
