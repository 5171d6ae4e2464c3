"""What parts hold, added up: each part's arrays are held against each other before they count.

A part's sums over rows, over tensors, its spectra and its sums by step are different sums of the same
squares. A member that was swapped, cut or made of other gradients does not add up with the rest, and is told
of, with its file, before it can become a wrong number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...kernels.gram import squared_singular_values
from ...kernels.pass_layout import ENERGY, INCREMENT, LAG_PRODUCT, NONFINITE, PREDICTORS, PRODUCT, RESIDUAL
from ..errors import DataError
from ..results.read import Read
from ..statistics.step_bins import bin_edges
from .part_file import TOTAL, PartFile

Doubles = NDArray[np.float64]

SUMS = 1e-9
"""Relative to the sum of absolute values: by how much sums in another order may differ."""
ROWS = 1e-5
"""Relative to the energies of two rows: increments of float32 gradients are rounded."""
SPECTRUM = 1e-5
"""Relative: how well the squares of a spectrum add up to the energy of the increments."""
NOTHING = 1e-300
"""Sums below this have lost their digits."""


@dataclass(frozen=True)
class PartTotals:
    """Sums of one part: over its parameters of each row, and over all rows of each tensor.

    series : (N, columns); totals : (tensors, columns) float64, columns as of `fused_pass`
    """

    part: PartFile
    series: Doubles
    totals: Doubles

    @classmethod
    def of(cls, part: PartFile, columns: int) -> PartTotals:
        """Read from an open part. Raises DataError where the arrays don't fit each other."""
        read = part.read
        held = cls(
            part,
            part.array("series", (read.step.size, columns)),
            part.array("totals", (len(read.tensors), columns)),
        )
        held._check()
        return held

    def _check(self) -> None:
        part, series, totals = self.part, self.series, self.totals
        for tensor, sums in zip(part.read.tensors, totals, strict=True):
            if not np.isfinite(sums).all():
                raise DataError(
                    f"{part.path}: tensor {tensor.name!r}: its sums overflow float64: scale the gradients "
                    "down, or make the part anew if it is damaged"
                )
        squares = np.ones(series.shape[1], dtype=bool)
        squares[[LAG_PRODUCT, *range(PREDICTORS + PRODUCT, squares.size, 3)]] = False
        if not np.isfinite(series).all() or (series[:, squares] < 0).any() or (totals[:, squares] < 0).any():
            raise part.damaged("a sum of squares is negative or no number")
        if series[:, NONFINITE].any():
            raise part.damaged("it counts gradients that are not finite")
        over_rows, over_tensors = series.sum(axis=0), totals.sum(axis=0)
        if not _close(over_rows, over_tensors, np.abs(series).sum(axis=0)):
            raise part.damaged("series.npy and totals.npy don't add up to the same")
        if not _rows_follow(series):
            raise part.damaged("the rows of series.npy don't follow each other")

    def add_steps(self, sums: Doubles, specs: Sequence[str]) -> None:
        """Add the sums by step of the part's tensors to `sums` (tensors, bins, columns) of a `TensorSeries`.

        Raises DataError where they don't add up to those over all rows, or to those of each row.
        """
        part = self.part
        self.check_complete(part.tensor_sums, "sums by step")
        at = [PREDICTORS + 3 * p for p, spec in enumerate(specs) if spec != "zero"]
        columns = [ENERGY, *(a + RESIDUAL for a in at), *(a + PRODUCT for a in at)]
        edges = bin_edges(self.series.shape[0])
        of_rows = np.add.reduceat(self.series[:, columns], edges[:-1], axis=0)
        every, scale = np.zeros_like(of_rows), np.zeros_like(of_rows)
        for tensor in part.tensor_sums:
            found = part.array(f"tensor/{tensor}", of_rows.shape)
            size = np.abs(found)
            if not np.isfinite(size).all() or not _close(
                found.sum(axis=0), self.totals[tensor, columns], size.sum(axis=0)
            ):
                raise part.damaged(f"tensor/{tensor}.npy does not add up to totals.npy")
            sums[tensor] += found
            every += found
            scale += size
        if not _close(every, of_rows, scale):
            raise part.damaged("its sums of tensors by step don't add up to series.npy")

    def check_complete(self, held: Collection[int], what: str) -> None:
        """Raise DataError where a tensor that this part has gradients of is not among `held`."""
        for tensor in np.flatnonzero(self.totals[:, ENERGY]).tolist():
            if tensor not in held:
                name = self.part.read.tensors[tensor].name
                raise self.part.damaged(f"it holds no {what} of tensor {name!r}")

    def increment_energy(self, name: str) -> float:
        """||H||_F^2 of what the part has of a tensor, by number, or of all that lie whole in it: "total"."""
        increments = self.totals[:, INCREMENT]
        if name != TOTAL:
            return float(increments[int(name)])
        whole = [int(number) for number in self.part.squares if number != TOTAL]
        return float(increments[whole].sum())


def _rows_follow(series: Doubles) -> bool:
    """Whether ||g_t - g_{t-1}||^2 = ||g_t||^2 + ||g_{t-1}||^2 - 2 <g_t, g_{t-1}>, where nothing overflows."""
    energy, product, increment = (series[:, column] for column in (ENERGY, LAG_PRODUCT, INCREMENT))
    both = energy[1:] + energy[:-1]
    apart = np.abs(both - 2 * product[1:] - increment[1:])
    sound = (apart <= ROWS * both + NOTHING) | ~np.isfinite(apart)
    return bool(sound.all()) and not (product[0] or increment[0])


def _close(found: Doubles, expected: Doubles, scale: Doubles) -> bool:
    """Sums that overflow are told of when all parts are there."""
    known = np.isfinite(found) & np.isfinite(expected) & np.isfinite(scale)
    return bool((np.abs(found - expected)[known] <= SUMS * scale[known] + NOTHING).all())


@dataclass
class SpectraOfParts:
    """Squared singular values found so far, and Gram matrices that are still added to.

    read : of the run; alone : a single tensor's spectrum is the total's
    total : Gram matrix of all tensors that are complete; open : of a tensor that goes on in a later part
    """

    read: Read
    by_columns: bool
    squares: dict[int, Doubles] = field(default_factory=dict)
    total_squares: Doubles | None = None
    open: dict[int, Doubles] = field(default_factory=dict)
    total: Doubles = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def size(self) -> int:
        """Number of increments."""
        return self.read.step.size - 1

    @property
    def alone(self) -> bool:
        """Whether a single tensor's spectrum is the total's."""
        return sum(tensor.parameters > 0 for tensor in self.read.tensors) == 1 and not self.by_columns

    def add(self, sums: PartTotals, complete: Collection[str]) -> None:
        """Take in a part's spectra, in the order of a single pass. complete : tensors that end in it

        Raises DataError where they don't fit the part's sums, or what other parts hold.
        """
        part = sums.part
        sums.check_complete(
            {int(number) for number in (*part.squares, *part.grams) if number != TOTAL}, "spectrum"
        )
        lacking = not self.alone and part.squares and TOTAL not in (*part.squares, *part.grams)
        if lacking:
            raise part.damaged("it holds no spectrum of the whole model")
        for name in part.squares:
            self._add_squares(sums, name)
        for name in part.grams:
            if name != TOTAL:
                self._check_new(part, name)
                gram = self.open.setdefault(int(name), np.zeros((self.size, self.size)))
                self._add_gram(sums, name, gram)
        if not self.alone and part.grams and self.total.shape[0] != self.size:
            self.total = np.zeros((self.size, self.size))
        for number in sorted(map(int, set(complete) - {TOTAL})):
            gram = self.open.pop(number)
            if not self.alone:
                self.total += gram
            self.squares[number] = squared_singular_values(gram)
        if TOTAL in part.grams:
            self._add_gram(sums, TOTAL, self.total)

    def _check_new(self, part: PartFile, name: str) -> None:
        if int(name) in self.squares:
            tensor = self.read.tensors[int(name)].name
            raise part.damaged(f"it holds tensor {tensor!r}, which is whole without it")

    def _add_squares(self, sums: PartTotals, name: str) -> None:
        part, size = sums.part, self.size
        squares = part.array(f"squares/{name}", (-1,))
        parameters = self.read.parameters
        if name != TOTAL:
            self._check_new(part, name)
            if int(name) in self.open:
                raise part.damaged(f"it holds squares/{name}.npy whole, and another part a piece of it")
            parameters = self.read.tensors[int(name)].parameters
        # The matrix over columns of the whole model has as many rows as there are parameters.
        sizes = (parameters,) if name == TOTAL else (size, min(size, parameters))
        sound = squares.size in sizes and bool((squares >= 0).all()) and not (np.diff(squares) > 0).any()
        if not sound or not _adds_up(float(squares.sum()), sums.increment_energy(name)):
            raise part.damaged(f"squares/{name}.npy does not fit totals.npy")
        if name == TOTAL:
            self.total_squares = squares
        else:
            self.squares[int(name)] = squares

    def _add_gram(self, sums: PartTotals, name: str, gram: Doubles) -> None:
        if not _adds_up(sums.part.add_gram(name, gram), sums.increment_energy(name)):
            raise sums.part.damaged(f"gram/{name}.npy does not fit totals.npy")

    def of_tensors(self) -> list[Doubles]:
        """sigma_i^2 of each tensor, descending. Raises DataError where no part holds one's."""
        found = []
        for number, tensor in enumerate(self.read.tensors):
            if tensor.parameters and number not in self.squares:
                raise DataError(
                    f"{self.read.path}: no part holds the spectrum of tensor {tensor.name!r}: make all parts "
                    "anew"
                )
            squares = self.squares.get(number, np.zeros(0))
            found.append(squares[: min(self.size, tensor.parameters)])
        return found

    def of_total(self) -> Doubles:
        """sigma_i^2 of the whole model, descending."""
        squares = self.total_squares
        if squares is None and self.alone:
            (squares,) = self.squares.values()
        elif squares is None:
            squares = squared_singular_values(self.total)
        return squares[: min(self.size, self.read.parameters)]


def _adds_up(found: float, expected: float) -> bool:
    return abs(found - expected) <= SPECTRUM * expected + NOTHING
