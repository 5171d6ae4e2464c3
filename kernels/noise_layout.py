"""Scratch memory of `noise_spectrum`, as its compiled and its plain side know it."""

from __future__ import annotations

COARSE = 64
"""Thresholds that find out where the energy lies."""
FINE = 160
"""Thresholds between which eigenvalues are taken to lie evenly: about one for each, of few."""
LANES = 64
"""Thresholds that are counted at a time."""
SCRATCH = 8, FINE + COARSE + 1
"""Shape of the scratch memory, float64."""
