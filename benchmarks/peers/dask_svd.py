"""dask.array.linalg: `dask_svd.py RUN exact|compressed` (64 values, one power iteration)."""

from __future__ import annotations

import sys

import dask.array as da
import numpy as np
from increments import PARAMETER_BLOCK, TIME_BLOCK, answer, tensors


def main(path: str, method: str) -> None:
    """The singular values of H."""
    arrays = [da.from_array(array, chunks=array.chunks) for array in tensors(path)]
    gradients = da.concatenate([a.reshape(a.shape[0], -1) for a in arrays], axis=1)
    # svd takes chunks along one axis only, and both methods are best off with the longer one.
    rows, parameters = gradients.shape
    chunks = (-1, PARAMETER_BLOCK) if rows < parameters else (TIME_BLOCK * 16, -1)
    increments = da.diff(gradients.rechunk(chunks), axis=0).rechunk(chunks)
    if method == "exact":
        _, values, _ = da.linalg.svd(increments)
    else:
        _, values, _ = da.linalg.svd_compressed(increments, k=64, n_power_iter=1, seed=0)
    answer(np.asarray(values.compute()))


if __name__ == "__main__":
    main(*sys.argv[1:])
