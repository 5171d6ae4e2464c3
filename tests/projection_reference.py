"""The random projection written as plainly as it can be: Python's own integers, one coordinate at a time."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1


def word(base: int, counter: int) -> int:
    z = (base + (counter + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def base(name: str, seed: int, use: bytes) -> int:
    digest = hashlib.blake2b(
        name.encode(), digest_size=8, salt=seed.to_bytes(8, "little"), person=b"gradmf " + use
    )
    return int.from_bytes(digest.digest(), "little")


def matrix(name: str, parameters: int, dim: int, seed: int, groups: int = 8) -> NDArray[np.float64]:
    """S without its scale, (dim, parameters): entries -1, 0, 1, `groups` of them in each column."""
    width = dim // groups
    signs, shifts = base(name, seed, b"signs"), base(name, seed, b"shifts")
    out = np.zeros((groups, width, parameters))
    for i in range(parameters):
        run = i // width
        for b in range(groups):
            of_run = word(shifts, run * groups + b)
            negative = word(signs, i // 64) >> i % 64 & 1 ^ of_run >> 63
            out[b, (i + of_run) % width, i] = -1.0 if negative else 1.0
    return out.reshape(dim, parameters)


def project(
    rows: NDArray[np.floating], name: str, dim: int, seed: int, groups: int = 8
) -> NDArray[np.float64]:
    """S x of every row, (N, dim)."""
    return rows.astype(np.float64) @ matrix(name, rows.shape[1], dim, seed, groups).T / np.sqrt(groups)
