"""pyMOR's incremental HAPOD over time, to leave out at most 1 percent of the energy of the increments."""

from __future__ import annotations

import sys

import numpy as np
from increments import answer, blocks_of_time
from pymor.algorithms.hapod import inc_hapod
from pymor.core.logger import set_log_levels
from pymor.vectorarrays.numpy import NumpyVectorSpace

EPSILON = 1e-2


def main(path: str) -> None:
    """The singular values of the modes kept; a pass before finds the energy, as HAPOD's bound is absolute."""
    set_log_levels({"pymor": "ERROR"})
    norms = [float(np.vdot(block, block)) / len(block) for block in blocks_of_time(path)]
    bound = float(np.sqrt(EPSILON * np.mean(norms)))
    snapshots = (NumpyVectorSpace.from_numpy(block.T) for block in blocks_of_time(path))
    _, values, _ = inc_hapod(len(norms), snapshots, bound, omega=0.9)
    answer(np.asarray(values))


if __name__ == "__main__":
    main(*sys.argv[1:])
