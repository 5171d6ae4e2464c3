"""Two-sided incremental SVD: a basis of bounded size that bounds the whole spectrum from both sides.

For rows A seen so far, the state keeps a few rows B (l x D) and holds, in the order of symmetric matrices,

    B^T K B  <=  A^T A  <=  B^T diag(u) B + shift I.

The right side is Frequent Directions (Liberty 2013; Ghashami et al. 2016, SIAM J. Comput. 45): what is
cut off is paid for by a shift of all eigenvalues. The left side is the shorted operator (Krein; Anderson and
Trapp 1975) of the same matrix on the same basis: the largest K with W^T K W <= M is (W M^-1 W^T)^-1. Both are
found in the coordinates of the rows at hand, so that they hold whatever rounding did to the Gram matrix that
chose W.

This module handles the small matrices; rows of length D stay with the caller, who applies B <- W [B; X].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

ROUNDING = 2.0**-24
"""What one float32 update may move an eigenvalue, as a share of the largest; added to the slack each time."""


@dataclass(frozen=True)
class TwoSided:
    """The state beside the basis: K (l, l), u (l,) in [0, 1], both in the coordinates of the rows of B.

    shift : eigenvalues that were cut off; slack : allowance for rounding, on both sides
    gram : B B^T (l, l) as of the last update
    """

    lower: Doubles
    upper: Doubles
    shift: float
    slack: float
    gram: Doubles

    @classmethod
    def empty(cls) -> TwoSided:
        """The state before any row."""
        return cls(np.zeros((0, 0)), np.zeros(0), 0.0, 0.0, np.zeros((0, 0)))

    @property
    def size(self) -> int:
        """Rows of the basis, l."""
        return int(self.upper.size)

    def lower_eigenvalues(self) -> Doubles:
        """Eigenvalues of B^T K B, descending (l,): each at most sigma_i^2 + slack."""
        return _product_eigenvalues(self.gram, self.lower)

    def upper_eigenvalues(self) -> Doubles:
        """Eigenvalues of B^T diag(u) B, descending (l,): each plus shift at least sigma_i^2 - slack."""
        return _product_eigenvalues(self.gram, np.diag(self.upper))

    def absorb(self, gram: Doubles, keep: Callable[[Doubles], int]) -> tuple[Doubles, TwoSided]:
        """Take in rows X and shrink the basis.

        Parameters
        ----------
        gram : (l + m, l + m) float64, Gram matrix of the rows [B; X]
        keep : given the eigenvalues (descending) of B^T diag(u) B + X^T X, how many rows to keep

        Returns
        -------
        W (l', l + m) float64, exactly representable in float32, for B <- W [B; X]; and the new state
        """
        old = self.size
        scale = np.ones(gram.shape[0])
        scale[:old] = np.sqrt(self.upper)
        values, vectors = np.linalg.eigh(scale[:, None] * gram * scale[None, :])
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        largest = float(values[0]) if values.size else 0.0
        if largest == 0.0:
            empty = TwoSided(np.zeros((0, 0)), np.zeros(0), self.shift, self.slack, np.zeros((0, 0)))
            return np.zeros((0, gram.shape[0])), empty
        # Directions below the Gram matrix's rounding carry no information: they go, and count as cut off.
        count = min(keep(values), int(np.count_nonzero(values > 1e-9 * largest)))
        cut = float(values[count]) if count < values.size else 0.0
        weights = (vectors[:, :count] * scale[:, None]).T.astype(np.float32).astype(np.float64)
        return weights, TwoSided(
            lower=self._shorted(weights),
            upper=np.maximum(1.0 - cut / values[:count], 0.0),
            shift=self.shift + cut,
            slack=self.slack + ROUNDING * largest,
            gram=weights @ gram @ weights.T,
        )

    def _shorted(self, weights: Doubles) -> Doubles:
        """(W blockdiag(K, I)^-1 W^T)^-1."""
        old = self.size
        inverse = weights @ weights.T
        if old:
            left = weights[:, :old]
            inverse += left @ (np.linalg.solve(self.lower, left.T) - left.T)
        shorted = np.linalg.inv((inverse + inverse.T) / 2)
        return (shorted + shorted.T) / 2


def _product_eigenvalues(gram: Doubles, inner: Doubles) -> Doubles:
    """Nonzero eigenvalues of B^T M B from B B^T and M, descending."""
    if gram.shape[0] == 0:
        return np.zeros(0)
    values, vectors = np.linalg.eigh(gram)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.maximum(np.linalg.eigvalsh(root.T @ inner @ root)[::-1], 0.0)
