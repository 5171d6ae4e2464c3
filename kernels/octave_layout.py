"""Orders of magnitude that float64 has, as the compiled and the plain side of `column_energies` know them."""

from __future__ import annotations

LEAST_OCTAVE = -1073
"""k of the least, [2^(k-1), 2^k), which the smallest number of all begins."""
OCTAVES = 1024 - LEAST_OCTAVE + 1
