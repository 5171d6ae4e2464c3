"""Read every chunk once and do nothing: `read_store.py RUN zarrs|zarr [gram]`.

With `gram`, one array is read whole, and the products H H^T of its increments are formed.
"""

from __future__ import annotations

import sys

import zarr

CALL_BYTES = 128 << 20


def main(path: str, reader: str, then: str = "") -> None:
    """One call a column of chunks, or as many rows of it as CALL_BYTES hold."""
    if reader == "zarrs":
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    if then:
        ((_, array),) = zarr.open_group(path, path="grads", mode="r").arrays()
        increments = array[...]
        increments[1:] -= increments[:-1].copy()
        increments[1:] @ increments[1:].T
        return
    for _, array in zarr.open_group(path, path="grads", mode="r").arrays():
        rows, width = array.chunks[0], (array.chunks[1] if array.ndim > 1 else 1)
        column = array.dtype.itemsize * width
        for size in array.shape[2:]:
            column *= size
        rows = max(rows, CALL_BYTES // (column * rows) * rows)
        for start in range(0, array.shape[1] if array.ndim > 1 else 1, width):
            for row in range(0, array.shape[0], rows):
                if array.ndim > 1:
                    array[row : row + rows, start : start + width]
                else:
                    array[row : row + rows]


if __name__ == "__main__":
    main(*sys.argv[1:])
