"""Octaves of energies, as the compiled and the plain side of `column_energies` know them."""

from __future__ import annotations

FIRST_OCTAVE = -1073
"""k of the least float64, 2^-1074, which lies in [2^(k-1), 2^k)."""
OCTAVES = 1025 - FIRST_OCTAVE + 1
"""Up to that of infinity, as if it were 2^1024."""
