"""Arrays of logs as they are made: every chunk is written, zeros too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

CHUNK_BYTES = 4 << 20
"""Size of a chunk aimed at, where nobody says otherwise."""


def new_array(
    store: Store,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: Sequence[str],
    codecs: Sequence[Any],
    *,
    attributes: Mapping[str, Any] | None = None,
    flat: bool = False,
) -> zarr.Array[Any]:
    """An array of Zarr v3 without a chunk, and the groups above it.

    name : path below the root, "" for the root; axes : their names; codecs : behind the bytes
    flat : chunks lie in the array's own folder, and no folder has to be made for one
    """
    return zarr.create_array(
        store,
        name=name or None,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=codecs,
        dimension_names=axes,
        attributes=dict(attributes or {}),
        config={"write_empty_chunks": True},
        zarr_format=3,
        chunk_key_encoding={"name": "default", "separator": "." if flat else "/"},
    )
