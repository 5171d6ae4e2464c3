"""Two-sided incremental SVD: a basis of bounded size that bounds the whole spectrum from both sides.

For rows A seen so far, the state keeps a few rows B (l x D) and holds, in the order of symmetric matrices,

    B^T K B - N  <=  A^T A  <=  B^T diag(u) B + shift I + N',        |N|_* <= below,  |N'|_* <= above.

The right side is Frequent Directions (Liberty 2013; Ghashami et al. 2016, SIAM J. Comput. 45): what is
cut off is paid for by a shift of all eigenvalues. The left side is the shorted operator (Krein; Anderson and
Trapp 1975) of the same matrix on the same basis: the largest K with W^T K W <= M is (W M^-1 W^T)^-1. It holds
for the W that is applied, whatever rounding did to the Gram matrix that chose it. N and N' are what rounding
may have done to the rows; docs/certificates.md has the model behind the allowances.

Rows are taken in by `absorb`, which lets their directions into the basis, or many at once by `track`, for
which the basis only turns (subspace iteration): fewer products, and as tight where nothing new comes up.

This module handles the small matrices; rows of length D stay with the caller, who lets `Renewal` form them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

SINGLE_PRODUCT = 2.0**-20
"""Error of a float32 product of two rows, as a share of their norms: 3 times what `row_gram` lets pass."""
DOUBLE_PRODUCT = 2.0**-46
"""The same of a float64 product."""
MOST_INFLATION = 4.0
"""Variance inflation up to which rows of the basis count as independent of each other."""
SOLVER = 2.0**-50
"""Backward error of LAPACK's eigenvalues, as a share of the largest."""


@dataclass(frozen=True)
class Rounding:
    """What the arithmetic at hand does to rows of `columns` entries of type `dtype`.

    single : Gram matrices come from float32 products, not float64 ones
    """

    dtype: np.dtype[Any]
    columns: int
    single: bool

    @property
    def unit(self) -> float:
        """Relative error of one operation on an entry of a row."""
        return float(np.finfo(self.dtype).eps) / 2

    @property
    def least(self) -> float:
        """Norm of what may vanish below the smallest number in one operation on a row."""
        return float(np.finfo(self.dtype).smallest_subnormal) * float(np.sqrt(self.columns))

    @property
    def product(self) -> float:
        """Error of an entry of a Gram matrix, as a share of the two rows' norms."""
        return SINGLE_PRODUCT if self.single else DOUBLE_PRODUCT


@dataclass(frozen=True)
class Renewal:
    """The new rows W [B; X], as old rows plus corrections: rows that hardly change are hardly rounded.

    anchor : (l',) the row of B that a new row starts from, -1 for none
    weights : (l', l + m) W less the anchors, exactly representable in the type of the rows
    """

    anchor: NDArray[np.intp]
    weights: Doubles

    def apply(self, basis: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
        """B' (l', w), of B's type, from some columns of B (l, w) and X (m, w)."""
        weights, old = self.weights.astype(basis.dtype), basis.shape[0]
        renewed: NDArray[Any] = weights[:, old:] @ rows.astype(basis.dtype, copy=False)
        if old:
            renewed += weights[:, :old] @ basis
        for row in np.flatnonzero(self.anchor >= 0):
            renewed[row] += basis[self.anchor[row]]
        return renewed


@dataclass(frozen=True)
class TwoSided:
    """The state beside the basis, in the coordinates of the rows of B.

    inverse : K^-1 (l, l); upper : u (l,) in [0, 1]
    shift : eigenvalues that were cut off; below, above : allowances for rounding on sums of eigenvalues
    gram : B B^T (l, l) as of the last update; norms, moved : (l,) bounds on what its entries were made of and
    on what rounding moved the rows by; product : its relative error
    """

    inverse: Doubles
    upper: Doubles
    shift: float
    below: float
    above: float
    gram: Doubles
    norms: Doubles
    moved: Doubles
    product: float

    @classmethod
    def empty(cls, shift: float = 0.0, below: float = 0.0, above: float = 0.0) -> TwoSided:
        """A state without rows."""
        square, row = np.zeros((0, 0)), np.zeros(0)
        return cls(square, row, shift, below, above, square, row, row, 0.0)

    @property
    def size(self) -> int:
        """Rows of the basis, l."""
        return int(self.upper.size)

    def lower_sums(self) -> tuple[Doubles, float]:
        """Sums (l,) of r = 1 .. l eigenvalues of B^T K B, and the allowance for rounding.

        A sum less the allowance is at most sigma_1^2 + ... + sigma_r^2.
        """
        root = self._root_of_lower() if self.size else None
        if root is None:
            return np.zeros(self.size), self.below
        values = np.linalg.eigvalsh(root @ self.gram @ root.T)[::-1]
        return np.cumsum(np.maximum(values, 0.0)), self.below + self._gram_error(np.abs(root))

    def upper_sums(self) -> tuple[Doubles, float]:
        """Sums (l,) of r = 1 .. l eigenvalues of B^T diag(u) B + shift I, and the allowance for rounding.

        A sum and the allowance are together at least sigma_1^2 + ... + sigma_r^2.
        """
        if not self.size:
            return np.zeros(0), self.above
        root = np.sqrt(self.upper)
        values = np.linalg.eigvalsh(root[:, None] * self.gram * root[None, :])[::-1]
        sums = np.cumsum(np.maximum(values, 0.0) + self.shift)
        return sums, self.above + self._gram_error(np.diag(root))

    def _root_of_lower(self) -> Doubles | None:
        """R (l, l) with R^T R = K; None where rounding leaves none."""
        try:
            return np.linalg.inv(np.linalg.cholesky(self.inverse))
        except np.linalg.LinAlgError:
            return None

    def _gram_error(self, root: Doubles) -> float:
        """Nuclear norm of what R (error of the Gram matrix) R^T can be."""
        made, moved = root @ self.norms, root @ self.moved
        entries = np.sqrt(self.size) * self.product + SOLVER
        return float(entries * (made @ made) + 2.0 * (made @ moved) + moved @ moved)

    def with_error(self, error: float) -> TwoSided:
        """With more allowance on both sides: A^T A may be off by that nuclear norm."""
        return replace(self, below=self.below + error, above=self.above + error)

    def absorb(
        self, gram: Doubles, keep: Callable[[Doubles], int], rounding: Rounding
    ) -> tuple[Renewal, TwoSided]:
        """Take in rows X and shrink the basis.

        Parameters
        ----------
        gram : (l + m, l + m) float64, Gram matrix of the rows [B; X]
        keep : given the eigenvalues (descending) of B^T diag(u) B + X^T X, how many rows to keep
        rounding : of the rows and of `gram`
        """
        old, count = self.size, gram.shape[0]
        scale = np.ones(count)
        scale[:old] = np.sqrt(self.upper)
        values, vectors = np.linalg.eigh(scale[:, None] * gram * scale[None, :])
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        largest = float(values[0]) if values.size else 0.0
        if largest == 0.0:
            renewal = Renewal(np.zeros(0, np.intp), np.zeros((0, count)))
            return renewal, TwoSided.empty(self.shift, self.below, self.above)
        # Directions below the Gram matrix's rounding carry no information: they go, and count as cut off.
        kept = min(keep(values), int(np.count_nonzero(values > 1e-9 * largest)))
        cut = float(values[kept]) if kept < count else 0.0
        norms = np.sqrt(np.maximum(gram.diagonal(), 0.0))
        # |S^1/2 E S^1/2|_F for errors E of the Gram matrix that are independent, S what the cut takes of it.
        share = np.ones(count)
        share[:kept] = cut / values[:kept]
        taken = (vectors * vectors) @ share
        cut_error = rounding.product * float(taken @ (scale * norms) ** 2) + SOLVER * largest

        exact = (vectors[:, :kept] * scale[:, None]).T
        upper = np.maximum(1.0 - cut / values[:kept], 0.0)
        renewal, weights, state = self._renewed(exact, norms, upper, rounding)
        state = replace(
            state,
            shift=self.shift + cut + cut_error,
            gram=weights @ gram @ weights.T,
            product=rounding.product,
        )
        return renewal, state._with_lower_rounding()

    def track(
        self, cross: Doubles, within: Sequence[Doubles], most: float, rounding: Rounding
    ) -> tuple[Renewal, TwoSided] | None:
        """Take in rows X without new directions: the basis turns towards them, the rest counts as cut off.

        The state has to be `measured`; the one that is returned is to be `settled`.

        Parameters
        ----------
        cross : (m, l) float64, X B^T
        within : Gram matrices (float64) of stretches of X that follow each other and are m rows together
        most : what may be added to `shift`
        rounding : of the rows, and of `cross` and `within`

        Returns None where more would be cut off, or where rows of B depend on each other too much.
        """
        old = self.size
        lengths = np.sqrt(self.gram.diagonal())
        if not old or not lengths.all():
            return None
        try:
            factor = np.linalg.cholesky(self.gram / np.outer(lengths, lengths))
        except np.linalg.LinAlgError:
            return None
        inverse_factor = np.linalg.inv(factor)
        inflation = (inverse_factor * inverse_factor).sum(axis=0)
        if inflation.max() > MOST_INFLATION:
            return None
        factor, inverse_factor = lengths[:, None] * factor, inverse_factor / lengths
        # B = L Q with orthonormal rows Q; X = C Q + R, and R^T R is at most the sum of its stretches' norms.
        inside = cross @ inverse_factor.T
        left_over, first = 0.0, 0
        for gram in within:
            part = inside[first : first + gram.shape[0]]
            left_over += max(0.0, float(np.linalg.eigvalsh(gram - part @ part.T)[-1]))
            first += gram.shape[0]
        norms = np.concatenate([lengths, *(np.sqrt(np.maximum(gram.diagonal(), 0.0)) for gram in within)])
        energy = float(norms[old:] @ norms[old:])
        coefficients = inside @ inverse_factor
        share = np.ones(norms.size)
        share[:old] = (coefficients * coefficients).sum(axis=0)
        left_over += rounding.product * float(share @ (norms * norms)) + SOLVER * energy
        # What errors of X B^T leave of R within the span of B.
        stray = rounding.product * float(np.sqrt(energy * inflation.sum()))
        across = np.sqrt(left_over) + stray
        if across * across > most:
            return None
        form = factor.T @ (self.upper[:, None] * factor) + inside.T @ inside
        values, vectors = np.linalg.eigh((form + form.T) / 2)
        values, vectors = values[::-1], vectors[:, ::-1]
        if values[-1] <= 1e-9 * values[0]:
            return None
        exact = (vectors / np.sqrt(values)).T @ np.hstack([factor.T * self.upper, inside.T])
        taken, turned = _without_residual(values, across * across)
        # R vanishes on the span of B but for what strays; the margin is for rounding of float64.
        outside = across * np.sqrt(left_over) * (1.0 - SINGLE_PRODUCT)
        upper = 1.0 - outside * (1.0 - turned) * taken
        renewal, _, state = self._renewed(exact, norms, upper, rounding)
        cut = across * across + outside * (turned - turned * turned) + SOLVER * float(values[0])
        return renewal, replace(state, shift=self.shift + cut)

    def settled(self, gram: Doubles) -> TwoSided:
        """What `track` leaves open: the lower side's allowance, and `measured`."""
        return replace(self, gram=gram)._with_lower_rounding().measured(gram)

    def measured(self, gram: Doubles) -> TwoSided:
        """With the Gram matrix of the rows of B as they are. gram : (l, l), of float64 products"""
        norms = np.sqrt(np.maximum(gram.diagonal(), 0.0))
        return replace(self, gram=gram, norms=norms, moved=np.zeros(self.size), product=DOUBLE_PRODUCT)

    def _renewed(
        self, exact: Doubles, norms: Doubles, upper: Doubles, rounding: Rounding
    ) -> tuple[Renewal, Doubles, TwoSided]:
        """What new rows W [B; X] change but for what is cut off: (renewal, W as it is applied, state).

        exact : W as the upper side chose it; norms : (l + m,) of the rows [B; X]
        """
        old, count = self.size, norms.size
        renewal = _renewal(exact, norms[:old], rounding.dtype)
        corrected = np.abs(renewal.weights) @ norms
        weights = renewal.weights.copy()
        anchored = np.flatnonzero(renewal.anchor >= 0)
        weights[anchored, renewal.anchor[anchored]] += 1.0
        made = np.abs(weights) @ norms
        # Higham and Mary (2019, SIAM J. Sci. Comput. 41): n roundings add up to sqrt(n) of them.
        moved = rounding.unit * (np.sqrt(count) * corrected + made) + count * rounding.least
        chosen = moved + rounding.unit * corrected  # W itself was rounded: the upper side chose it exact

        left, right = weights[:, :old], weights[:, old:]
        inverse = left @ self.inverse @ left.T + right @ right.T
        state = replace(
            self,
            inverse=(inverse + inverse.T) / 2,
            upper=upper,
            above=self.above + float(upper @ (2.0 * made * chosen + chosen * chosen)),
            norms=made,
            moved=moved,
        )
        return renewal, weights, state

    def _with_lower_rounding(self) -> TwoSided:
        """With the allowance for what rounding did to the rows, and to K^-1, in this update."""
        root = self._root_of_lower()
        if root is None:
            return self
        form = root.T @ root
        # |B^T K F|_* is at most the sum of products of the norms of the rows of K B and F.
        rows = np.sqrt(np.maximum((form @ self.gram @ form).diagonal(), 0.0))
        moved = np.abs(root) @ self.moved
        error = float(2.0 * rows @ self.moved + moved @ moved)
        spread = np.abs(root) @ np.sqrt(self.inverse.diagonal())
        rounded = self.size * np.finfo(np.float64).eps * float(spread @ spread)
        return replace(self, below=self.below + error + rounded * float(np.sum(form * self.gram)))


def _without_residual(values: Doubles, residual: float) -> tuple[Doubles, float]:
    """How far what is cut off outside the basis can be taken off the rows within: (c / D (l,), t).

    values : D, squared norms of the new rows, descending; residual : ||R||^2, at most

    Rows turn by what R holds. c_i = min(1, D_i / D_j) of it is taken off row i, for which
    t = sqrt(residual / D_j) of it is paid: j is where that leaves least over all rows together.
    """
    turned = np.sqrt(residual / values)
    shares = np.minimum(1.0, values[None, :] / values[:, None])
    left = values.size * (1.0 + turned) - (1.0 - turned) * shares.sum(axis=1)
    best = int(np.argmin(np.where(turned < 1.0, left, np.inf)))
    if turned[best] >= 1.0 or left[best] >= values.size:
        return np.zeros(values.size), 0.0
    return shares[best] / values, float(turned[best])


def _renewal(weights: Doubles, norms: Doubles, dtype: np.dtype[Any]) -> Renewal:
    """W split into anchors and corrections, which are rounded to `dtype`. norms : (l,) of the rows of B"""
    old = norms.size
    anchor = np.full(weights.shape[0], -1, np.intp)
    if old and weights.shape[0]:
        rows = np.arange(weights.shape[0])
        largest = np.argmax(np.abs(weights[:, :old]) * norms, axis=1)
        weights = np.where(weights[rows, largest] < 0, -1.0, 1.0)[:, None] * weights
        close = weights[rows, largest] >= 0.5
        anchor[close] = largest[close]
        weights[rows[close], largest[close]] -= 1.0
    return Renewal(anchor, weights.astype(dtype).astype(np.float64))
