"""Random projections: what describes one, which words decide on signs and shifts, and what a sketch promises.

For a fixed vector x of D coordinates and S x in R^M, S as in `kernels/projection.py`:

    E ||S x||^2 = ||x||^2,     Var ||S x||^2 <= 2/M (||x||_2^4 - ||x||_4^4)

with equality where no two coordinates share a run (sparse sign sketch: Achlioptas 2003; in groups: OSNAP,
Nelson and Nguyen 2013). The same holds for inner products, E <S x, S y> = <x, y>, and for vectors put
together of several tensors, whose signs are independent. Each of the s groups, times s, is an independent
estimate of the same energies and inner products. A tensor of at most w = M / s parameters keeps all lengths
and angles exactly, and one of at most M (and 2,048) is not projected at all where its rows are stored.

Why. Coordinate i of run q(i) has the sign sigma_i tau_bq in group b: sigma_i is one for all groups, tau_bq
one for the run. With c_bij = 1 where i and j fall into one sum of group b, s times the energy of the group is

    e_b = ||x||^2 + sum_{i != j} sigma_i sigma_j tau_bq(i) tau_bq(j) c_bij x_i x_j

where only coordinates of different runs collide, each two with probability 1/w. Given sigma, the groups'
shifts and tau are independent of each other, and tau_bq tau_bq' of two runs has the mean 0: e_1, ..., e_s are
independent given sigma, equally distributed, and without bias whatever sigma is. So a group knows nothing of
another that the deviation between them would not show, and directions found in some groups are independent of
the errors of the others. Over sigma, of the squared sum only the products of a pair with itself are left:

    Var e_b = 2/w sum_{q(i) != q(j)} x_i^2 x_j^2,     Cov(e_b, e_b') = 0

and the mean of s groups has that over s, w s = M. Signs of each coordinate and group of their own, which
sketches of the kind "sparse-sign" have, give the same mean and variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from ..quick_dataclass import dataclass

KIND = "signed-runs"
EARLIER_KINDS = ("sparse-sign",)
"""Of sketches that are analyzed as they are and no longer made."""
GROUPS = 8
DEVIATIONS = 2.365
"""Standard errors that hold 95% of errors: Student's t with GROUPS - 1 degrees of freedom."""
LEAST_DIMENSION = 64
MOST_DIMENSION = 1 << 16
CHOSEN_DIMENSIONS = (1024, 512, 256)
"""M where it is not given: the first that memory allows."""


@dataclass(frozen=True)
class Projection:
    """A random projection to `dim` sums in `groups` groups, decided by `seed` alone.

    A tensor's signs follow from its name and the seed: they are the same in every process and on every
    machine, whatever other tensors stand beside it.
    """

    dim: int
    seed: int = 0
    groups: int = GROUPS
    kind: str = KIND

    def __post_init__(self) -> None:
        check_dimension(self.dim)
        check_seed(self.seed)
        if self.groups != GROUPS or self.kind not in (KIND, *EARLIER_KINDS):
            raise UsageError(f"a projection of kind {self.kind!r} with {self.groups} groups is not known")

    @property
    def width(self) -> int:
        """w: sums of a group."""
        return self.dim // self.groups

    def bases(self, name: str) -> tuple[np.uint64, np.uint64]:
        """States of the streams of random words of a tensor's coordinates, and of its runs."""
        return self._base(name, b"signs"), self._base(name, b"shifts")

    def _base(self, name: str, use: bytes) -> np.uint64:
        import hashlib  # deferred: it loads OpenSSL, which few commands need

        text = name.encode("utf-8", "surrogatepass")
        salt = self.seed.to_bytes(8, "little")
        digest = hashlib.blake2b(text, digest_size=8, salt=salt, person=b"gradmf " + use).digest()
        return np.uint64(int.from_bytes(digest, "little"))

    def document(self) -> dict[str, Any]:
        """What a log's metadata says of the projection."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any], path: str) -> Projection:
        """From a log's metadata. Raises DataError for a projection that this gradmf does not know."""
        try:
            return cls(**{key: document[key] for key in ("dim", "seed", "groups", "kind")})
        except (KeyError, TypeError, UsageError) as error:
            raise DataError(
                f"{path}: made by a projection that this gradmf does not know ({error}): update gradmf"
            ) from None


def check_dimension(dim: int) -> None:
    """Raise UsageError for a sketch dimension that cannot be."""
    if not LEAST_DIMENSION <= dim <= MOST_DIMENSION or dim & (dim - 1):
        raise UsageError(
            f"sketch dimension {dim}: must be a power of two from {LEAST_DIMENSION} to {MOST_DIMENSION}"
        )


def check_seed(seed: int) -> None:
    """Raise UsageError for a seed that does not fit."""
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"seed {seed}: must be from 0 to 2^64 - 1")
