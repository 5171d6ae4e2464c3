"""scikit-learn's IncrementalPCA: `sklearn_incremental_pca.py RUN parameters|time`. It centres the data."""

from __future__ import annotations

import sys

from increments import TIME_BLOCK, answer, blocks_of_parameters, blocks_of_time
from sklearn.decomposition import IncrementalPCA


def main(path: str, samples: str) -> None:
    """The leading singular values of H, with parameters or steps as samples."""
    if samples == "parameters":
        fit = IncrementalPCA(n_components=64, copy=False)
        for block in blocks_of_parameters(path):
            fit.partial_fit(block)
    else:
        # The first block must have as many samples as components; a short last block may not come alone.
        fit = IncrementalPCA(n_components=TIME_BLOCK - 1, copy=False)
        for block in blocks_of_time(path):
            fit.partial_fit(block)
    answer(fit.singular_values_)


if __name__ == "__main__":
    main(*sys.argv[1:])
