"""Random projections: what describes one, which words decide on signs and shifts, and what a sketch promises.

For a fixed vector x of D coordinates and S x in R^M, S as in `kernels/projection.py`:

    E ||S x||^2 = ||x||^2,     Var ||S x||^2 <= 2/M (||x||_2^4 - ||x||_4^4)

with equality where no two coordinates share a run (sparse sign sketch: Achlioptas 2003; in groups: OSNAP,
Nelson and Nguyen 2013). The same holds for inner products, E <S x, S y> = <x, y>, and for vectors put
together of several tensors, whose signs are independent. Each of the s groups, times s, is an independent
estimate of the same energies and inner products. A tensor of at most w = M / s parameters keeps all lengths
and angles exactly, and one of at most M is not projected at all where its rows are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import DataError, UsageError

KIND = "sparse-sign"
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
        if self.groups != GROUPS or self.kind != KIND:
            raise UsageError(f"a projection of kind {self.kind!r} with {self.groups} groups is not known")

    @property
    def width(self) -> int:
        """w: sums of a group."""
        return self.dim // self.groups

    def bases(self, name: str) -> tuple[np.uint64, np.uint64]:
        """States of the streams of random words that give a tensor's signs and shifts."""
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
